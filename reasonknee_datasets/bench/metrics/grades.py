"""Metrics as pure functions of arrays: `record_exact` (the headline), metrics of confusions, and metrics of boxes.

Undefined is NaN, never 0. Every function of confusions takes ``(..., K, K)`` or ``(..., K, K + 1)`` and returns
``(...)``. Sums over grades are written as matrix products, since numpy's own reductions over an axis of four are ten
times slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.arrays import Floats, Mask
from reasonknee_datasets.errors import BenchError


def record_exact(
    true: ArrayLike, answered: ArrayLike, asked: ArrayLike | None = None, *, answered_only: bool = False
) -> Floats:
    """Compute the headline metric of each record: 1 where every slot is right, else 0.

    A slot without a grade is wrong. The mean over records is ``record_exact``.

    Parameters
    ----------
    true, answered : (N, S) int array
        Grades of N records; -1 where there is none.
    asked : (N, S) bool array, optional
        Slots that the record's question has; by default all.
    answered_only : bool
        Leave out records that lack an answered grade, instead of counting them as wrong.

    Returns
    -------
    (N,) float array
        NaN where the record is not counted: a true grade is missing, or an answered one with ``answered_only``.

    Examples
    --------
    >>> true = [[2, 1], [2, 1], [0, 0], [1, -1]]
    >>> record_exact(true, [[2, 1], [2, 0], [0, -1], [1, 1]])
    array([ 1.,  0.,  0., nan])
    """
    grades, answers = np.asarray(true), np.asarray(answered)
    inside = np.ones(grades.shape, dtype=np.bool_) if asked is None else np.asarray(asked, dtype=np.bool_)
    lacking = grades < 0
    if answered_only:
        lacking = lacking | (answers < 0)
    right = ((grades == answers) | ~inside).all(axis=1)
    return np.where((lacking & inside).any(axis=1), np.nan, right.astype(np.float64))


def accuracy(confusion: NDArray[Any]) -> Floats:
    """Share of slots that are right.

    Examples
    --------
    >>> float(accuracy(np.array([[3, 1], [0, 4]])))
    0.875
    """
    return ratio(_right(confusion), _total(confusion))


def balanced_accuracy(confusion: NDArray[Any], occurring: Mask | None = None) -> Floats:
    """Mean over the grades that occur in the truth of the share of each that is right.

    Parameters
    ----------
    confusion : (..., K, K or K + 1) array
    occurring : (..., K) bool array, optional
        Grades to average over, where these are a resample's confusions: the statistic of a resample that has lost a
        grade is undefined, not the mean of the others.

    Returns
    -------
    (...) float array
        NaN where fewer than two grades occur: it would be the accuracy under another name.
    """
    true = _rows(confusion)
    recalls = ratio(_diagonal(confusion), true)
    return _mean_over(recalls, true > 0 if occurring is None else occurring)


def mae(confusion: NDArray[Any]) -> Floats:
    """Mean distance between answered and true grade; of ordinal grades only.

    Examples
    --------
    >>> float(mae(np.array([[1, 0, 1], [0, 1, 0], [0, 1, 0]])))
    0.75
    """
    return ratio(_project(confusion, _distances(_square(confusion, "mae"), 1).ravel()), _total(confusion))


def linear_kappa(confusion: NDArray[Any]) -> Floats:
    """Cohen's kappa with disagreements weighted by their distance; of ordinal grades only."""
    return _weighted_kappa(confusion, 1, "linear_kappa")


def quadratic_kappa(confusion: NDArray[Any]) -> Floats:
    """Cohen's kappa with disagreements weighted by their squared distance; of ordinal grades only.

    Examples
    --------
    >>> round(float(quadratic_kappa(np.array([[2, 0, 0], [0, 1, 1], [0, 0, 2]]))), 4)
    0.8889
    """
    return _weighted_kappa(confusion, 2, "quadratic_kappa")


def kappa(confusion: NDArray[Any]) -> Floats:
    """Cohen's kappa; a column for "no grade" counts as an answer that is never right.

    Returns
    -------
    (...) float array
        NaN where truth and answers are both the same grade throughout.
    """
    grades = confusion.shape[-2]
    true, answered, total = _rows(confusion), _columns(confusion)[..., :grades], _total(confusion)
    # In counts, so that the denominator is exactly 0 where chance alone agrees everywhere.
    chance = (true * answered).sum(axis=-1)
    return ratio(total * _right(confusion) - chance, total * total - chance)


def macro_f1(confusion: NDArray[Any], occurring: Mask | None = None) -> Floats:
    """Mean of the F1 of each grade that occurs in the truth.

    The set of grades is the truth's, so that two models are averaged over the same; ``occurring`` as in
    `balanced_accuracy`.

    Returns
    -------
    (...) float array
        NaN where fewer than two grades occur.
    """
    grades = confusion.shape[-2]
    true = _rows(confusion)
    f1s = ratio(2 * _diagonal(confusion), true + _columns(confusion)[..., :grades])
    chosen = true > 0 if occurring is None else occurring
    # A resample without this grade in its truth may still have it among its answers, and then an F1 of 0.
    return _mean_over(np.where(true > 0, f1s, np.nan), chosen)


