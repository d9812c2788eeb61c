"""Lesions of bone marrow and cartilage: bodies and defects sized to a share of their subregion.

A bone-marrow lesion has one to three bodies, with their cysts. A cartilage defect is a patch of thinned cartilage on a
subregion's surface, bare to the bone in its middle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.phantom.anatomy import STEP, Sample, cartilage_points, share_level
from reasonknee_datasets.phantom.mask_labels import REGION_NAMES
from reasonknee_datasets.phantom.shape import Field, Points, Region, Shape, filled_share, regions_of
from reasonknee_datasets.phantom.signs import SIGNS, Wanted, questions_of

CORTEX = 0.7  # bone that stays between a lesion and the surface, mm
SMALL_BODY = 600.0  # volume of a body in a lesion of size 1, mm³: about 8 mm wide, 13 mm from front to rear, 10 mm high
_SHAPE = {"femur": (1.25, 0.8, 1.0), "tibia": (1.1, 0.9, 1.0), "patella": (1.0, 1.0, 1.0)}  # stretch along u, v, w

# Between two bodies along u, v, w, mm of the world: more than one and a half voxels of a tiny grid, so that a dark
# voxel always parts them. Bodies that fill two thirds of a subregion leave less room.
_GAPS = (3.8, 2.6, 2.6)
_TIGHT_GAPS = (2.9, 1.9, 1.9)
_BORDER = 0.2  # from a lesion to the border of its subregion, mm
_SHORT = 0.04  # share of a subregion that a lesion may miss for the sake of wide gaps
_USUAL_AXIS = {"femur": 0, "tibia": 0, "patella": 2, "tibia_subspinous": 1}  # axis along which bodies are placed


@dataclass(frozen=True, slots=True)
class Body:
    """One body: where it grows from, how much it is stretched, and the slab that it keeps to."""

    centre: tuple[float, float, float]
    stretch: tuple[float, float, float]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BoneLesion:
    """All bodies of one subregion, with their common radius and the plane or ball that parts cyst from lesion."""

    region: Region
    axis: int
    bodies: tuple[Body, ...]
    radius: float
    tilt: tuple[float, float, float]
    cut: float
    inner_cyst: bool

    def distances(self, p: Points, bone: Field) -> tuple[Field, Field]:
        """Distance to the lesion, cyst included, and to its cyst.

        `bone`: distance to the bone's surface.
        """
        reach, fences, beside = self.reach(p)
        whole = np.maximum(reach - self.radius, np.maximum(fences, self.fence(p, bone)))
        cyst = self._from_first(p) - self.cut if self.inner_cyst else beside - self.cut
        return whole, np.maximum(cyst, whole)

    def fence(self, p: Points, bone: Field) -> Field:
        """Distance to what bounds any lesion here: the cortex and the subregion's borders."""
        return np.asarray(np.maximum(bone + CORTEX, self.region.distance(p) + _BORDER))

    def _from_first(self, p: Points) -> Field:
        """Distance from the first body's centre, stretched as the body is."""
        (a, b, c), (u, v, w) = self.bodies[0].stretch, self.bodies[0].centre
        return np.asarray(np.sqrt(((p.u - u) * a) ** 2 + ((p.v - v) * b) ** 2 + ((p.w - w) * c) ** 2))

    def reach(self, p: Points) -> tuple[Field, Field, Field]:
        """Distance from the body that owns a point, to the walls of its slab, and along the tilt from its centre."""
        axis = (p.u, p.v, p.w)[self.axis]
        reach, fences, beside = np.full_like(axis, np.inf), np.full_like(axis, np.inf), np.zeros_like(axis)
        for body in self.bodies:
            fence = np.maximum(body.low - axis, axis - body.high)
            mine = fence < fences
            (a, b, c), (du, dv, dw) = body.stretch, body.centre
            u, v, w = p.u - du, p.v - dv, p.w - dw
            far = np.sqrt((u * a) ** 2 + (v * b) ** 2 + (w * c) ** 2)
            tilt = u * self.tilt[0] + v * self.tilt[1] + w * self.tilt[2]
            reach, beside = np.where(mine, far, reach), np.where(mine, tilt, beside)
            fences = np.where(mine, fence, fences)
        return reach, fences, beside


def plan_bone_lesions(wanted: Wanted, sample: Sample, shape: Shape, seed: list[int]) -> tuple[BoneLesion, ...]:
    """Compute the size of the lesions of the grades.

    `seed`: where bodies sit depends on it; how large they are does not.
    """
    asked = _asked("bone_marrow_lesion", wanted, shape, seed)
    return tuple(_plan_bodies(region, grades, sample, shape.scale, random) for region, grades, random in asked)


