"""Which convention explains official boxes, given the regions that they should enclose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.boxes.box import Box
from reasonknee_datasets.boxes.conventions import CONVENTIONS, BoxConvention
from reasonknee_datasets.errors import BoxError

EXACT = 2
"""Agreement of two boxes: all six numbers are equal."""
NEAR = 1
"""Agreement of two boxes: all six numbers are within the tolerance."""
APART = 0
"""Agreement of two boxes: none of these."""
_SIGMAS = 3.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many boxes one convention explains: within the tolerance, and exactly."""

    convention: BoxConvention
    near: int
    exact: int


@dataclass(frozen=True, slots=True)
class ConventionReport:
    """Result of the comparison.

    Parameters
    ----------
    checked : int
        How many boxes were compared.
    agreements : tuple of Agreement
        Every candidate, best first, in canonical form.
    leaders : tuple of BoxConvention
        The candidates that explain the boxes best. One: it is `best`. Several: the boxes do not distinguish
        them apart. None: no candidate explains any box.
    """

    checked: int
    agreements: tuple[Agreement, ...]
    leaders: tuple[BoxConvention, ...]

    @property
    def best(self) -> BoxConvention | None:
        """The one convention that explains the boxes best, or None if there is none."""
        return self.leaders[0] if len(self.leaders) == 1 else None

    @property
    def undetermined(self) -> bool:
        """Whether several conventions explain the boxes equally well."""
        return len(self.leaders) > 1

    def of(self, convention: BoxConvention) -> Agreement:
        """Return the agreement of one candidate, in any equivalent form."""
        for agreement in self.agreements:
            if agreement.convention == convention.canonical():
                return agreement
        raise BoxError(f"Convention {convention} was not compared. Pass it among the candidates.")

    def share(self, convention: BoxConvention) -> float:
        """Return the share of boxes that a convention explains within the tolerance, 0 to 1."""
        return self.of(convention).near / self.checked

    def __str__(self) -> str:
        if not self.leaders:
            return f"no convention explains any of {self.checked} boxes"
        leading = "; ".join(
            f"{found.convention} ({found.near} of {self.checked} boxes, {found.exact} exactly)"
            for found in map(self.of, self.leaders)
        )
        return f"undetermined between {leading}" if self.undetermined else leading


def agreement_scores(
    convention: BoxConvention, numbers: ArrayLike, rows: ArrayLike, shapes: ArrayLike, *, tolerance: int = 1
) -> NDArray[np.int8]:
    """Compare many boxes with their regions under one convention.

    Parameters
    ----------
    convention : BoxConvention
        How to read the numbers.
    numbers : (n, 6) array
        Official numbers.
    rows : (n, 6) array of int
        The region's box, i0 j0 k0 i1 j1 k1.
    shapes : (n, 3) or (3,) array of int
        Voxels of the array along each axis.
    tolerance : int
        How many voxels each of the six may be off.

    Returns
    -------
    (n,) int8 array
        `EXACT` (2) where all six are the same, `NEAR` (1) where all are within the tolerance, else `APART` (0), also
        where the numbers cannot be a box under this convention.
    """
    decoded, valid = convention.decode_rows(numbers, shapes)
    off = np.abs(decoded - np.asarray(rows)).max(axis=1)
    return np.select([~valid, off == 0, off <= tolerance], [APART, EXACT, NEAR], APART).astype(np.int8)


