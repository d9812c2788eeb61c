"""Baselines: answers that do not depend on the image, and the expected score of random grades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.arrays import NONE, Answers, Truth
from reasonknee_datasets.bench.priors import TrainPriors
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import CATEGORIES, QUESTIONS, SLOTS
from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.schema import SIDES

_MISSING = REASONS.index("missing")
_WITH_IMAGES = "Score against a repository that was prepared with images; grades need none"


def question_majority(truth: Truth, priors: TrainPriors) -> Answers:
    """Answer every question with the whole answer that is most frequent in train."""
    return _answer(truth, grades=priors.majority[truth.question])


def overall_majority(truth: Truth, priors: TrainPriors) -> Answers:
    """Answer everything with the one grade that is most frequent in train, over all slots.

    Where a slot does not have that grade, it gets the most frequent one that it has.
    """
    total = priors.counts.sum(axis=0)
    best = np.array([int(np.argmax(total[: slot.high + 1])) for slot in SLOTS], dtype=np.int8)
    return _answer(truth, grades=best[truth.slots])


def median_boxes(truth: Truth, priors: TrainPriors, unit: Literal["mm", "fraction"] = "mm") -> Answers:
    """Answer with the median box of train, by question and side.

    Parameters
    ----------
    truth : Truth
    priors : TrainPriors
    unit : {"mm", "fraction"}
        Whether the median was taken in mm from the volume's centre or in shares of its extent; both along the axes
        that run closest to right, anterior and superior, and then rounded to voxels of the volume and cut to it.

    Raises
    ------
    BenchError
        If the priors have no boxes, or a volume's grid is not known.
    """
    _check_grids(truth)
    if not priors.has_boxes:
        raise BenchError(f"The priors hold no median boxes. {_WITH_IMAGES}.")
    table = priors.boxes_mm if unit == "mm" else priors.boxes_fraction
    wanted = table[truth.question, truth.side]
    boxes = np.zeros((len(truth), 6), dtype=np.int32)
    for code, rows in _by_volume(truth):
        turn = to_canonical(truth.affines[code])
        axes, shape = list(turn.axes), truth.shapes[code][list(turn.axes)]
        edges = wanted[rows] * shape
        if unit == "mm":
            edges = wanted[rows] / np.linalg.norm(truth.affines[code][:3, :3], axis=0)[axes] + shape / 2
        edges = np.where(np.array(turn.flips), shape - edges[:, ::-1], edges)
        stored = np.empty_like(edges)
        stored[:, :, axes] = edges
        boxes[rows] = _whole_voxels(stored, truth.shapes[code])
    return _answer(truth, boxes=boxes, has_box=np.asarray(np.isfinite(wanted).all(axis=(1, 2))))


def whole_volume(truth: Truth) -> Answers:
    """Answer with the whole volume.

    Raises
    ------
    BenchError
        If a volume's grid is not known.
    """
    _check_grids(truth)
    shapes = truth.shapes[truth.volume]
    boxes = np.hstack([np.zeros_like(shapes), shapes])
    return _answer(truth, boxes=boxes, has_box=np.ones(len(truth), dtype=np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """Expected scores of grades drawn at random; computed, not drawn.

    Attributes
    ----------
    records : (N,) float array
        The probability that all of a record's grades are right; NaN where one of the true ones is missing.
    totals : mapping of str to float
        Expected ``slot_micro``, ``record_exact``, ``question_macro`` and ``category_macro``; NaN where undefined.
    """

    records: NDArray[np.float64]
    totals: Mapping[str, float]


def chance(truth: Truth, priors: TrainPriors | None = None) -> Chance:
    """Compute the expected score of grades that are drawn independently for each slot.

    Parameters
    ----------
    truth : Truth
    priors : TrainPriors, optional
        Draw each grade as often as it occurs in train; without, all legal grades are equally likely.

    Returns
    -------
    Chance
    """
    draws = _draws(priors)
    there = truth.grades != NONE
    right = np.where(there, draws[truth.slots, np.maximum(truth.grades, 0)], np.nan)
    complete = (there | (truth.slots == NONE)).all(axis=1)
    records = np.where(complete, np.prod(np.where(there, right, 1.0), axis=1), np.nan)
    questions = _means(records, truth.question.astype(np.int64), 1 + max(QUESTIONS))
    number = np.zeros(1 + max(QUESTIONS), dtype=np.int64)
    for question in QUESTIONS.values():
        number[question.id] = CATEGORIES.index(question.category)
    categories = _means(records, number[truth.question], len(CATEGORIES))
    totals = {
        "slot_micro": _mean(right),
        "record_exact": _mean(records),
        "question_macro": _mean(questions),
        "category_macro": _mean(categories),
    }
    return Chance(records, totals)


def _draws(priors: TrainPriors | None) -> NDArray[np.float64]:
    """Return each slot's distribution, from which its grade is drawn; shape (118, 9)."""
    legal = np.array([[grade in slot.legal for grade in range(9)] for slot in SLOTS], dtype=np.float64)
    weights = legal if priors is None else priors.counts.astype(np.float64)
    weights = np.where(weights.any(axis=1, keepdims=True), weights, legal)
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _mean(values: NDArray[np.float64]) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else float("nan")


