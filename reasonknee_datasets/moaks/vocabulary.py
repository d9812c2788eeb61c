"""The 69 questions and their 118 answer slots, as values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Literal

from reasonknee_datasets.errors import GradeError, explain

Scale = Literal["ordinal", "nominal", "binary"]

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

LAST_IN_RECORDS = 62  # questions 63 to 69 are in the prompt files only


@dataclass(frozen=True, slots=True)
class Slot:
    """One value that an answer must give.

    Parameters
    ----------
    id : int
        Place in `SLOTS`, the order of the official questions and of their prompts' schemas.
    question_id : int
        The question, 1 to 69.
    category, finding, subregion : str
        As in the question.
    attribute : str
        One of `ATTRIBUTES`.
    scale : {"ordinal", "nominal", "binary"}
        Nominal grades have no order: never average them or take their distance.
    low, high : int
        Lowest and highest legal grade, both included.
    prompt_key : str or None
        The spelling that the prompt asks for; None where the value stands bare under its subject.
    record_key : str
        The spelling in generated records.
    """

    id: int
    question_id: int
    category: str
    finding: str
    subregion: str
    attribute: str
    scale: Scale
    low: int
    high: int
    prompt_key: str | None
    record_key: str

    @property
    def name(self) -> str:
        """A short name for messages, tables and priors, for example ``q19.size``."""
        return f"q{self.question_id:02d}.{self.attribute}"

    @property
    def legal(self) -> range:
        """The legal grades."""
        return range(self.low, self.high + 1)

    def check(self, value: object, where: str | None = None) -> int:
        """Take a grade as a plain int, or refuse it.

        A whole float or a string of digits is the same grade (JSON writers differ), and a bool is one in a binary slot.
        Anything else is refused: in particular "2.0", which in OAI's tables means size 2 *and* depth 0.

        Parameters
        ----------
        value : object
            What the file or the model said.
        where : str, optional
            The place, for the message.

        Raises
        ------
        GradeError
            If the value is no legal grade of this slot; the message names slot, value and legal values.

        Examples
        --------
        >>> QUESTIONS[19].slots[0].check("2")
        2
        >>> QUESTIONS[19].slots[0].check(4)
        Traceback (most recent call last):
        reasonknee_datasets.errors.GradeError: size of femur medial central cartilage lesion (q19.size) must be one \
of 0, 1, 2, 3, got 4. Give a legal grade, or None where it is missing.
        """
        grade = _as_int(value, boolean=self.scale == "binary")
        if grade is None or grade not in self.legal:
            subject = f"{self.attribute} of {QUESTIONS[self.question_id].subject_key} ({self.name})"
            legal = ", ".join(map(str, self.legal))
            remedy = "Give a legal grade, or None where it is missing"
            raise GradeError(explain(subject, f"be one of {legal}", repr(value), remedy, where=where))
        return grade


def _as_int(value: object, *, boolean: bool) -> int | None:
    if isinstance(value, bool):
        return int(value) if boolean else None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[0-9]{1,2}\s*", value, re.ASCII) else None
    if isinstance(value, Integral):  # numpy's integers too
        return int(value)
    if isinstance(value, Real) and float(value).is_integer():
        return int(value)
    return None


@dataclass(frozen=True, slots=True)
class Question:
    """One of the 69 official questions.

    Parameters
    ----------
    id : int
        Its number, 1 to 69.
    category : str
        One of `CATEGORIES`.
    finding, subregion : str
        What is looked for and where; together they name one question.
    slots : tuple of Slot
        What its answer must hold, in the prompt's order.
    wrapper_key : str or None
        The outermost key of the answer that the prompt asks for, if any: ``MOAKS_scores`` or ``MOAKS_grade``.
    subject_key : str
        The prompt's spelling of the subject, for example ``femur medial central cartilage lesion``.
    record_key : str
        The generated record's, for example ``femur_medial_central_cartilage_lesion``.
    in_records : bool
        Whether the release holds records for it (1 to 62).
    """

    id: int
    category: str
    finding: str
    subregion: str
    slots: tuple[Slot, ...]
    wrapper_key: str | None
    subject_key: str
    record_key: str
    in_records: bool

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes of its slots, in order."""
        return tuple(slot.attribute for slot in self.slots)

    @property
    def bare(self) -> bool:
        """Whether the prompt asks for the value itself, without an attribute key."""
        return self.slots[0].prompt_key is None


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
# A tear without a cyst is legal: tear_location stands by itself.
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
    """Give category, finding, subregion, prompt subject and fields of each question, in the official order."""
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


def _build() -> tuple[dict[int, Question], tuple[Slot, ...]]:
    questions: dict[int, Question] = {}
    slots: list[Slot] = []
    for number, (category, finding, words, subject, fields) in enumerate(_subjects(), start=1):
        # Femoral trochlea and anterior are one subregion with two spellings; the name is always the second.
        subregion = words.replace("trochlea", "anterior").replace(" ", "_")
        own = tuple(
            # Generated records use the short attribute names (seen for size and depth, inferred for the others).
            Slot(place, number, category, finding, subregion, name, scale, 0, high, prompt_key, name)
            for place, (name, prompt_key, high, scale) in enumerate(fields, start=len(slots))
        )
        slots.extend(own)
        wrapper = None if number in _UNWRAPPED else "MOAKS_grade" if number in _WRAPPED_AS_GRADE else "MOAKS_scores"
        # Records join the prompt's words with underscores (seen for cartilage, inferred for the others).
        record_key = re.sub(r"[^A-Za-z0-9]+", "_", subject)
        in_records = number <= LAST_IN_RECORDS
        questions[number] = Question(
            number, category, finding, subregion, own, wrapper, subject, record_key, in_records
        )
    return questions, tuple(slots)


_QUESTIONS, _SLOTS = _build()

QUESTIONS: Mapping[int, Question] = MappingProxyType(_QUESTIONS)
"""All 69 questions by number."""

SLOTS: tuple[Slot, ...] = _SLOTS
"""All 118 slots in order; a slot's ``id`` is its place here."""


def get_question(question: int | Question) -> Question:
    """Take a question by its number, or as it is.

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
        remedy = "moaks.QUESTIONS lists them; moaks.find_question takes an official spelling"
        raise GradeError(explain("question", "be a number from 1 to 69", repr(question), remedy))
    return found
