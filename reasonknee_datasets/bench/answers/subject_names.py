"""Names of the knee's structures, findings, sides and parts, as facets of a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType

from reasonknee_datasets.bench.answers.vocabulary import names_of
from reasonknee_datasets.moaks import CATEGORIES, get_question

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


@cache
def names(category: str) -> Mapping[tuple[str, ...], Facets]:
    """Find every phrase that names a subject or a facet of one, where a question of this category was asked.

    Examples
    --------
    >>> names("osteophyte")["medial",], names("osteophyte")["quadriceps", "tendon"]["site"]
    (mappingproxy({'side': frozenset({'medial'})}), frozenset({'other'}))
    """
    return MappingProxyType({tuple(phrase.split()): facets for phrase, facets in _phrases(category)})


def _phrases(category: str) -> Iterator[tuple[str, Facets]]:
    for findings, listed in names_of("finding"):
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
    for structure, listed in names_of("structure"):
        for phrase in listed:
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
    return frozenset(word for category in CATEGORIES for phrase in names(category) for word in phrase)
