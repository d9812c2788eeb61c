"""Metrics of boxes, many at a time; in voxels, except for the distance of the centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

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
