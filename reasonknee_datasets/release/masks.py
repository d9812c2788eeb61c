"""One pass over each mask: the extent of every label, and the grid that boxes are defined in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.orientation import axis_order
from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.schema import Side
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.header import spatial_shape

# Below this many masks, of some 0.1 s each, processes are not worth what they ask of the caller's script.
_SERIAL = 200
_APART_MM = 5.0
# Four times OAI's largest; every voxel may be a run, which takes some 60 bytes while its block is looked at.
_MOST_VOXELS, _BLOCK_VOXELS = 100_000_000, 2_000_000
# A knee has some hundred; an image that is not a label map has thousands.
_MOST_LABELS = 5_000


@dataclass(frozen=True, slots=True)
class LabelExtent:
    """Where one label is in its mask's array: its box, voxel count and centre of mass in voxels."""

    box: Box
    voxels: int
    center: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class MaskScan:
    """Facts of a mask for the reader."""

    shape: tuple[int, int, int]  # voxels along each axis of the mask's array
    affine: tuple[tuple[float, ...], ...]  # voxel centre to world
    oriented: bool  # whether the header gives an orientation at all (a qform or sform code above 0)
    extents: Mapping[int, LabelExtent]  # by label id, without the background

    @property
    def layout(self) -> str:
        """Order of the array's axes, such as RAS or ASR, see `axis_order`."""
        return axis_order(self.affine)


def scan_mask(path: Path) -> MaskScan:
    """Read one mask.

    Raises VolumeError if it cannot be read, is damaged, or is not a three-dimensional map of whole numbers.
    """
    image = open_volume(path, cache=None)
    shape = spatial_shape(image.shape)
    if len(shape) != 3:
        raise _no_mask(path, "have three axes", f"shape {image.shape}")
    if math.prod(shape) > _MOST_VOXELS:
        raise _no_mask(path, f"have at most {_MOST_VOXELS:,} voxels", f"shape {image.shape}")
    stored = np.asarray(image.dataobj).reshape(shape, order="F")
    if stored.dtype.kind not in "iuf":
        raise _no_mask(path, "contain whole numbers from 0", f"{stored.dtype}")
    try:
        extents = find_extents(stored)
    except ValueError as error:
        raise _no_mask(path, "be a label map", str(error)) from error
    affine = np.asarray(image.affine, dtype=np.float64)
    oriented = bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
    i, j, k = stored.shape
    return MaskScan((i, j, k), tuple(map(tuple, affine.tolist())), oriented, extents)


def find_extents(labels: NDArray[Any]) -> dict[int, LabelExtent]:
    """Find every label's box, size and centre in one pass.

    Works on runs of equal labels along the axis that is contiguous in memory: a knee's 24 million voxels are some
    hundred thousand runs. Additional memory is bounded, since the array is read in blocks.

    Parameters
    ----------
    labels : (i, j, k) array of non-negative whole numbers
        Label map; 0 is background. Tools that scale write whole numbers as floats.

    Returns
    -------
    dict of int to LabelExtent
        By label, in ascending order.

    Raises
    ------
    ValueError
        If a voxel is not a whole number from 0, or there are more than 5,000 labels.

    Examples
    --------
    >>> mask = np.zeros((8, 8, 8), np.uint8)
    >>> mask[2:4, 3, 5:8] = 44
    >>> find_extents(mask)
    {44: LabelExtent(box=Box(start=(2, 3, 5), stop=(4, 4, 8)), voxels=6, center=(2.5, 3.0, 6.0))}
    """
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    rows = labels.transpose(order)
    sums: dict[int, _Sums] = {}
    for block in _blocks(rows.shape):
        _add_block(sums, rows[block], [part.start for part in block])
        if len(sums) > _MOST_LABELS:
            raise ValueError(f"more than {_MOST_LABELS:,} labels")
    back = np.argsort(order)
    return {
        label: LabelExtent(
            Box.from_row([*(found.low[back].tolist()), *(found.high[back].tolist())]),
            found.voxels,
            tuple((found.total[back] / found.voxels).tolist()),
        )
        for label, found in sorted(sums.items())
    }


