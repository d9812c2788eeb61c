"""Grades in the order of their question's slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasonknee_datasets.errors import GradeError
from reasonknee_datasets.moaks import QUESTIONS, get_question

MISSING = -1
MOST_SLOTS = max(len(question.slots) for question in QUESTIONS.values())


def grade_rows(example: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return an example's grades and slot ids, each filled up to the most that a question has.

    Examples
    --------
    >>> grade_rows({"question_id": 19, "grades": [{"attribute": "depth", "grade": 1}]})
    ([-1, 1, -1], [51, 52, -1])
    """
    if example.get("question_id") is None:
        raise GradeError("The example has grades but no question_id. Keep that column, or remove grades too.")
    question = get_question(int(example["question_id"]))
    items = () if example["grades"] is None else example["grades"]
    given = {str(item["attribute"]): _number(item["grade"]) for item in items}
    unknown = sorted(set(given) - set(question.attributes))
    if unknown:
        names = ", ".join(question.attributes)
        raise GradeError(
            f"Question {question.id} has no attribute {', '.join(unknown)}, only {names}. Take grades from the row of "
            "this question."
        )
    grades = [
        MISSING if given.get(slot.attribute) is None else slot.check(given[slot.attribute]) for slot in question.slots
    ]
    empty = [MISSING] * (MOST_SLOTS - len(grades))
    return grades + empty, [slot.id for slot in question.slots] + empty


def _number(grade: Any) -> Any:
    """Unwrap a grade that ``with_format`` made a scalar tensor or a NumPy scalar."""
    return grade.item() if hasattr(grade, "item") else grade
