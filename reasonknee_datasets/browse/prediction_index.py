"""Predictions for the rows of an index: grades, box, text, and the order from the worst."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.prediction_files import iterate_predictions
from reasonknee_datasets.bench.predictions import read_predictions
from reasonknee_datasets.bench.problem_log import ProblemLog
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.browse.niivue_bundle import BrowserError
from reasonknee_datasets.browse.row_index import RowIndex
from reasonknee_datasets.moaks import SLOTS


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction with the truth.

    Attributes
    ----------
    grades : dict of str to int or None
        Predicted grade of each attribute; None without a legal one.
    wrong, graded : int
        How many of the true grades were missed, and how many there are.
    box : tuple of int or None
        i0 j0 k0 i1 j1 k1, half-open.
    iou : float or None
        With the true box; None where no box was predicted.
    text : str
        Text of the model; empty where grades came as slots.
    """

    grades: dict[str, int | None]
    wrong: int
    graded: int
    box: tuple[int, ...] | None
    iou: float | None
    text: str

    @property
    def loss(self) -> tuple[float, float]:
        """The share of wrong grades, then 1 - IoU of the box; larger is worse."""
        return self.wrong / max(1, self.graded), 1.0 - (self.iou or 0.0)


@dataclass(frozen=True, slots=True)
class PredictionIndex:
    """The predictions of one file, by the position of their row.

    Attributes
    ----------
    name : str
        Name of the model, else of the file.
    by_position : dict of int to Prediction
    problems : tuple of str
        Problems of the file, one sentence each.
    """

    name: str
    by_position: dict[int, Prediction]
    problems: tuple[str, ...] = ()

    def worst_first(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keep the positions that have a prediction, the worst first; equally bad ones stay in order."""
        kept = [each for each in positions.tolist() if each in self.by_position]
        kept.sort(key=lambda each: self.by_position[each].loss, reverse=True)
        return np.array(kept, dtype=np.int64)


def load_prediction_index(path: Path, index: RowIndex) -> PredictionIndex:
    """Read a file of predictions for the browser.

    Parameters
    ----------
    path : Path
        JSON lines or a log of inspect_ai, as for `reasonknee evaluate`.
    index : RowIndex
        The rows that they are of.

    Raises
    ------
    BenchError
        If the file cannot be read.
    BrowserError
        If none of its predictions is of a row of the repository.
    """
    split = _find_split(path, index)
    truth = read_truth(index.repository, split)
    texts: dict[int, str] = {}
    read = read_predictions(
        path,
        truth,
        data=index.repository,
        split=split,
        strict=False,
        each_text=lambda row, text: _keep(texts, row, text),
    )
    answers = read.answers
    place = {name: at for at, name in enumerate(index.table["id"].to_pylist())}
    found: dict[int, Prediction] = {}
    for row in np.flatnonzero(answers.given).tolist():
        slots = [(column, int(slot)) for column, slot in enumerate(truth.slots[row]) if slot >= 0]
        grades = {SLOTS[slot].attribute: _or_none(answers.grades[row, column]) for column, slot in slots}
        graded = [column for column, _ in slots if truth.grades[row, column] >= 0]
        box = Box.from_row(answers.boxes[row]) if answers.has_box[row] else None
        found[place[truth.ids[row]]] = Prediction(
            grades=grades,
            wrong=sum(int(truth.grades[row, column] != answers.grades[row, column]) for column in graded),
            graded=len(graded),
            box=None if box is None else tuple(box.to_row()),
            iou=None if box is None else box.iou(Box.from_row(truth.boxes[row])),
            text=texts.get(row, ""),
        )
    problems = tuple(str(problem) for problem in read.problems if problem.kind != "unanswered")
    return PredictionIndex(read.identity.model or path.name, found, problems)


def _find_split(path: Path, index: RowIndex) -> str:
    """Find the split that a file states, or else that of its first row."""
    for _, line in iterate_predictions(path, ProblemLog()):
        if "run" in line and "id" not in line:
            stated = RunMetadata.from_json(line["run"]).split
            if stated:
                return stated
            continue
        at = index.position(str(line.get("id")))
        if at is not None:
            return str(index.table["split"][at])
    raise BrowserError(
        f"No prediction in {path} is of a row of {index.repository.root}. Name the repository of that run."
    )


def _keep(texts: dict[int, str], row: int, text: str) -> None:
    texts[row] = text


def _or_none(grade: np.int8) -> int | None:
    return None if grade < 0 else int(grade)
