"""`ReasoningScorer`: score the reasoning of every text, and compute each metric over all records with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import NONE, Answers, Truth
from reasonknee_datasets.bench.bootstrap import draw_patients, enough_patients, estimate, resample, sum_by_patient
from reasonknee_datasets.bench.group_results import Estimate
from reasonknee_datasets.bench.metrics.grades import ratio
from reasonknee_datasets.bench.metrics.reasoning import Position, agreement, coverage, grounding, stated_grades
from reasonknee_datasets.bench.metrics.reasoning_text import Named, Side, split_answer
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.schema import SIDES

REASONING_METRICS: Mapping[str, str] = {
    "consistency": "share of answered grades that the reasoning states too",
    "contradicted": "share of answered grades of which the reasoning states another, or several",
    "not_stated": "share of answered grades of which the reasoning states none",
    "coverage": "share of the asked attributes that the reasoning assesses",
    "grounding": "share of records that name the asked subregion, and no wrong side or slice",
    "wrong_subregion": "share of records that name another subregion instead of the asked one",
    "wrong_side": "share of records naming a side of the body that name the other one",
    "outside_box": "share of records stating slice numbers that state one outside the true box",
    "agreement": "mean ROUGE-L (summary level, F) with the steps of the reference: the wording of a fixed template",
}
"""Metrics of the reasoning, in the order of the report."""


@dataclass(frozen=True, slots=True)
class ReasoningMetric:
    """One metric of the reasoning, with the numbers that it is computed from.

    Attributes
    ----------
    value : Estimate
    count : int
        How many slots or records it is a share of.
    unit : {"slots", "records"}
    patients : int
        How many patients these are of.
    """

    value: Estimate
    count: int
    unit: Literal["slots", "records"]
    patients: int


@dataclass(frozen=True, slots=True)
class ReasoningScores:
    """Metrics of the reasoning of one set of answers; none of them is a part of the headline.

    Attributes
    ----------
    records : int
        Scored records. One without a prediction or without reasoning counts as one whose reasoning is empty.
    with_reasoning : int
        Records with a reasoning before the final answer.
    unseparated : int
        Records of which the final answer cannot be told from the reasoning; they have no consistency.
    metrics : mapping of str to ReasoningMetric
        Of `REASONING_METRICS`, those that were asked for.
    """

    records: int
    with_reasoning: int
    unseparated: int
    metrics: Mapping[str, ReasoningMetric]


_NAMED, _POSITIONS = get_args(Named), get_args(Position)

_Unit = Literal["slots", "records"]
Counted = NDArray[np.float64]


class ReasoningScorer:
    """Scores the reasoning of each text when it is read, so that no text is kept.

    Parameters
    ----------
    truth : Truth
        The records that are scored.
    references : mapping of str to tuple of str, optional
        The steps of the true reasoning by record id; without it there is no agreement.
    """

    def __init__(self, truth: Truth, references: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.truth, self.references = truth, references
        rows, width = truth.slots.shape
        self._reasoned = np.zeros(rows, dtype=np.bool_)
        self._unseparated = np.zeros(rows, dtype=np.bool_)
        self._stated = np.full((rows, width), NONE, dtype=np.int8)
        self._covered = np.zeros((rows, width), dtype=np.bool_)
        self._subregion = np.full(rows, _NAMED.index("not_named"), dtype=np.int8)
        self._side = self._subregion.copy()
        self._position = np.full(rows, _POSITIONS.index("not_stated"), dtype=np.int8)
        self._agreement = np.zeros(rows)

    def add(self, row: int, text: str) -> None:
        """Score one text.

        Parameters
        ----------
        row : int
            Its place in the truth.
        text : str
            Everything that the model wrote.
        """
        question = QUESTIONS[int(self.truth.question[row])]
        reasoning, answer = split_answer(text)
        self._unseparated[row] = bool(reasoning) and not answer
        if not reasoning:
            return
        self._reasoned[row] = True
        stated = [NONE if grade is None else grade for grade in stated_grades(question, reasoning)]
        self._stated[row, : len(stated)] = stated
        self._covered[row, : len(stated)] = coverage(question, reasoning)
        side: Side = "left" if SIDES[self.truth.side[row]] == "left" else "right"
        box = Box.from_row(self.truth.boxes[row].tolist())
        found = grounding(question, reasoning, side=side, box=box, slice_axis=self._slice_axis(row))
        self._subregion[row] = _NAMED.index(found.subregion)
        self._side[row] = _NAMED.index(found.side)
        self._position[row] = _POSITIONS.index(found.position)
        if self.references is not None:
            self._agreement[row] = agreement(reasoning, self.references[self.truth.ids[row]])

    def finish(
        self, truth: Truth, answers: Answers, *, resamples: int, seed: int, slices: bool = True
    ) -> ReasoningScores | None:
        """Compute the metrics over all records.

        Parameters
        ----------
        truth : Truth
            The same records; attributes that are not scored may be padding.
        answers : Answers
            The final answers.
        resamples, seed : int
            Of patients, as for `score`: the draws are the same.
        slices : bool
            Whether slice numbers in the texts count slices of the stored volume. They do not where frames were shown.

        Returns
        -------
        ReasoningScores or None
            None where no text has reasoning.
        """
        if not self._reasoned.any():
            return None
        weights = draw_patients(truth.patients, resamples, seed)
        names, sums, enough, counts, units, patients = [], [], [], [], [], []
        for name, unit, hits, of in self._shares(truth, answers, slices=slices):
            by_patient = np.stack([_by_patient(truth, hits), _by_patient(truth, of)], axis=1)
            names.append(name)
            units.append(unit)
            sums.append(by_patient)
            counts.append(int(of.sum()))
            patients.append(int((by_patient[:, 1] > 0).sum()))
            enough.append(enough_patients(patients[-1]))
        drawn = resample(weights, np.stack(sums, axis=1))
        estimates = estimate(ratio(drawn[..., 0], drawn[..., 1]), np.array(enough))
        rows = zip(names, estimates, counts, units, patients, strict=True)
        metrics = {name: ReasoningMetric(value, count, unit, many) for name, value, count, unit, many in rows}
        return ReasoningScores(len(truth), int(self._reasoned.sum()), int(self._unseparated.sum()), metrics)

    def _shares(
        self, truth: Truth, answers: Answers, *, slices: bool
    ) -> Iterator[tuple[str, _Unit, Counted, NDArray[np.bool_]]]:
        """Yield each metric's name, its unit, what counts for it and what it is a share of."""
        compared = (truth.slots != NONE) & (answers.grades != NONE) & ~self._unseparated[:, None]
        supported = compared & (self._stated == answers.grades)
        silent = compared & (self._stated == NONE)
        yield "consistency", "slots", _row_sums(supported), compared
        yield "contradicted", "slots", _row_sums(compared & ~supported & ~silent), compared
        yield "not_stated", "slots", _row_sums(silent), compared
        graded = truth.grades != NONE
        yield "coverage", "slots", _row_sums(self._covered & graded), graded
        every = np.ones(len(truth), dtype=np.bool_)
        wrong = _NAMED.index("wrong")
        stating = (self._position != _POSITIONS.index("not_stated")) & slices
        outside = stating & (self._position == _POSITIONS.index("outside"))
        grounded = (self._subregion == _NAMED.index("right")) & (self._side != wrong) & ~outside
        yield "grounding", "records", grounded.astype(np.float64), every
        yield "wrong_subregion", "records", (self._subregion == wrong).astype(np.float64), every
        yield "wrong_side", "records", (self._side == wrong).astype(np.float64), self._side != _NAMED.index("not_named")
        yield "outside_box", "records", outside.astype(np.float64), stating
        if self.references is not None:
            yield "agreement", "records", self._agreement, every

    def _slice_axis(self, row: int) -> int | None:
        """Return the array axis across the sagittal slices; None where the affine is unknown."""
        affine = self.truth.affines[self.truth.volume[row]]
        return int(np.argmax(np.abs(affine[0, :3]))) if np.isfinite(affine).all() else None


def _row_sums(slots: NDArray[np.bool_]) -> Counted:
    return np.asarray(slots.sum(axis=1), dtype=np.float64)


def _by_patient(truth: Truth, values: NDArray[np.float64] | NDArray[np.bool_]) -> Counted:
    rows = values.sum(axis=1) if values.ndim == 2 else values
    group = np.zeros(len(truth), dtype=np.int64)
    return sum_by_patient(truth.patient.astype(np.int64), group, (len(truth.patients), 1), rows)[:, 0]
