"""Sentences beside an answer that say it is none: denials, retractions, templates, doubts, answers of others.

`takes_back` reads a sentence behind an answer, `disowns` what leads to an object. A sentence counts only if it is
about the answer ("this", "the above", "my grade"): what it says of the knee ("this is not a tear") takes nothing back.
The phrases are data, in ``vocabulary.txt``.
"""

from __future__ import annotations

import re

from reasonknee_datasets.bench.answers.prose_tokens import normalise
from reasonknee_datasets.bench.answers.scale_words import refuses
from reasonknee_datasets.bench.answers.vocabulary import pattern

_TURN = re.compile(
    r"\b(?:but|however|yet|still|nevertheless|nonetheless|based|therefore|thus|hence|so|instead|my (?:best|own|final)"
    r"|correct(?:ed)?(?: \w+){0,2}|here is (?:my|the)|the (?:right|correct) (?:answer|one))\b|, (?:i|we|my) "
)
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|\n\s*\n|[()]")
_AHEAD = re.compile(r"\b(?:the following|following|below|what follows|next|here|this is not|follows|that follows)\b")


def takes_back(sentence: str) -> bool:
    """Check whether a normalised sentence says that the answer before it is none.

    Examples
    --------
    >>> [takes_back(text) for text in ("none of this is my answer", "this is not a tear", "the opposite is true")]
    [True, False, True]
    """
    return pattern("takes_back").search(sentence.strip(" .!,:*-\n")) is not None


def takes_back_any(text: str) -> bool:
    """Check whether any sentence of a text takes back the answer before it."""
    return any(takes_back(sentence) for sentence in sentences(normalise(text)))


def sentences(text: str) -> list[str]:
    """Split normalised text into sentences without outer blanks and marks."""
    return [part.strip(" \n:#-")[:400] for part in _SENTENCE.split(text) if part.strip(" \n:#-")]


def disowns(lead: str) -> str | None:
    """Return why what leads to an object introduces no answer, ``placeholder`` or ``retracted``; None where it does.

    Examples
    --------
    >>> [disowns(lead) for lead in ("The following is wrong: ", "I am not sure about the cyst, but: ", "Template:")]
    ['retracted', None, 'placeholder']
    """
    lead = normalise(lead)
    if pattern("placeholder").search(lead[-80:].rstrip(" \n,:.#-")):
        return "placeholder"
    last = ["", *sentences(lead)][-1].strip(" .!?,")
    turned = list(_TURN.finditer(last))
    said = last[turned[-1].end() :] if turned and not last.startswith("this is not") else last
    if not turned and refuses(last):
        return "placeholder"
    if lead.rstrip(" \n").endswith((".", "!", "?")):
        return "retracted" if _AHEAD.search(last) and pattern("not_mine").search(said) else None
    if pattern("not_yet").search(last):
        return "placeholder"
    return "retracted" if pattern("not_mine").search(said) or pattern("attributed").search(said) else None
