"""`Resize` and `Resample`: finer or coarser grids over the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reasonknee_datasets.transforms.base import Example, require
from reasonknee_datasets.transforms.regrid import GridTransform, current_grid, regrid, spread, three
from reasonknee_datasets.volumes.grid_view import View

Three = tuple[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Resize(GridTransform):
    """Resample to a grid of the given shape over the same extent in the world; the voxel size changes.

    Values are interpolated linearly where the grid gets finer, and averaged where it gets coarser, when they are read,
    in float32. Box faces move by at most half an output voxel (see `nearest_box` for boxes thinner than a voxel);
    ``box_volume`` keeps them exactly.

    Parameters
    ----------
    size : int or three ints
        Voxels along each array axis.

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
        object.__setattr__(self, "size", three("size", self.size, int, 1))

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Lay the new grid over an example."""
        shape, _ = current_grid(require(example, "volume", "Resize"))
        return regrid(example, View.whole(shape).rescale(spread(self.size)))


@dataclass(frozen=True, slots=True)
class Resample(GridTransform):
    """Lay a grid with this spacing over the same place.

    The new grid has exactly this spacing, the old one's centre, and as many voxels as come nearest to its extent; else
    as `Resize`.

    Parameters
    ----------
    spacing : float or three floats
        Millimetres between voxels along each array axis.

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
        object.__setattr__(self, "spacing", three("spacing", self.spacing, float, 1e-3))

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Lay the new grid over an example."""
        shape, affine = current_grid(require(example, "volume", "Resample"))
        step = np.array(spread(self.spacing)) / np.linalg.norm(affine[:3, :3], axis=0)
        counts = [max(1, round(length / one)) for length, one in zip(shape, step.tolist(), strict=True)]
        return regrid(example, View.whole(shape).rescale(counts, step.tolist()))
