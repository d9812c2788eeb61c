"""`ToCanonical`: the same voxels in the order right, anterior, superior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.transforms.base import Example, require
from reasonknee_datasets.transforms.regrid import GridTransform, canonical_turn, current_grid, regrid
from reasonknee_datasets.volumes.grid_view import View


@dataclass(frozen=True, slots=True)
class ToCanonical(GridTransform):
    """Permute and flip axes so that the array runs towards right, anterior and superior, box and affine with it.

    An oblique volume stays oblique: nothing is resampled, and nothing is read.

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
