"""Priors that need no image: how often each grade occurs, and where each box usually is.

Any score on this dataset must beat answers made from these alone, so they are counted once, from the unbalanced train
split, and travel with the repository.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.schema import Quintuple

PRIORS = "priors.json"
# 2: `questions`, since the most frequent whole answer need not consist of the most frequent grades. 3: no `revision`,
# since the manifest has the hash of this file.
FORMAT = 3


class Priors:
    """Counts grades and gathers boxes, row by row; 12 numbers are kept a row."""

    def __init__(self) -> None:
        self.rows = 0
        self._grades: dict[tuple[int, str], Counter[int | None]] = defaultdict(Counter)
        self._answers: dict[int, Counter[frozenset[tuple[str, int | None]]]] = defaultdict(Counter)
        self._mm: dict[tuple[int, str], array[float]] = defaultdict(lambda: array("f"))
        self._fractions: dict[tuple[int, str], array[float]] = defaultdict(lambda: array("f"))

    def add(self, row: Quintuple, grid: CanonicalGrid | None) -> None:
        """Take one row of train; ``grid`` is its volume's, None without an image."""
        self.rows += 1
        for each in row["grades"]:
            self._grades[row["question_id"], each["attribute"]][each["grade"]] += 1
        answer = frozenset((each["attribute"], each["grade"]) for each in row["grades"])
        self._answers[row["question_id"]][answer] += 1
        if grid is not None:
            key = row["question_id"], row["side"]
            edges = grid.edges(Box.from_row(row["box"]))
            self._mm[key].extend(((edges - grid.shape / 2) * grid.spacing).ravel())
            self._fractions[key].extend((edges / grid.shape).ravel())

    def to_json(self) -> bytes:
        """Write the priors as JSON: one line a slot, one a question and one a box."""
        slots = {
            slot.name: {
                "question_id": question.id,
                "attribute": slot.attribute,
                "scale": slot.scale,
                "counts": {str(grade): self._grades[question.id, slot.attribute][grade] for grade in slot.legal},
                "missing": self._grades[question.id, slot.attribute][None],
            }
            for question in QUESTIONS.values()
            if question.in_records
            for slot in question.slots
        }
        questions = {
            f"q{question.id:02d}": self._whole_answers(question.id)
            for question in QUESTIONS.values()
            if question.in_records
        }
        boxes = {f"q{key[0]:02d}.{key[1]}": self._median_box(key) for key in sorted(self._mm)}
        about = {
            "grades": "how often each grade occurs in a slot; a missing grade is counted apart",
            "questions": "how often each whole answer occurs, its grades in the order of the attributes; one that "
            "lacks a grade is counted as incomplete",
            "boxes": "medians of r0 a0 s0 r1 a1 s1: the grid's axes in RAS+ order (nothing is rotated), half-open",
            "mm": "measured from the centre of the volume",
            "fraction": "of the volume's extent along each axis",
        }
        head = {"format": FORMAT, "split": "train", "rows": self.rows, "about": about}
        lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
        lines += [f'"slots": {_lines(slots)}', f'"questions": {_lines(questions)}', f'"boxes": {_lines(boxes)}']
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    def _whole_answers(self, question_id: int) -> dict[str, Any]:
        attributes, found = QUESTIONS[question_id].attributes, self._answers[question_id]
        counts: Counter[tuple[int | None, ...]] = Counter()
        for answer, count in found.items():
            counts[tuple(dict(answer).get(each) for each in attributes)] += count
        whole = {answer: count for answer, count in counts.items() if None not in answer}
        return {
            "question_id": question_id,
            "attributes": list(attributes),
            "counts": {" ".join(map(str, answer)): whole[answer] for answer in sorted(whole)},
            "incomplete": found.total() - sum(whole.values()),
        }

    def _median_box(self, key: tuple[int, str]) -> dict[str, Any]:
        mm = np.frombuffer(self._mm[key], dtype=np.float32).reshape(-1, 6)
        fractions = np.frombuffer(self._fractions[key], dtype=np.float32).reshape(-1, 6)
        return {
            "question_id": key[0],
            "side": key[1],
            "count": len(mm),
            "mm": [round(float(value), 3) for value in np.median(mm, axis=0)],
            "fraction": [round(float(value), 5) for value in np.median(fractions, axis=0)],
        }


class CanonicalGrid:
    """A volume's grid with its axes permuted and flipped to run closest to right, anterior and superior.

    Both array layouts and both flips of the release thereby give comparable boxes.

    `shape`, `spacing` (3,) float array: voxels and mm along the canonical axes.
    """

    __slots__ = ("_old_shape", "_turn", "shape", "spacing")

    def __init__(self, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> None:
        self._turn = to_canonical(affine)
        self._old_shape = shape
        self.shape = np.array(self._turn.apply_shape(shape), dtype=np.float64)
        self.spacing: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)[list(self._turn.axes)]

    def edges(self, box: Box) -> NDArray[np.float64]:
        """Return a box's (2, 3) start and stop along the canonical axes, in voxels."""
        turned = self._turn.apply_box(box, self._old_shape)
        return np.array([turned.start, turned.stop], dtype=np.float64)


def _lines(items: Mapping[str, Any]) -> str:
    body = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in items.items())
    return f"{{\n{body}\n}}" if items else "{}"
