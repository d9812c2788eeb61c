"""One reasoning text for each question and combination of grades, as in the official release.

The text depends on nothing else: not on the patient, the side, the visit or the box. It therefore gives the grades
away, and must never reach a model's input at evaluation. Steps never say left or right (see `places`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from reasonknee_datasets.moaks import QUESTIONS, write_diagnosis
from reasonknee_datasets.phantom import phrases
from reasonknee_datasets.prompts import describe_subregion

Layout = Literal["lines", "numbered", "paragraph"]

_LAYOUTS: dict[str, Layout] = {
    "bone_marrow_lesion": "lines",
    "cartilage_lesion": "lines",
    "osteophyte": "numbered",
    "hoffa_synovitis": "paragraph",
    "effusion_synovitis": "paragraph",
    "meniscal_extrusion": "numbered",
    "meniscal_morphology": "lines",
    "meniscal_cyst": "paragraph",
    "meniscal_hypertrophy": "paragraph",
    "meniscal_root_tear": "paragraph",
    "ligament": "paragraph",
    "tendon": "paragraph",
}

Grades = Mapping[str, "int | None"]


def layout(question_id: int) -> Layout:
    """Choose the layout of a question's steps: a line each, numbered lines, or one paragraph with a sentence each."""
    return _LAYOUTS[QUESTIONS[question_id].category]


def reasoning_steps(question_id: int, grades: Grades) -> tuple[str, ...]:
    """Write the steps that lead to some grades.

    `question_id`: 1 to 62. `grades`: all attributes of the question; None is missing. Returns tuple of str: three to
    six steps.
    """
    question = QUESTIONS[question_id]
    findings = (
        _finding(phrases.FINDING[question.finding, slot.attribute], slot.attribute, grades) for slot in question.slots
    )
    return (*opening_steps(question_id), *findings, _conclusion(question_id, grades))


def opening_steps(question_id: int) -> tuple[str, ...]:
    """Write the steps that a question's reasoning begins with, whatever the grades."""
    question = QUESTIONS[question_id]
    plane = phrases.PLANES.get(question.subregion.rsplit("_", 1)[-1], "sagittal")
    return tuple(
        text.format(place=describe_subregion(question), plane=plane) for text in phrases.OPENING[question.finding]
    )


def _finding(texts: tuple[str, ...], attribute: str, grades: Grades) -> str:
    grade = grades[attribute]
    if grade is None:
        return phrases.UNREAD[attribute]
    # Without a lesion, its number, percent and depth follow; with one, 0 needs a separate word.
    return texts[-1] if grade == 0 and len(texts) == phrases.WITH_LESION and grades["size"] != 0 else texts[grade]


def _conclusion(question_id: int, grades: Grades) -> str:
    question = QUESTIONS[question_id]
    said = [
        f"{phrases.ATTRIBUTE_WORDS.get(slot.attribute, slot.attribute)} "
        f"{'not graded' if grades[slot.attribute] is None else grades[slot.attribute]}"
        for slot in question.slots
    ]
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return f"{phrases.CLOSING[question.category].format(place=describe_subregion(question))}: {listed}."


def diagnosis_text(question_id: int, grades: Grades) -> str:
    """Write the diagnosis that ends the answer's text: JSON for half of the questions, a Python dict for the others."""
    diagnosis = write_diagnosis(question_id, grades)
    return json.dumps(diagnosis) if question_id % 2 == 0 else repr(diagnosis)


@lru_cache(maxsize=4096)
def _answer(question_id: int, grades: tuple[tuple[str, int | None], ...]) -> str:
    steps = reasoning_steps(question_id, dict(grades))
    how = layout(question_id)
    if how == "numbered":
        steps = tuple(f"Step {number}: {step}" for number, step in enumerate(steps, start=1))
    gap, lead = {"lines": ("\n", "\n\n"), "numbered": ("\n", "\n"), "paragraph": (" ", " ")}[how]
    return f"{gap.join(steps)}{lead}Final diagnosis: {diagnosis_text(question_id, dict(grades))}"


def answer_text(question_id: int, grades: Grades) -> str:
    """Write a record's ``answer``: the steps, then the diagnosis."""
    return _answer(question_id, tuple(grades.items()))
