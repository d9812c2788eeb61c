"""Subjects named in prose: whose grade a sentence states, and which sections are about another place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from reasonknee_datasets.bench.codec.names import subject_forms
from reasonknee_datasets.moaks import QUESTIONS, Question, get_question
from reasonknee_datasets.moaks.spellings import normal_form

# How far from a grade its subject may stand.
REACH = 160

_IN_PROSE = {
    "bml": r"(?:bmls?|bone[ \-]marrow[ \-]lesions?)",
    "percent": r"(?:%|percent(?:age)?)",
    "percentage": r"(?:%|percent(?:age)?)",
    "anterior": "(?:anterior|trochlear?)",
    "femur": "(?:femur|femoral)",
    "tibia": "(?:tibia|tibial)",
    "patella": "(?:patella|patellar)",
    "meniscus": "(?:meniscus|meniscal)",
    "meniscal": "(?:meniscus|meniscal)",
}
_SENTENCE_END = re.compile(r"[.;!?]\s|\n")


def phrase(form: str) -> str:
    """Write a pattern for a name in normal form, with what may stand between its words in prose."""
    return r"[ \t_/\-()]{1,3}(?:the )?".join(_IN_PROSE.get(word, re.escape(word)) for word in form.split())


def _names(question: Question) -> Iterator[str]:
    """Give what prose calls a subject: officially, by its place alone, and with the side before the bone."""
    forms = [*subject_forms(question)]
    if question.category != "periarticular" and "_" in question.subregion:
        forms.append(normal_form(question.subregion))
    for form in forms:
        yield form
        first, _, rest = form.partition(" ")
        second, _, rest = rest.partition(" ")
        if first in ("patella", "femur", "tibia"):
            yield f"{second} {first} {rest}".strip()


def _either(forms: Iterator[str]) -> str:
    return "|".join(phrase(form) for form in sorted(set(forms), key=len, reverse=True))


@cache
def _patterns(question_id: int) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Give the pattern of the question's own names, of all names of its kind, and of the headings they make."""
    question = get_question(question_id)
    kind = (other for other in QUESTIONS.values() if other.category == question.category)
    every = _either(name for other in kind for name in _names(other))
    heading = rf"(?<![a-z])(?P<name>{every})\s{{0,3}}[\"'_]{{0,3}}\s{{0,3}}[:|\n]"
    own = re.compile(_either(_names(question)))
    return own, re.compile(rf"(?<![a-z])(?P<name>{every})(?![a-z])"), re.compile(heading)


def without_others(question: Question, text: str) -> tuple[str, bool]:
    """Take out sections under the names of other subjects of the same kind, and tell whether there were any."""
    own, _, heading = _patterns(question.id)
    kept: list[str] = []
    at, others, foreign = 0, False, False
    for found in heading.finditer(text):
        if not foreign:
            kept.append(text[at : found.start()])
        at = found.start()
        foreign = own.fullmatch(found["name"]) is None
        others = others or foreign
    if not foreign:
        kept.append(text[at:])
    return "".join(kept), others


def sentence_before(text: str, at: int) -> str:
    """Give what stands before a place in its sentence."""
    return _SENTENCE_END.split(text[max(0, at - REACH) : at])[-1]


def is_about_another(question: Question, text: str, start: int, end: int) -> bool:
    """Tell whether the nearest subject named in a sentence is another one than was asked for.

    What stands before counts first; where it names none, what follows in the sentence.

    Examples
    --------
    >>> said = "the superior patellar osteophyte is grade 3"
    >>> is_about_another(get_question(30), said, said.index("grade"), len(said))
    False
    >>> said = "the patella inferior osteophyte is grade 3"
    >>> is_about_another(get_question(30), said, said.index("grade"), len(said))
    True
    """
    own, every, _ = _patterns(question.id)
    before = [found["name"] for found in every.finditer(sentence_before(text, start))]
    if not before:
        found = every.search(_SENTENCE_END.split(text[end : end + REACH])[0])
        before = [found["name"]] if found else []
    return bool(before) and own.fullmatch(before[-1]) is None
