"""Statistics of one decoded image: value range, gaps in its histogram, and a perceptual hash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.orientation import to_canonical

_CELLS, _WAVES = 32, 12
HASH_BITS = _WAVES**3 - 1
"""Bits of the perceptual hash: signs of the 12 x 12 x 12 lowest cosine coefficients but the mean's."""

_SAMPLE = 2_000_000  # voxels of a float image of which the histogram is taken
_PER_VALUE = 20  # voxels for each possible value, below which a gap may be chance


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Statistics of one image for the image checks.

    Attributes
    ----------
    low, high : float
        Extreme values; nan if a value is not finite.
    bright : float
        99th percentile.
    commonest : float
        Share of the voxels with the commonest value.
    whole : bool
        Whether all values are whole numbers.
    distinct : int
        Number of different values.
    used : float or None
        Share of the whole numbers between the 5th and the 95th percentile that occur; None with too few voxels.
    hash : bytes
        `HASH_BITS` signs, packed.
    """

    low: float
    high: float
    bright: float
    commonest: float
    whole: bool
    distinct: int
    used: float | None
    hash: bytes


def measure_image(voxels: NDArray[Any], affine: NDArray[np.float64]) -> ImageStatistics:
    """Measure a decoded image.

    Parameters
    ----------
    voxels : (i, j, k) array
        Values.
    affine : (4, 4) float array
        Voxel-centre to world (RAS+, mm).

    Examples
    --------
    >>> found = measure_image(np.arange(4096).reshape(16, 16, 16), np.eye(4))
    >>> found.low, found.high, found.whole, found.distinct
    (0.0, 4095.0, True, 4096)
    """
    flat = voxels.ravel(order="K")
    if voxels.dtype.kind == "f" and not np.isfinite(flat).all():
        return ImageStatistics(np.nan, np.nan, np.nan, 0.0, False, 0, None, b"")
    values, counts, whole = _histogram(flat)
    share = np.cumsum(counts) / counts.sum()
    bright = float(values[np.searchsorted(share, 0.99)])
    canonical = to_canonical(affine).apply_array(voxels)
    return ImageStatistics(
        float(flat.min()),
        float(flat.max()),
        bright,
        float(counts.max() / counts.sum()),
        whole,
        len(values),
        _used(values, counts, share) if whole else None,
        perceptual_hash(canonical),
    )


def _histogram(flat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], bool]:
    """Count how often each value occurs; of floats in a sample."""
    if flat.dtype.kind in "iu" and int(flat.max()) - int(flat.min()) < 1 << 20:
        low = int(flat.min())
        counts = np.zeros(int(flat.max()) - low + 1, np.int64)
        for start in range(0, len(flat), _SAMPLE):  # bincount makes 8-byte copies
            part = flat[start : start + _SAMPLE].astype(np.int64) - low
            counts += np.bincount(part, minlength=len(counts))
        there = np.flatnonzero(counts)
        return there + low, counts[there], True
    sample = flat[:: max(1, len(flat) // _SAMPLE)]
    values, found = np.unique(sample, return_counts=True)
    return values, found, bool((values == np.rint(values)).all())


def _used(values: NDArray[Any], counts: NDArray[np.int64], share: NDArray[np.float64]) -> float | None:
    first, last = np.searchsorted(share, (0.05, 0.95))
    room = float(values[last] - values[first]) + 1
    if room < 16 or counts[first : last + 1].sum() < _PER_VALUE * room:
        return None
    return float((last - first + 1) / room)


def perceptual_hash(canonical: NDArray[Any]) -> bytes:
    """Hash an image by the signs of its lowest cosine coefficients.

    Scaling of intensities does not change it; noise, gamma, clipping and a shift by a voxel change few bits.

    Parameters
    ----------
    canonical : (i, j, k) array
        Values on axes closest to RAS+.

    Examples
    --------
    >>> image = np.random.default_rng(0).integers(0, 400, (40, 40, 40))
    >>> perceptual_hash(image) == perceptual_hash(image * 2 + 7)
    True
    """
    cells: NDArray[Any] = canonical
    # The contiguous axis first: then the others have a twelfth of the data.
    for axis in np.argsort([abs(stride) for stride in canonical.strides], kind="stable").tolist():
        cells = _mean_cells(cells, axis)
    waves = np.einsum("ijk,ai,bj,ck->abc", cells, *[_cosines()] * 3, optimize=True)
    return np.packbits(waves.ravel()[1:] > 0).tobytes()


def _mean_cells(array: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Average an axis into `_CELLS` cells; an axis of fewer voxels repeats them."""
    size = array.shape[axis]
    edges = np.arange(_CELLS) * size // _CELLS
    lengths = np.maximum(1, np.diff(edges, append=size))
    sums = np.add.reduceat(array, edges, axis=axis, dtype=np.float64 if array.dtype.kind == "f" else np.int64)
    shape = [1, 1, 1]
    shape[axis] = -1
    means: NDArray[np.float64] = sums / lengths.reshape(shape)
    return means


@cache
def _cosines() -> NDArray[np.float64]:
    """Compute the lowest waves of the type-II cosine transform."""
    places = (np.arange(_CELLS) + 0.5) / _CELLS
    waves: NDArray[np.float64] = np.cos(np.pi * np.arange(_WAVES)[:, None] * places)
    return waves


@cache
def mirror_signs() -> NDArray[np.bool_]:
    """Find the hash bits that change when an image is mirrored from right to left: odd waves of the first axis."""
    odd = np.broadcast_to((np.arange(_WAVES) % 2 == 1)[:, None, None], (_WAVES,) * 3)
    return odd.ravel()[1:]
