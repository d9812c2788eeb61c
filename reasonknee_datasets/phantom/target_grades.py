"""Grades as the drawing needs them: every slot has one, also where the reading is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reasonknee_datasets.moaks import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

# A lesion that some slot of its question vouches for, but whose own slot is missing or 0, is drawn at its least.
_LEAST = {"size": 1, "number": 1, "percent": 3, "depth": 0}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Grades to draw.

    Examples
    --------
    >>> Wanted({1: {"size": None, "number": 2, "percent": None}}).lesion(1)
    {'size': 1, 'number': 2, 'percent': 3}
    >>> Wanted({}).grade(42, "grade")
    0
    """

    grades: Mapping[int, Mapping[str, int | None]]

    def grade(self, question_id: int, attribute: str) -> int:
        """Return one grade; what was not requested is 0, or "no tear" for a tear's location."""
        grade = self.grades.get(question_id, {}).get(attribute)
        if grade is None:
            return 3 if attribute == "tear_location" else 0
        return grade

    def lesion(self, question_id: int) -> dict[str, int]:
        """Return the grades of a bone-marrow or cartilage lesion, empty where there is none.

        An explicit size of 0 means none, whatever the other slots say.
        """
        asked = self.grades.get(question_id, {})
        size = asked.get("size")
        if size == 0 or not any(asked.values()):
            return {}
        attributes = [slot.attribute for slot in QUESTIONS[question_id].slots]
        return {name: asked.get(name) or _LEAST[name] for name in attributes}


def questions_of(finding: str) -> tuple[int, ...]:
    """Return the ids of a finding's questions.

    Examples
    --------
    >>> questions_of("meniscal_cyst")
    (54, 55)
    """
    return tuple(question.id for question in QUESTIONS.values() if question.finding == finding)
