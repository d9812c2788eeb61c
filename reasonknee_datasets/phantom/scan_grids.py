"""The voxel grids that scans come on: size, array layout, obliquity and the odd ones.

Figures are those of the OAI's sagittal DESS series (RELEASE_FORMAT): 160 slices of 384 x 384 at 0.7 x 0.365 x 0.365 mm,
most of them oblique with a median of about 5 degrees and at most 16, a few with 8 to 176 slices or 384 x 352 pixels.
Size ``tiny`` covers the same field of view with fewer, larger voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.schema import Side
from reasonknee_datasets.volumes.reference import Geometry

Size = Literal["tiny", "oai"]

_FIELD_MM = (112.0, 140.0, 140.0)  # right-left, posterior-anterior, inferior-superior
_MEDIAN_TILT, _TILT_SPREAD, _MAX_TILT = 5.3, 0.5, 16.0  # degrees; obliquity comes out a little less
_UPRIGHT = 0.05  # share of scans that are not oblique at all
_SIDE_MM = 90.0  # from the table's middle to either knee

# World axis (0 right, 1 anterior, 2 superior) and direction of each array axis. The real layouts are (160, 384, 384) in
# RAS order and (384, 384, 160); the last two differ in handedness.
_LAYOUTS = (((0, 1), (1, 1), (2, 1)), ((1, -1), (2, -1), (0, 1)), ((1, -1), (2, -1), (0, -1)))
_LAYOUT_SHARES = (0.6, 0.25, 0.15)


@dataclass(frozen=True, slots=True)
class ScanGrid:
    """Voxels along right-left, posterior-anterior and inferior-superior, and their spacing in mm along the same."""

    counts: tuple[int, int, int]
    spacing: tuple[float, float, float]


SIZES: Mapping[Size, ScanGrid] = {
    # The smallest at which a measurer still gets 95 % of the ordinal grades right.
    "tiny": ScanGrid((64, 128, 128), (_FIELD_MM[0] / 64, _FIELD_MM[1] / 128, _FIELD_MM[2] / 128)),
    "oai": ScanGrid((160, 384, 384), (0.7, 0.36458, 0.36458)),
}


def odd_grids(size: Size) -> tuple[ScanGrid, ...]:
    """List the grids of the few scans that differ from the protocol.

    Fewer slices than usual are thicker ones, so that they still cover the knee; more slices cover more. 352 of 384
    pixels cut off some of the field below and above.

    Examples
    --------
    >>> [grid.counts for grid in odd_grids("oai")]
    [(8, 384, 384), (176, 384, 384), (160, 384, 352), (80, 384, 384), (144, 384, 384)]
    """
    usual = SIZES[size]
    slices, columns, rows = usual.counts
    thick, wide, high = usual.spacing
    grids = [
        ScanGrid((count, columns, rows), (thick * max(1.0, slices / count), wide, high))
        for count in (8, slices * 11 // 10, slices // 2, slices * 9 // 10)
    ]
    grids.insert(2, ScanGrid((slices, columns, rows * 11 // 12), usual.spacing))
    return tuple(grids)


def _tilt(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a rotation by a few degrees about a random axis."""
    degrees = 0.0 if rng.random() < _UPRIGHT else _MEDIAN_TILT * float(np.exp(_TILT_SPREAD * rng.standard_normal()))
    axis = rng.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = np.deg2rad(min(degrees, _MAX_TILT))
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return rotation


def sample_geometry(rng: np.random.Generator, grid: ScanGrid, side: Side) -> Geometry:
    """Draw layout, obliquity and position of one scan.

    The affine is exact in 32 bits, as a NIfTI header keeps it, so that what is drawn and what is read back agree.

    `rng`: the scan's own stream. `grid`: from `SIZES` or `odd_grids`. `side`: the patient's left is where world x is
    negative.

    Examples
    --------
    >>> geometry = sample_geometry(np.random.default_rng(0), SIZES["oai"], "left")
    >>> sorted(geometry.shape), geometry.affine[3]
    ([160, 384, 384], (0.0, 0.0, 0.0, 1.0))
    """
    layout = _LAYOUTS[int(rng.choice(len(_LAYOUTS), p=_LAYOUT_SHARES))]
    rotation = _tilt(rng)
    middle = np.array([_SIDE_MM if side == "right" else -_SIDE_MM, 0.0, 0.0]) + rng.normal(0.0, 8.0, 3)
    shape = [grid.counts[axis] for axis, _ in layout]
    columns = [direction * grid.spacing[axis] * rotation[:, axis] for axis, direction in layout]
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine.astype(np.float32))
