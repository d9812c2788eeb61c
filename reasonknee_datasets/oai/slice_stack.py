"""Slices of one series, sorted along their normal and put together as a volume with its affine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.oai.dicom_files import Header, Slice

# DICOM writes positions with 6 digits or so. The real series in shared/real has steps that are off by 0.0009 mm; a
# tenth of a millimetre would be a sixth of a DESS slice.
_POSITION_MM = 0.02
_ALIGNED = 1e-3  # of direction cosines: less than 0.06 degrees
_FEWEST = 2
_MOST_OTHERS = 3  # reference images in another plane: COR_MPR and AX_MPR series begin with one


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One series as an array."""

    voxels: NDArray[Any]  # (columns, rows, slices) array: in Fortran order; int16 where the values fit
    affine: NDArray[np.float64]  # (4, 4) float array: voxel centre to world (RAS+, mm)
    # Rescaling that the voxels still need; 1 and 0 for most.
    slope: float
    intercept: float
    header: Header  # identity of the series
    instances: tuple[int | None, ...]  # InstanceNumbers, in the order of the slices
    notes: tuple[str, ...]  # images that were left out


def stack_slices(slices: Sequence[Slice], place: str) -> Volume:
    """Put slices together in the order of their position along the normal.

    Neither file names nor InstanceNumbers count. Up to three images in another plane and exact copies of a slice are
    left out and noted.

    `slices`: all images of one series. Raises Refusal if they do not make exactly one complete and evenly spaced
    volume.
    """
    notes: list[str] = []
    placed = [each for each in slices if each.orientation is not None and each.position is not None and each.spacing]
    if len(placed) < len(slices):
        notes.append(f"left out {len(slices) - len(placed)} images without a position")
    if not placed:
        raise Refusal("no-image", f"{place} has no DICOM image with position, orientation and pixel spacing.")
    kept = _one_plane(placed, place, notes)
    _check_sizes(kept, place)
    orientation = kept[0].orientation
    assert orientation is not None
    row, column, normal = _directions(orientation, place)
    along = np.array([each.position for each in kept]) @ normal
    order = np.argsort(along, kind="stable")
    kept = _drop_copies([kept[n] for n in order], along[order], place, notes)
    if len(kept) < _FEWEST:
        raise Refusal("localizer", f"{place} has {len(kept)} slice(s) in one plane, but a volume needs {_FEWEST}.")
    _check_acquisitions(kept, place)
    positions = np.array([each.position for each in kept])
    step = _check_spacing(kept, positions, normal, place)
    spacing = kept[0].spacing
    assert spacing is not None
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * spacing[1], column * spacing[0], step], axis=1)
    affine[:3, 3] = positions.mean(axis=0) - step * (len(kept) - 1) / 2
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM is LPS+, NIfTI is RAS+
    voxels, slope, intercept = _fill(kept)
    instances = tuple(each.instance for each in kept)
    return Volume(voxels, affine, slope, intercept, kept[0].header, instances, tuple(notes))


def _one_plane(slices: list[Slice], place: str, notes: list[str]) -> list[Slice]:
    """Keep the slices of the commonest plane, where the others are a few reference images."""
    groups: list[list[Slice]] = []
    for each in slices:
        for group in groups:
            if np.abs(np.subtract(each.orientation, group[0].orientation)).max() <= _ALIGNED:  # type: ignore[arg-type]
                group.append(each)
                break
        else:
            groups.append([each])
    groups.sort(key=len, reverse=True)
    others = sum(map(len, groups[1:]))
    main = len(groups[0])
    if not others:
        return groups[0]
    if main < 2 * others + 2:
        counts = ", ".join(str(len(group)) for group in groups)
        kind = "localizer" if main <= _MOST_OTHERS * 5 and len(groups) > 2 else "mixed-planes"
        raise Refusal(kind, f"{place} has slices in {len(groups)} planes ({counts} images). Separate the series.")
    if others > _MOST_OTHERS:
        raise Refusal("mixed-planes", f"{place} has {main} parallel slices and {others} others. Separate them.")
    notes.append(f"left out {others} reference image{'s' if others > 1 else ''} in another plane")
    return groups[0]


def _check_sizes(slices: Sequence[Slice], place: str) -> None:
    sizes = Counter((each.voxels.shape, each.spacing) for each in slices)
    if len(sizes) > 1:
        named = "; ".join(f"{n} of {shape[0]}x{shape[1]} at {step} mm" for (shape, step), n in sizes.most_common(3))
        raise Refusal("mixed-sizes", f"{place} has slices of {len(sizes)} sizes: {named}.")


