"""Sentences beside an answer that say it is none: denials, retractions, templates, doubts, answers of others.

`takes_back` reads a sentence behind an answer, `disowns` what leads to an object. A sentence counts only if it speaks of
the answer ("this", "the above", "my grade"): what it says of the knee ("this is not a tear") takes nothing back.
"""

from __future__ import annotations

import re

from reasonknee_datasets.bench.answers.clause_words import ATTRIBUTED, NO_IMAGE
from reasonknee_datasets.bench.answers.prose_tokens import normalise
from reasonknee_datasets.bench.answers.scale_words import refuses

_NOUN = (
    r"(?:json|object|block|snippet|code|answers?|response|reply|outputs?|results?|grad(?:e|es|ing)|scor(?:e|es|ing)"
    r"|values?|numbers?|figures?|digits?|ratings?|assessment|conclusion|reading|entry|entries|statements?|lines?|data"
    r"|content|text|guess|evaluation|prediction|verdict)"
)
# What a sentence about the answer has for its subject or object.
_IT = (
    r"(?:(?:all|none|any|most|each|every bit|part) of (?:this|that|it|these|those|them|the above|what i \w+)"
    r"|this|that|it|these|those|them|they|which|everything(?: above| here| i wrote)?|all(?= (?:above|is|was|are|were))|the (?:above|following|below)"
    rf"|above|below|what (?:i (?:\w+ )?(?:said|wrote|gave)|follows|precedes|stands)|(?:the|my|our|this|that|these|those|any"
    rf"|such|its|all|both) (?:\w+ ){{0,2}}?{_NOUN}(?: (?:above|below|given|shown|stated|provided|written|here|i \w+|in \w+ \w+))?)"
)
_ADVERB = (
    r"(?:(?:\w+ly|all|just|only|not even|also|now|still|both|in fact|of course|quite|very|obviously|then|simply) )*"
)
_SAMPLE = (
    r"(?:example|sample|template|illustration|demonstration|demo|mock ?up|placeholder|test|joke|lie|mistake|fiction)"
)
_NO_ANSWER = (
    r"(?:(?:an? )?(?:wrong|incorrect|false(?! positive| negative)|untrue|invalid|inaccurate|mistaken|erroneous|bogus|fake|nonsense"
    r"|nonsensical|meaningless|void|rubbish|garbage|gibberish|unfounded|baseless|untrustworthy|unreliable|unusable"
    r"|made up|invented|fabricated|fiction|fictional|fictitious|random|arbitrary|hypothetical|imaginary|illustrative|dummy"
    r"|guesswork|in error|an error|obsolete|outdated|superseded|withdrawn|retracted|revoked|rescinded|cancell?ed|deleted"
    rf"|hallucinated|copied|placeholders?|templates?)|(?:an? |the |my |pure |pretty |sheer )+(?:\w+ )?(?:{_SAMPLE}|guess"
    r"(?<!best guess)(?<!educated guess)(?<!informed guess))s?"
    r"|(?:meant|intended|given|shown|written|there|here|put|provided|included)? ?(?:\w+ly )?(?:as|for|to be|to show|to"
    r" illustrate|to demonstrate) (?:an? |the |you )?(?:\w+ )?(?:example|sample|template|illustration|illustrative"
    r"|demonstration|placeholders?|format|formatting|structure|syntax|schema|layout|testing|test|form)"
    r"|(?:the |my |an? )?(?:expected |required |requested |output )*(?:format|form|structure|syntax|schema|layout)"
    rf"|not (?:the |my |our |an? |any )?(?:\w+ )?(?<!official )(?<!clinical )(?<!medical )(?<!formal ){_NOUN}(?! [0-9])"
    r"|not (?:\w+ly )?(?:(?:right|correct|true|valid|real|accurate|reliable|trustworthy|meaningful|mine|so|it|serious"
    r"|usable|final|genuine|supported|justified|grounded)\b(?! (?:tear|lesion|cyst))|based on|what i|how i|the case"
    r"|meant|intended (?:as|to be)|to be (?:used|trusted|taken|relied|counted|believed|scored|read)"
    r"|from (?:this|the|your|these)))"
    r"|to be (?:ignored|disregarded|discarded|deleted|replaced|filled|completed|determined)"
)
_USE = r"(?:use|trust|rely (?:up)?on|count(?: on)?|take|read|score|accept|submit|record|quote|believe|cite|grade|depend on)"
_USED = (
    r"(?:used|trusted|relied (?:up)?on|counted(?: on)?|taken|scored|accepted|submitted|recorded|believed|quoted|read)"
)
_DROP = (
    r"(?:disregard|ignore|discard|forget|scrap|scratch|strike|delete|drop|dismiss|skip|omit|void|cancel|remove|erase"
    r"|reject|toss|throw (?:away|out)|retract|withdraw|revoke|rescind|recant|disown|renounce|repudiate|overlook|take back"
    r"|pay no (?:attention|heed) to)"
)
_FIRST = (
    r"(?:i|we) (?:\w+ly |must |have to |want to |would like to |need to |now |will |would |do |should |hereby |just )*"
)
_CLINICAL = r"(?!.{0,80}(?:clinical|medical|treat|diagnos|surg|therap|decision|professional|management|patient care))"
_TAKES_BACK = re.compile(
    "|".join(
        (
            # This is wrong. None of this is my answer. The above was only a template.
            rf"\b{_IT} (?:is|are|was|were|has been|have been|should be|must be|needs? to be|ought to be) "
            rf"{_ADVERB}{_CLINICAL}{_NO_ANSWER}\b",
            rf"\b{_IT} (?:(?:is|are|does|do|can|may|should|must|will) (?:not|no longer)) (?:be )?{_ADVERB}{_CLINICAL}"
            rf"(?:{_USED}|count|hold|stand|valid|apply(?: here)?$|mean anything|mine"
            r"|(?:reflect|represent|describe|belong to|refer to|relate to|concern|come from) "
            r"(?:this|the|any|your|my|what)\b.{0,20}(?:patient|knee|image|scan|mri|study|case|view|opinion|see|saw|answer"
            r"|assessment|finding)s?)\b",
            r"\bnone of (?:this|that|it|these|those|the above|the \w+ above)\b.{0,40}\b(?:answer|true|correct|right|real"
            r"|valid|applies|apply|counts?|holds?|meant|accurate|reliable|mine)\b",
            rf"\b{_IT} (?:is|are|was|were|comes?|came|belongs?|refers?) (?:\w+ly |to |from |of |for )*"
            r"(?:an?other|a different|somebody else|someone else|the previous|the wrong) (?:\w+ ){0,1}(?:patient|knee"
            r"|study|case|image|scan|conversation|session|example|exam|person|side|question)\b",
            # Do not use it. Disregard the above.
            rf"\b(?:do not|never|please do not|should not|must not|can not) {_ADVERB}{_USE} {_CLINICAL}(?:to |as )?{_IT}\b",
            rf"\b{_DROP} {_ADVERB}(?:{_IT}|json|{_NOUN})\b",
            rf"^(?:please |kindly |so |just |then )*{_DROP}(?: please)?$",
            r"\b(?:take|takes|took|taking) (?:it|this|that|these|them|everything|all|my \w+) (?:all )?back\b",
            # I changed my mind. I made it up. I am not sure about this at all.
            rf"\b{_FIRST}(?:changed my mind|made (?:{_IT}) up|made up {_IT}|lied|(?:invented|fabricated|guessed|hallucinated"
            rf"|copied|picked|chose) (?:{_IT})(?:$| at random| randomly| from| without)|guessed$|made (?:{_NOUN}|numbers) up)",
            r"\b(?:just|only|was|am|merely) (?:kidding|joking|testing|guessing|pretending|playing|making (?:this|that|it) up)"
            r"\b(?!.{0,30}\bknee)",
            rf"\b{_FIRST}(?:am|are|was|feel|remain) {_ADVERB}(?:not(?: at all)? (?:sure|certain|confident)|unsure|uncertain"
            rf"|in doubt)(?: at all)?(?: (?:about|of|in|that|whether|if) {_IT}\b(?! \w+ (?:of|in|on|at)\b).{{0,30}}$|$)",
            rf"\b{_FIRST}(?:have|had|got) (?:absolutely |really |frankly |actually )*no (?:idea|clue|confidence|faith|basis)\b",
            rf"\b{_FIRST}(?:can not|could not|am not able to|am unable to) {_ADVERB}(?:stand (?:by|behind)|vouch for|defend"
            rf"|justify|support|confirm|verify|be sure of) {_IT}\b",
            rf"\b{_FIRST}(?:can not|could not|am not able to|am unable to) {_ADVERB}(?:tell|say|judge|assess|determine|grade"
            r"|evaluate|see|answer|interpret|decide|know)(?: (?:it|this|that|anything|the (?:grade|image|images|scan|knee"
            r"|question|volume)))?(?: (?:at all|after all|from|reliably|with|without|in)\b.*)?$",
            rf"\b{_FIRST}(?:not )?(?:doubt|reject|deny|distrust|disagree with|disavow|regret) {_IT}\b",
            rf"\b{_FIRST}not {_ADVERB}(?:agree with|believe(?: in)?|accept|endorse|mean|stand (?:by|behind)|support|trust"
            rf"|think so|know|like) ?(?:{_IT})?$",
            # The opposite is true. Just kidding.
            r"\b(?:opposite|reverse|contrary|inverse)(?: of (?:this|that|it|the above|what \w+ \w+))? (?:is|was|holds|applies"
            r"|would be) (?:\w+ly )?(?:true|right|correct|the case|what|my|so|meant|intended|closer)\b",
            r"\b(?:is|are|was|were|mean|meant|holds|true) (?:\w+ly |just )?(?:the )?(?:exact |very |complete )?"
            r"(?:opposite|reverse|contrary|inverse)(?: of (?:this|that|it|the above|what \w+ \w+))?$",
            r"^(?:but |and |well |oh |wait )?(?:no|not|nope|false|wrong|incorrect|invalid|untrue|oops|psych|(?:lol )?jk|lol"
            r"|sorry wrong|never ?mind|not really|not so|not true|april fools?|as if|not at all)$",
            r"\bnever ?mind\b|\bscratch (?:that|this|the)\b|\bstrike (?:that|this)\b|\bhold on\b.{0,20}\b(?:wrong|not)\b",
            r"\bnot what i (?:\w+ )?(?:mean|meant|think|believe|see|saw|want|wanted|would|intended)\b",
            r"\b(?:real|actual|true|correct|proper) (?:answer|grade|one|assessment|result) (?:is|will|would|follows|comes"
            r"|differs|remains) (?:\w+ )?(?:different|another|unknown|not|follow|later|be given|below|something else)\b",
            r"\b(?:before|without) (?:even |actually |really |ever )*(?:looking|seeing|viewing|opening|checking|having seen"
            r"|reading) (?:at )?(?:the |any |an |your |this )?(?:\w+ ){0,1}(?:images?|scans?|mris?|volumes?|pictures?|it|them"
            r"|knee|slices?|data)\b",
            r"\b(?:i was|we were) (?:\w+ )?(?:wrong|incorrect|mistaken)\b",
            r"\bto (?:show|illustrate|demonstrate) (?:you )?(?:the|my|how)\b.{0,30}(?:structure|format|form|syntax|layout"
            r"|schema|output)\b|\b(?:for|as an?) (?:illustration|demonstration|formatting|illustrative|demonstrative|testing"
            r"|test|placeholder)\b|\b(?:example|template|placeholder|illustration|format|test|demo) only\b",
            r"\b(?:values?|grades?|numbers?|scores?|digits?|it|this|that|they|these) (?:\w+ )?(?:needs?|has|have|must|should"
            r"|will|still|is|are|to) (?:to )?(?:be )?(?:filled|replaced|overwritten|completed) ?(?:in|by|with|once|when|later"
            r"|after)?\b",
            NO_IMAGE + r"\b",
        )
    )
)


