"""Checks of images: each by itself, against the protocol, and against the other images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.quality.image_statistics import HASH_BITS, ImageStatistics, mirror_signs
from reasonknee_datasets.quality.quality_report import Findings

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

    Parameters
    ----------
    images : mapping of volume id to ImageStatistics
        Images that are not constant.
    voxels : mapping of volume id to str
        SHA-256 of the voxels, where it is known.
    splits : mapping of volume id to str
        For the messages.
    findings : Findings
        Collects what is found.
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
