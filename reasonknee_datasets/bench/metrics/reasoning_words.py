"""Words by which a reasoning names findings, assesses attributes and states grades."""

from __future__ import annotations

import re
from functools import cache

# What leads to a number in a statement that the parser of answers leaves out since it has no verb.
LABELS = {
    "size": "size",
    "number": "number",
    "percent": "percent(?:age)?",
    "depth": "depth",
    "grade": "grade",
    "morphology": "morphology",
    "presence": "presence",
    "tear_location": "tear location",
    "complete_tear": "complete tear",
    "insertion_lesion": "(?:insertion lesion|lesion at the insertion)",
    "repair": "repair",
    "signal": "signal(?: abnormality)?",
}
# A grade behind its label; not a measurement, a range, a choice or an entry of the scale.
GRADE = (
    r"(?:\s*[:=]\s*|\s+(?:(?:is|was|as|of|a|grade|graded|code|coded|score)\s+){0,4})(?P<grade>[0-9])"
    r"(?![0-9%]|\.[0-9]|\s*(?:mm|to|or|if|when|means|-|–|=|/|,\s*[0-9])(?!\w))"
)
# What a yes-or-no attribute asks for, by the attribute or, where that is presence, by the finding.
PRESENT = {
    "meniscal_cyst": "(?:(?:para)?meniscal )?cyst",
    "meniscal_hypertrophy": "hypertrophy",
    "meniscal_root_tear": "root tear",
    "complete_tear": "complete tear",
    "insertion_lesion": "(?:insertion lesion|lesion at the insertion)",
    "repair": "(?:acl )?(?:repair|reconstruction|graft)",
    "signal": "signal abnormality",
}
NO = r"(?:(?P<no>no|without)\s+(?:(?:evidence|signs?)\s+(?:of|for)\s+)?(?:(?:a|any|\w+al)\s+)?)?"
IS_PRESENT = r"(?:\s+is\s+(?P<negated>not\s+)?(?:(?P<present>present|seen|visible|identified)|(?P<absent>absent)))?"
# Before a grade, in its own clause.
HEDGES = re.compile(
    r"\b(?:if|whether|would|could|might|may|perhaps|possib\w+|probab\w+|either|not(?! graded))\b[^,;:]*$", re.IGNORECASE
)
ON_BONE = ("bone_marrow_lesion", "cartilage_lesion", "osteophyte")
SYNOVITIS = ("hoffa_synovitis", "effusion_synovitis")

# Words of an assessment of each attribute. They count in a sentence that states something, not in one that intends to.
ASSESSED = {
    "size": r"size|extent|area|involv\w+|(?:a|one|two|the) thirds?|fills?|occup(?:y|ies)|large|small|spans?"
    r"|(?:per ?cent|%) of the",
    "number": r"number|single|one (?:lesion|patch|focus)|second|several|multiple|solitary|two|three|count|foci",
    "percent": r"per ?cent(?:age)?|%|share|cyst(?:s|ic)?|oedema|edema",
    "depth": r"depth|full[- ]thickness|partial[- ]thickness|down to (?:the )?bone|deep|bare bone|superficial|denuded",
    "grade": r"grade|absent|none|no|normal|mild|moderate|severe|small|medium|large|mm|millimet\w+",
    "morphology": r"morphology|tears?|torn|macerat\w+|normal|intact|form|signal",
    "presence": r"present|absent|presence|absence|no|without|there is|shows?|seen|normal|intact",
    "tear_location": r"tears?|torn",
    "complete_tear": r"(?:completely )?torn|(?:complete )?(?:tear|rupture)d?|continuous|intact|in continuity|disrupted",
    "insertion_lesion": r"insert(?:s|ion)|origin|attachments?|footprint",
    "repair": r"repair(?:ed)?|reconstruct(?:ed|ion)|grafts?|tunnels?|screws?",
    "signal": r"signal|hyperintens\w+|haze|hazy|bright|dark",
}
INTENDS = re.compile(
    r"\b(?:(?:i|we) (?:will|need to|have to|must|should|am going to|would)|let me|let us|i'll|we'll|"
    r"(?:the )?(?:task|question|prompt) (?:is|asks|wants)|(?:is|are) (?:graded|scored|defined) (?:as|from|by|on)|"
    r"cannot|can't|unable|not possible|impossible|not assessed|to (?:assess|grade|determine|evaluate))\b",
    re.IGNORECASE,
)
FINDINGS = {
    "bone_marrow_lesion": r"marrow|bmls?|oedema|edema|bone bruise",
    "cartilage_lesion": r"cartilage|chondral|cartilaginous",
    "osteophyte": r"osteophyt\w+|spurs?|spurring",
    "hoffa_synovitis": r"hoffa\w*|fat pad|infrapatellar fat",
    "effusion_synovitis": r"effusion|fluid|distension|distended",
    "meniscal_extrusion": r"extru\w+|measure|protru\w+|sublux\w+|millimet\w+|mm",
    "meniscal_morphology": r"morpholog\w+|tears?|torn|macerat\w+|wedge|menisc\w+",
    "meniscal_cyst": r"cysts?|tears?|torn",
    "meniscal_hypertrophy": r"hypertroph\w+",
    "meniscal_root_tear": r"roots?",
    "anterior_cruciate_ligament": r"acl|anterior cruciate",
    "posterior_cruciate_ligament": r"pcl|posterior cruciate",
    "patellar_tendon": r"patellar? tendon|tendon|patellar ligament",
}


@cache
def whole_words(pattern: str) -> re.Pattern[str]:
    """Compile alternatives that match whole words, in either case."""
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)
