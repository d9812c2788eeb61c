"""`Box`: a half-open range of voxels on each axis of an array."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from operator import index
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.boxes.extents import label_extents, marked_extent
from reasonknee_datasets.errors import BoxError, shown

Triple = tuple[int, int, int]

_HALF_OPEN = "Boxes are half-open voxel ranges in array order"


def _triple(name: str, values: Sequence[SupportsIndex]) -> Triple:
    try:
        i, j, k = values
        return index(i), index(j), index(k)
    except (TypeError, ValueError):
        raise BoxError(f"Box {name} must be three whole voxel numbers, not {shown(values)}. {_HALF_OPEN}.") from None


def _halves(row: Any) -> tuple[Any, Any]:
    try:
        if len(row) == 6:
            return tuple(row[:3]), tuple(row[3:])
    except (TypeError, KeyError):  # a number, a mapping
        pass
    raise BoxError(
        "A box must be six whole voxel numbers (i0 j0 k0 i1 j1 k1), or a start and a stop of three each, not "
        f"{shown(row)}."
    )


@dataclass(frozen=True, slots=True, init=False)
class Box:
    """A box of voxels: on each axis from ``start`` up to, and not including, ``stop``, in array order.

    A box has at least one voxel. It may reach beyond a volume (`pad` can do that): `clip` trims it, `check_inside`
    refuses it.

    Parameters
    ----------
    start, stop : three ints each
        First voxel and one past the last, along the array's axes as stored. Or one argument, the six numbers of the
        ``box`` column: i0 j0 k0 i1 j1 k1.

    Raises
    ------
    BoxError
        If these are not whole numbers, or the box is empty.

    Examples
    --------
    >>> box = Box((10, 20, 30), (12, 25, 33))
    >>> box.shape, box.size, box.center
    ((2, 5, 3), 30, (10.5, 22.0, 31.0))
    >>> box.to_row()
    [10, 20, 30, 12, 25, 33]
    >>> Box([10, 20, 30, 12, 25, 33]) == box
    True
    """

    start: Triple
    stop: Triple

    @overload
    def __init__(self, row: Sequence[SupportsIndex], /) -> None: ...

    @overload
    def __init__(self, start: Sequence[SupportsIndex], stop: Sequence[SupportsIndex]) -> None: ...

    def __init__(self, start: Any, stop: Any = None) -> None:
        if stop is None:
            start, stop = _halves(start)
        object.__setattr__(self, "start", _triple("start", start))
        object.__setattr__(self, "stop", _triple("stop", stop))
        for axis, (low, high) in enumerate(zip(self.start, self.stop, strict=True)):
            if low >= high:
                raise BoxError(
                    f"Box start {self.start} is not below its stop {self.stop} on axis {axis}. {_HALF_OPEN}: one voxel "
                    "at 5 is start 5, stop 6."
                )

    @classmethod
    def from_row(cls, row: Sequence[SupportsIndex]) -> Box:
        """Read the ``box`` column: i0 j0 k0 i1 j1 k1; the same as ``Box(row)``."""
        return cls(row)

    def to_row(self) -> list[int]:
        """Write the ``box`` column: i0 j0 k0 i1 j1 k1."""
        return [*self.start, *self.stop]

    @classmethod
    def from_mask(cls, mask: ArrayLike, label: int | Collection[int] | None = None) -> Box:
        """Find the smallest box around the marked voxels of a mask.

        Parameters
        ----------
        mask : (i, j, k) array
            Non-zero where marked, or a label map.
        label : int or collection of ints, optional
            Only these labels; any non-zero voxel where left out.

        Raises
        ------
        BoxError
            If nothing is marked: an empty mask has no box; it never means the whole volume.

        Examples
        --------
        >>> mask = np.zeros((8, 8, 8), np.uint8)
        >>> mask[2:4, 3, 5:8] = 44
        >>> Box.from_mask(mask, 44)
        Box(start=(2, 3, 5), stop=(4, 4, 8))
        """
        row = marked_extent(np.asarray(mask), label)
        if row is None:
            what = "The mask" if label is None else f"The mask for label {label}"
            raise BoxError(
                f"{what} marks no voxel, and an empty region has no box. Leave the row out, or "
                "check the label against labels.json."
            )
        return cls.from_row(row)

    @property
    def shape(self) -> Triple:
        """Voxels along each axis."""
        i, j, k = (high - low for low, high in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def center(self) -> tuple[float, float, float]:
        """Its centre in voxel coordinates, where a whole number is a voxel's centre (as affines have it)."""
        i, j, k = ((low + high - 1) / 2 for low, high in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing: ``array[box.slices]``. A box that starts below 0 must be clipped first."""
        if min(self.start) < 0:
            raise BoxError(
                f"Box start {self.start} is below 0, which NumPy counts from the far end. Use Box.clip(shape) first."
            )
        i, j, k = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return i, j, k

    def clip(self, shape: Sequence[int]) -> Box:
        """Trim it to a volume.

        Parameters
        ----------
        shape : three ints
            Voxels of the volume along each axis.

        Raises
        ------
        BoxError
            If nothing is left.
        """
        inside = self.intersect(Box((0, 0, 0), _triple("volume shape", shape)))
        if inside is None:
            raise BoxError(
                f"The box from {self.start} to {self.stop} does not overlap the volume of shape {tuple(shape)}. "
                f"{_HALF_OPEN}."
            )
        return inside

    def pad(
        self,
        *,
        voxels: int | Sequence[int] = 0,
        mm: float | Sequence[float] = 0.0,
        affine: NDArray[Any] | None = None,
    ) -> Box:
        """Widen it on both sides of every axis.

        Parameters
        ----------
        voxels : int or three ints
            Voxels to add at each end, per array axis; negative to shrink.
        mm : float or three floats
            Millimetres to add at each end, per array axis, rounded up to whole voxels.
        affine : (4, 4) array, optional
            Voxel centre to world, for the spacing; needed with ``mm``.

        Returns
        -------
        Box
            It may reach beyond the volume: clip it where that matters.

        Examples
        --------
        >>> Box((10, 10, 10), (12, 12, 12)).pad(mm=1.0, affine=np.diag([0.7, 0.5, 2.0, 1.0]))
        Box(start=(8, 8, 9), stop=(14, 14, 13))
        """
        margin = np.broadcast_to(np.asarray(voxels), (3,)).tolist()
        lengths = np.broadcast_to(np.asarray(mm, dtype=np.float64), (3,))
        if lengths.any():
            if affine is None:
                raise BoxError("Padding in mm needs the spacing. Pass affine=, or pad in voxels=.")
            spacing = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
            # A hair less than the quotient, so that 0.7 mm at 0.7 mm spacing is one voxel whatever the rounding.
            margin = [v + ceil(mm / step - 1e-6) for v, mm, step in zip(margin, lengths, spacing, strict=True)]
        start = [low - m for low, m in zip(self.start, margin, strict=True)]
        stop = [high + m for high, m in zip(self.stop, margin, strict=True)]
        return Box.from_row([*start, *stop])

    def intersect(self, other: Box) -> Box | None:
        """Return the voxels that both hold, or None where they hold none in common."""
        start = [max(a, b) for a, b in zip(self.start, other.start, strict=True)]
        stop = [min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]
        return Box.from_row([*start, *stop]) if all(a < b for a, b in zip(start, stop, strict=True)) else None

    def iou(self, other: Box) -> float:
        """Voxels in both over voxels in either, 0 to 1.

        Examples
        --------
        >>> Box((0, 0, 0), (2, 2, 2)).iou(Box((1, 0, 0), (3, 2, 2)))
        0.3333333333333333
        """
        common = self.intersect(other)
        both = common.size if common else 0
        return both / (self.size + other.size - both)

    def contains(self, other: Box | Sequence[SupportsIndex]) -> bool:
        """Return whether it contains another box, or a voxel (i, j, k)."""
        if not isinstance(other, Box):
            voxel = _triple("voxel", other)
            other = Box(voxel, (voxel[0] + 1, voxel[1] + 1, voxel[2] + 1))
        return self.intersect(other) == other

    def check_inside(self, shape: Sequence[int], where: str | None = None) -> Box:
        """Check that it is inside a volume, and return it.

        Parameters
        ----------
        shape : three ints
            Voxels of the volume along each axis.
        where : str, optional
            The place, for the message: a record's id, a file.

        Raises
        ------
        BoxError
            If any part is outside.

        Examples
        --------
        >>> Box((0, 0, 0), (400, 384, 160)).check_inside((384, 384, 160))
        Traceback (most recent call last):
        reasonknee_datasets.errors.BoxError: Box stop (400, 384, 160) is outside the volume of shape \
(384, 384, 160) on axis 0. Boxes are half-open voxel ranges in array order; Box.clip(shape) trims an overshoot.
        """
        for axis, (low, high, length) in enumerate(zip(self.start, self.stop, shape, strict=True)):
            if low < 0 or high > length:
                end = f"start {self.start}" if low < 0 else f"stop {self.stop}"
                place = f"on axis {axis}" + (f", {where}" if where else "")
                raise BoxError(
                    f"Box {end} is outside the volume of shape {tuple(shape)} {place}. {_HALF_OPEN}; Box.clip(shape) "
                    "trims an overshoot."
                )
        return self


def label_boxes(mask: ArrayLike) -> dict[int, Box]:
    """Find the box of every label of a label map in one pass.

    Parameters
    ----------
    mask : (i, j, k) array of small non-negative ints
        Label map; 0 is background.

    Returns
    -------
    dict of int to Box
        By label, in rising order; a label without voxels is not there.

    Examples
    --------
    >>> mask = np.zeros((8, 8, 8), np.uint8)
    >>> mask[2:4, 3, 5:8] = 44
    >>> mask[7, 7, 7] = 49
    >>> label_boxes(mask)
    {44: Box(start=(2, 3, 5), stop=(4, 4, 8)), 49: Box(start=(7, 7, 7), stop=(8, 8, 8))}
    """
    return {label: Box.from_row(row) for label, row in label_extents(np.asarray(mask)).items()}


def world_bounds(box: Box, affine: ArrayLike) -> NDArray[np.float64]:
    """Find the world-space extent of a voxel box.

    The eight outer corners are mapped, because under an oblique affine two opposite corners do not span the box.

    Parameters
    ----------
    box : Box
        Half-open voxel box in array order.
    affine : (4, 4) float array
        Voxel-centre to world (RAS+, mm) affine.

    Returns
    -------
    (2, 3) float array
        Lowest and highest world coordinates in mm.

    Examples
    --------
    >>> world_bounds(Box((0, 0, 0), (2, 2, 2)), np.eye(4))
    array([[-0.5, -0.5, -0.5],
           [ 1.5,  1.5,  1.5]])
    """
    # Voxel numbers are centres, so the outer faces are half a voxel further out.
    faces = np.array(list(product(*zip(box.start, box.stop, strict=True))), dtype=np.float64) - 0.5
    matrix = np.asarray(affine, dtype=np.float64)
    corners = faces @ matrix[:3, :3].T + matrix[:3, 3]
    return np.stack([corners.min(axis=0), corners.max(axis=0)])
