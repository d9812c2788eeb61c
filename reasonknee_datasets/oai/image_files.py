"""NIfTI volumes that were converted by other tools, read and compared with their mask.

Under the right orientation, tissues differ in intensity by label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import GeometryError, VolumeError
from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.oai.dicom_files import Header
from reasonknee_datasets.oai.slice_stack import Volume, smallest_type
from reasonknee_datasets.orientation import Reorientation, between
from reasonknee_datasets.volumes import open_volume

# Measured on 44 synthetic knees: the right orientation was the best of all, by 1.08, 1.19 and from there 1.27 times the
# next one and more. What is not clearly better decides nothing.
CLEARLY = 1.15
_LEAST = 0.02
_VOXELS = 3_000_000  # compared at most; every second voxel along each axis of a DESS volume


@dataclass(frozen=True, slots=True)
class ContentMatch:
    """How well an image fits a mask."""

    turn: Reorientation  # from the image's array to the mask's, the best of all that fit its shape
    # Share of the intensity variance that labels explain, 0 to 1, for it and for the second best.
    score: float
    next_score: float

    @property
    def clear(self) -> bool:
        """Whether the best is clearly better than the next."""
        return self.score >= max(_LEAST, CLEARLY * self.next_score)


def explained_variance(voxels: NDArray[Any], labels: NDArray[np.integer[Any]]) -> float:
    """Compute the share of the intensity variance that labels explain.

    `labels` (i, j, k) array: on the same grid; 0 is background and counts as a label.
    """
    flat, groups = np.asarray(voxels, np.float64).ravel(), labels.ravel()
    counts = np.bincount(groups)
    sums = np.bincount(groups, weights=flat)
    total = float(((flat - flat.mean()) ** 2).sum())
    there = counts > 0
    between = float((counts[there] * (sums[there] / counts[there] - flat.mean()) ** 2).sum())
    return between / total if total else 0.0


def match_content(voxels: NDArray[Any], labels: NDArray[np.integer[Any]]) -> ContentMatch | None:
    """Find the orientation under which an image fits a mask best; None where no orientation fits its shape.

    Only voxels around the labels count, since the background says little about orientation.
    """
    found = np.argwhere(labels)
    if not len(found):
        return None
    low, high = found.min(axis=0), found.max(axis=0) + 1
    step = max(1, round((labels.size / _VOXELS) ** (1 / 3)))
    box = tuple(slice(int(a), int(b), step) for a, b in zip(low, high, strict=True))
    inner = labels[box]
    scored = [
        (explained_variance(turn.apply_array(voxels)[box], inner), number, turn)
        for number, turn in enumerate(Reorientation.all())
        if turn.apply_shape(voxels.shape) == labels.shape
    ]
    scored.sort(key=lambda each: (-each[0], each[1]))
    if not scored:
        return None
    return ContentMatch(scored[0][2], scored[0][0], scored[1][0] if len(scored) > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A NIfTI volume and how it was matched."""

    path: str
    # By patient, date and series in names; by a table such as OAIZIB-CM's; by the grid of the mask; by its labels.
    matched: str

    def __str__(self) -> str:
        return self.path


def read_image(place: ImageFile, mask: Path | None, notes: list[str]) -> Volume:
    """Read a NIfTI volume, and find its orientation by header or, where that is none, by content.

    `mask`: the row's mask. `notes`: collects what was found out. Returns Volume: with an affine that the mask's grid
    can be compared with. Raises Refusal if it cannot be read, or header and content contradict each other.
    """
    voxels, affine, oriented = load_image(place.path)
    if mask is None:
        if not oriented:
            message = f"{place} has neither sform nor qform, and no mask to compare with."
            raise Refusal("no-orientation", message)
    else:
        affine = _orient(place.path, voxels, affine, oriented, mask, notes)
    notes.append(f"matched by {place.matched}")
    header = Header("", "", "", "", "", "")
    return Volume(voxels, affine, 1.0, 0.0, header, (), ())


def load_image(path: str) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Read voxels, affine, and whether the header gives an orientation at all."""
    try:
        image = open_volume(path, cache=None)
        shape = tuple(map(int, image.shape))
        if len(shape) < 3 or any(length != 1 for length in shape[3:]):
            raise Refusal("no-orientation", f"{path} has shape {shape}, but a knee volume has three axes.")
        voxels = np.asarray(image.dataobj).reshape(shape[:3], order="A")
        oriented = bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
        return _as_stored(voxels), np.asarray(image.affine, float), oriented
    except VolumeError as error:
        raise Refusal("damaged-file", str(error)) from error


def _as_stored(voxels: NDArray[Any]) -> NDArray[Any]:
    """Turn whole numbers that a tool saved as floats back into integers; others become float32."""
    if voxels.dtype.kind == "f":
        if not np.isfinite(voxels).all():
            raise Refusal("damaged-file", "The volume has values that are not finite. Convert it again.")
        if not np.array_equal(voxels, np.rint(voxels)):
            return voxels.astype(np.float32)
    elif voxels.dtype.kind not in "iu":
        raise Refusal("unsupported-pixels", f"The volume has {voxels.dtype} values, not one number a voxel.")
    return voxels.astype(smallest_type([float(voxels.min()), float(voxels.max())]), copy=False)


def read_labels(mask: Path) -> NDArray[Any]:
    """Read a mask as whole numbers."""
    labels = np.asarray(open_volume(mask, cache=None).dataobj)
    return labels if labels.dtype.kind in "iu" else labels.astype(np.int64)


def _orient(
    path: str, voxels: NDArray[Any], affine: NDArray[np.float64], oriented: bool, mask: Path, notes: list[str]
) -> NDArray[np.float64]:
    """Find the affine under which the volume is on its mask's grid, and check that the content agrees."""
    target, labels = open_volume(mask, cache=None), read_labels(mask)
    match = match_content(voxels, labels)
    try:
        turn = between(affine, voxels.shape, target.affine, labels.shape) if oriented else None
    except GeometryError:
        turn = None
    if match is None:
        return affine  # placing it raises for different shapes
    if turn is not None:
        if match.clear and match.turn != turn:
            raise _contradiction(path, match)
        return affine
    if not match.clear:
        if oriented:
            return affine  # placing it prints both grids
        message = f"{path} has no orientation, and its content fits its mask in several ways"
        raise Refusal("no-orientation", f"{message} ({match.score:.3f} and {match.next_score:.3f}).")
    notes.append(
        f"orientation found by content: labels explain {match.score:.1%} of the variance, next {match.next_score:.1%}"
    )
    found: NDArray[np.float64] = match.turn.inverse().apply_affine(target.affine, labels.shape)
    return found


def _contradiction(path: str, match: ContentMatch) -> Refusal:
    message = f"{path} has an affine that its content contradicts: another orientation fits the mask better"
    scores = f"labels explain {match.score:.1%} of the variance there"
    return Refusal("no-orientation", f"{message} ({match.turn}, {scores}). Convert it again from DICOM.")
