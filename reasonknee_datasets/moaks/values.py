"""`Slot` and `Question`: the values of one answer, and their legal grades."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from reasonknee_datasets.errors import GradeError

Scale = Literal["ordinal", "nominal", "binary"]
"""Kind of a slot's grades."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One value of an answer.

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
        The spelling that the prompt asks for; None where the value is directly under its subject.
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
            Value in the file or from the model.
        where : str, optional
            The place, for the message.

        Raises
        ------
        GradeError
            If the value is not a legal grade of this slot; the message names slot, value and legal values.

        Examples
        --------
        >>> from reasonknee_datasets.moaks import QUESTIONS
        >>> QUESTIONS[19].slots[0].check("2")
        2
        >>> QUESTIONS[19].slots[0].check(4)
        Traceback (most recent call last):
        reasonknee_datasets.errors.GradeError: Slot q19.size (size of cartilage_lesion in femur_medial_central) takes \
the grades 0, 1, 2, 3, not 4. Use None where the grade is missing.
        """
        grade = _as_int(value, boolean=self.scale == "binary")
        if grade is None or grade not in self.legal:
            place = f" {where}" if where else ""
            raise GradeError(
                f"Slot {self.name} ({self.attribute} of {self.finding} in {self.subregion}) takes the grades "
                f"{', '.join(map(str, self.legal))}, not {value!r}{place}. Use None where the grade is missing."
            )
        return grade


def _as_int(value: object, *, boolean: bool) -> int | None:
    if isinstance(value, bool):
        return int(value) if boolean else None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[0-9]{1,2}\s*", value, re.ASCII) else None
    if isinstance(value, Integral):  # numpy's integers too
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return int(number) if number.is_integer() else None
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
        Finding and place; together they name one question.
    slots : tuple of Slot
        Slots of its answer, in the prompt's order.
    wrapper_key : str or None
        The outermost key of the answer that the prompt asks for, if any: ``MOAKS_scores`` or ``MOAKS_grade``.
    subject_key : str
        The prompt's spelling of the subject, for example ``femur medial central cartilage lesion``.
    record_key : str
        The generated record's, for example ``femur_medial_central_cartilage_lesion``.
    in_records : bool
        Whether the release has records for it (1 to 62).
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
