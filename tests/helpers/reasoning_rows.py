"""Rows of all 62 questions with the phantom's texts, boxes anywhere, and no volume."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.moaks import QUESTIONS, write_answer
from reasonknee_datasets.phantom.record_writer import OfficialRecord, make_record
from reasonknee_datasets.release.rebuild import describe_text, read_answer, write_extras
from reasonknee_datasets.schema import quintuple_id, volume_id, volume_path

SHAPE = (160, 384, 384)
CONVENTION = BoxConvention.parse("slice0-x1-y2-pairs-inclusive-voxel")


def rows(volumes: int = 3, *, seed: int = 0, with_box: bool = False) -> list[dict[str, Any]]:
    """Return rows as a prepared repository has them.

    Parameters
    ----------
    volumes : int
        Of 62 rows each.
    with_box : bool
        Whether official answers write their box too, as some forms of the release may.
    """
    drawn = np.random.default_rng(seed)
    made = []
    for number in range(volumes):
        volume = volume_id(f"{number + 1:07d}", "00M", "left" if number % 2 else "right")
        for question in (question for question in QUESTIONS.values() if question.in_records):
            grades = {slot.attribute: int(drawn.integers(slot.high + 1)) for slot in question.slots}
            if drawn.random() < 0.1:
                grades[question.slots[0].attribute] = None  # type: ignore[assignment]
            start = [int(drawn.integers(size - 20)) for size in SHAPE]
            stop = [int(drawn.integers(low + 1, size + 1)) for low, size in zip(start, SHAPE, strict=True)]
            made.append(make_row(volume, question.id, grades, [*start, *stop], with_box=with_box))
    return made


def make_row(
    volume: str, question_id: int, grades: dict[str, int | None], box: list[int], *, with_box: bool = False
) -> dict[str, Any]:
    """Return one row."""
    question = QUESTIONS[question_id]
    official = make_official(question_id, grades, box, with_box=with_box)
    answer = read_answer(official["answer"])
    patient, visit, side = volume.split("/")
    return {
        "id": quintuple_id(volume, question_id),
        "volume_path": volume_path(volume),
        "patient": patient,
        "visit": visit,
        "side": side,
        "question_id": question_id,
        "category": question.category,
        "finding": question.finding,
        "subregion": question.subregion,
        "question": official["prompt"],
        "box": box,
        "reasoning": list(answer.steps),
        "grades": [
            {"attribute": slot.attribute, "grade": grades[slot.attribute], "scale": slot.scale}
            for slot in question.slots
        ],
        "answer": write_answer(question_id, grades),
        "record": write_extras(describe_text(answer, official["final_diagnosis"], question_id, grades)),
    }


def make_official(
    question_id: int, grades: dict[str, int | None], box: list[int], *, with_box: bool = False
) -> OfficialRecord:
    """Return the official record of a row."""
    numbers = CONVENTION.encode(Box.from_row(box), SHAPE)
    record = make_record(question_id, grades, numbers, image="a.nii.gz")
    if with_box:
        said, lead, _ = record["answer"].rpartition("Final diagnosis: ")
        writers = (repr, json.dumps, lambda whole: json.dumps(whole, indent=2))
        record["answer"] = said + lead + writers[question_id % 3](record["final_diagnosis"])
    return record
