"""Position of a knee in a voxel grid, and the blocks in which the grid is drawn."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.phantom.solids import Points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.shape import Shape
    from reasonknee_datasets.phantom.spec import KneeSpec

GRID_CENTRE = (0.0, 7.0, 15.0)
"""Knee coordinates in the middle of a grid: about the centre of OAI's field of view."""

BLOCK = 28
"""Voxels along a block's side: its arrays stay in a core's cache, and few solids are near it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The map from voxel indices to knee coordinates.

    Attributes
    ----------
    matrix : (3, 3) float array
        Voxel step to step in knee coordinates.
    origin : (3,) float array
        Knee coordinates of voxel (0, 0, 0).
    scale : float
        Millimetres of the world to one of the knee's.
    width : float
        Side of a cube as large as a voxel, in knee coordinates: edges are blurred over this much.
    """

    matrix: NDArray[np.float64]
    origin: NDArray[np.float64]
    scale: float
    width: float

    def points(self, start: tuple[int, ...], stop: tuple[int, ...]) -> Points:
        """Knee coordinates of the voxel centres of a block, in C order."""
        ranges = [np.arange(a, b, dtype=np.float64) for a, b in zip(start, stop, strict=True)]
        axes = []
        for row, origin in zip(self.matrix, self.origin, strict=True):
            i, j, k = (r * step for r, step in zip(ranges, row, strict=True))
            field = (origin + i)[:, None, None] + (j[:, None] + k[None, :])[None]
            axes.append(field.astype(np.float32).ravel())
        return Points(*axes)


def knee_frame(spec: KneeSpec, shape: Shape) -> Frame:
    """Put the knee in the middle of the grid, off by up to some millimetres and 4 degrees, as in any positioning."""
    random = np.random.Generator(np.random.PCG64([3, spec.patient_seed, spec.knee_seed, spec.visit_seed]))
    offset = np.clip(random.normal(0.0, 1.5, 3), -3.0, 3.0)
    turn = _rotation(np.clip(random.normal(0.0, 1.5, 3), -3.0, 3.0) * np.pi / 180.0)
    affine = np.asarray(spec.geometry.affine, dtype=np.float64)
    middle = affine[:3, :3] @ ((np.asarray(spec.geometry.shape) - 1.0) / 2.0) + affine[:3, 3]
    # World x grows to the patient's right, so medial is toward -x in a right knee; in a left one everything is
    # mirrored, positioning errors too.
    mirror = np.diag([-1.0 if spec.side == "right" else 1.0, 1.0, 1.0])
    to_knee = turn.T @ mirror / shape.scale
    matrix = to_knee @ affine[:3, :3]
    origin = to_knee @ (affine[:3, 3] - middle) + np.asarray(GRID_CENTRE) + offset
    return Frame(matrix, origin, shape.scale, float(abs(np.linalg.det(matrix)) ** (1.0 / 3.0)))


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn about u, then v, then w, in radians."""
    (cu, cv, cw), (su, sv, sw) = np.cos(angles), np.sin(angles)
    about_u = np.array([[1, 0, 0], [0, cu, -su], [0, su, cu]])
    about_v = np.array([[cv, 0, sv], [0, 1, 0], [-sv, 0, cv]])
    about_w = np.array([[cw, -sw, 0], [sw, cw, 0], [0, 0, 1]])
    return np.asarray(about_w @ about_v @ about_u)


def blocks(shape: tuple[int, ...], side: int = BLOCK) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut a grid into blocks: (start, stop) of each, in C order.

    Examples
    --------
    >>> list(blocks((3, 2, 2), side=2))
    [((0, 0, 0), (2, 2, 2)), ((2, 0, 0), (3, 2, 2))]
    """
    starts = [range(0, size, side) for size in shape]
    for start in itertools.product(*starts):
        yield start, tuple(min(a + side, size) for a, size in zip(start, shape, strict=True))
