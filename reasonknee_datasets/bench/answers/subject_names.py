"""Names of the knee's structures, findings, sides and parts, and noun phrases that no list of names holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType

from reasonknee_datasets.bench.answers.grade_values import NUMBER_WORDS
from reasonknee_datasets.bench.answers.scale_words import scale_of
from reasonknee_datasets.bench.answers.words import Token, names_of, word_list
from reasonknee_datasets.moaks import CATEGORIES, SLOTS, get_question

Facets = Mapping[str, frozenset[str]]

OTHER = "other"
BONES = frozenset(("patella", "femur", "tibia"))
MENISCUS = frozenset(("meniscus",))
ON_BONE = frozenset(("bone_marrow_lesion", "cartilage_lesion", "osteophyte"))
ON_MENISCUS = frozenset(("extrusion", "morphology", "meniscal_cyst", "hypertrophy", "root_tear"))
_NONE = frozenset(("none",))
_SIDES = ("medial", "lateral")


def _some(**facets: str | tuple[str, ...]) -> Facets:
    return MappingProxyType(
        {name: frozenset((value,) if isinstance(value, str) else value) for name, value in facets.items()}
    )


ANOTHER = _some(finding=OTHER, site=OTHER)
"""Facets of a subject that no question asks about."""
UNNAMED = _some(finding="unnamed", site="unnamed")
"""Facets of a subject that is in no list of names."""


@cache
def subject_phrases(category: str) -> Mapping[tuple[str, ...], Facets]:
    """Find every phrase that names a subject or a facet of one, where a question of this category was asked.

    Examples
    --------
    >>> subject_phrases("osteophyte")["medial",], subject_phrases("osteophyte")["quadriceps", "tendon"]["site"]
    (mappingproxy({'side': frozenset({'medial'})}), frozenset({'other'}))
    """
    return MappingProxyType({tuple(phrase.split()): facets for phrase, facets in _phrases(category)})


def _phrases(category: str) -> Iterator[tuple[str, Facets]]:
    for findings, listed in names_of("finding"):
        if category == "ligament" and "bone_marrow_lesion" in findings and "anterior_cruciate_ligament" not in findings:
            continue  # a part of the question: "marrow edema at its attachments"
        for phrase in listed:
            yield phrase, _some(finding=findings)
    for kind in ("site", "side"):
        for value, listed in names_of(kind):
            for phrase in listed:
                yield phrase, _some(**{kind: value})
    for phrase, part in ((phrase, part) for (part,), listed in names_of("part") for phrase in listed):
        if part == "body":
            if category.startswith("meniscal"):
                yield phrase, _some(part=part, direction="outward")
        elif part in ("superior", "inferior"):
            if category == "osteophyte" or "pole" in phrase or phrase == "apex":
                yield phrase, _some(part=part)
        elif part == "subspinous":
            yield phrase, _some(site="tibia", part=part, direction=part)
        else:
            yield phrase, _some(part=part, direction=part)
    for phrase in ("anterior horn", "posterior horn"):
        part = phrase.split()[0]
        yield phrase, _some(site="meniscus", part=part, direction=part)
    for phrase in ("horn", "horns", "body of meniscus"):
        yield phrase, _some(site="meniscus")
    yield "facet", _some(site="patella")
    yield "facets", _some(site="patella")
    for phrase in ("trochlea", "trochlear", "trochlear groove"):
        yield phrase, _some(site="femur", part="anterior")
    for side in ("medial", "lateral"):
        for word in ("extrusion", "extruded"):
            yield f"{side} {word}", _some(finding="extrusion", side=side, direction="outward")
    for side in ("medial", "lateral"):
        if category == "meniscal_extrusion":
            yield f"{side}ly", _some(direction="outward", side=side)
    if category.startswith("meniscal") and category != "meniscal_morphology":
        for phrase in ("signal", "signal abnormality", "degeneration", "degenerative"):
            yield phrase, _some(finding="morphology")
    for word in ("root tear", "root"):
        for part in ("anterior", "posterior"):
            yield f"{part} {word}", _some(finding="root_tear", site="meniscus")
    yield "mmrt", _some(finding="root_tear", site="meniscus", side="medial")
    yield "lmrt", _some(finding="root_tear", site="meniscus", side="lateral")
    if category not in ON_BONE:
        for phrase in ("patellofemoral", "tibiofemoral", "femorotibial", "femoropatellar"):
            yield phrase, ANOTHER
    if category not in ("periarticular", "effusion_synovitis"):
        yield "joint space", ANOTHER
    if category not in ("ligament", "tendon"):
        for phrase in ("ligament", "ligaments", "tendon", "tendons"):
            yield phrase, ANOTHER
    if category == "ligament":
        for bone in ("femoral", "tibial", "femoral and tibial"):
            for part in ("tunnel", "insertion", "origin", "attachment", "footprint", "stump"):
                yield f"{bone} {part}", _some()
                yield f"{bone} {part}s", _some()
    if category == "meniscal_extrusion":  # from where it is measured
        for edge in ("margin", "edge", "rim", "border", "cortex"):
            for phrase in (
                f"tibial {edge}",
                f"tibial plateau {edge}",
                f"plateau {edge}",
                f"{edge} of tibia",
                f"{edge} of tibial plateau",
            ):
                yield phrase, _some()
    if category == "bone_marrow_lesion":  # places of a marrow lesion
        for place in ("under", "below", "beneath", "underneath", "next to", "deep to"):
            for cover in ("cartilage", "articular cartilage", "a cartilage", "overlying cartilage"):
                yield f"{place} {cover}", _some()
    for structure, listed in names_of("structure"):
        for phrase in listed:
            if category == "ligament" and phrase in ("tunnel", "tunnel widening", "hardware"):
                continue  # of a reconstruction
            yield phrase, _some(finding=structure, site=structure)


@cache
def asked_facets(question_id: int) -> Facets:
    """Write the subject of a question as facets.

    Examples
    --------
    >>> sorted((name, *value) for name, value in asked_facets(44).items())
    [('direction', 'anterior'), ('finding', 'extrusion'), ('side', 'medial'), ('site', 'meniscus')]
    """
    question = get_question(question_id)
    category, words = question.category, question.subregion.split("_")
    if category in ON_BONE:
        return _bone(category, words)
    if not category.startswith("meniscal"):
        return _some(finding=question.finding, site=question.finding)
    finding = category if category == "meniscal_cyst" else category.removeprefix("meniscal_")
    facets = dict(_some(finding=finding, site="meniscus", side=words[0]))
    if category == "meniscal_extrusion":
        facets["direction"] = frozenset(("anterior" if words[-1] == "anterior" else "outward",))
    if category == "meniscal_morphology":
        facets["part"] = frozenset((words[-1],))
    return MappingProxyType(facets)


def _bone(category: str, words: list[str]) -> Facets:
    facets = dict(_some(finding=category, site=words[0]))
    sides = [word for word in words[1:] if word in _SIDES]
    parts = [word for word in words[1:] if word not in _SIDES]
    facets["side"] = frozenset(sides) or _NONE
    if parts:
        facets["part"] = frozenset(parts)
    elif words[0] == "patella" and category == "osteophyte":
        facets["part"] = _NONE
    return MappingProxyType(facets)


@cache
def every_word() -> frozenset[str]:
    """Find every word of the names: a grade may stand right behind one.

    Examples
    --------
    >>> "meniscus" in every_word(), "deserves" in every_word()
    (True, False)
    """
    return frozenset(
        word
        for category in CATEGORIES
        for phrase, facets in subject_phrases(category).items()
        if facets
        for word in phrase
    )


_ADJECTIVES = ("al", "ic", "ous", "ive", "ed", "ense", "ent", "ant", "ary", "ar", "able", "ible", "ate", "ing", "oid")
_OF_GRADES = ("ive", "ed", "able", "ible")
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
    if at < end and said[at].text in ("grade", "score") and len(found) == 1 and found[0].endswith(_OF_GRADES):
        return []  # "definitive grade"
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
