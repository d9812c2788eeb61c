"""Typical boxes of the regions, scaled to a patient without drawing every knee.

One knee is drawn, at size tiny and square to its grid, for each grade of effusion; its boxes, as lengths around the
knee's middle, are scaled to a patient and placed on a scan's grid. Nothing but the effusion's own box depends on a
grade.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.boxes import world_bounds
from reasonknee_datasets.phantom.grade_sampling import RECORD_SLOTS, as_mapping, slot_column
from reasonknee_datasets.phantom.knee import draw_knee
from reasonknee_datasets.phantom.planned_scan import PlannedVolume, Stream, stream
from reasonknee_datasets.phantom.record_writer import RECORD_QUESTIONS
from reasonknee_datasets.phantom.scan_grids import SIZES
from reasonknee_datasets.phantom.spec import KneeSpec
from reasonknee_datasets.volumes.geometry import Geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BUILD = 0.05  # standard deviation of a patient's size
_SHIFT_MM = 2.0  # of a knee's position in its scan
EFFUSION = slot_column(43, "grade")
"""Place, in a row of grades, of the one grade that a box depends on."""


@cache
def _regions(effusion: int) -> NDArray[np.float64]:
    """Bounds of all regions of a right knee in mm around the grid's middle, (62, 2, 3)."""
    grid = SIZES["tiny"]
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = -np.array(grid.spacing) * (np.array(grid.counts) - 1) / 2
    row = np.zeros(len(RECORD_SLOTS), np.int8)
    row[EFFUSION] = effusion
    spec = KneeSpec(0, 0, 0, "right", as_mapping(row), Geometry(grid.counts, affine), noise=False)
    boxes = draw_knee(spec).boxes
    return np.stack([world_bounds(boxes[question], affine) for question in RECORD_QUESTIONS])


def usual_boxes(seed: int, volume: PlannedVolume, effusion: int) -> NDArray[np.int16]:
    """Place the usual regions on a scan's grid.

    Parameters
    ----------
    seed : int
        The plan's.
    volume : PlannedVolume
        The scan.
    effusion : int
        Its true grade of effusion-synovitis, 0 to 3.

    Returns
    -------
    (62, 6) int16 array
        i0 j0 k0 i1 j1 k1, half-open, inside the grid, none empty.
    """
    bounds = _regions(effusion).copy()
    patient, visit, side = volume.key
    bounds *= 1 + _BUILD * stream(seed, Stream.BUILD, patient).standard_normal(3)
    bounds += _SHIFT_MM * stream(seed, Stream.BUILD, patient, 1 + side, 1 + visit).standard_normal(3)
    if volume.side == "left":
        bounds[..., 0] *= -1
        bounds[..., 0].sort(axis=1)
    return _to_grid(bounds, volume.geometry)


def _to_grid(bounds: NDArray[np.float64], geometry: Geometry) -> NDArray[np.int16]:
    """Find the voxel boxes that contain the eight corners of bounds around the grid's middle."""
    choice = np.indices((2, 2, 2)).reshape(3, 8)
    corners = bounds[:, choice.T, np.arange(3)]  # (62, 8, 3)
    shape = np.array(geometry.shape)
    voxels = corners @ np.linalg.inv(geometry.matrix[:3, :3]).T + shape / 2  # edges count from the first voxel's face
    start = np.clip(np.floor(voxels.min(axis=1)), 0, shape - 1)
    stop = np.clip(np.ceil(voxels.max(axis=1)), start + 1, shape)
    return np.concatenate([start, stop], axis=1).astype(np.int16)
