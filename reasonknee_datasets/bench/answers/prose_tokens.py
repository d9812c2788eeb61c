"""Prose without markup and typographic variants, split into words with their places."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reasonknee_datasets.bench.answers.scale_words import narrow

_WORD = re.compile(r"[0-9]+(?:\.[0-9]+)?(?![0-9]*[^\W\d_])|[^\W_]+|\n|[^\s\w]")
_MARKUP = re.compile(r"[*`]+|~~+")
_TAG = re.compile(r"<(?P<name>[a-z][a-z _\-]{0,60})>(?P<value>[^<>\n]{0,80})</[a-z][a-z _\-]{0,60}>")
_REPLACED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[\u2018\u2019\u02bc]", "'"),
        (r"\b(?:can't|cannot)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"\b([a-z]+)n't\b", r"\1 not"),
        (r"\bain't\b", "is not"),
        (r"'d\b", " would"),
        (r"'ll\b", " will"),
        (r"'ve\b", " have"),
        (r"\bi'm\b", "i am"),
        (r"\b(it|that|this|there|here|what)'s\b", r"\1 is"),
        (r"'s\b", ""),
        (r"\bi\.e\.,?", "that is"),
        (r"\be\.g\.,?", "for example"),
        (r"\b(vs|approx|resp|dr|fig|no(?=\. ?[0-9]))\.", r"\1"),
        (r"\b([0-8]) is (?:my|the|our) (?:final |overall |moaks )?(?:grade|score|answer|rating)\b", r"the grade is \1"),
        (r"(?<=[a-z])[_\-\u2010-\u2014](?=[a-z])|_", " "),
        (r"\b(grade|graded|score|scored)(?=[0-9])", r"\1 "),
        (r"[-=]>|\u2192|\u21d2|\u27f9|\u2794", ":"),
        (r"\bbone marrow (?:lesion|o?edema)(?: (?:like )?(?:lesion|signal))?s?\b|\bbmls\b", "bml"),
        (r"\banterior cruciate ligament\b", "acl"),
        (r"\bposterior cruciate ligament\b", "pcl"),
        # Set phrases in which a word of denial denies nothing.
        (r"\b(?:without (?:a |any )?doubt|no doubt|without question|no question|beyond (?:a "
         r"|any )?(?:reasonable )?doubt)\b",
         "surely"),
        (r"\bthere is surely that\b", "surely"),
        (r"\bnot (?:only|merely|just)\b(?=[^.;\n]{0,80}\bbut\b|[^.;\n]{0,80}\balso\b)", "both"),
        (r"\bnot (?:a|an|intended as|intended to be|meant as|meant to be) (?:a )?(?:substitute"
         r"|replacement|diagnosis)\b", ""),
        (r"\b(?:anything|everything|all) but\b", "not"),
        # A change is stated by where it ends.
        (r"\b(?:has |have )?(?:progress(?:ed|es)|increas(?:ed|es)|chang(?:ed|es)|worsen(?:ed|s)|improv(?:ed|es)"
         r"|advanc(?:ed|es)|decreas(?:ed|es)) from (?:moaks )?(?:grade |score )?(?:a )?[0-8] to (?=(?:moaks )?"
         r"(?:grade |score )?(?:a )?[0-8])",
         "is now "),
        # A ticked box among empty ones; a question with its answer.
        (r"(?:\u2610|\[ \])\s{0,3}[^\u2610\u2611\u2612\[\n]{1,40}", " "),
        (r"(?:\u2611|\u2612|\u2713|\u2714|\u2705|\[x\])\s{0,3}(?=[0-8]\b)", "grade: "),
        (r"(?<![0-9])\?\s{1,3}(?=(?:yes|no|present|absent|true|false|intact|torn)\b)", ": "),
        # The range that the prompt states, repeated behind a name.
        (r"[(\[]\s*(?:(?:grades?|scores?|scale|range|moaks|from|of|:)\s*){0,4}0\s*(?:-|\u2013|\u2014|to|or|/|,)\s*[1-8]"
         r"(?:\s*,\s*[0-8]){0,8}\s*[)\]]", ""),
        # An interjection between commas does not end a clause.
        (r",\s(?:however|therefore|though|in (?:my|our) (?:opinion|view)|in this case|in fact|indeed|for now"
         r"|on (?:these|this|the) (?:images?|scans?|slices?|views?|sequences?)|with (?:any )?confidence|at present"
         r"|at this time|from (?:these|this|the) (?:images?|scans?))\s?,", ""),
    )
)  # fmt: skip


def normalise(text: str) -> str:
    """Write prose without markup, contractions and typographic variants, in lower case.

    Examples
    --------
    >>> normalise("**It isn't Hoffa-synovitis, grade ２.**")
    'it is not hoffa synovitis, grade 2.'
    """
    text = _MARKUP.sub("", narrow(text).casefold())
    text = _TAG.sub(lambda found: f"\n{found['name']}: {found['value']}\n", text) if "</" in text else text
    for pattern, new in _REPLACED:
        text = pattern.sub(new, text)
    return text


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number, a mark or a line break, with its place."""

    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Split normalised prose.

    Examples
    --------
    >>> [token.text for token in tokens("size 2.5, 3mm.")]
    ['size', '2.5', ',', '3mm', '.']
    """
    return [Token(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]
