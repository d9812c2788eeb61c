"""Checks of images, from statistics of their voxels: by themselves, against the protocol, and against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.quality.data_checks import Findings

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

    `canonical` (i, j, k) array: values on axes closest to RAS+.

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


# OAI's sagittal 3D DESS: slices of 0.7 mm from right to left, pixels of 0.36458 mm.
_SLICE_MM, _PIXEL_MM = 0.7, 0.36458
# Swapped axes are off by a factor of 1.9, a lost spacing (1 mm) by 1.4 and 2.7, a wrong unit by 10.
_TOLERANCE = 1.25
# Synthetic volumes are drawn on coarser grids, see reasonknee_datasets.phantom.scan_grids.
_SYNTHETIC_PIXEL_MM = 1.25
# Only slices may be fewer and thicker: the official release has volumes of 8 to 176 slices.
_THICKEST_MM = 20.0

_CONSTANT = 0.999  # share of the commonest value; in OAI's images background and noise are several values
_QUANTISED = 256  # values of an 8-bit image
_FEW_VOXELS = 4096
_USED = 0.8  # share of the whole numbers that an image uses: 0.5 after doubling, below 1 by rounding twice
# Scanner gains differ by a factor of about two between scans of one protocol; windows and units by more.
_GAIN = 4.0
_COHORT = 8  # images, below which their median means nothing
_PROTOCOL_BRIGHT = (20.0, 4095.0)  # 99th percentile of 12-bit images; most tissue of OAI's is below 400

# On synthetic knees, rescaling, gamma 0.8, clipping at the 99th percentile, noise of a tenth of the tissue and a shift
# by one voxel change at most 5 % of the bits; other visits of the same knee and other knees differ in 19 % or more.
NEAR = 0.10
_BLOCK = 2048


def check_image(found: ImageStatistics, volume: str, findings: Findings) -> bool:
    """Check an image by itself, and return whether it can be compared with others."""
    if not np.isfinite(found.high):
        findings.add("unreadable-image", volume, "some values are not finite")
        return False
    if found.low == found.high or found.commonest > _CONSTANT:
        share = f"{found.commonest:.2%} of the voxels have one value; they go from {found.low:g} to {found.high:g}"
        findings.add("constant-image", volume, share, found.commonest)
        return False
    if not found.whole:
        message = f"values from {found.low:.4g} to {found.high:.4g} are not whole numbers, as scanners write them"
        findings.add("rescaled-image", volume, message, 3.0)
    elif found.distinct <= _QUANTISED and (found.used is not None or found.high - found.low >= _QUANTISED):
        message = f"only {found.distinct} different values from {found.low:g} to {found.high:g}: quantised to 8 bits"
        findings.add("rescaled-image", volume, message, 2.0)
    elif found.used is not None and found.used < _USED:
        message = f"only {found.used:.0%} of the whole numbers between the 5th and 95th percentile occur"
        findings.add("rescaled-image", volume, message, 1 - found.used)
    return True


def check_spacing(
    shape: Sequence[int], affine: NDArray[np.float64], volume: str, synthetic: bool, findings: Findings
) -> None:
    """Compare the spacing along right-left, posterior-anterior and inferior-superior with the protocol's."""
    turn = to_canonical(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[list(turn.axes)]
    slices, *pixels = (float(mm) for mm in spacing)
    told = (
        f"{slices:.4g} x {pixels[0]:.4g} x {pixels[1]:.4g} mm along right-left, posterior-anterior, inferior-superior"
    )
    largest = _SYNTHETIC_PIXEL_MM if synthetic else _PIXEL_MM * _TOLERANCE
    off = max(max(mm / largest, _PIXEL_MM / _TOLERANCE / mm) for mm in pixels)
    thin = _SLICE_MM / _TOLERANCE / slices
    worst = max(off, thin, slices / _THICKEST_MM)
    if worst > 1:
        protocol = f"{_SLICE_MM} x {_PIXEL_MM} x {_PIXEL_MM}"
        findings.add("spacing", volume, f"{told}; the protocol has {protocol}", worst)
    elif slices > (2.0 if synthetic else _SLICE_MM * _TOLERANCE):
        findings.add("slice-thickness", volume, f"{told}, {shape[turn.axes[0]]} slices", slices)


def check_brightness(images: Mapping[str, ImageStatistics], findings: Findings) -> None:
    """Compare the 99th percentile of each image with the range of 12-bit images, and with the median of all."""
    low, high = _PROTOCOL_BRIGHT
    middle = float(np.median([found.bright for found in images.values()])) if len(images) >= _COHORT else None
    for volume, found in images.items():
        value = found.bright
        if not low <= value <= high:
            told = f"99th percentile is {value:.4g}; 12-bit images of the protocol have {low:g} to {high:g}"
            findings.add(
                "intensity-range", volume, told, float(max(low / value, value / high) if value > 0 else np.inf)
            )
        elif middle is not None and not middle / _GAIN <= value <= middle * _GAIN:
            told = f"99th percentile is {value:.4g}; the median of all images is {middle:.4g}"
            findings.add("unusual-intensity", volume, told, max(middle / value, value / middle) / _GAIN)


def check_duplicates(
    images: Mapping[str, ImageStatistics],
    voxels: Mapping[str, str],
    splits: Mapping[str, str],
    findings: Findings,
) -> None:
    """Compare all images with each other.

    `images`: images that are not constant. `voxels`: SHA-256 of the voxels, where it is known. `splits`: for the
    messages. `findings`: collects what is found.
    """
    same: defaultdict[str, list[str]] = defaultdict(list)
    for volume in images:
        if volume in voxels:
            same[voxels[volume]].append(volume)
    exact = set()
    for first, *others in same.values():
        for other in others:
            exact.add((first, other))
            findings.add("duplicate-image", other, f"has the voxels of {first}{_across(first, other, splits)}")
    names = list(images)
    for before, after, distance, mirrored in _near_pairs([images[name].hash for name in names]):
        pair = names[before], names[after]
        if pair in exact or voxels.get(pair[0], "a") == voxels.get(pair[1], "b"):
            continue
        how = "is nearly the mirror image of" if mirrored else "is nearly the same as"
        message = f"{how} {pair[0]} ({distance:.1%} of the hash differ){_across(*pair, splits)}"
        findings.add("near-duplicate-image", pair[1], message, 1 - distance)


def _across(first: str, other: str, splits: Mapping[str, str]) -> str:
    a, b = splits[first], splits[other]
    return "" if a == b else f"; they are in {a} and {b}"


def _near_pairs(hashes: Sequence[bytes]) -> Iterator[tuple[int, int, float, bool]]:
    """Find all pairs with similar hashes, as they are or mirrored, in blocks of bounded memory."""
    if not hashes:
        return
    bits = np.unpackbits(np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1), axis=1, count=HASH_BITS)
    signs = bits.astype(np.float32) * 2 - 1
    mirrored = np.where(mirror_signs(), -signs, signs)
    least = HASH_BITS * (1 - 2 * NEAR)  # the product of two sign vectors is the bits less twice those that differ
    for begin in range(0, len(signs), _BLOCK):
        for start in range(0, begin + 1, _BLOCK):
            rows = signs[begin : begin + _BLOCK]
            for flipped, others in ((False, signs), (True, mirrored)):
                alike = rows @ others[start : start + _BLOCK].T
                for row, column in np.argwhere(alike >= least).tolist():
                    if start + column < begin + row:
                        distance = (1 - float(alike[row, column]) / HASH_BITS) / 2
                        yield start + column, begin + row, distance, flipped
