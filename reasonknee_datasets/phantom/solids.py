"""Signed distances in mm (negative inside) to the shapes of the anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = "NDArray[np.floating[Any]]"  # one number a point, float32 wherever it comes from float32 points
FAR = np.float32(1e3)  # distance of a solid that was not evaluated, because it is far away


@dataclass(frozen=True, slots=True)
class Points:
    """Points in knee coordinates, mm: u medial, v anterior, w superior; the origin is on the joint line."""

    u: Field
    v: Field
    w: Field

    def take(self, index: NDArray[np.intp]) -> Points:
        """Pick some of the points."""
        return Points(self.u[index], self.v[index], self.w[index])

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest value along u, v and w."""
        return tuple((float(axis.min()), float(axis.max())) for axis in (self.u, self.v, self.w))


def points_of(rows: NDArray[np.floating]) -> Points:
    """Make points from an (n, 3) array.

    Examples
    --------
    >>> points_of(np.zeros((2, 3))).u
    array([0., 0.], dtype=float32)
    """
    columns = np.ascontiguousarray(rows.T, dtype=np.float32)
    return Points(columns[0], columns[1], columns[2])


def smooth_step(x: Field) -> Field:
    """Rise from 0 to 1 between x = 0 and x = 1.

    Examples
    --------
    >>> smooth_step(np.float32([-1, 0.5, 2]))
    array([0. , 0.5, 1. ], dtype=float32)
    """
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def smooth_max(a: Field, b: Field | float, blend: float) -> Field:
    """Intersect two solids, rounding the edge over about `blend` mm.

    Examples
    --------
    >>> smooth_max(np.float32([0.0, -9.0]), np.float32([0.0, 0.0]), 4.0)
    array([1., 0.], dtype=float32)
    """
    overlap = np.maximum(blend - np.abs(a - b), 0.0)
    return np.asarray(np.maximum(a, b) + overlap * overlap * (0.25 / blend))


def smooth_min(a: Field, b: Field, blend: float) -> Field:
    """Unite two solids, filling the groove over about `blend` mm."""
    overlap = np.maximum(blend - np.abs(a - b), 0.0)
    return np.minimum(a, b) - overlap * overlap * (0.25 / blend)


def ellipse(x: Field, y: Field, half_x: Field | float, half_y: Field | float) -> Field:
    """Distance to an ellipse, exact for a circle, good to a few per cent near the edge otherwise.

    Examples
    --------
    >>> ellipse(np.float32([3.0]), np.float32([4.0]), 2.0, 2.0)
    array([3.], dtype=float32)
    """
    x = x / half_x
    y = y / half_y
    # In the very middle both are 0; their ratio stays finite.
    level = np.maximum(np.sqrt(x * x + y * y), np.float32(1e-4))
    least = np.float32(1e-4) / np.asarray(np.maximum(half_x, half_y), np.float32)
    slope = np.maximum(np.sqrt((x / half_x) ** 2 + (y / half_y) ** 2), least)
    return np.asarray((level - 1.0) * level / slope)


def ellipsoid(p: Points, centre: tuple[float, float, float], half: tuple[float, float, float]) -> Field:
    """Distance to an ellipsoid with axes along u, v, w."""
    x, y, z = (p.u - centre[0]) / half[0], (p.v - centre[1]) / half[1], (p.w - centre[2]) / half[2]
    level = np.maximum(np.sqrt(x * x + y * y + z * z), np.float32(1e-4))
    slope = np.sqrt((x / half[0]) ** 2 + (y / half[1]) ** 2 + (z / half[2]) ** 2)
    slope = np.maximum(slope, np.float32(1e-4 / max(half)))
    return np.asarray((level - 1.0) * level / slope)


def ball(p: Points, centre: tuple[float, float, float], radius: float) -> Field:
    """Distance to a ball."""
    return np.asarray(np.sqrt((p.u - centre[0]) ** 2 + (p.v - centre[1]) ** 2 + (p.w - centre[2]) ** 2) - radius)


def rod(
    p: Points, start: tuple[float, float, float], end: tuple[float, float, float], radius: float
) -> tuple[Field, Field]:
    """Distance to a rod with round ends, and how far along it (0 to 1) each point is.

    Examples
    --------
    >>> rod(points_of(np.array([[5.0, 3.0, 0.0]])), (0, 0, 0), (10, 0, 0), 2.0)
    (array([1.], dtype=float32), array([0.5], dtype=float32))
    """
    axis = [e - s for s, e in zip(start, end, strict=True)]
    length2 = sum(a * a for a in axis)
    u, v, w = p.u - start[0], p.v - start[1], p.w - start[2]
    along = np.clip((u * axis[0] + v * axis[1] + w * axis[2]) / length2, 0.0, 1.0)
    off = np.sqrt((u - along * axis[0]) ** 2 + (v - along * axis[1]) ** 2 + (w - along * axis[2]) ** 2)
    return off - radius, along


def filled_share(distance: Field, width: float) -> Field:
    """Share of a voxel, `width` mm across, that a solid fills.

    Examples
    --------
    >>> filled_share(np.float32([-1.0, 0.0, 0.25]), 1.0)
    array([1.  , 0.5 , 0.25], dtype=float32)
    """
    return np.asarray(np.clip(0.5 - distance * (1.0 / width), 0.0, 1.0))
