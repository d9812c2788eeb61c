"""Joint fluid, and the synovitis of Hoffa's fat pad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reasonknee_datasets.phantom.anatomy import NearbyAnatomy, Sample, lattice, look, share_level
from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.shape import Shape
from reasonknee_datasets.phantom.signs import SIGNS, Wanted
from reasonknee_datasets.phantom.soft_tissue import quadriceps_tendon
from reasonknee_datasets.phantom.solids import Field, Points, points_of

_HALF = (21.0, 7.5, 17.0)  # half axes of the suprapatellar recess at level 1, mm
_STEP = 2.0
_LOW, _HIGH = (-50.0, 14.0, 24.0), (48.0, 60.0, 92.0)
EFFUSION_REACH = ((-44.0, 42.0), (16.0, 58.0), (20.0, 90.0))
FAT_PAD_EDGE = 0.8  # of the fat pad that synovitis leaves out, mm


@dataclass(frozen=True, slots=True)
class Effusion:
    """Fluid of the suprapatellar recess, which reaches down between patella and trochlea."""

    level: float
    middle: tuple[float, float, float]

    def fill(self, p: Points) -> Field:
        """Level at which the fluid reaches a point."""
        u, v, w = (c - m for c, m in zip((p.u, p.v, p.w), self.middle, strict=True))
        # The recess leans back upward, along the quadriceps tendon.
        v = v + 0.2 * w
        return np.asarray(
            np.sqrt((u * (1.0 / _HALF[0])) ** 2 + (v * (1.0 / _HALF[1])) ** 2 + (w * (1.0 / _HALF[2])) ** 2)
        )

    def distance(self, view: NearbyAnatomy, shape: Shape) -> Field:
        """Distance to the fluid."""
        p = view.p
        level = self.fill(p) + np.float32(1e-6)
        u, v, w = (c - m for c, m in zip((p.u, p.v, p.w), self.middle, strict=True))
        v = v + 0.2 * w
        slope = np.sqrt((u / _HALF[0] ** 2) ** 2 + (v / _HALF[1] ** 2) ** 2 + (w / _HALF[2] ** 2) ** 2) + 1e-6
        return np.asarray(np.maximum((level - self.level) * level / slope, walls(view, shape)))


def walls(view: NearbyAnatomy, shape: Shape) -> Field:
    """Distance to the room that fluid can fill: outside bones and cartilage, behind the quadriceps tendon."""
    solid = -quadriceps_tendon(view.p, shape)
    for bone in ("femur", "patella"):
        solid = np.maximum(solid, -view.beyond_cartilage(bone))
    return solid


def plan_effusion(wanted: Wanted, shape: Shape) -> Effusion:
    """Fill the recess with the grade's number of millilitres."""
    target = SIGNS["effusion_synovitis", "grade"].targets[wanted.grade(43, "grade")]
    u, w = shape.patella_centre
    empty = Effusion(0.0, (u, shape.ridge - 4.5, w + shape.patella_height - 1.0))
    view = look(points_of(lattice(_LOW, _HIGH, _STEP)), shape)
    fill = np.where(walls(view, shape) < 0.0, empty.fill(view.p), np.float32(np.inf)).astype(np.float32)
    voxels = target * 1000.0 / (_STEP * shape.scale) ** 3
    return Effusion(share_level(fill, 1.0, total=voxels), empty.middle)


@dataclass(frozen=True, slots=True)
class Synovitis:
    """Patches of bright signal that grow from a few foci in the fat pad."""

    radius: float
    foci: tuple[tuple[float, float, float], ...]

    def reach(self, p: Points) -> Field:
        """Distance from the nearest focus."""
        squares = [(p.u - u) ** 2 + (p.v - v) ** 2 + (p.w - w) ** 2 for u, v, w in self.foci]
        return np.asarray(np.sqrt(np.minimum.reduce(squares)))

    def distance(self, p: Points, fat_pad: Field) -> Field:
        """Distance to the patches."""
        return np.asarray(np.maximum(self.reach(p) - self.radius, fat_pad + FAT_PAD_EDGE))


def plan_synovitis(wanted: Wanted, sample: Sample, seed: list[int]) -> Synovitis | None:
    """Grow the patches to the grade's share of the fat pad."""
    grade = wanted.grade(42, "grade")
    if grade == 0 or sample.view.hoffa is None:
        return None
    random = np.random.Generator(np.random.PCG64([*seed, 42]))
    index = sample.where(LABELS["hoffa_fat_pad"])
    p, pad = sample.view.p.take(index), sample.view.hoffa[index]
    deep = np.flatnonzero(pad < -3.0)
    chosen = random.choice(deep, size=5, replace=False)
    foci = tuple((float(p.u[i]), float(p.v[i]), float(p.w[i])) for i in chosen)
    found = Synovitis(0.0, foci)
    reach = np.where(pad < -FAT_PAD_EDGE, found.reach(p), np.float32(np.inf)).astype(np.float32)
    return Synovitis(share_level(reach, SIGNS["hoffa_synovitis", "grade"].targets[grade]), foci)


_STREAKS = ((-8.0, 1.1), (2.0, 0.9), (9.0, -1.0))


def streaks(p: Points) -> Field:
    """Distance to the thin septa that run through any fat pad."""
    sheets = [np.abs((p.u - u) + 0.5 * (p.w - slope * (p.v - 36.0))) * 0.75 for u, slope in _STREAKS]
    return np.asarray(np.minimum.reduce(sheets)) - 0.25