def _asked(
    finding: str, wanted: Wanted, shape: Shape, seed: list[int]
) -> Iterator[tuple[Region, dict[str, int], np.random.Generator]]:
    """Return the subregion, the grades and the random stream of each lesion that is there."""
    regions = {region.name: region for region in regions_of(shape)}
    for question_id in questions_of(finding):
        grades = wanted.lesion(question_id)
        if grades:
            random = np.random.Generator(np.random.PCG64([*seed, question_id]))
            yield regions[REGION_NAMES[question_id][0]], grades, random


def _plan_bodies(
    region: Region, grades: dict[str, int], sample: Sample, scale: float, random: np.random.Generator
) -> BoneLesion:
    """Lay out the bodies, then blow them up until they fill their share of the subregion's bone."""
    index = sample.where(region.label)
    bone = sample.view.bones[region.bone].distance
    index = index[bone[index] < 0.0]
    p, depth = sample.view.p.take(index), bone[index]
    tilt = random.normal(0.0, 0.25, 3) + np.array([0.0, 0.0, 1.0 if region.bone == "femur" else -1.0])
    tilt /= np.linalg.norm(tilt)
    plane = (float(tilt[0]), float(tilt[1]), float(tilt[2]))
    target = SIGNS["bone_marrow_lesion", "size"].targets[grades["size"]]
    if grades["size"] == 1:
        # As small as most real ones, not a third of a region that is itself a third of the femur's end.
        target = min(target, grades["number"] * SMALL_BODY / (len(index) * (STEP * scale) ** 3))
    shifts, stretches = random.uniform(-1.0, 1.0, (3, 3)), random.uniform(0.87, 1.15, (3, 3)) * _SHAPE[region.bone]
    usual = _USUAL_AXIS.get(region.name, _USUAL_AXIS[region.bone])
    # Large lesions need all the space; smaller ones are placed side by side under the joint surface.
    axes = range(3) if grades["size"] == 3 else [usual]

    def lay_out(axis: int, gaps: tuple[float, float, float]) -> tuple[float, BoneLesion, Field]:
        bodies = _bodies(p, depth, axis, grades["number"], gaps[axis] / scale, shifts, stretches)
        tried = BoneLesion(region, axis, bodies, 0.0, plane, 0.0, False)
        reach, fences, _ = tried.reach(p)
        allowed = np.maximum(fences, tried.fence(p, depth)) < 0.0
        return float(allowed.mean()), tried, np.where(allowed, reach, np.float32(np.inf))

    room, lesion, reach = max((lay_out(axis, _GAPS) for axis in axes), key=lambda tried: tried[0])
    if room < target - _SHORT:
        _, lesion, reach = max((lay_out(axis, _TIGHT_GAPS) for axis in axes), key=lambda tried: tried[0])
    return _with_cyst(lesion, share_level(reach, target), grades["percent"], reach, p)


def _bodies(
    p: Points,
    depth: Field,
    axis: int,
    number: int,
    gap: float,
    shifts: NDArray[np.float64],
    stretches: NDArray[np.float64],
) -> tuple[Body, ...]:
    """Cut the subregion into slabs of equal volume and find each body's centre, some millimetres under the joint."""
    coordinates = (p.u, p.v, p.w)
    edges = np.quantile(coordinates[axis], np.linspace(0.0, 1.0, number + 1))
    edges[0], edges[-1] = edges[0] - 50.0, edges[-1] + 50.0
    found = []
    for (low, high), shift, stretch in zip(itertools.pairwise(edges), shifts, stretches, strict=False):
        inside = (coordinates[axis] > low) & (coordinates[axis] < high)
        middle = np.array([np.median(c[inside]) for c in coordinates])
        # Halfway from the slab's middle to its superficial part: lesions are under the joint surface.
        shallow = inside & (depth > -9.0) & (depth < -5.0)
        if shallow.any():
            middle = 0.5 * (middle + np.array([np.median(c[shallow]) for c in coordinates]))
        u, v, w = (float(c) for c in middle + shift)
        a, b, c = (float(s) for s in stretch)
        found.append(Body((u, v, w), (a, b, c), float(low) + 0.5 * gap, float(high) - 0.5 * gap))
    return tuple(found)


