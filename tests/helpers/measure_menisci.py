"""Tears, wear, cysts and roots of the menisci, found in coordinates that follow the ring.

A place in a meniscus is given by its distance from the outer wall, the share of the way from there to the inner edge,
and the distance along the ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

FLUID_EDGE = (SIGNAL["meniscus"] + SIGNAL["fluid"]) / 2
CYST_EDGE = (SIGNAL["capsule"] + SIGNAL["fluid"]) / 2
DARK_EDGE = (SIGNAL["meniscus"] + SIGNAL["marrow"]) / 2  # osteophytes stand there too
BESIDE_MM, COMPARED_MM = 4, 6  # whole, since heights are compared over a plane of whole mm
ABOVE_MM, TALLER_MM = 0.7, 4.0
BLOB_EDGE, BLOB_MM2 = 80.0, 3.0
CLEFT_MM, CLEFT_REACH_MM, CLEFT_EDGE = 2.9, 1.4, 286.0
THROUGH = 120.0  # the lowest signal of a column that is fluid all the way, with its ends mixed
THROUGH_SHARE = 0.75  # of the columns with fluid: fewer if it is flat
RIM_MM, ROOT_MM = 2.3, 6.5
LEAST_MM2 = 2.0
BINS = 72


@dataclass(frozen=True, slots=True)
class Ring:
    """Every column of voxels of a meniscus from its lower to its upper surface, and every column's place."""

    lowest: Floats  # lowest signal in the column
    middle: Floats  # highest signal half-way up
    inner: Floats  # lowest signal half-way up
    count: NDArray[np.intp]  # voxels in the column
    third: NDArray[np.intp]  # 0 front, 1 middle, 2 rear
    from_wall: Floats  # mm from the outer wall
    inward: Floats  # 0 at the outer wall, 1 at the inner edge
    along: Floats  # mm along the ring
    to_notch: Floats  # mm from the end of the rear horn next to the notch, infinite elsewhere
    area: float  # mm² of a column
    place: NDArray[np.intp]  # of the column in the plane


def ring_of(view: View, name: str) -> Ring:
    """Lay the coordinates through one meniscus."""
    near = view.around([name], 1.0)
    label = near.label(name)
    inside = np.where(label, near.clean, np.nan)
    columns = np.argwhere(label.any(axis=2))
    stacks = inside[tuple(columns.T)]
    steps = np.arange(stacks.shape[1])
    bottom = np.nanmin(np.where(np.isnan(stacks), np.nan, steps), axis=1)
    top = np.nanmax(np.where(np.isnan(stacks), np.nan, steps), axis=1)
    height = (steps[None, :] - bottom[:, None] + 0.5) / (top - bottom + 1)[:, None]
    half_way = np.isfinite(stacks) & (np.abs(height - 0.5) <= 0.26)
    center = np.column_stack([columns, (top + bottom) / 2]) @ near.to_mm.T + near.origin
    points = near.mm(label)
    low, high = points.min(axis=0), points.max(axis=0)
    toward = -1.0 if name.startswith("medial") else 1.0  # where the notch is
    x, y = center[:, 0] * toward, center[:, 1]
    rear = y < low[1] + (high[1] - low[1]) / 3
    middle = (low + high) / 2
    across, forward = middle[0] * toward - x, y - middle[1]
    angle = np.arctan2(forward, across)  # 0 at the middle of the outer wall
    radius = np.hypot(forward, across)
    outer, inner = _envelope(angle, radius, 1.0), _envelope(angle, radius, -1.0)
    return Ring(
        np.nanmin(stacks, axis=1),
        np.where(half_way, stacks, 0.0).max(axis=1),
        np.where(half_way, stacks, np.where(half_way.any(axis=1), np.inf, 0.0)[:, None]).min(axis=1),
        np.isfinite(stacks).sum(axis=1),
        np.clip(((high[1] - y) / (high[1] - low[1]) * 3).astype(int), 0, 2),
        outer - radius,
        (outer - radius) / np.maximum(outer - inner, 1.0),
        angle * radius.mean(),
        np.where(rear, x[rear].max() - x, np.inf),
        near.voxel_mm3 / float(near.spacing[2]),
        columns,
    )


def _envelope(angle: Floats, radius: Floats, sign: float) -> Floats:
    """Outermost (or, with sign -1, innermost) radius at every column's angle."""
    places = ((angle + np.pi) / (2 * np.pi) * BINS).astype(int) % BINS
    most = np.full(BINS, -np.inf)
    np.maximum.at(most, places, sign * radius)
    most[np.isinf(most)] = np.median(most[np.isfinite(most)])
    smooth = ndimage.uniform_filter1d(most, 3, mode="wrap")
    found: Floats = sign * np.interp(
        angle, (np.arange(BINS) + 0.5) * 2 * np.pi / BINS - np.pi, smooth, period=2 * np.pi
    )
    return found