def compare_conventions(
    numbers: ArrayLike,
    rows: ArrayLike,
    shapes: ArrayLike,
    *,
    tolerance: int = 1,
    candidates: Sequence[BoxConvention] = CONVENTIONS,
) -> ConventionReport:
    """Find the convention that explains official boxes, given as arrays: see `infer_convention`.

    Parameters
    ----------
    numbers, rows, shapes, tolerance
        As for `agreement_scores`.
    candidates : sequence of BoxConvention
        Equivalent ones are compared once, in canonical form.

    Examples
    --------
    >>> true = Box((40, 100, 60), (50, 200, 80))
    >>> official = BoxConvention.parse("slice0-x1-y2-corners-inclusive-voxel").encode(true, (160, 384, 384))
    >>> print(compare_conventions([official], [true.to_row()], (160, 384, 384)))
    slice0-x1-y2-corners-inclusive-voxel (1 of 1 boxes, 1 exactly)
    """
    given, true = np.asarray(numbers, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    if given.ndim != 2 or given.shape != true.shape or given.shape[1] != 6 or len(given) == 0:
        got = f"shapes {given.shape} and {true.shape}"
        raise BoxError(
            f"Boxes and regions must have equally many rows of six numbers, but have {got}. Pass at least one box and "
            "one region for each."
        )
    distinct = list(dict.fromkeys(convention.canonical() for convention in candidates))
    scores = np.stack([agreement_scores(c, given, true, shapes, tolerance=tolerance) for c in distinct])
    order = np.argsort(-scores.sum(axis=1, dtype=np.int64), kind="stable").tolist()
    able = [i for i in order if scores[i].any()]
    leaders = [i for i in able if not any(_better(scores[j], scores[i]) for j in able)]
    agreements = tuple(
        Agreement(distinct[i], int((scores[i] >= NEAR).sum()), int((scores[i] == EXACT).sum())) for i in order
    )
    return ConventionReport(len(given), agreements, tuple(distinct[i] for i in leaders))


def _better(one: NDArray[np.int8], other: NDArray[np.int8]) -> bool:
    """Return whether one convention explains the boxes better than another.

    Box by box, exactly beats nearly beats not at all. Within a tolerance of one voxel an inclusive and an exclusive end
    both agree, so it is the exact agreement that parts them. If the other explains no box better, any lead counts; if
    each is ahead on some boxes (masks redrawn after the boxes were made, say), the lead must be more than chance gives
    (a sign test at three standard deviations).
    """
    ahead, behind = int((one > other).sum()), int((one < other).sum())
    if behind == 0:
        return ahead > 0
    return ahead > behind and (ahead - behind) ** 2 > _SIGMAS**2 * (ahead + behind)


def infer_convention(
    boxes: Sequence[Sequence[float]],
    regions: Sequence[tuple[Box, Sequence[int]] | NDArray[Any]],
    *,
    tolerance: int = 1,
    candidates: Sequence[BoxConvention] = CONVENTIONS,
) -> ConventionReport:
    """Find the convention that explains official boxes, and how many agree.

    Two conventions that explain the boxes equally well are reported as undetermined, and none is chosen: a single cubic
    box on the diagonal, for instance, reads the same in any order of its axes. Conventions that convert every box alike
    (see `BoxConvention.canonical`) count as one.

    Parameters
    ----------
    boxes : sequence of six numbers each
        As the official records hold them.
    regions : sequence of (Box, shape) or mask
        Regions that the boxes should enclose: the region's own box with its array's shape, or the region as a mask.
    tolerance : int
        How many voxels each of the six numbers may be off.
    candidates : sequence of BoxConvention
        Conventions to choose from.

    Raises
    ------
    BoxError
        If there are no boxes, not as many regions as boxes, or an empty mask.

    Examples
    --------
    >>> mask = np.zeros((16, 38, 38), bool)
    >>> mask[4:8, 10:20, 5:30] = True
    >>> print(infer_convention([[4, 7, 10, 19, 5, 29]], [mask]))
    slice0-x1-y2-pairs-inclusive-voxel (1 of 1 boxes, 1 exactly)
    """
    if len(boxes) != len(regions):
        raise BoxError(
            f"There are {len(boxes)} boxes and {len(regions)} regions. Pass one region for each official box."
        )
    true = [(Box.from_mask(r), r.shape) if isinstance(r, np.ndarray) else r for r in regions]
    rows, shapes = [box.to_row() for box, _ in true], [tuple(shape) for _, shape in true]
    return compare_conventions(boxes, rows, shapes, tolerance=tolerance, candidates=candidates)
