"""What an answer ends as: for each slot a grade with the rules that read it, or a named reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import Slot

REASONS: tuple[str, ...] = (
    "missing",
    "out_of_range",
    "wrong_key",
    "conflicting",
    "truncated",
    "refusal",
    "empty",
    "not_json",
    "provider_error",
)
"""Why a slot or a box has no value; tables of answers hold places in this tuple."""


@dataclass(frozen=True, slots=True)
class SlotAnswer:
    """What one slot becomes: a grade, or a reason.

    Attributes
    ----------
    slot : Slot
        The slot that was asked for.
    grade : int or None
        A legal grade of the slot.
    reason : str or None
        One of `REASONS` where there is no grade.
    rules : tuple of str
        Every rule of `RULES` that had a part in reading the grade, mildest first; ``("strict",)`` where none was needed
        beyond ``json.loads``, empty where there is no grade.
    """

    slot: Slot
    grade: int | None
    reason: str | None
    rules: tuple[str, ...] = ()

    @property
    def rule(self) -> str | None:
        """The gravest of its rules; None where there is no grade."""
        return self.rules[-1] if self.rules else None


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What one answer becomes.

    Attributes
    ----------
    question_id : int
        1 to 69.
    slots : tuple of SlotAnswer
        In the question's order.
    strict : bool
        ``json.loads`` of the text as it stands was enough, whatever it held: a strict answer can name a wrong key.
    """

    question_id: int
    slots: tuple[SlotAnswer, ...]
    strict: bool

    @property
    def grades(self) -> dict[str, int | None]:
        """The grades by attribute, None where there is a reason instead: as `write` takes them."""
        return {answer.slot.attribute: answer.grade for answer in self.slots}


@dataclass(frozen=True, slots=True)
class ParsedBox:
    """What the box of one answer becomes: a box inside the volume, or a reason.

    Attributes
    ----------
    box : Box or None
        Half-open voxels in the array order of the stored volume.
    reason : str or None
        One of `REASONS` where there is no box.
    rules : tuple of str
        Every rule of `RULES` that had a part in reading it, mildest first; empty where there is no box.
    """

    box: Box | None
    reason: str | None
    rules: tuple[str, ...] = ()

    @property
    def rule(self) -> str | None:
        """The gravest of its rules; None where there is no box."""
        return self.rules[-1] if self.rules else None