def morphology(ring: Ring, third: int) -> int:
    """Find which of the nine patterns a third of a meniscus shows."""
    body = (ring.third == third) & (ring.from_wall > RIM_MM) & (ring.to_notch > ROOT_MM) & (ring.count >= 2)
    fluid = _widest(ring, body & (ring.middle > FLUID_EDGE))
    if fluid.sum() * ring.area < LEAST_MM2:
        return int(_has_blob(ring, body))
    through = fluid & (ring.lowest > THROUGH)
    if through.sum() < THROUGH_SHARE * fluid.sum():
        return 3
    lines, depths = ring.along[through], ring.from_wall[through]
    start, stop = np.quantile(depths, [0.05, 0.95])
    left, right = np.quantile(lines, [0.05, 0.95])
    if right - left < 3.6:
        return 2
    if stop - start < 2.6:
        return 4
    frame = body & (ring.along > left) & (ring.along < right) & (ring.from_wall > start) & (ring.from_wall < stop)
    if (through & frame).sum() < 0.65 * frame.sum():
        return 5
    begins = float(np.quantile(ring.inward[through], 0.02))
    return 8 if begins < 0.29 else 7 if begins < 0.38 else 6


def _widest(ring: Ring, fluid: Bools) -> Bools:
    """Keep the widest piece of fluid that is not just the edge of a cleft in the rim."""
    plane = np.zeros(ring.place.max(axis=0) + 1, np.intp)
    plane[tuple(ring.place[fluid].T)] = 1
    pieces, count = ndimage.label(plane, np.ones((3, 3)))
    numbers = pieces[tuple(ring.place.T)] * fluid
    pieces = [numbers == piece for piece in range(1, count + 1)]
    sizes = [piece.sum() * (ring.from_wall[piece].max() > CLEFT_MM) for piece in pieces]
    return np.asarray(numbers == 1 + int(np.argmax(sizes))) if any(sizes) else np.zeros_like(fluid)


def _has_blob(ring: Ring, body: Bools) -> bool:
    """Check whether something brighter than a meniscus is within it; its thin inner edge mixes with fluid anyway."""
    return bool((body & (ring.inward < 0.75) & (ring.inner > BLOB_EDGE)).sum() * ring.area > BLOB_MM2)


def has_fluid(ring: Ring, third: int) -> bool:
    """Check whether a third holds fluid, where voxels are too large to tell its pattern."""
    body = (ring.third == third) & (ring.from_wall > 2.2) & (ring.from_wall < 7.0) & (ring.to_notch > ROOT_MM)
    return bool((body & (ring.count >= 2) & (ring.middle > FLUID_EDGE)).any())


def cleft_mm2(ring: Ring, third: int) -> float:
    """Area of fluid in the outermost part of a third's rim."""
    rim = (ring.third == third) & (ring.from_wall < CLEFT_REACH_MM) & (ring.to_notch > ROOT_MM) & (ring.count >= 2)
    return float((rim & (ring.middle > CLEFT_EDGE)).sum()) * ring.area


def root_share(ring: Ring) -> float:
    """Share of fluid in the root of the rear horn."""
    root = (ring.to_notch < 3.5) & (ring.to_notch > 0.5)
    return float((ring.middle[root] > FLUID_EDGE).mean())


def cyst_mm3(view: View, name: str) -> float:
    """Volume of fluid outside every label in the rear outer corner of a meniscus' box."""
    near = view.around([name], 0.0)
    x, y, _ = np.indices(near.mask.shape) / np.array(near.mask.shape).reshape(3, 1, 1, 1)
    outer = x > 0.6 if name.startswith("medial") else x < 0.4
    corner = outer & (y < 0.4) & (near.mask == 0)
    return float((near.clean[corner] > CYST_EDGE).sum()) * near.voxel_mm3


def hypertrophy_mm3(view: View, name: str) -> float:
    """Volume of meniscus outside every label that is higher than the label next to it, without its two ends.

    Heights are compared over a plane of whole mm, not along the columns of voxels, which lean in an oblique grid. At
    its front end the femur leaves a meniscus so little height that an extruded tongue is higher.
    """
    near = view.around([name], BESIDE_MM + TALLER_MM)
    label, dark = near.mm(near.label(name)), near.mm((near.mask == 0) & (near.clean < DARK_EDGE))
    low, high = label.min(axis=0), label.max(axis=0)
    dark = dark[np.abs(dark[:, 1] - (low[1] + high[1]) / 2) < (high[1] - low[1]) / 3]
    dark = dark[((dark > low - BESIDE_MM) & (dark < high + BESIDE_MM))[:, :2].all(axis=1)]
    corner = low[:2] - COMPARED_MM
    top = np.full(np.ceil(high[:2] - corner + COMPARED_MM + 1).astype(int), -np.inf)
    np.maximum.at(top, tuple((label[:, :2] - corner).astype(int).T), label[:, 2])
    place = tuple((dark[:, :2] - corner).astype(int).T)
    nearby = ndimage.maximum_filter(top, 2 * BESIDE_MM + 1)[place] > -np.inf
    above = dark[:, 2] - ndimage.maximum_filter(top, 2 * COMPARED_MM + 1)[place]
    return float((nearby & (above > ABOVE_MM) & (above < TALLER_MM)).sum()) * near.voxel_mm3