def sensitivity(confusion: NDArray[Any]) -> Floats:
    """Share of true 1s answered 1."""
    _, _, fn, tp = _quadrants(confusion, "sensitivity")
    return ratio(tp, tp + fn)


def specificity(confusion: NDArray[Any]) -> Floats:
    """Share of true 0s answered 0."""
    tn, fp, _, _ = _quadrants(confusion, "specificity")
    return ratio(tn, tn + fp)


def ppv(confusion: NDArray[Any]) -> Floats:
    """Share of answered 1s that are true."""
    _, fp, _, tp = _quadrants(confusion, "ppv")
    return ratio(tp, tp + fp)


def npv(confusion: NDArray[Any]) -> Floats:
    """Share of answered 0s that are true."""
    tn, _, fn, _ = _quadrants(confusion, "npv")
    return ratio(tn, tn + fn)


def f1(confusion: NDArray[Any]) -> Floats:
    """Harmonic mean of sensitivity and PPV; NaN where 1 is neither true nor answered."""
    _, fp, fn, tp = _quadrants(confusion, "f1")
    return ratio(2 * tp, 2 * tp + fp + fn)


def matthews(confusion: NDArray[Any]) -> Floats:
    """Matthews correlation coefficient; NaN where truth or answers are all the same.

    Examples
    --------
    >>> float(matthews(np.array([[4, 0], [0, 2]]))), float(matthews(np.array([[4, 0], [2, 0]])))
    (1.0, nan)
    """
    tn, fp, fn, tp = _quadrants(confusion, "matthews")
    return ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _weighted_kappa(confusion: NDArray[Any], power: int, name: str) -> Floats:
    apart = _distances(_square(confusion, name), power)
    expected = ((_rows(confusion) @ apart) * _columns(confusion)).sum(axis=-1)
    observed = _project(confusion, apart.ravel()) * _total(confusion)
    return 1.0 - ratio(observed, expected)


def _project(confusion: NDArray[Any], weights: NDArray[np.float64]) -> Floats:
    """Sum a confusion's cells with weights; float32 counts stay exact below 2**24, and float64 takes the rest."""
    cells = confusion if confusion.dtype == np.float32 else np.asarray(confusion, dtype=np.float64)
    flat = cells.reshape(*cells.shape[:-2], -1)
    return np.asarray(flat @ weights.astype(cells.dtype), dtype=np.float64)


def _total(confusion: NDArray[Any]) -> Floats:
    return _project(confusion, np.ones(confusion.shape[-2] * confusion.shape[-1]))


def _right(confusion: NDArray[Any]) -> Floats:
    return _project(confusion, np.eye(*confusion.shape[-2:]).ravel())


def _diagonal(confusion: NDArray[Any]) -> Floats:
    return np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)


def _rows(confusion: NDArray[Any]) -> Floats:
    return _project(confusion, np.repeat(np.eye(confusion.shape[-2]), confusion.shape[-1], axis=0))


def _columns(confusion: NDArray[Any]) -> Floats:
    return _project(confusion, np.tile(np.eye(confusion.shape[-1]), (confusion.shape[-2], 1)))


def _distances(grades: int, power: int) -> Floats:
    places = np.arange(grades, dtype=np.float64)
    return np.abs(places[:, None] - places) ** power


def _square(confusion: NDArray[Any], name: str) -> int:
    grades, columns = confusion.shape[-2:]
    if grades != columns:
        raise BenchError(
            f"The confusion of {name} has {grades} rows and {columns} columns, and must be square. Apply a rule for "
            "slots without a grade first: metrics.apply_rule."
        )
    return int(grades)