def takes_back(sentence: str) -> bool:
    """Check whether a normalised sentence says that the answer before it is none.

    Examples
    --------
    >>> [takes_back(text) for text in ("none of this is my answer", "this is not a tear", "the opposite is true")]
    [True, False, True]
    """
    return _TAKES_BACK.search(sentence.strip(" .!,:*-\n")) is not None


# What introduces an object that is no answer: an example, a template, the form of an answer to come.
_EXAMPLE = re.compile(
    r"(?:for example|e\.g\.?|for instance|such as|(?:^|[.\n:;]\s*)[# ]*(?:an? |the )?(?:\w+ )?(?:example|sample|template"
    r"|schema|placeholder|format|syntax|illustration)(?: [a-z]+){0,3}"
    r"|(?:^|[.\n:;]\s*)[# ]*(?:the |my )?(?:expected|output|response|answer|required|json|reply) (?:json )?(?:format"
    r"|schema|template)(?: is)?"
    r"|\b(?:here|below|this|following|above) (?:is|are)(?: \w+){0,3} (?:template|schema|example|sample|placeholder"
    r"|format)s?|\b(?:look|looks) like(?: this)?)[\s,:.]{0,8}$"
)
_NOT_YET = re.compile(
    r"\b(?:template|placeholder|dummy|hypothetical|ignore|disregard|discard|example|sample|illustrat\w*"
    r"|(?:i|we) will (?:reply|answer|respond|provide|give|return|report|output|use|fill)|would (?:be|look|read|have)"
    r"|will be (?:given|provided|returned|formatted)|once (?:i|you|the)|when (?:you|the images?)|if (?:you|the|i|there)"
    r"|please (?:provide|share|upload|send|attach)|as soon as|should look|could look|need (?:the|an) images?|default"
    r"|typical(?:ly)?|not an? (?:actual|real)|pretend|imagine|suppose|supposing|assuming|(?:let us|just) (?:say|assume)"
    r"|made up|fictional|fictitious|invented|fake|random|arbitrary|guess at random|nonsense|joke|test(?:ing)? the"
    r"|(?:could|might|may) (?:also |well |just |then |equally |possibly )*(?:be|answer|say|write|reply|respond|read|give))"
    r"\b(?! the knee)"
)
_NOT_MINE = re.compile(
    # The following is wrong: ... This is not my answer: ... An incorrect answer: ...
    rf"\b{_IT} (?:is|are|was|were|would be|should be|will be|looks?|seems?) {_ADVERB}{_NO_ANSWER}\b"
    rf"|\b(?:wrong|incorrect|false|invalid|bad|mistaken|erroneous|rejected|discarded|inaccurate|flawed|faulty|unacceptable"
    rf"|untrue|counter|worst|fake|bogus)\b(?: \w+){{0,2}} ?(?:{_NOUN}|examples?|one|version|way|option)\b"
    r"|^(?:the |an? )?(?:wrong|incorrect|false|invalid|not|bad|rejected|mistaken|not this|not like this)$"
    rf"|\b(?:not|never) (?:the |my |our |an? |really |actually )*(?:\w+ )?{_NOUN}\b"
    r"|\b(?:what|how) (?:not|never) to\b|\bwhat (?:i|we|you) (?:do|did|would|should|must|can) (?:\w+ly )?(?:not|never)\b"
    rf"|\b(?:do not|never|not|must not|should not|would not|can not|could not|refuse to|decline to|reluctant to|hesitate to"
    rf"|wrong to|mistake to) {_ADVERB}(?:use|trust|answer|write|say|reply|respond|submit|accept|return|output|copy|give|agree"
    r" with|believe|endorse|confirm|stand by|support|think|mean|read|report|vouch for|certain (?:of|about|that)|sure (?:of"
    r"|about|that)|confident (?:in|of|that|about))\b"
    r"|\b(?:i|we) (?:\w+ly )?(?:reject|rejected|disagree|doubt|withdraw|withdrew|retract|retracted|deny|denied|dispute|ruled"
    r" out|dismiss|dismissed|considered and|discarded)\b"
    r"|\bnot$|\b(?:instead|rather than|other than|anything but|opposite|contrary|reverse)(?: of)?(?: \w+){0,2}$"
    # What others said: ... The previous report: ...
    r"|\b(?:radiologists?|physicians?|doctors?|clinicians?|surgeons?|colleagues?|readers?|students?|residents?|users?|patients?"
    r"|models?|assistants?|someone|somebody|others|experts?|chatgpt|gpt|they|he|she|people|reviewers?|report|chart|letter"
    r"|prompt|question|instructions?)\b(?: \w+){0,2} (?:say|says|said|wrote|writes|answers?|answered|gave|gives|reported|reports"
    r"|replied|claims?|claimed|suggests?|suggested|graded|thinks?|thought|noted|notes|stated|states|output|expects?|expected"
    r"|wants?|wanted|shows?|showed|recorded|put|read|had)\b"
    r"|^(?:the |my |his |her |their |an? )?(?:previous|prior|baseline|last|old|earlier|former|other|another)(?: [a-z]+){0,3}$"
    rf"|^(?:the |an? )?\w+ (?:{_NOUN}) (?:of|from|by) (?:an?other|the other|someone|somebody|a different)\b"
)
_TURN = re.compile(
    r"\b(?:but|however|yet|still|nevertheless|nonetheless|based|therefore|thus|hence|so|instead|my (?:best|own|final)"
    r"|correct(?:ed)?(?: \w+){0,2}|here is (?:my|the)|the (?:right|correct) (?:answer|one))\b|, (?:i|we|my) "
)
_SENTENCE = re.compile(r"[.!?;]\s|\n\s*\n")
_AHEAD = re.compile(r"\b(?:the following|following|below|what follows|next|here|this is not|follows|that follows)\b")


