"""Places of the knee that a text names: structure, compartment and part, and the side of the body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

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
    Place(structures=frozenset({'meniscus'}), compartments=frozenset({'medial'}), parts=frozenset({'body'}))
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