def _quadrants(confusion: NDArray[Any], name: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Return true negatives, false positives, false negatives and true positives."""
    if confusion.shape[-2:] != (2, 2):
        raise BenchError(
            f"The confusion of {name} has shape {confusion.shape[-2:]}, and must be 2 by 2: it is a metric of binary "
            "slots. Apply metrics.apply_rule first."
        )
    cells = confusion.astype(np.float64)
    return cells[..., 0, 0], cells[..., 0, 1], cells[..., 1, 0], cells[..., 1, 1]


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Divide; NaN where the divisor is 0.

    Examples
    --------
    >>> ratio(np.array([[1, 0], [3, 4]]), np.array([2, 0]))
    array([[0.5, nan],
           [1.5, nan]])
    """
    divisor = np.asarray(whole, dtype=np.float64)
    out = np.full(np.broadcast_shapes(np.shape(part), divisor.shape), np.nan)
    found: Floats = np.divide(part, divisor, out=out, where=divisor != 0)
    return found


def _mean_over(values: Floats, chosen: Mask) -> Floats:
    """Average over the chosen grades, at least two; NaN where one of them is."""
    how_many = chosen.sum(axis=-1, dtype=np.float64)
    sums = np.where(chosen, values, 0.0).sum(axis=-1)
    return ratio(sums, np.where(how_many >= 2, how_many, 0.0))


THRESHOLDS = (0.1, 0.25, 0.5, 0.75)
"""IoU at which a box counts as found, for Acc@..."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxScores:
    """Metrics of n answered boxes against n true ones.

    Attributes
    ----------
    iou : (n,) float array
        Voxels in both over voxels in either; 0 without a box.
    giou : (n,) float array
        IoU less the empty share of the smallest box around both: from -1 to 1. Without a box -1, the limit for one that
        is infinitely far away: with 0, no answer would score more than a near miss.
    coverage : (n,) float array
        Share of the true box's voxels that the answer holds; 0 without a box.
    volume_ratio : (n,) float array
        Voxels answered over voxels true; NaN without a box.
    centre_mm : (n,) float array
        Distance of the centres in mm; NaN without a box or an affine.
    """

    iou: Floats
    giou: Floats
    coverage: Floats
    volume_ratio: Floats
    centre_mm: Floats


def score_boxes(
    answered: ArrayLike, true: ArrayLike, has_box: ArrayLike | None = None, affines: ArrayLike | None = None
) -> BoxScores:
    """Score boxes.

    Parameters
    ----------
    answered, true : (n, 6) int array
        Half-open voxels i0 j0 k0 i1 j1 k1 of one array.
    has_box : (n,) bool array, optional
        Where there is an answer; everywhere if left out.
    affines : (n, 4, 4) or (4, 4) float array, optional
        Voxel centre to world (mm), for `BoxScores.centre_mm`; the distance holds under oblique affines too.

    Returns
    -------
    BoxScores

    Examples
    --------
    >>> score_boxes([[0, 0, 0, 2, 2, 2]], [[1, 0, 0, 3, 2, 2]]).iou
    array([0.33333333])
    """
    # float64 holds every int32 coordinate, and volumes of boxes far larger than any knee, without overflow.
    a, b = np.asarray(answered, dtype=np.float64), np.asarray(true, dtype=np.float64)
    given = np.ones(len(b), dtype=np.bool_) if has_box is None else np.asarray(has_box, dtype=np.bool_)
    a = np.where(given[:, None], a, b)  # any sound box; what it gives is taken away below
    size, true_size = _size(a[:, :3], a[:, 3:]), _size(b[:, :3], b[:, 3:])
    both = _size(np.maximum(a[:, :3], b[:, :3]), np.minimum(a[:, 3:], b[:, 3:]))
    either = size + true_size - both
    around = _size(np.minimum(a[:, :3], b[:, :3]), np.maximum(a[:, 3:], b[:, 3:]))
    iou = both / either
    return BoxScores(
        iou=np.where(given, iou, 0.0),
        giou=np.where(given, iou - (around - either) / around, -1.0),
        coverage=np.where(given, both / true_size, 0.0),
        volume_ratio=np.where(given, size / true_size, np.nan),
        centre_mm=np.where(given, _centre_distance(a, b, affines), np.nan),
    )


def iou(answered: NDArray[np.float64], true: NDArray[np.float64]) -> Floats:
    """Return the IoU alone, 0 where the answered box is empty or inside out.

    Examples
    --------
    >>> iou(np.array([[0.0, 0, 0, 2, 2, 2], [5, 0, 0, 4, 2, 2]]), np.array([[1.0, 0, 0, 3, 2, 2]]))
    array([0.33333333, 0.        ])
    """
    both = _size(np.maximum(answered[:, :3], true[:, :3]), np.minimum(answered[:, 3:], true[:, 3:]))
    sizes = _size(answered[:, :3], answered[:, 3:])
    return both / (sizes + _size(true[:, :3], true[:, 3:]) - both)


def _size(start: Floats, stop: Floats) -> Floats:
    return np.asarray(np.prod(np.maximum(stop - start, 0.0), axis=1), dtype=np.float64)


def _centre_distance(a: Floats, b: Floats, affines: ArrayLike | None) -> Floats:
    if affines is None:
        return np.full(len(a), np.nan)
    linear = np.asarray(affines, dtype=np.float64)[..., :3, :3]
    # Half-open ends on both sides: the half voxel to the centre cancels in the difference.
    apart = ((a[:, :3] + a[:, 3:]) - (b[:, :3] + b[:, 3:])) / 2
    return np.asarray(np.linalg.norm((linear @ apart[:, :, None])[:, :, 0], axis=1), dtype=np.float64)