_NO_IMAGE = re.compile(NO_IMAGE + r"\b")


def disowns(lead: str) -> str | None:
    """Return why what leads to an object introduces no answer, ``placeholder`` or ``retracted``; None where it does.

    Examples
    --------
    >>> [disowns(lead) for lead in ("The following is wrong: ", "I am not sure about the cyst, but: ", "Template:")]
    ['retracted', None, 'placeholder']
    """
    lead = normalise(lead)
    if _EXAMPLE.search(lead[-80:]):
        return "placeholder"
    last = ["", *sentences(lead)][-1].strip(" .!?,")
    turned = list(_TURN.finditer(last))
    said = last[turned[-1].end() :] if turned and not last.startswith("this is not") else last
    if not turned and refuses(last):
        return "placeholder"
    if lead.rstrip(" \n").endswith((".", "!", "?")):
        return "retracted" if _AHEAD.search(last) and _NOT_MINE.search(said) else None
    if _NOT_YET.search(last) or _NO_IMAGE.search(said):
        return "placeholder"
    return "retracted" if _NOT_MINE.search(said) or ATTRIBUTED.search(said) else None


def sentences(text: str) -> list[str]:
    """Split normalised text into sentences without outer blanks and marks."""
    return [part.strip(" \n:#-")[:400] for part in _SENTENCE.split(text) if part.strip(" \n:#-")]


def takes_back_any(text: str) -> bool:
    """Check whether any sentence of a text takes back the answer before it."""
    return any(takes_back(sentence) for sentence in sentences(normalise(text)))
