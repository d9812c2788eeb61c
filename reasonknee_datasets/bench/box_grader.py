"""Grades by the box alone: how much the true region reveals without its voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import NONE, Answers, Truth
from reasonknee_datasets.bench.baselines import by_volume, only_grades
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.schema import SIDES

NEIGHBOURS = 25
# Distances of this many pairs at a time: 32 MB.
_PAIRS = 4_000_000
_BASE = 9  # no grade is higher than 8


@dataclass(frozen=True, slots=True, eq=False)
class BoxGrader:
    """Grades by the nearest train boxes of the same question.

    A box is six numbers: its centre and its lengths. Where the grids of all volumes are known they are in mm, from the
    volume's centre, along the axes that run closest to right, anterior and superior, with left knees mirrored, so that
    medial is on one side. Else they are voxels as stored. Each is measured in its standard deviations in train.

    Attributes
    ----------
    train : Truth
        The boxes and grades that vote.
    neighbours : int
        How many boxes vote.
    """

    train: Truth
    neighbours: int = NEIGHBOURS

    def answer(self, truth: Truth) -> Answers:
        """Grade records by the most frequent whole answer among their neighbours; of equals, that of the nearest.

        Train records that lack a grade have no vote. A question without any train record stays unanswered.

        Raises
        ------
        BenchError
            If a patient of these records is one of train.
        """
        shared = set(self.train.patients) & set(truth.patients)
        if shared:
            raise BenchError(
                f"{len(shared)} scored patients are in train as well, such as {min(shared)}. Score another split."
            )
        known = all((each.shapes > 0).all() for each in (self.train, truth))
        own, theirs = _describe(self.train, known), _describe(truth, known)
        grades = np.full(truth.grades.shape, NONE, dtype=np.int8)
        complete = ((self.train.grades != NONE) | (self.train.slots == NONE)).all(axis=1)
        for question in np.unique(truth.question).tolist():
            rows = np.flatnonzero(truth.question == question)
            pool = np.flatnonzero((self.train.question == question) & complete)
            if len(pool):
                grades[rows] = self._vote(own[pool], self.train.grades[pool], theirs[rows])
        return only_grades(truth, grades)

    def _vote(
        self, pool: NDArray[np.float64], grades: NDArray[np.int8], asked: NDArray[np.float64]
    ) -> NDArray[np.int8]:
        answers, codes = np.unique(grades, axis=0, return_inverse=True)
        codes = codes.reshape(-1)
        spread = pool.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        pool, asked = (pool - pool.mean(axis=0)) / scale, (asked - pool.mean(axis=0)) / scale
        count = min(self.neighbours, len(pool))
        found = np.empty(len(asked), dtype=np.int64)
        step = max(1, _PAIRS // len(pool))
        for first in range(0, len(asked), step):
            some = asked[first : first + step]
            # |a - b|² without |a|², which is the same for all of one row.
            distances = (-2 * some) @ pool.T
            distances += (pool**2).sum(axis=1)
            near = np.argpartition(distances, count - 1, axis=1)[:, :count]
            near = np.take_along_axis(near, np.argsort(np.take_along_axis(distances, near, axis=1), axis=1), axis=1)
            votes = codes[near]
            tally = np.zeros((len(some), len(answers)))
            # The nearer neighbour decides between equals: all their shares together are less than one vote.
            weights = 1 + (count - np.arange(count)) / (count + 1) ** 2
            np.add.at(tally, (np.arange(len(some))[:, None], votes), weights)
            found[first : first + step] = tally.argmax(axis=1)
        return np.asarray(answers[found], dtype=np.int8)


def _describe(truth: Truth, known: bool) -> NDArray[np.float64]:
    """Return each box's centre and lengths; shape (N, 6)."""
    edges = truth.boxes.reshape(-1, 2, 3).astype(np.float64)
    if known:
        for code, rows in by_volume(truth):
            edges[rows] = _to_mm(edges[rows], truth.shapes[code], truth.affines[code])
        left = truth.side == SIDES.index("left")
        edges[left, :, 0] = -edges[left, ::-1, 0]
    return np.hstack([edges.mean(axis=1), edges[:, 1] - edges[:, 0]])


def _to_mm(edges: NDArray[np.float64], shape: NDArray[np.int32], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    turn = to_canonical(affine)
    axes = list(turn.axes)
    length, spacing = shape[axes], np.linalg.norm(affine[:3, :3], axis=0)[axes]
    turned = edges[:, :, axes]
    turned = np.where(np.array(turn.flips), length - turned[:, ::-1], turned)
    centred: NDArray[np.float64] = (turned - length / 2) * spacing
    return centred
