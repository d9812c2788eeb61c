"""Split a model's text into reasoning, steps and final answer; the words for grades and places."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from reasonknee_datasets.moaks import Question

Named = Literal["right", "wrong", "not_named"]
"""Whether a text names a place as it is, another one instead, or none."""

Side = Literal["left", "right"]

# One alternative for each kind of word, the longest first: the group that matches gives the meaning of a word.
_STRUCTURES = {
    "anterior_cruciate_ligament": r"acl|anterior cruciate(?: ligament)?",
    "posterior_cruciate_ligament": r"pcl|posterior cruciate(?: ligament)?",
    "patellar_tendon": r"patellar? tendon|patellar ligament",
    "hoffa_fat_pad": r"hoffa(?:'?s)?(?: fat)?(?: pad)?|infrapatellar fat(?: pad)?|fat pad",
    "joint_cavity": r"joint (?:cavity|fluid|effusion)|effusion|suprapatellar (?:bursa|pouch|recess)",
    "meniscus": r"menisc(?:us|al|i)",
    "tibia": r"tibial?|plateaus?|mtp|ltp",
    "femur": r"femur|femoral|trochleae?|trochlear|condyles?|condylar|mfc|lfc",
    "patella": r"patellae?|patellar|retropatellar",
}
_COMPARTMENTS = {"medial": r"medial(?:ly)?|mfc|mtp", "lateral": r"lateral(?:ly)?|lfc|ltp"}
_PARTS = {
    "anterior": r"anterior|trochleae?|trochlear",
    "central": r"central|weight bearing|weightbearing|middle|mid",
    "posterior": r"posterior",
    "superior": r"superior|upper",
    "inferior": r"inferior|lower",
    "subspinous": r"subspinous",
    "root": r"roots?",
    "body": r"body|midbody",
}
# Words without a meaning of their own inside the name of a place; they join the words on both sides.
_NOUNS = r"part|portion|side|half|aspect|margin|edge|pole|horn|region|subregion|facet|third|zone|area|surface|border"
_JOINING = rf"the|of|in|at|its|this|bone|joint|knee|{_NOUNS}"
_BEYOND_PLACES = re.compile(r"\b(?:patellofemoral|tibiofemoral|femorotibial)\b")
_TOKEN = re.compile(
    "|".join(f"(?:{words})" for words in (*_STRUCTURES.values(), *_COMPARTMENTS.values(), *_PARTS.values(), _JOINING))
)
_NAME = re.compile(rf"\b(?:{_TOKEN.pattern})\b(?:[ ,/()-]{{1,3}}(?:{_TOKEN.pattern})\b)*")

_BODY_PART = (
    r"(?:knee|leg|side|limb|lower|medial|lateral|femur|femoral|tibia|tibial|patella|patellar|meniscus|acl|pcl|hoffa)"
)
_SIDE = re.compile(
    rf"\b(?P<before>left|right)(?: |-)(?:sided )?{_BODY_PART}\b(?! of the (?:image|picture|slice|frame|screen))"
    r"|\b(?:knee|laterality|side)\s{0,2}(?:[:=(]|is(?: the)?)\s{0,2}(?P<behind>left|right)\b"
)
_COMPARED = re.compile(r"\b(?:unlike|than|contralateral|opposite|compared? (?:to|with)|not)\b[^.;:\n]{0,40}$")


@dataclass(frozen=True, slots=True)
class KneePlace:
    """A place as a text names it; empty sets where it does not say."""

    structures: frozenset[str]
    compartments: frozenset[str]
    parts: frozenset[str]


def named_places(text: str) -> Iterator[KneePlace]:
    """Find the names of places in a text, in order.

    Examples
    --------
    >>> [place] = named_places("a defect in the central, weight-bearing part of the medial femoral condyle")
    >>> sorted(place.structures | place.compartments | place.parts)
    ['central', 'femur', 'medial']
    """
    plain = _BEYOND_PLACES.sub(" ", text.casefold().replace("weight-bearing", "weight bearing").replace("’", "'"))
    for found in _NAME.finditer(plain):
        words = found[0]
        structures = frozenset(_first_structures(words))
        # A cruciate ligament's own name holds the word that elsewhere is a part.
        rest = re.sub(
            _STRUCTURES["anterior_cruciate_ligament"] + "|" + _STRUCTURES["posterior_cruciate_ligament"], "", words
        )
        place = KneePlace(structures, _kinds(_COMPARTMENTS, rest), _kinds(_PARTS, rest))
        if structures or (place.parts and re.search(rf"\b(?:{_NOUNS})\b", words)):
            yield place


def _first_structures(words: str) -> Iterator[str]:
    for name, pattern in _STRUCTURES.items():
        words, times = re.subn(rf"\b(?:{pattern})\b", " ", words)
        if times:
            yield name


def _kinds(table: dict[str, str], words: str) -> frozenset[str]:
    return frozenset(name for name, pattern in table.items() if re.search(rf"\b(?:{pattern})\b", words))


@cache
def asked_place(question: Question) -> KneePlace:
    """Return the place that a question asks about.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> asked_place(get_question(45))
    KneePlace(structures=frozenset({'meniscus'}), compartments=frozenset({'medial'}), parts=frozenset({'body'}))
    """
    if question.subregion in _STRUCTURES and question.subregion not in ("patella", "femur", "tibia", "meniscus"):
        return KneePlace(frozenset({question.subregion}), frozenset(), frozenset())
    words = question.subregion.split("_")
    structures = frozenset(words).intersection(_STRUCTURES)
    # Extrusion of the body is measured towards the joint's own side, and its subregion repeats the side.
    parts = {"body"} if len(words) > len(set(words)) else set(words) & _PARTS.keys()
    return KneePlace(structures, frozenset(words).intersection(_COMPARTMENTS), frozenset(parts))


def fits(question: Question, place: KneePlace) -> bool | None:
    """Compare a named place with the asked one.

    Returns
    -------
    bool or None
        True where all that the question fixes is named, False where something else is, None where the name leaves
        open which it is.
    """
    asked = asked_place(question)
    if not place.structures & asked.structures:
        return None
    whole = True
    for said, wanted in ((place.compartments, asked.compartments), (_parts(place, asked), asked.parts)):
        if wanted and not said & wanted:
            if said:
                return False
            whole = False
        elif wanted and len(said - wanted) and not {"root", "posterior"} >= said:
            whole = False  # "medial/lateral": both
    if "patella" in asked.structures and not whole and place.parts and not place.compartments:
        return False  # the poles and the edges of the patella exclude each other
    return True if whole else None


def _parts(place: KneePlace, asked: KneePlace) -> frozenset[str]:
    """Return the parts with the middle of a meniscus under its own name."""
    if "meniscus" in asked.structures and "central" in place.parts:
        return place.parts - {"central"} | {"body"}
    return place.parts


def subregion_named(question: Question, text: str) -> Named:
    """Report whether a text names the question's subregion, in one name or over several.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> texts = ("Medial femoral condyle, central part.", "The lateral trochlea.", "")
    >>> [subregion_named(get_question(19), text) for text in texts]
    ['right', 'wrong', 'not_named']
    """
    asked = asked_place(question)
    places = list(named_places(text))
    verdicts = [fits(question, place) for place in places]
    if True in verdicts:
        return "right"
    if False in verdicts:
        return "wrong"
    joined = KneePlace(
        frozenset().union(*(place.structures & asked.structures for place in places)),
        frozenset().union(*(place.compartments for place in places if place.structures & asked.structures)),
        frozenset().union(*(place.parts for place in places if not place.structures - asked.structures)),
    )
    if fits(question, joined):
        return "right"
    others = any(place.structures for place in places)
    return "wrong" if others and not joined.structures else "not_named"


def side_named(side: Side, text: str) -> Named:
    """Report whether a text names the side of the body that the knee is of.

    Examples
    --------
    >>> side_named("left", "In this right knee"), side_named("left", "In the left knee, unlike the right knee")
    ('wrong', 'right')
    """
    plain = re.sub(r"[*_]", "", text.casefold())
    found = {
        match["before"] or match["behind"]
        for match in _SIDE.finditer(plain)
        if not _COMPARED.search(plain[max(0, match.start() - 60) : match.start()])
    }
    if not found:
        return "not_named"
    return "right" if found == {side} else "wrong"


_TAG = re.compile(r"</?(?:think|thinking|reasoning|scratchpad|analysis)>|<\|[^|<>\n]{1,40}\|>", re.IGNORECASE)
_THOUGHTS_END = re.compile(r"</(?:think|thinking|reasoning|scratchpad|analysis)>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(?:answer|final_answer|final)>|<\|begin_of_(?:box|solution|answer)\|>", re.IGNORECASE)
_HEADING = re.compile(
    r"(?:^|(?<=[.!?:]\s)|(?<=\n))[#*_> \t]{0,8}(?:(?:my |the )?final (?:answer|diagnosis|assessment|grades?"
    r"|grading|scores?|result|output|conclusion)|answer)\b[*_ \t]{0,4}(?:(?:is|are)\b[^:\n{]{0,20})?"
    r":?[*_ \t]{0,4}(?=[:\n{]|\S)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:[A-Za-z]\w{0,9})?\s*$")
_REASONING_KEYS = ("reasoning", "rationale", "explanation", "steps", "chain_of_thought", "analysis", "thoughts")
_MARKER = re.compile(r"^\s*(?:[-*•#>]+\s+)*(?:\**step\s+\d{1,2}\**\s*[:.)-]*|\(?\d{1,2}[.)](?=\s))?\s*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(*]{0,3}[A-Z])")
WORD = re.compile(r"[A-Za-z]{2,}")


def split_answer(text: str) -> tuple[str, str]:
    r"""Cut a model's text into its reasoning and the final answer.

    The final answer begins at an answer tag, else at the last heading such as ``Final diagnosis:``, else at the last
    JSON object. Text after it is not reasoning: it explains an answer that is already given. A text with none of the
    three is all reasoning, unless it is a single sentence, or one behind a closing think tag.

    Parameters
    ----------
    text : str
        Everything that the model wrote, drafts in think tags included.

    Returns
    -------
    (str, str)
        The answer is empty where it cannot be told from the reasoning.

    Examples
    --------
    >>> split_answer("The pad is bright, so grade 2.\nFinal diagnosis: {'grade': 2}")
    ('The pad is bright, so grade 2.', "Final diagnosis: {'grade': 2}")
    >>> split_answer('{"grade": 2}')
    ('', '{"grade": 2}')
    """
    plain = text.strip()
    tag = _ANSWER_TAG.search(plain)
    headings = list(_HEADING.finditer(plain))
    start = _last_object(plain)
    if tag:
        cut = tag.start()
    elif headings and _has_answer(plain[headings[-1].end() :]):
        cut = headings[-1].start()
    elif start is not None:
        inner = _reasoning_in(plain[start:])
        if inner is not None:
            return f"{_untagged(plain[:start])}\n{inner}".strip(), plain[start:]
        cut = start - len(fence[0]) if (fence := _FENCE.search(plain[:start])) else start
    else:
        thoughts = list(_THOUGHTS_END.finditer(plain))
        cut = thoughts[-1].end() if thoughts else 0
        if len(steps(plain[cut:])) >= 2:
            cut = len(plain)
    return _untagged(plain[:cut]), plain[cut:]


def _has_answer(rest: str) -> bool:
    return bool(WORD.search(rest) or re.search(r"\d", rest))


def _untagged(text: str) -> str:
    return _TAG.sub(" ", text).strip()


def _last_object(text: str) -> int | None:
    """Return where the last JSON object begins; an unclosed one counts."""
    depth, last = 0, None
    for found in re.finditer(r"[{}]", text):
        if found[0] == "{":
            if depth == 0:
                last = found.start()
            depth += 1
        else:
            depth = max(0, depth - 1)
    return last


def _reasoning_in(text: str) -> str | None:
    """Return the reasoning inside a JSON answer, before the grades or after them."""
    try:
        item: Any = json.loads(text[: text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, Mapping):
        return None
    for key, value in item.items():
        if key.casefold() in _REASONING_KEYS:
            if isinstance(value, str):
                return value
            if isinstance(value, list):
                return "\n".join(map(str, value))
    return None


def steps(reasoning: str) -> tuple[str, ...]:
    """Cut a reasoning into its sentences, without the marks of a list.

    Examples
    --------
    >>> steps("Step 1: The pad is dark. It has no haze.")
    ('The pad is dark.', 'It has no haze.')
    """
    lines = (_MARKER.sub("", line).strip() for line in reasoning.splitlines())
    sentences = (_MARKER.sub("", sentence) for line in lines for sentence in _SENTENCE.split(line))
    return tuple(sentence for sentence in sentences if WORD.search(sentence))


# Words before a number in a statement that the parser of answers leaves out since it has no verb.
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
# Subject of a yes-or-no attribute, by the attribute or, where that is presence, by the finding.
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
