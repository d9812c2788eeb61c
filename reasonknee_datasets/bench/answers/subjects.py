"""Subjects in prose: the phrases that name one, and the running subject to which a grade belongs.

A subject is a handful of facets. Naming a structure narrows or replaces facets of the running context; a grade belongs
to the question that was asked only while no facet of the context contradicts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from reasonknee_datasets.bench.answers.key_matching import slot_forms
from reasonknee_datasets.bench.answers.subject_names import (
    ANOTHER,
    BONES,
    MENISCUS,
    ON_BONE,
    ON_MENISCUS,
    Facets,
    asked_facets,
    every_word,
    names_condition,
    subject_phrases,
)
from reasonknee_datasets.bench.answers.words import Token, names_of, normalise, tokens, word_list
from reasonknee_datasets.moaks import Question, Slot, get_question


def _sites_of(findings: frozenset[str]) -> frozenset[str]:
    sites: frozenset[str] = frozenset()
    for finding in findings:
        sites |= BONES if finding in ON_BONE else MENISCUS if finding in ON_MENISCUS else frozenset((finding,))
    return sites


@dataclass(slots=True)
class Context:
    """Subject named so far: facets, and which of them wait for their site ("lateral" in "the lateral tibia")."""

    facets: dict[str, frozenset[str]]
    waiting: set[str] = field(default_factory=set)

    def name(self, mention: Facets) -> None:
        """Narrow the context by a mention, or replace what it contradicts."""
        finding, site = mention.get("finding"), mention.get("site")
        if finding is not None:
            self._name_finding(finding, has_site=site is not None)
        if site is not None:
            self._name_site(site)
        for facet in ("side", "part", "direction"):
            if facet in mention:
                self._drop_pole(facet, mention[facet])
                self._set(facet, mention[facet])
                self.waiting.add(facet)
        if site is not None:
            self.waiting.clear()

    def _name_finding(self, finding: frozenset[str], *, has_site: bool) -> None:
        if not has_site and "site" in self.facets and not (self.facets["site"] & _sites_of(finding)):
            self._drop("site", "side", "part", "direction")
        self._set("finding", finding)

    def _name_site(self, site: frozenset[str]) -> None:
        if "site" in self.facets and not (self.facets["site"] & site):
            self._drop(*{"side", "part", "direction"} - self.waiting)
        if "finding" in self.facets and not (_sites_of(self.facets["finding"]) & site):
            self._drop("finding")
        self._set("site", site)

    def _drop_pole(self, facet: str, value: frozenset[str]) -> None:
        """Drop the other half of a place that has a side or a pole, but not both."""
        on_patella = self.facets.get("site") == frozenset(("patella",))
        if facet == "side" and (on_patella or self.facets.get("part") == frozenset(("subspinous",))):
            self._drop("part")
        if facet == "part" and ("subspinous" in value or (on_patella and value & {"superior", "inferior"})):
            self._drop("side")

    def _set(self, facet: str, value: frozenset[str]) -> None:
        both = self.facets.get(facet, value) & value
        self.facets[facet] = both or value

    def _drop(self, *facets: str) -> None:
        for facet in facets:
            self.facets.pop(facet, None)

    def joined(self, mentions: list[Facets]) -> Context:
        """Copy the context and name more in the copy."""
        copy = Context(dict(self.facets), set(self.waiting))
        for mention in mentions:
            copy.name(mention)
        return copy

    def contradicts(self, question: Question) -> bool:
        """Check whether another subject than the asked one has been named."""
        asked = asked_facets(question.id)
        return any(facet in asked and not (asked[facet] & value) for facet, value in self.facets.items())

    def is_asked(self, question: Question) -> bool:
        """Check whether the asked subject has been named, and nothing that contradicts it."""
        return bool({"finding", "site"} & self.facets.keys()) and not self.contradicts(question)


_STRETCH = 20_000


@dataclass(frozen=True, slots=True)
class PhraseMatch:
    """A phrase of the prose: the places that it spans, the facets and the attribute that it names."""

    end: int
    facets: Facets | None = None
    slot: Slot | None = None
    foreign_slot: bool = False


_Phrases = Mapping[str, Sequence[tuple[tuple[str, ...], Facets | None, Slot | None, bool]]]


@cache
def _phrases(question_id: int) -> _Phrases:
    """Index every phrase that matters to one question by its first word, the longest first."""
    question = get_question(question_id)
    found: dict[tuple[str, ...], tuple[Facets | None, Slot | None, bool]] = {}
    for phrase, facets in subject_phrases(question.category).items():
        found[phrase] = (facets, None, False)
    for attribute in _FOREIGN_ATTRIBUTES:
        found.setdefault((attribute,), (None, None, True))
    for slot in question.slots:
        for form in (*slot_forms(slot), *dict(names_of("said")).get((slot.attribute,), ())):
            words = tuple(token.text for token in tokens(normalise(form)))
            for spelling in {words, tuple("%" if word == "percent" else word for word in words)}:
                if spelling:
                    # The alias "extrusion grade" of a question's only slot names the finding, too.
                    named = subject_phrases(question.category)
                    found[spelling] = (
                        named.get(spelling, named.get(spelling[:1] if len(question.slots) == 1 else ())),
                        slot,
                        False,
                    )
    indexed: dict[str, list[tuple[tuple[str, ...], Facets | None, Slot | None, bool]]] = {}
    for words, meaning in sorted(found.items(), key=lambda item: -len(item[0])):
        indexed.setdefault(words[0], []).append((words, *meaning))
    return indexed


# Attribute names of any question: where they are not the asked one's, their number is another's.
_FOREIGN_ATTRIBUTES = (
    "size",
    "depth",
    "number",
    "percent",
    "percentage",
    "confidence",
    "probability",
    "certainty",
    "quality",
)


def find_phrases(question: Question, said: Sequence[Token]) -> dict[int, PhraseMatch]:
    """Find the phrases of a text, in order; none overlaps another."""
    phrases, marks, at = _phrases(question.id), {}, 0
    while at < len(said):
        for words, facets, slot, foreign in phrases.get(said[at].text, ()):
            if words == ("%",) and at and said[at - 1].text[-1].isdigit():
                continue
            end = _match(said, at, words)
            if end is not None:
                if len(words) == 1 and words[0] in word_list("too_common") and not _is_set(question, said, at, end):
                    slot = None
                    if facets is None and not foreign:
                        continue
                if slot is not None and _is_of_another(said, end, words):
                    slot, foreign = None, True
                marks[at] = PhraseMatch(end, facets, slot, foreign)
                at = end - 1
                break
        else:
            if names_condition(said[at].text):
                marks[at] = PhraseMatch(at + 1, ANOTHER)
        at += 1
    return marks


def _is_set(question: Question, said: Sequence[Token], at: int, end: int) -> bool:
    """Check whether a number is set equal to a general word: "count = 1", but not "sequence type = 2"."""
    before = said[at - 1].text if at else "."
    if before.isalpha() and before not in word_list("articles") | every_word() | {"and", "with"}:
        return False
    place = end
    while place < min(end + 3, len(said)) and said[place].text in word_list("sets"):
        place += 1
    if (place == end and len(question.slots) == 1) or place >= len(said) or not said[place].text[0].isdigit():
        return False
    return (
        place > end or place + 1 == len(said) or said[place + 1].text == "and" or not said[place + 1].text[0].isalpha()
    )


def _is_of_another(said: Sequence[Token], end: int, words: tuple[str, ...]) -> bool:
    """Check whether a general attribute is said to be that of something else: "the number of slices"."""
    if words[-1] in _FOREIGN_ATTRIBUTES and said[max(0, end - len(words) - 1)].text in word_list("of_images"):
        return True
    if words[-1] not in _FOREIGN_ATTRIBUTES or end + 1 >= len(said) or said[end].text != "of":
        return False
    return said[end + 1].text.isalpha() and said[end + 1].text not in word_list("of_lesions")


def _match(said: Sequence[Token], at: int, words: tuple[str, ...]) -> int | None:
    place, opened = at, False
    for word in words:
        while (
            place < len(said) and said[place].text in word_list("skipped") and said[place].text != word and place > at
        ):
            opened = opened or said[place].text == "("
            place += 1
            if place - at > 24:
                return None
        if place >= len(said) or said[place].text != word:
            return None
        place += 1
    if opened and place < len(said) and said[place].text == ")":
        place += 1
    return place


def mentions(question: Question, text: str) -> Iterator[Facets]:
    """Find the facets that a text names, in order."""
    for at in range(0, len(text), _STRETCH):
        for mark in find_phrases(question, tokens(normalise(text[at : at + _STRETCH]))).values():
            if mark.facets is not None:
                yield mark.facets


def names_another(question: Question, text: str, before: Context | None = None) -> bool:
    """Check whether a heading or a cell names another subject than the asked one.

    Examples
    --------
    >>> [names_another(get_question(30), text) for text in ("inferior patellar osteophyte", "osteophyte")]
    [True, False]
    """
    return (Context({}) if before is None else before).joined(list(mentions(question, text))).contradicts(question)


_CONCLUDES = re.compile(
    r"[#\s\-•>(]*(?:(?:so|and|in short|in sum|all in all|overall|on balance|taken together)[, ]+)*"
    r"(?:(?:my|the|moaks|final|overall|resulting|assigned) )*(?:grade|score|rating|decision|verdict|conclusion|result"
    r"|answer|choice|call|assessment|impression|hence|therefore|thus|overall|finally|in moaks terms|correct\w+ my"
    r"|i(?: (?:would|will|am|do|still|therefore|thus))* (?:rate|give|grade|score|call|assign|choose|say|pick|settle"
    r"|conclude|put|go))\b"
)
_THEREFORE = re.compile(r"\b(?:hence|therefore|thus|ergo|so)[ ,:]+(?:it is |a |grade |i say )*[0-8]\b[^0-9]{0,20}$")
_HEADING = re.compile(r"[^.!?;|]{1,60}")
_BACK = re.compile(r"\b(?:its?|this|that|these|those|their|there)\b")
_REMARK = re.compile(
    r"\(.*\)|(?:i|we) (?:would|will|am|are|can) .*\b(?:happy|glad|pleased|delighted|also)\b.*"
    r"|(?:confidence|certainty)\b.*|(?:(?:brief )?(?:explanation|reason(?:ing)?|rationale|justification|notes?"
    r"|comments?|remarks?))\s?:[^0-9]*"
)


def closing_place(question: Question, text: str) -> int | None:
    """Find where the last line or paragraph of a text begins, where it is a conclusion that names no other subject.

    What has a word that may point back ("it") has to conclude, and to be a paragraph of its own.
    """
    tail = text[-1200:].rstrip()
    lines = [line.strip() for line in tail.split("\n")]
    while len(lines) > 1 and (not lines[-1] or _REMARK.fullmatch(lines[-1])):
        lines.pop()
    first = len(lines) - 1
    while first > 0 and lines[first - 1]:
        first -= 1
    alone = first > 0 and len(lines) - first <= 4
    first = first if alone else len(lines) - 1
    place = len(text) - len(text[-1200:]) + sum(len(line) + 1 for line in tail.split("\n")[:first])
    line, headings = "\n".join(lines[first:]), [each for each in lines[:first] if _HEADING.fullmatch(each)]
    named = [each for each in headings if any(mentions(question, each))]
    if first == 0 or len(line) > 200 or names_another(question, line) or names_another(question, "".join(named[-1:])):
        return None
    before = [each for each in lines[:first] if each]
    if before[-1:] and before[-1].endswith(":") and names_another(question, re.split(r"[.;!?]\s", before[-1])[-1]):
        return None
    back = _BACK.search(line.replace("that is bml", "")) is not None
    if _CONCLUDES.match(line) or _THEREFORE.search(line):
        return place if alone or not back else None
    return place if alone and not back and re.search(r"[0-8]|[:=-] ?(?:yes|no|present|absent)\b", line) else None


def names_whole_subject(context: Context, question: Question) -> bool:
    """Check whether the asked subject has been named with all that tells it apart."""
    asked = asked_facets(question.id)
    told = {facet for facet, value in asked.items() if facet not in ("finding", "direction") and "none" not in value}
    return told <= context.facets.keys() and context.is_asked(question)
