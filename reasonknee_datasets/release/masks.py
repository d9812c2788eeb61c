"""One pass over each mask: the extent of every label, and the grid that boxes are defined in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import VolumeError, explain
from reasonknee_datasets.orientation import axis_order
from reasonknee_datasets.pool import cores, each_done
from reasonknee_datasets.schema import Side
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.geometry import spatial_shape

# Below this many masks, of some 0.1 s each, processes are not worth what they ask of the caller's script.
_SERIAL = 200
_APART_MM = 5.0


@dataclass(frozen=True, slots=True)
class LabelExtent:
    """Where one label lies in its mask's array: its box, voxel count and centre of mass in voxels."""

    box: Box
    voxels: int
    center: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class MaskScan:
    """What the reader keeps of a mask.

    Parameters
    ----------
    shape : three ints
        Voxels along each axis of the mask's array.
    affine : (4, 4) tuple of tuples of float
        Voxel centre to world.
    oriented : bool
        Whether the header gives an orientation at all (a qform or sform code above 0).
    extents : mapping of int to LabelExtent
        By label id, without the background.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    oriented: bool
    extents: Mapping[int, LabelExtent]

    @property
    def layout(self) -> str:
        """Order of the array's axes, such as RAS or ASR, see `axis_order`."""
        return axis_order(self.affine)


def scan_mask(path: Path) -> MaskScan:
    """Read one mask.

    Raises
    ------
    VolumeError
        If it cannot be read, is damaged, or is no three-dimensional map of whole numbers.
    """
    image = open_volume(path, cache=None)
    shape = spatial_shape(image.shape)
    if len(shape) != 3:
        raise _no_mask(path, "have three axes", f"shape {image.shape}")
    stored = np.asarray(image.dataobj).reshape(shape, order="F")
    if stored.dtype.kind == "f" and np.array_equal(stored, np.rint(stored)):
        stored = stored.astype(np.int64)  # tools that scale write whole numbers as floats
    if stored.dtype.kind not in "iu" or (stored.size and stored.min() < 0):
        raise _no_mask(path, "hold whole numbers from 0", f"{stored.dtype}")
    affine = np.asarray(image.affine, dtype=np.float64)
    oriented = bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
    i, j, k = stored.shape
    return MaskScan((i, j, k), tuple(map(tuple, affine.tolist())), oriented, find_extents(stored))


def find_extents(labels: NDArray[Any]) -> dict[int, LabelExtent]:
    """Find every label's box, size and centre in one pass.

    Works on runs of equal labels along the axis that lies together in memory: a knee's 24 million voxels are some
    hundred thousand runs.

    Parameters
    ----------
    labels : (i, j, k) array of non-negative ints
        Label map; 0 is background.

    Examples
    --------
    >>> mask = np.zeros((8, 8, 8), np.uint8)
    >>> mask[2:4, 3, 5:8] = 44
    >>> find_extents(mask)
    {44: LabelExtent(box=Box(start=(2, 3, 5), stop=(4, 4, 8)), voxels=6, center=(2.5, 3.0, 6.0))}
    """
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    rows = np.ascontiguousarray(labels.transpose(order))
    value, coordinates, length = _runs(rows)
    if not len(value):
        return {}
    found, starts = np.unique(value, return_index=True)
    count = np.add.reduceat(length, starts)
    low, high, center = np.empty((3, len(found)), int), np.empty((3, len(found)), int), np.empty((3, len(found)))
    for place, axis in enumerate(order.tolist()):
        first = coordinates[place]
        last = first + length - 1 if place == 2 else first
        low[axis] = np.minimum.reduceat(first, starts)
        high[axis] = np.maximum.reduceat(last, starts) + 1
        center[axis] = np.add.reduceat((first + last) / 2 * length, starts) / count
    return {
        int(label): LabelExtent(
            Box.from_row([*low[:, n].tolist(), *high[:, n].tolist()]), int(count[n]), tuple(center[:, n].tolist())
        )
        for n, label in enumerate(found)
    }


def _runs(rows: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[np.int64]], NDArray[np.int64]]:
    """Find the runs of equal non-zero values along the last axis: values, starts on each axis, lengths; by value."""
    begins = np.empty(rows.shape, dtype=bool)
    begins[..., :1] = True
    np.not_equal(rows[..., 1:], rows[..., :-1], out=begins[..., 1:])
    flat = np.flatnonzero(begins)
    length = np.diff(flat, append=rows.size)
    value = rows.reshape(-1)[flat]
    keep = np.flatnonzero(value)
    keep = keep[np.argsort(value[keep], kind="stable")]
    return value[keep], list(np.unravel_index(flat[keep], rows.shape)), length[keep]


def scan_masks(
    paths: Sequence[Path], workers: int | None = None, *, progress: bool = False
) -> dict[Path, MaskScan | VolumeError]:
    """Read many masks; one that cannot be read gives its error instead.

    Parameters
    ----------
    paths : sequence of Path
        The masks.
    workers : int, optional
        Processes; by default one a core, and none beside this one below some hundred masks. A script that may start
        processes must do so under ``if __name__ == "__main__":``.
    progress : bool
        Whether there is a progress bar.

    Raises
    ------
    WorkerError
        If a process dies, or cannot be started.
    """
    if workers is None:
        workers = 1 if len(paths) < _SERIAL else cores()
    return dict(each_done(_scan_or_error, paths, workers=workers, label="masks", progress=progress))


def _scan_or_error(path: Path) -> MaskScan | VolumeError:
    try:
        return scan_mask(path)
    except VolumeError as error:
        return VolumeError(str(error))  # a plain one, which pickles whatever the original carries


def find_side(scan: MaskScan, sides: Mapping[int, str]) -> Side | None:
    """Tell from a mask which knee it shows.

    Medial is towards the other leg. World x grows to the patient's right, so in a right knee the lateral labels have
    the higher x.

    Parameters
    ----------
    scan : MaskScan
        The mask.
    sides : mapping of int to str
        Which labels are ``medial`` and which ``lateral``.

    Returns
    -------
    {"right", "left"} or None
        None where the mask does not tell: no labels of one end, no orientation in the header, or both ends within
        5 mm of each other.
    """
    centers = {}
    for end in ("medial", "lateral"):
        extents = [scan.extents[label] for label, side in sides.items() if side == end and label in scan.extents]
        if not extents or not scan.oriented:
            return None
        weights = [extent.voxels for extent in extents]
        centers[end] = np.average([extent.center for extent in extents], axis=0, weights=weights)
    apart = np.asarray(scan.affine)[0, :3] @ (centers["lateral"] - centers["medial"])
    if abs(apart) < _APART_MM:
        return None
    return "right" if apart > 0 else "left"


def _no_mask(path: Path, rule: str, got: str) -> VolumeError:
    return VolumeError(explain("mask", rule, got, "Download it again", where=f"in {path}"))
