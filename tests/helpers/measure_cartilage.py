"""Cartilage lesions, measured: share of a subregion's surface that has a defect, share of the defect that is bare.

Rays leave the bone at right angles and cross the cartilage's label. A ray whose outer part is bright is in a
defect; one whose deep part is bright too is bare. Each counts with the area of bone that it covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_marrow import bone_of
from tests.helpers.measure_view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

CONDYLES = tuple(f"{side}_{part}" for side in ("medial", "lateral") for part in ("anterior", "central", "posterior"))
PARTS = {
    "patella": ("patella_medial", "patella_lateral"),
    "femur": tuple(f"femur_{part}" for part in CONDYLES),
    "tibia": tuple(f"tibia_{part}" for part in CONDYLES),
}
CARTILAGE = {"patella": "patellar_cartilage", "femur": "femoral_cartilage", "tibia": "tibial_cartilage"}
# Half-way from cartilage to fluid. A coarse voxel above the cartilage also holds dark meniscus, one below it dark bone.
DEFECT_EDGE = BARE_EDGE = (SIGNAL["cartilage"] + SIGNAL["fluid"]) / 2
COARSE_DEFECT_EDGE, COARSE_BARE_EDGE = 400.0, 375.0
OUTER, DEEP = (0.45, 0.85), (0.1, 0.35)
STEP_MM, REACH_MM = 0.2, 7.0
MOST_RAYS = 30_000
SMOOTH_MM = 1.5
RIM_SHARE = 0.35  # of the usual thickness: less is the rim, where cartilage thins out
HOLLOW_SHARE = 1.3  # more is a hollow, such as next to the spines, where one ray crosses another's ground
LEAST_SIZE = 0.014  # of the surface: less is mixture
LEAST_DEPTH, COARSE_LEAST_DEPTH = 0.012, 0.035  # of the defect: likewise


@dataclass(frozen=True, slots=True)
class Rays:
    """Rays through cartilage: signals along them, where they are in it, and the subregion of each."""

    signal: Floats
    share: Floats  # of the way through the cartilage, beyond 1 outside
    owner: NDArray[np.intp]
    area: Floats  # mm² of bone for each ray
    thickness: Floats  # mm of cartilage along it
    feet: Floats  # mm, where they start
    apart: float  # mm, between neighbours

    def mean(self, low: float, high: float) -> Floats:
        """Mean signal over a part of the way through the cartilage."""
        there = (self.share > low) & (self.share < high)
        mean: Floats = (self.signal * there).sum(axis=1) / np.maximum(1, there.sum(axis=1))
        return mean


def measure_cartilage(view: View, bone: str) -> dict[str, dict[str, float]]:
    """Measure `size` and `depth` in every subregion of one bone."""
    rays = cast(view.around([CARTILAGE[bone], *PARTS[bone]], 2.0), bone)
    defect = rays.mean(*OUTER) > (COARSE_DEFECT_EDGE if view.coarse else DEFECT_EDGE)
    bare = rays.mean(*DEEP) > (COARSE_BARE_EDGE if view.coarse else BARE_EDGE)
    found = {}
    for number, name in enumerate(PARTS[bone]):
        mine = rays.owner == number
        next_door = _from_next_door(rays, mine, defect)
        usual = np.median(rays.thickness[mine])
        mine &= rays.thickness > RIM_SHARE * usual
        mine &= view.coarse | (rays.thickness < HOLLOW_SHARE * usual)
        area = rays.area * (mine & ~next_door)
        lost = area[defect].sum()
        size = float(lost / area.sum())
        depth = min(1.0, float(area[bare].sum() / max(lost, 1e-9)))
        least = COARSE_LEAST_DEPTH if view.coarse else LEAST_DEPTH
        found[name] = {"size": size * (size > LEAST_SIZE), "depth": depth * (size > LEAST_SIZE) * (depth > least)}
    return found


def _from_next_door(rays: Rays, mine: Bools, defect: Bools) -> Bools:
    """Find the rays on a subregion's border that only a defect of its neighbour's can have made bright."""
    found = np.zeros(mine.shape, bool)
    bright = np.flatnonzero(mine & defect)
    if len(bright):
        border = cKDTree(rays.feet[~mine]).query(rays.feet[bright])[0] < 1.2 * rays.apart
        own = rays.feet[bright[~border]]
        far = cKDTree(own).query(rays.feet[bright[border]])[0] > 1.5 * rays.apart if len(own) else True
        found[bright[border]] = far
    return found


def cast(view: View, bone: str) -> Rays:
    """Send rays out from voxels of cartilage that lie on bone."""
    owners = np.zeros(view.mask.shape, np.uint8)
    for number, name in enumerate(PARTS[bone], 1):
        owners[bone_of(view, name, restore=1)] = number
    nearby = ndimage.maximum_filter(owners, footprint=ndimage.generate_binary_structure(3, 1))
    start = np.argwhere(view.label(CARTILAGE[bone]) & (nearby > 0))
    start = start[:: max(1, len(start) // MOST_RAYS)]
    feet = start @ view.to_mm.T + view.origin
    normals = _normals(view, owners > 0, feet)
    along = np.arange(-1.5, REACH_MM, STEP_MM)
    points = (feet[:, None, :] + along[None, :, None] * normals[:, None, :]).reshape(-1, 3)
    signal = view.at(points).reshape(len(feet), -1)
    inside = view.label_at(points).reshape(len(feet), -1) == LABELS[CARTILAGE[bone]]
    share, steps = _share(inside, int(np.searchsorted(along, 0.0)))
    facing = np.abs(normals @ np.linalg.inv(view.to_mm).T * view.spacing**2).max(axis=1)
    owner = nearby[tuple(start.T)].astype(np.intp) - 1
    area = view.voxel_mm3 / facing
    return Rays(signal, share, owner, area, (steps * STEP_MM).astype(np.float64), feet, float(view.spacing.max()))


def _share(inside: Bools, origin: int) -> tuple[Floats, NDArray[np.intp]]:
    """Share of the way from where a ray enters the cartilage around its origin to where it leaves it, and its steps."""
    steps = np.arange(inside.shape[1])
    enter = np.where(inside | (steps >= origin), -1, steps).max(axis=1) + 1
    leave = np.where(inside | (steps <= origin), inside.shape[1], steps).min(axis=1)
    thick = np.maximum(1, leave - enter)
    share: Floats = (steps[None, :] - enter[:, None] + 0.5) / thick[:, None]
    return share, thick


def _normals(view: View, bone: Bools, feet: Floats) -> Floats:
    """Unit vectors in mm that point out of the bone."""
    smooth = ndimage.gaussian_filter(bone.astype(np.float32), SMOOTH_MM / view.spacing, truncate=2.5)
    soft = View(smooth, view.mask, view.to_mm, view.origin, view.boxes)
    slope = np.stack([soft.at(feet - step) - soft.at(feet + step) for step in np.eye(3)], axis=1)
    unit: Floats = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    return unit