def _with_cyst(lesion: BoneLesion, radius: float, percent: int, reach: Field, p: Points) -> BoneLesion:
    """Separate the cyst: a ball in the middle of one body, or everything on one side of a plane in every body."""
    target = SIGNS["bone_marrow_lesion", "percent"].targets[percent]
    inside = p.take(np.flatnonzero(reach < radius))
    inner = percent == 3
    cut = share_level(lesion._from_first(inside) if inner else lesion.reach(inside)[2], 1.0 - target)
    return BoneLesion(lesion.region, lesion.axis, lesion.bodies, radius, lesion.tilt, cut, inner)


THINNED = 0.5  # share of the thickness that is gone wherever there is a defect

WORN = 0.5
"""Bone that is worn away where it is bare, mm: without it, bare bone and a rest of cartilage look alike at tiny."""

_DEFECT_BORDER = 0.15  # from a defect to the border of its subregion, mm


def surface_coordinates(p: Points, bone: str) -> tuple[Field, Field]:
    """Return each point's place on a bone's joint surface, in mm along it: the same all the way through the cartilage.

    The femur's surface is unrolled around an axis through the condyles.
    """
    if bone == "tibia":
        return p.u, p.v
    if bone == "patella":
        return p.u, p.w
    return p.u, 27.0 * np.arctan2(p.v - 4.0, 27.0 - p.w)


@dataclass(frozen=True, slots=True)
class CartilageLesion:
    """One subregion's defect: an ellipse on the surface, and the smaller one within it that is bare."""

    region: Region
    centre: tuple[float, float]
    stretch: tuple[float, float]
    radius: float
    bare: float

    def reach(self, p: Points) -> Field:
        """Distance along the surface from the defect's middle."""
        a, b = surface_coordinates(p, self.region.bone)
        return np.sqrt(((a - self.centre[0]) * self.stretch[0]) ** 2 + ((b - self.centre[1]) * self.stretch[1]) ** 2)

    def remaining(self, p: Points, width: float) -> tuple[Field, Field]:
        """Share of the healthy thickness that remains at each point, and how far the bone is bare there (0 to 1)."""
        reach = self.reach(p)
        border = self.region.distance(p) + _DEFECT_BORDER
        thinned = filled_share(np.maximum(reach - self.radius, border), width)
        bare = filled_share(np.maximum(reach - self.bare, border), width)
        return 1.0 - THINNED * thinned - (1.0 - THINNED) * bare, bare


def plan_cartilage_lesions(
    wanted: Wanted, sample: Sample, shape: Shape, seed: list[int]
) -> tuple[CartilageLesion, ...]:
    """Compute the size of the defects of the grades."""
    asked = _asked("cartilage_lesion", wanted, shape, seed)
    return tuple(_plan_defect(region, grades, sample, shape, random) for region, grades, random in asked)


def _plan_defect(
    region: Region, grades: dict[str, int], sample: Sample, shape: Shape, random: np.random.Generator
) -> CartilageLesion:
    view = cartilage_points(sample, shape, region.bone, region.label)
    a, b = surface_coordinates(view.p, region.bone)
    # A sampled point represents more surface where the cartilage is thinner.
    weights = 1.0 / view.bones[region.bone].cartilage
    jitter = random.uniform(-1.5, 1.5, 2)
    stretch = float(random.uniform(0.85, 1.15))
    centre = (float(np.median(a)) + float(jitter[0]), float(np.median(b)) + float(jitter[1]))
    lesion = CartilageLesion(region, centre, (stretch, 1.0 / stretch), 0.0, 0.0)
    allowed = region.distance(view.p) + _DEFECT_BORDER < 0.0
    reach = np.where(allowed, lesion.reach(view.p), np.float32(np.inf)).astype(np.float32)
    size = SIGNS["cartilage_lesion", "size"].targets[grades["size"]]
    radius = share_level(reach, size, weights=weights)
    bare = -10.0
    if grades["depth"]:
        share = SIGNS["cartilage_lesion", "depth"].targets[grades["depth"]]
        inside = np.flatnonzero(reach < radius)
        bare = min(share_level(reach[inside], share, weights=weights[inside]), radius)
        if grades["depth"] == 1:
            # Too few points for so small a share, but a disc's area goes with the square of its radius.
            disc = min(radius, 4.0)
            bare = disc * float(np.sqrt(share * weights[inside].sum() / weights[reach < disc].sum()))
    return CartilageLesion(region, centre, lesion.stretch, radius, bare)