def _means(values: NDArray[np.float64], groups: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    there = np.isfinite(values)
    counts = np.bincount(groups[there], minlength=size)
    sums = np.bincount(groups[there], weights=values[there], minlength=size)
    means = np.full(size, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _answer(
    truth: Truth,
    *,
    grades: NDArray[np.int8] | None = None,
    boxes: NDArray[np.int32] | None = None,
    has_box: NDArray[np.bool_] | None = None,
) -> Answers:
    """Return answers that hold grades (legal, -1 for none, anything in padding), or boxes, or neither."""
    rows, padding = len(truth), truth.slots == NONE
    kept = np.where(padding | (grades is None), NONE, 0 if grades is None else grades).astype(np.int8)
    there = np.zeros(rows, dtype=np.bool_) if has_box is None else has_box
    return Answers(
        given=np.ones(rows, dtype=np.bool_),
        grades=kept,
        reasons=np.where((kept == NONE) & ~padding, _MISSING, NONE).astype(np.int8),
        strict=np.ones(rows, dtype=np.bool_),
        boxes=np.where(there[:, None], np.zeros((rows, 6)) if boxes is None else boxes, 0).astype(np.int32),
        has_box=there,
        box_reasons=np.where(there | (boxes is None), NONE, _MISSING).astype(np.int8),
    )


def _check_grids(truth: Truth) -> None:
    unknown = (truth.shapes == 0).any(axis=1)
    if unknown.any():
        raise BenchError(
            f"The grids of {int(unknown.sum())} of {len(unknown)} volumes are not known, such as "
            f"{truth.volumes[int(np.argmax(unknown))]}. {_WITH_IMAGES}."
        )


def _by_volume(truth: Truth) -> list[tuple[int, NDArray[np.int64]]]:
    """Return the rows of each volume, by its code."""
    order = np.argsort(truth.volume, kind="stable")
    codes, starts = np.unique(truth.volume[order], return_index=True)
    return list(zip(codes.tolist(), np.split(order, starts[1:]), strict=True))


def _whole_voxels(edges: NDArray[np.float64], shape: NDArray[np.int32]) -> NDArray[np.int32]:
    """Round (n, 2, 3) starts and stops to boxes of at least one voxel inside the volume."""
    whole = np.rint(np.nan_to_num(edges)).astype(np.int64)
    start = np.clip(whole[:, 0], 0, shape - 1)
    stop = np.clip(whole[:, 1], start + 1, shape)
    return np.hstack([start, stop]).astype(np.int32)


NEIGHBOURS = 25
# Distances of this many pairs at a time: 32 MB.
_PAIRS = 4_000_000
_BASE = 9  # no grade is higher than 8


def nearest_boxes(truth: Truth, train: Truth, neighbours: int = NEIGHBOURS) -> Answers:
    """Answer with the most frequent whole answer among the nearest train boxes of the same question.

    A box is six numbers, its centre and its lengths, each in units of its standard deviation in train. If the grids of
    all volumes are known, they are in mm from the volume's centre, along the axes closest to right, anterior and
    superior. Left knees are mirrored, so that medial is on one side. Otherwise they are voxels as stored.

    Parameters
    ----------
    truth : Truth
        Records to answer.
    train : Truth
        Boxes and grades that vote; records that lack a grade have no vote.
    neighbours : int
        Number of boxes that vote. Of equally frequent answers, that of the nearest box wins.

    Returns
    -------
    Answers
        A question without any train record stays unanswered.

    Raises
    ------
    BenchError
        If a patient of these records is also in train.
    """
    shared = set(train.patients) & set(truth.patients)
    if shared:
        raise BenchError(
            f"{len(shared)} scored patients are in train as well, such as {min(shared)}. Score another split."
        )
    known = all((each.shapes > 0).all() for each in (train, truth))
    own, theirs = _describe(train, known), _describe(truth, known)
    grades = np.full(truth.grades.shape, NONE, dtype=np.int8)
    complete = ((train.grades != NONE) | (train.slots == NONE)).all(axis=1)
    for question in np.unique(truth.question).tolist():
        rows = np.flatnonzero(truth.question == question)
        pool = np.flatnonzero((train.question == question) & complete)
        if len(pool):
            grades[rows] = _vote(own[pool], train.grades[pool], theirs[rows], neighbours)
    return _answer(truth, grades=grades)


def _vote(
    pool: NDArray[np.float64], grades: NDArray[np.int8], asked: NDArray[np.float64], neighbours: int
) -> NDArray[np.int8]:
    """Return for each asked box the most frequent answer among its neighbours in the pool."""
    answers, codes = np.unique(grades, axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    spread = pool.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    pool, asked = (pool - pool.mean(axis=0)) / scale, (asked - pool.mean(axis=0)) / scale
    count = min(neighbours, len(pool))
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
        for code, rows in _by_volume(truth):
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
