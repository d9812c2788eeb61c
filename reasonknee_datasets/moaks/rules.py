"""Rules across slots: broken ones are reported and never corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reasonknee_datasets.moaks.values import Question
from reasonknee_datasets.moaks.vocabulary import get_question

FIRST_VISIT = "00M"
# Where the first grade is 0, the second must not be above it.
_ZERO_TOGETHER = {
    "bone_marrow_lesion": (("size", "number"), ("size", "percent"), ("number", "size")),
    "cartilage_lesion": (("size", "depth"),),
}
PROGRESSIVE_MACERATION = 7  # "only for follow-up": there is nothing to progress from at the first visit


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: question, rule, and message."""

    question_id: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"question {self.question_id}: {self.message}"


def violations(
    question: int | Question, grades: Mapping[str, int | None], visit: str | None = None
) -> tuple[Violation, ...]:
    """Find grades of one question that contradict each other or the visit.

    The readers who graded made such combinations, so they are facts of the data: report them, never correct them. A
    missing grade contradicts nothing. A tear location without a cyst is legal.

    Parameters
    ----------
    question : int or Question
        The question, or its number.
    grades : mapping of attribute to int or None
        Legal grades by attribute.
    visit : str, optional
        ``00M`` is the first.

    Examples
    --------
    >>> for violation in violations(19, {"size": 0, "depth": 2}):
    ...     print(violation)
    question 19: size is 0 but depth is 2
    """
    asked = get_question(question)
    broken = [
        (f"{zero}_zero_{above}_above", f"{zero} is 0 but {above} is {grades[above]}")
        for zero, above in _ZERO_TOGETHER.get(asked.category, ())
        if grades.get(zero) == 0 and (grades.get(above) or 0) > 0
    ]
    if visit == FIRST_VISIT and grades.get("morphology") == PROGRESSIVE_MACERATION:
        broken.append(("progressive_at_first_visit", f"morphology is 7 (progressive) at the first visit, {visit}"))
    return tuple(Violation(asked.id, rule, message) for rule, message in broken)
