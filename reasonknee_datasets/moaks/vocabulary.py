"""The 69 questions and their 118 answer slots, as values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count
from types import MappingProxyType

from reasonknee_datasets.errors import GradeError
from reasonknee_datasets.moaks.values import Question, Scale, Slot

ATTRIBUTES: tuple[str, ...] = (
    "size",
    "number",
    "percent",
    # The share of the lesion with full-thickness loss, not a depth: the prompts describe it as "Percent of
    # full-thickness loss" and still ask for it as "Depth of lesion".
    "depth",
    "grade",
    "morphology",
    "presence",
    "tear_location",
    "complete_tear",
    "insertion_lesion",
    "repair",
    "signal",
)
"""Attributes of a finding that are graded."""

CATEGORIES: tuple[str, ...] = (
    "bone_marrow_lesion",
    "cartilage_lesion",
    "osteophyte",
    "hoffa_synovitis",
    "effusion_synovitis",
    "meniscal_extrusion",
    "meniscal_morphology",
    "meniscal_cyst",
    "meniscal_hypertrophy",
    "meniscal_root_tear",
    "ligament",
    "tendon",
    "periarticular",
)
"""Categories of findings."""

LAST_IN_RECORDS = 62  # questions 63 to 69 are in the prompt files only


# (attribute, the prompt's spelling, highest legal grade, scale); the lowest legal grade is 0 everywhere.
_Field = tuple[str, str | None, int, Scale]

_MARROW: tuple[_Field, ...] = (
    ("size", "Size of BML (including cyst)", 3, "ordinal"),
    ("number", "Number of BML within subregion", 3, "ordinal"),
    ("percent", "% of lesion that is BML (excluding cyst)", 3, "ordinal"),
)
_CARTILAGE: tuple[_Field, ...] = (("size", "Size of lesion", 3, "ordinal"), ("depth", "Depth of lesion", 3, "ordinal"))
_GRADE: tuple[_Field, ...] = (("grade", "grade", 3, "ordinal"),)
_BARE: tuple[_Field, ...] = (("grade", None, 3, "ordinal"),)
_MORPHOLOGY: tuple[_Field, ...] = (("morphology", "morphology", 8, "nominal"),)
_PRESENCE: tuple[_Field, ...] = (("presence", "presence", 1, "binary"),)
# A tear without a cyst is legal: tear_location is independent.
_CYST: tuple[_Field, ...] = (*_PRESENCE, ("tear_location", "tear_location", 3, "nominal"))
_LIGAMENT: tuple[_Field, ...] = (
    ("complete_tear", "Complete Tear", 1, "binary"),
    ("insertion_lesion", "Associated with BML/cyst at site of insertion or origin", 1, "binary"),
)
_ACL: tuple[_Field, ...] = (*_LIGAMENT, ("repair", "ACL Repair", 1, "binary"))
_TENDON: tuple[_Field, ...] = (("signal", "Signal Abnormality", 1, "binary"),)

# The 14 articular subregions in the prompts' words; MOAKS says "anterior" where these prompts say "trochlea".
_ARTICULAR = tuple(
    f"{bone} {side}{part}"
    for bone, parts in (
        ("patella", ("",)),
        ("femur", (" trochlea", " central", " posterior")),
        ("tibia", (" anterior", " central", " posterior")),
    )
    for side in ("medial", "lateral")
    for part in parts
)
_OSTEOPHYTE = (
    *(f"patella {end}" for end in ("superior", "inferior", "medial", "lateral")),
    *(f"femur {side} {part}" for side in ("medial", "lateral") for part in ("anterior", "central", "posterior")),
    *(f"tibia {side}" for side in ("medial", "lateral")),
)
_PERIARTICULAR = (
    ("pes_anserine_bursitis", "pes_anserine_bursa"),
    ("iliotibial_band_signal", "iliotibial_band"),
    ("popliteal_cyst", "popliteal_fossa"),
    ("infrapatellar_bursitis", "infrapatellar_bursa"),
    ("prepatellar_bursitis", "prepatellar_bursa"),
    ("ganglion_cyst", "knee"),
    ("loose_bodies", "joint_space"),
)

# The official prompts are not uniform: these questions leave the wrapper out, or name it MOAKS_grade.
_UNWRAPPED = frozenset({33, 35, 37, *range(54, 70)})
_WRAPPED_AS_GRADE = frozenset({45, 51, 52})


def _subjects() -> Iterator[tuple[str, str, str, str, tuple[_Field, ...]]]:
    """Return category, finding, subregion, prompt subject and fields of each question, in the official order."""
    for words in (*_ARTICULAR, "tibia subspinous"):
        yield "bone_marrow_lesion", "bone_marrow_lesion", words, f"{words} BML", _MARROW
    for words in _ARTICULAR:
        yield "cartilage_lesion", "cartilage_lesion", words, f"{words} cartilage lesion", _CARTILAGE
    for words in _OSTEOPHYTE:
        yield "osteophyte", "osteophyte", words, f"{words} osteophyte", _GRADE
    yield "hoffa_synovitis", "hoffa_synovitis", "hoffa_fat_pad", "Hoffa-Synovitis", _GRADE
    yield "effusion_synovitis", "effusion_synovitis", "joint_cavity", "effusion-synovitis", _GRADE
    for side, fields in (("medial", _BARE), ("lateral", _GRADE)):
        for end in ("anterior", side):
            words = f"{side} meniscus {end}"
            yield "meniscal_extrusion", "meniscal_extrusion", words, f"{words} extrusion", fields
    for side in ("medial", "lateral"):
        for part in ("anterior", "body", "posterior"):
            words = f"{side} meniscus {part}"
            yield "meniscal_morphology", "meniscal_morphology", words, f"{words} morphology", _MORPHOLOGY
    for what, fields in (("cyst", _CYST), ("hypertrophy", _PRESENCE), ("root_tear", _PRESENCE)):
        for side in ("medial", "lateral"):
            finding, end = f"meniscal_{what}", "_root" if what == "root_tear" else ""
            yield finding, finding, f"{side}_meniscus{end}", f"{side}_{finding}", fields
    for letters, words, fields in (("ACL", "anterior", _ACL), ("PCL", "posterior", _LIGAMENT)):
        ligament = f"{words}_cruciate_ligament"
        yield "ligament", ligament, ligament, letters, fields
    yield "tendon", "patellar_tendon", "patellar_tendon", "Patellar_Tendon", _TENDON
    for finding, place in _PERIARTICULAR:
        yield "periarticular", finding, place, f"{finding}_presence", _PRESENCE


def _build() -> dict[int, Question]:
    questions: dict[int, Question] = {}
    slot_ids = count()
    for number, (category, finding, words, subject, fields) in enumerate(_subjects(), start=1):
        # Femoral trochlea and anterior are one subregion with two spellings; the name is always the second.
        subregion = words.replace("trochlea", "anterior").replace(" ", "_")
        own = tuple(
            # Generated records use the short attribute names (seen for size and depth, inferred for the others).
            Slot(next(slot_ids), number, category, finding, subregion, name, scale, 0, high, prompt_key, name)
            for name, prompt_key, high, scale in fields
        )
        wrapper = None if number in _UNWRAPPED else "MOAKS_grade" if number in _WRAPPED_AS_GRADE else "MOAKS_scores"
        # Records join the prompt's words with underscores (seen for cartilage, inferred for the others).
        record_key = re.sub(r"[^A-Za-z0-9]+", "_", subject)
        questions[number] = Question(
            number, category, finding, subregion, own, wrapper, subject, record_key, number <= LAST_IN_RECORDS
        )
    return questions


QUESTIONS: Mapping[int, Question] = MappingProxyType(_build())
"""All 69 questions by number."""

SLOTS: tuple[Slot, ...] = tuple(slot for question in QUESTIONS.values() for slot in question.slots)
"""All 118 slots in order; a slot's ``id`` is its place here."""


def get_question(question: int | Question) -> Question:
    """Return a question by its number; a `Question` is returned as it is.

    Raises
    ------
    GradeError
        If there is no question of that number.

    Examples
    --------
    >>> get_question(19).subject_key
    'femur medial central cartilage lesion'
    """
    if isinstance(question, Question):
        return question
    found = QUESTIONS.get(question)
    if found is None:
        raise GradeError(
            f"There is no question {question!r}; they are numbered from 1 to 69. moaks.QUESTIONS lists them, and "
            "moaks.find_question takes an official spelling."
        )
    return found
