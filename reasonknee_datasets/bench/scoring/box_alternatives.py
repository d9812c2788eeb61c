"""Other readings of the answered numbers as boxes: what the diagnosis of convention errors tries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention

Floats = NDArray[np.float64]

_SAMPLE = Box((0, 1, 2), (10, 11, 12))
_SCALES = {1000.0: "thousandths", 100.0: "percent"}


def write_numbers(rows: ArrayLike, convention: BoxConvention, shapes: NDArray[np.int32]) -> Floats:
    """Write boxes as the six numbers that a convention reads them from.

    Parameters
    ----------
    rows : (n, 6) int array
        Half-open voxels i0 j0 k0 i1 j1 k1.
    convention : BoxConvention
    shapes : (n, 3) int array
        Voxels of each volume; only normalised numbers depend on it.

    Examples
    --------
    >>> write_numbers([[40, 100, 60, 50, 200, 80]], BoxConvention.parse("slice2-x1-y0-pairs-inclusive-voxel"),
    ...               np.array([[384, 384, 160]], np.int32))
    array([[ 60.,  79., 100., 199.,  40.,  49.]])
    """
    given = np.asarray(rows, dtype=np.float64).copy()
    given[:, 3:] -= convention.inclusive
    plain = BoxConvention(convention.order, convention.layout, False, False, convention.axes)
    held = [_SAMPLE.to_row().index(int(number)) for number in plain.encode(_SAMPLE, ())]
    if convention.normalised:
        given /= np.tile(shapes, 2)
    return given[:, held]


def other_readings(
    numbers: Floats, convention: BoxConvention, shapes: NDArray[np.int32]
) -> Iterator[tuple[str, int, Floats]]:
    """Read numbers in every other way that is tried.

    Parameters
    ----------
    numbers : (n, 6) float array
        As answered; NaN where there are none.
    convention : BoxConvention
        In which they have been read.
    shapes : (n, 3) int array
        Voxels of each volume; zeros where unknown, and then nothing that depends on them is tried.

    Yields
    ------
    change : str
        In words, for a sentence: ``x and y swapped``.
    changes : int
        How many things differ from the reading so far.
    rows : (n, 6) float array
        Half-open voxels; zeros where the numbers are no box in this reading.
    """
    sized = bool((shapes > 0).all())
    for other in CONVENTIONS:
        changes = _name_changes(convention, other)
        if changes and (sized or not (other.normalised or convention.normalised)):
            rows, valid = other.decode_rows(numbers, shapes)
            yield " and ".join(changes), len(changes), np.where(valid[:, None], rows, 0.0)
    rows, valid = convention.decode_rows(numbers, shapes)
    rows = np.where(valid[:, None], rows, 0.0)
    if sized:
        yield from _flipped(rows, valid, convention, shapes)
    yield from _resized(numbers, convention, shapes)
    if sized:
        shares = BoxConvention(convention.order, convention.layout, False, True, convention.axes)
        for scale, name in _SCALES.items():
            rows, valid = shares.decode_rows(numbers / scale, shapes)
            yield f"the numbers read as {name} of the volume", 1, np.where(valid[:, None], rows, 0.0)


def _name_changes(read: BoxConvention, other: BoxConvention) -> list[str]:
    """Describe how a convention differs from the one that the numbers were read in."""
    changes = []
    meant = [read.order[read.array_axes.index(axis)] for axis in other.array_axes]
    moved = [name for name, own in zip(meant, read.order, strict=True) if name != own]
    if len(moved) == 2:
        changes.append(f"{' and '.join(sorted(moved))} swapped")
    elif moved:
        changes.append(f"{', '.join(read.order)} read as {', '.join(meant)}")
    if other.layout != read.layout:
        together = "start and end side by side" if other.layout == "pairs" else "all starts before all ends"
        changes.append(together)
    if other.inclusive != read.inclusive:
        changes.append(f"ends read as {'the last voxel' if other.inclusive else 'one past the last voxel'}")
    if other.normalised != read.normalised:
        changes.append(f"the numbers read as {'shares of the volume' if other.normalised else 'voxels'}")
    return changes


def _flipped(
    rows: Floats, valid: NDArray[np.bool_], convention: BoxConvention, shapes: NDArray[np.int32]
) -> Iterator[tuple[str, int, Floats]]:
    for flips in product((False, True), repeat=3):
        names = [name for name, axis in zip(convention.order, convention.array_axes, strict=True) if flips[axis]]
        if not names:
            continue
        turned = rows.copy()
        for axis in np.flatnonzero(flips):
            turned[:, axis] = shapes[:, axis] - rows[:, axis + 3]
            turned[:, axis + 3] = shapes[:, axis] - rows[:, axis]
        yield f"{' and '.join(names)} counted from the other end", len(names), np.where(valid[:, None], turned, 0.0)


def _resized(
    numbers: Floats, convention: BoxConvention, shapes: NDArray[np.int32]
) -> Iterator[tuple[str, int, Floats]]:
    """Read what stands for an end as a size: "x, y, width, height" is another habit of models."""
    plain = BoxConvention(convention.order, convention.layout, False, convention.normalised, convention.axes)
    starts = [place for place, name in enumerate(plain.positions) if name.endswith("_start")]
    ends = [plain.positions.index(plain.positions[place].replace("_start", "_end")) for place in starts]
    moved = numbers.copy()
    moved[:, ends] += numbers[:, starts]
    rows, valid = plain.decode_rows(moved, shapes)
    yield "ends read as sizes", 1, np.where(valid[:, None], rows, 0.0)