def _directions(
    orientation: NDArray[np.float64], place: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find the directions of row, column and normal, and check that they are perpendicular unit vectors."""
    row, column = orientation[:3], orientation[3:]
    lengths = np.array([row @ row, column @ column])
    if np.abs(lengths - 1).max() > 2 * _ALIGNED or abs(row @ column) > _ALIGNED:
        got = orientation.tolist()
        raise Refusal("damaged-file", f"{place} has an ImageOrientationPatient that is not a rotation: {got}.")
    row, column = row / np.sqrt(lengths[0]), column / np.sqrt(lengths[1])
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _drop_copies(slices: list[Slice], along: NDArray[np.float64], place: str, notes: list[str]) -> list[Slice]:
    """Drop exact copies of a slice; refuse different images at one position."""
    kept: list[Slice] = []
    copies, clashes, last = 0, 0, -np.inf
    for each, position in zip(slices, along.tolist(), strict=True):
        if position - last > _POSITION_MM:
            kept.append(each)
            last = position
        elif np.array_equal(each.voxels, kept[-1].voxels) and (each.slope, each.intercept) == (
            kept[-1].slope,
            kept[-1].intercept,
        ):
            copies += 1
        else:
            clashes += 1
    if clashes:
        kind = "two-acquisitions" if clashes + copies >= len(kept) - copies and len(kept) > 1 else "duplicate-slices"
        told = _differences(slices)
        differs = f" They differ in {', '.join(told)}." if told else ""
        remedy = "Keep one of the acquisitions" if kind == "two-acquisitions" else "Download the series again"
        message = f"{place} has {clashes} images at a position that another image has.{differs} {remedy}."
        raise Refusal(kind, message)
    if copies:
        notes.append(f"left out {copies} exact cop{'ies' if copies > 1 else 'y'} of a slice")
    return kept


_ACQUISITION = ("AcquisitionNumber", "EchoNumbers", "EchoTime", "TemporalPositionIdentifier")


def _differences(slices: Sequence[Slice]) -> list[str]:
    return [name for n, name in enumerate(_ACQUISITION) if len({each.acquisition[n] for each in slices}) > 1]


def _check_acquisitions(slices: Sequence[Slice], place: str) -> None:
    """Refuse interleaved acquisitions, which could pass as one stack if they are even."""
    counts = Counter(each.acquisition for each in slices)
    if len(counts) == 1 or min(counts.values()) < _FEWEST:
        return
    runs = 1 + sum(one.acquisition != other.acquisition for one, other in zip(slices[1:], slices, strict=False))
    if runs > len(counts):
        differs = ", ".join(_differences(slices))
        message = f"{place} has {len(counts)} interleaved acquisitions, which differ in {differs}."
        raise Refusal("two-acquisitions", f"{message} Keep one of them.")


def _check_spacing(
    slices: Sequence[Slice], positions: NDArray[np.float64], normal: NDArray[np.float64], place: str
) -> NDArray[np.float64]:
    """Find the step from slice to slice, by least squares, and check that it is the same everywhere."""
    count = len(positions)
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    ratios = gaps / usual
    wide = np.flatnonzero(ratios > 1.5)
    if len(wide) and np.abs(gaps - np.rint(ratios) * usual).max() <= max(_POSITION_MM, 0.05 * usual):
        missing = int((np.rint(ratios[wide]) - 1).sum())
        after = slices[int(wide[0])].name
        message = f"{place} lacks {missing} slice{'s' if missing > 1 else ''}, the first after {after}"
        raise Refusal("missing-slices", f"{message} ({count} are there, {usual:.4g} mm apart). Download it again.")
    centred = np.arange(count) - (count - 1) / 2
    step: NDArray[np.float64] = centred @ positions / (centred @ centred)
    off = positions - positions.mean(axis=0) - centred[:, None] * step
    worst = float(np.abs(off @ normal).max())
    if worst > max(_POSITION_MM, 0.01 * usual):
        low, high = float(gaps.min()), float(gaps.max())
        message = f"{place} has {count} slices that are {low:.4g} to {high:.4g} mm apart"
        raise Refusal("uneven-spacing", f"{message}. A slice may be missing, or two acquisitions be mixed.")
    sideways = step - (step @ normal) * normal
    if float(np.linalg.norm(sideways)) > 2 * _ALIGNED * usual or float(np.linalg.norm(off, axis=1).max()) > 0.1:
        shift = float(np.linalg.norm(sideways))
        raise Refusal("tilted-stack", f"{place} has slices that are shifted sideways by {shift:.4g} mm each.")
    return step


def _fill(slices: Sequence[Slice]) -> tuple[NDArray[Any], float, float]:
    """Fill the array, and find the rescaling that its voxels still need.

    A rescaling by whole numbers is applied. Another one is kept for the NIfTI header, and applied only where it differs
    between slices.
    """
    rows, columns = slices[0].voxels.shape
    scales = {(each.slope, each.intercept) for each in slices}
    uniform = len(scales) == 1
    slope, intercept = scales.pop() if uniform else (1.0, 0.0)
    whole = slope.is_integer() and intercept.is_integer()
    apply = not uniform or (whole and (slope, intercept) != (1.0, 0.0))
    ends = [float(end) for each in slices for end in (each.voxels.min(), each.voxels.max())]
    dtype = np.dtype(np.float32)
    if uniform:
        dtype = smallest_type([end * slope + intercept for end in ends] if apply else ends)
    voxels = np.empty((columns, rows, len(slices)), dtype, order="F")
    for number, each in enumerate(slices):
        # float64 represents every product exactly: stored voxels have 32 bits at most.
        voxels[..., number] = (each.voxels * each.slope + each.intercept if apply else each.voxels).T
    return voxels, 1.0 if apply else slope, 0.0 if apply else intercept


def smallest_type(ends: Sequence[float]) -> np.dtype[Any]:
    """Choose int16, as official images have it, where the values fit; else a type that can represent them."""
    for dtype in (np.int16, np.uint16, np.int32, np.uint32):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float64)
