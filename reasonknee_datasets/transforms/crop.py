"""`CropToBox`, `ToCanonical`, `Resize` and `Resample`: another grid over the same anatomy, of which nothing is read."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError
from reasonknee_datasets.transforms.base import Example, require
from reasonknee_datasets.transforms.regrid import (
    GridTransform,
    canonical_turn,
    current_grid,
    draw_moves,
    is_whole,
    random_stream,
    regrid,
    set_numbers,
    spread,
)
from reasonknee_datasets.volumes.grid_view import View

Three = tuple[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class CropToBox(GridTransform):
    """Crop volume and mask to the example's box, before anything is decoded.

    ``volume`` becomes a lazy view of the crop and ``box`` moves into its coordinates; ``region`` is the crop in voxels
    of the stored volume. Nothing is read. A box that is larger than ``size`` reaches beyond the crop: it is never cut.
    ``volume.view`` maps a box that was predicted in the crop back to the stored volume exactly (`View.box_to_source`).

    Parameters
    ----------
    margin_mm : float or three floats
        Millimetres to keep around the box at each end of each array axis (i, j, k), rounded up to whole voxels.
    margin_voxels : int or three ints
        Voxels to keep in addition at each end of each array axis.
    size : int or three ints, optional
        Voxels of the crop along each array axis, the same for every example; the box is in its middle. Without it the
        crop is the box with its margins, cut at the volume's faces. Where both are given, ``size`` decides, and the
        margins are what ``jitter_mm`` leaves around the box.
    pad_value : float or None
        Fill value where a crop of fixed size reaches beyond the volume (default 0, in the volume's own units). None:
        the crop is moved inside instead, and a volume smaller than ``size`` is an error.
    jitter_mm : float or three floats
        Largest random move of the crop along each array axis, in millimetres either way. Where there is a ``size``, a
        box that fits with its margins stays inside the crop with them. A box that fits alone stays inside the crop, and
        a crop that is smaller than the box stays inside the box.
    seed : int
        Seed of the jitter, which also depends on the example's ``id`` and ``epoch``.

    Raises
    ------
    TransformError
        If a parameter is out of range, or the example has no ``volume`` or ``box``.
    BoxError
        If the box reaches outside the whole volume, or with ``pad_value=None`` the crop does not fit into it.

    Examples
    --------
    >>> import nibabel as nib
    >>> volume = nib.Nifti1Image(np.zeros((160, 384, 384), np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
    >>> example = CropToBox(margin_mm=7)({"volume": volume, "box": [40, 100, 60, 50, 200, 80]})
    >>> example["volume"].shape, example["box"], example["region"]
    ((30, 136, 56), [10, 18, 18, 20, 118, 38], [30, 82, 42, 60, 218, 98])
    >>> example["volume"].dataobj.view.box_to_source(Box.from_row(example["box"]))
    Box(start=(40, 100, 60), stop=(50, 200, 80))
    >>> CropToBox(size=(64, 96, 96))({"volume": volume, "box": [0, 0, 0, 10, 20, 20]})["region"]
    [-27, -38, -38, 37, 58, 58]
    """

    _: KW_ONLY
    margin_mm: float | Three = 0.0
    margin_voxels: int | Three = 0
    size: int | Three | None = None
    pad_value: float | None = 0.0
    jitter_mm: float | Three = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        set_numbers(self, "margin_mm", "jitter_mm", kind=float, least=0.0, axes=True)
        set_numbers(self, "margin_voxels", kind=int, least=0, axes=True)
        set_numbers(self, "size", kind=int, least=1, axes=True)
        set_numbers(self, "pad_value", kind=float)
        set_numbers(self, "seed", kind=int)

    def make_params(self, example: Example) -> Box:
        """Find the crop of an example, in voxels of its current grid, with its jitter drawn."""
        volume = require(example, "volume", "CropToBox")
        shape, affine = current_grid(volume)
        box = wanted = Box.from_row(require(example, "box", "CropToBox"))
        if is_whole(volume, shape):  # a crop may be smaller than its box, a volume may not
            box.check_inside(shape)
        # Compared first, since an example has no time for work that changes nothing.
        if self.margin_voxels != 0 or self.margin_mm != 0:
            wanted = box.pad(voxels=spread(self.margin_voxels), mm=spread(self.margin_mm), affine=affine)
        region = wanted if self.size is None else _around(wanted, spread(self.size))
        if self.jitter_mm != 0 and any(spread(self.jitter_mm)):
            region = self._jittered(example, region, box, wanted, affine)
        if self.size is None:
            region = region.clip(shape)
        elif self.pad_value is None:
            region = _slid_inside(region, shape)
        return region

    def apply(self, example: Example, params: Box | None = None) -> dict[str, Any]:
        """Narrow an example to a crop, by default its own (`make_params`)."""
        shape, _ = current_grid(require(example, "volume", "CropToBox"))
        region = self.make_params(example) if params is None else params
        return regrid(example, View.whole(shape).crop(region, self.pad_value))

    def _jittered(self, example: Example, region: Box, box: Box, wanted: Box, affine: NDArray[np.float64]) -> Box:
        # Along each axis the box with its margins stays inside the crop, or the box alone where only that fits; along
        # an axis where the box is longer than the crop, the crop stays inside the box.
        with_margins = np.less_equal(wanted.shape, region.shape) & (self.size is not None)
        stops = np.where(with_margins, wanted.stop, box.stop) - region.stop
        starts = np.where(with_margins, wanted.start, box.start) - region.start
        low, high = np.minimum(stops, starts).tolist(), np.maximum(stops, starts).tolist()
        moves = draw_moves(random_stream("CropToBox", self.seed, example), self.jitter_mm, affine, low, high)
        return Box.from_row(np.add(region.to_row(), [*moves, *moves]).tolist())


def _around(box: Box, size: Three) -> Box:
    """Return the box of a size with the same middle, half a voxel nearer to the start where it cannot be the same."""
    start = [(low + high - length) // 2 for low, high, length in zip(box.start, box.stop, size, strict=True)]
    return Box.from_row([*start, *(low + length for low, length in zip(start, size, strict=True))])


def _slid_inside(region: Box, shape: tuple[int, int, int]) -> Box:
    if min(region.start) >= 0 and all(map(int.__le__, region.stop, shape)):
        return region
    if any(length > full for length, full in zip(region.shape, shape, strict=True)):
        raise BoxError(
            f"A crop of {region.shape} voxels does not fit into the volume of {shape} without padding. Choose a "
            "smaller size, or a pad_value."
        )
    start = [
        min(max(low, 0), full - length) for low, length, full in zip(region.start, region.shape, shape, strict=True)
    ]
    return Box.from_row([*start, *(low + length for low, length in zip(start, region.shape, strict=True))])


@dataclass(frozen=True, slots=True)
class ToCanonical(GridTransform):
    """Permute and flip the array axes to RAS+ order: towards right, anterior and superior.

    ``volume``, ``mask``, ``box`` and the affine change together. An oblique volume stays oblique: nothing is resampled,
    and nothing is read.

    Raises
    ------
    TransformError
        If the example has no ``volume``.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> layout = np.array([[0, 0, 0.7, 0], [-0.4, 0, 0, 0], [0, -0.4, 0, 0], [0, 0, 0, 1]])
    >>> volume = nib.Nifti1Image(np.zeros((384, 352, 160), np.int16), layout)
    >>> example = ToCanonical()({"volume": volume, "box": [0, 10, 20, 5, 30, 50]})
    >>> example["volume"].shape, nib.aff2axcodes(example["volume"].affine), example["box"]
    ((160, 384, 352), ('R', 'A', 'S'), [20, 379, 322, 50, 384, 342])
    """

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Lay the turned grid over an example."""
        shape, affine = current_grid(require(example, "volume", "ToCanonical"))
        return regrid(example, View.whole(shape).turn(canonical_turn(affine)))


@dataclass(frozen=True, slots=True)
class Resize(GridTransform):
    """Resample to a grid of the given shape over the same extent in the world; the voxel size changes.

    Values are interpolated linearly where the grid gets finer, and averaged where it gets coarser, when they are read,
    in float32. Box faces move by at most half an output voxel (see `nearest_box` for boxes thinner than a voxel);
    ``box_volume`` keeps them exactly.

    Parameters
    ----------
    size : int or three ints
        Voxels along each array axis (i, j, k).

    Raises
    ------
    TransformError
        If a size is below 1, or the example has no ``volume``.

    Examples
    --------
    >>> import nibabel as nib
    >>> volume = nib.Nifti1Image(np.zeros((160, 384, 384), np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
    >>> example = Resize((80, 96, 96))({"volume": volume, "box": [40, 100, 60, 50, 200, 80]})
    >>> example["volume"].shape, example["box"]
    ((80, 96, 96), [20, 25, 15, 25, 50, 20])
    """

    size: int | Three

    def __post_init__(self) -> None:
        set_numbers(self, "size", kind=int, least=1, axes=True)

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Lay the new grid over an example."""
        shape, _ = current_grid(require(example, "volume", "Resize"))
        return regrid(example, View.whole(shape).rescale(spread(self.size)))


@dataclass(frozen=True, slots=True)
class Resample(GridTransform):
    """Resample to the given voxel spacing.

    The new grid has exactly this spacing and the old one's centre, and its shape is the nearest to the old extent.
    Interpolation, box faces and ``box_volume`` are those of `Resize`.

    Parameters
    ----------
    spacing : float or three floats
        Millimetres between voxel centres along each array axis (i, j, k).

    Raises
    ------
    TransformError
        If a spacing is below 0.001 mm, or the example has no ``volume``.

    Examples
    --------
    >>> import nibabel as nib
    >>> volume = nib.Nifti1Image(np.zeros((160, 384, 384), np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
    >>> example = Resample(1.0)({"volume": volume, "box": [40, 100, 60, 50, 200, 80]})
    >>> example["volume"].shape, nib.affines.voxel_sizes(example["volume"].affine), example["box"]
    ((112, 154, 154), array([1., 1., 1.]), [28, 40, 24, 35, 80, 32])
    """

    spacing: float | Three

    def __post_init__(self) -> None:
        set_numbers(self, "spacing", kind=float, least=1e-3, axes=True)

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Lay the new grid over an example."""
        shape, affine = current_grid(require(example, "volume", "Resample"))
        step = np.array(spread(self.spacing)) / np.linalg.norm(affine[:3, :3], axis=0)
        counts = [max(1, round(length / one)) for length, one in zip(shape, step.tolist(), strict=True)]
        return regrid(example, View.whole(shape).rescale(counts, step.tolist()))