@dataclass(slots=True)
class _Sums:
    """Partial extent of a label after some blocks, by axis in memory order."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    total: NDArray[np.float64]  # of the coordinates of its voxels; exact, since they are halves of whole numbers
    voxels: int


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks of at most two million voxels, along its slowest axes."""
    edges, room = [1, 1, 1], _BLOCK_VOXELS
    for axis in (2, 1, 0):
        edges[axis] = max(1, min(shape[axis], room))
        room //= edges[axis]
    starts = (range(0, size, edge) for size, edge in zip(shape, edges, strict=True))
    for start in product(*starts):
        yield tuple(slice(at, min(at + edge, size)) for at, edge, size in zip(start, edges, shape, strict=True))


def _add_block(sums: dict[int, _Sums], block: NDArray[Any], origin: list[int]) -> None:
    """Add the labels of one block."""
    value, coordinates, length = _runs(_to_whole(np.ascontiguousarray(block)))
    if not len(value):
        return
    found, starts = np.unique(value, return_index=True)
    if len(found) > _MOST_LABELS:
        raise ValueError(f"more than {_MOST_LABELS:,} labels")
    voxels = np.add.reduceat(length, starts)
    low, high = np.empty((2, 3, len(found)), np.int64)
    total = np.empty((3, len(found)))
    for axis, start in enumerate(origin):
        first = coordinates[axis] + start
        last = first + length - 1 if axis == 2 else first
        low[axis] = np.minimum.reduceat(first, starts)
        high[axis] = np.maximum.reduceat(last, starts) + 1
        total[axis] = np.add.reduceat((first + last) / 2 * length, starts)
    for n, label in enumerate(found.tolist()):
        held = sums.get(label)
        if held is None:
            sums[label] = _Sums(low[:, n].copy(), high[:, n].copy(), total[:, n].copy(), int(voxels[n]))
        else:
            np.minimum(held.low, low[:, n], out=held.low)
            np.maximum(held.high, high[:, n], out=held.high)
            held.total += total[:, n]
            held.voxels += int(voxels[n])


def _to_whole(block: NDArray[Any]) -> NDArray[Any]:
    """Return a block as whole numbers."""
    if block.dtype.kind == "f":
        if not np.array_equal(block, np.rint(block)) or (block.size and np.abs(block).max() >= 2**53):
            raise ValueError(f"voxels of {block.dtype} that are not whole numbers")
        block = block.astype(np.int64)
    if block.size and block.min() < 0:
        raise ValueError(f"the label {block.min()}, below 0")
    return block


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
    paths: Sequence[Path], workers: int | None = None, *, progress: bool = False, executor: Executor | None = None
) -> dict[Path, MaskScan | VolumeError]:
    """Read many masks; one that cannot be read gives its error instead.

    Parameters
    ----------
    workers : int, optional
        Processes; by default one a core, and only this one below some hundred masks. A script that may start
        processes must do so under ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Where masks are read instead.

    Raises
    ------
    WorkerError
        If a process dies, or cannot be started.
    """
    if workers is None:
        workers = 1 if len(paths) < _SERIAL else cores()
    scans = each_done(_scan_or_error, paths, workers=workers, label="masks", progress=progress, executor=executor)
    return dict(scans)


def _scan_or_error(path: Path) -> MaskScan | VolumeError:
    try:
        return scan_mask(path)
    except VolumeError as error:
        return VolumeError(str(error))  # a plain one, which pickles whatever the original carries


def find_side(scan: MaskScan, sides: Mapping[int, str]) -> Side | None:
    """Infer from a mask whether it shows a left or a right knee.

    Medial is towards the other leg. World x grows to the patient's right, so in a right knee the lateral labels have
    the higher x.

    `sides`: which labels are ``medial`` and which ``lateral``. Returns {"right", "left"} or None: None where the mask
    does not tell: no labels of one end, no orientation in the header, or both ends within 5 mm of each other.
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
    return VolumeError(f"{path} is not a mask: it must {rule}, not {got}. Download or write it again.")
