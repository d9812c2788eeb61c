"""Subjects that no list of names holds: a noun phrase in the place of a subject, none of whose words is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from reasonknee_datasets.bench.answers.prose_tokens import Token
from reasonknee_datasets.bench.answers.scale_words import NUMBER_WORDS, scale_of
from reasonknee_datasets.bench.answers.subject_names import every_word
from reasonknee_datasets.bench.answers.vocabulary import word_list
from reasonknee_datasets.moaks import SLOTS

_ADJECTIVES = ("al", "ic", "ous", "ive", "ed", "ense", "ent", "ant", "ary", "ar", "able", "ible", "ate", "ing", "oid")
_CONDITION = re.compile(
    r"(?!.*(?:synovitis|bursitis|diagnosis|prognosis|osteophytes?|hypertrophy|basis|emphasis|analysis|hypothesis)$)"
    r"[a-z]{3,}(?:itis|osis|omas?|pathy|plasty|phytes?|malacia|trophy|ectomy|algia|desis|genesis)"
)


@cache
def _known() -> frozenset[str]:
    scales = {word for slot in SLOTS for phrase in scale_of(slot.id) for word in phrase.split()}
    return frozenset(scales).union(
        every_word(),
        NUMBER_WORDS,
        word_list(
            *("adverbs", "answer_words", "articles", "auxiliaries", "bounds", "committing", "denials", "describes"),
            *(
                "doubts",
                "fillers",
                "formerly",
                "forward_ends",
                "governors",
                "grade_words",
                "neutral",
                "opens",
                "refers",
            ),
            *("supposes", "turns", "units", "verbs", "verdicts"),
        ),
    )


def _is_known(word: str) -> bool:
    return not word.isalpha() or len(word) < 3 or word in _known() or word.endswith(("ly", "ing"))


def names_condition(word: str) -> bool:
    """Check whether a word is formed as the name of a disease or an operation that no question asks about.

    Examples
    --------
    >>> [names_condition(word) for word in ("chondrocalcinosis", "enchondroma", "synovitis", "diagnosis")]
    [True, True, False, False]
    """
    return _CONDITION.fullmatch(word) is not None and word not in every_word()


def _phrase(said: Sequence[Token], at: int, end: int) -> list[str]:
    """Take the words of a phrase from a place up to the verb or mark that ends it."""
    found: list[str] = []
    while at < end and said[at].text not in word_list("stops") and len(found) < 5:
        found.append(said[at].text)
        at += 1
    return [] if len(found) > 4 or (at < end and said[at].text in ("?", "!")) else found


def is_unknown_phrase(said: Sequence[Token], at: int, end: int) -> bool:
    """Check whether the noun that a phrase ends in is not known, or what tells its kind apart: "cyclops lesion"."""
    phrase = _phrase(said, at, end)
    if not phrase or phrase[0] in word_list("prepositions_unknown"):
        return False
    if not _is_known(phrase[-1]):
        return phrase[-1] not in word_list("aside")
    kind = phrase[-2] if len(phrase) > 1 and phrase[-1] in word_list("kinds") else ""
    return bool(kind) and not _is_known(kind) and not kind.endswith(_ADJECTIVES)


def opens_with_unknown(said: Sequence[Token], start: int, end: int) -> bool:
    """Check whether a sentence begins with a subject that is not known: "The fabella is seen."."""
    at, end = start, min(end, len(said))
    if at < end and said[at].text in word_list("prepositions_unknown"):
        turn = next((place for place in range(at + 1, min(end, at + 12)) if said[place].text == ","), at + 1)
        if turn + 2 >= end or said[turn].text not in word_list("seen_on") or said[turn + 1].text != "the":
            return False
        at = turn + 1
    while at < end and said[at].text in word_list("leading") and at - start < 6:
        at += 1
    return is_unknown_phrase(said, at, end)


def opens_with_aside(said: Sequence[Token], start: int, end: int) -> bool:
    """Check whether a sentence is about the images or the writer: "The image quality is rated 2"."""
    at = start
    while at < end and said[at].text in word_list("leading") and at - start < 6:
        at += 1
    return not word_list("aside").isdisjoint(_phrase(said, at, end)[-1:])


def grades_unknown(said: Sequence[Token], start: int, end: int) -> bool:
    """Check whether a sentence grades an object that is not known: "I would grade the fabella as 2"."""
    return any(
        said[at].text in word_list("of")
        and at + 2 < end
        and said[at + 1].text in ("the", "this", "an", "a")
        and is_unknown_phrase(said, at + 2, end)
        for at in range(start, end)
    )
