"""Solids as signed distances, the measures of one knee drawn from its seeds, and the MOAKS subregions as boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.phantom.mask_labels import LABELS

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


JOINT_GAP = 1.0  # fluid between femoral and tibial cartilage where they meet, mm
FILM = 0.8  # how far a subregion's label reaches beyond its cartilage, mm
MARGIN = 4.0  # distance of the tibia's articular margin inside the widest contour of the bone, mm


@dataclass(frozen=True, slots=True)
class Shape:
    """Measures in mm at the scale of the median knee; `scale` turns them into this knee's.

    The defaults give the median extents of RELEASE_FORMAT: femur 80x66x84, tibia 76x57x65, patella 44x23x42.
    """

    scale: float = 1.0
    front_radius: float = 33.0  # of the trochlea and the front of the condyles, seen from the side
    medial_radius: float = 22.6  # of the rear of the condyles
    lateral_radius: float = 21.2
    medial_width: float = 13.7  # half the width of a condyle
    lateral_width: float = 12.8
    groove: float = 6.0  # depth of the trochlea
    notch: float = 9.3  # half the width of the intercondylar notch
    plateau_depth: float = 26.0  # half the front-rear extent of the medial plateau
    lateral_depth: float = 22.0
    patella_width: float = 22.0
    patella_height: float = 21.5
    femoral_cartilage: float = 2.7
    medial_cartilage: float = 3.1
    lateral_cartilage: float = 3.7
    patellar_cartilage: float = 4.2

    @property
    def condyle_floor(self) -> float:
        """Lowest height of the femur's bone: the tibial cartilage's surface is at 0."""
        return JOINT_GAP + self.femoral_cartilage

    @property
    def front_centre(self) -> tuple[float, float]:
        """Axis (v, w) that the trochlea is rolled around."""
        return 7.0, self.condyle_floor + self.front_radius

    def rear_centre(self, *, medial: bool) -> tuple[float, float]:
        """Axis (v, w) that the rear of a condyle is rolled around."""
        return -4.5, self.condyle_floor + (self.medial_radius if medial else self.lateral_radius)

    @property
    def ridge(self) -> float:
        """Rearmost v of the patella's bone: its cartilage just clears that of the trochlea's groove."""
        v, _ = self.front_centre
        return v + self.front_radius - self.groove + self.femoral_cartilage + JOINT_GAP + self.patellar_cartilage

    @property
    def patella_centre(self) -> tuple[float, float]:
        """Middle (u, w) of the patella."""
        return -1.5, 37.0


def draw_shape(patient_seed: int, knee_seed: int) -> Shape:
    """Draw a knee's measures: mostly the patient's, a little the knee's own."""
    patient = np.random.Generator(np.random.PCG64([1, patient_seed]))
    knee = np.random.Generator(np.random.PCG64([2, patient_seed, knee_seed]))
    middle = Shape()
    spread = dict.fromkeys(Shape.__slots__, 0.02)
    spread |= {"scale": 0.04, "groove": 0.1, "notch": 0.03, "femoral_cartilage": 0.05, "medial_cartilage": 0.05}
    spread |= {"lateral_cartilage": 0.05, "patellar_cartilage": 0.05}
    drawn = {}
    for name in Shape.__slots__:
        # Clipped, because two standard deviations are as far as the parts still fit each other.
        deviate = np.clip(patient.standard_normal(), -2.0, 2.0) + 0.2 * np.clip(knee.standard_normal(), -2.0, 2.0)
        drawn[name] = float(getattr(middle, name) * np.exp(spread[name] * deviate))
    return Shape(**drawn)


_END = 300.0  # beyond any grid
_FRONT, _REAR = 14.0, -9.5  # where trochlea and posterior condyle begin, mm
TOP = 45.0  # height at which the femur's subregions, and its cartilage, end, mm

Range = tuple[float, float]


FLOOR = -29.0  # height at which the tibia's subregions end, mm


@dataclass(frozen=True, slots=True)
class Region:
    """One subregion: the part of a bone, and of its cartilage, between planes along u, v and w."""

    name: str
    bone: str
    u: Range
    v: Range
    w: Range

    @property
    def label(self) -> int:
        """Its id in the mask."""
        return LABELS[self.name]

    def distance(self, p: Points) -> Field:
        """Distance to the planes: negative inside, and as far as the nearest plane is."""
        return np.maximum(
            np.maximum(_beyond(p.u, self.u), _beyond(p.v, self.v)),
            _beyond(p.w, self.w),
        )


def _beyond(axis: Field, limits: Range) -> Field:
    return np.asarray(np.maximum(limits[0] - axis, axis - limits[1]))


def regions_of(shape: Shape) -> tuple[Region, ...]:
    """Return the fifteen subregions, the labels 50 to 64.

    Examples
    --------
    >>> from reasonknee_datasets.phantom.shape import Shape
    >>> [region.label for region in regions_of(Shape())] == list(range(50, 65))
    True
    """
    found: list[Region] = []
    depth = {"anterior": (_FRONT, _END), "central": (_REAR, _FRONT), "posterior": (-_END, _REAR)}
    for half, u in (("medial", (0.0, _END)), ("lateral", (-_END, 0.0))):
        found += [Region(f"femur_{half}_{part}", "femur", u, v, (-_END, TOP)) for part, v in depth.items()]
    ridge = shape.patella_centre[0]
    for half, u in (("medial", (ridge, _END)), ("lateral", (-_END, ridge))):
        found.append(Region(f"patella_{half}", "patella", u, (-_END, _END), (-_END, _END)))
    for half, u, third in (
        ("medial", (7.8, _END), shape.plateau_depth / 3.0),
        ("lateral", (-_END, -7.8), shape.lateral_depth / 3.0),
    ):
        depth = {"anterior": (third, _END), "central": (-third, third), "posterior": (-_END, -third)}
        found += [Region(f"tibia_{half}_{part}", "tibia", u, v, (FLOOR, _END)) for part, v in depth.items()]
    found.append(Region("tibia_subspinous", "tibia", (-7.8, 7.8), (-_END, _END), (FLOOR, _END)))
    return tuple(found)


def region_labels(p: Points, shape: Shape, bone: str) -> Field:
    """Find the subregion's label at each point, were it in or over the bone; 0 where the bone has none (the shafts)."""
    if bone == "patella":
        return np.where(p.u > shape.patella_centre[0], np.float32(56), np.float32(57))
    if bone == "femur":
        part = np.where(p.v > _FRONT, np.float32(0), np.where(p.v > _REAR, np.float32(1), np.float32(2)))
        found = part + np.where(p.u > 0.0, np.float32(50), np.float32(53))
        return np.where(p.w < TOP, found, np.float32(0))
    medial, lateral = shape.plateau_depth / 3.0, shape.lateral_depth / 3.0
    third = np.where(p.u > 0.0, np.float32(medial), np.float32(lateral))
    part = np.where(p.v > third, np.float32(0), np.where(p.v > -third, np.float32(1), np.float32(2)))
    found = part + np.where(p.u > 0.0, np.float32(58), np.float32(61))
    found = np.where(np.abs(p.u) < 7.8, np.float32(64), found)
    return np.where(p.w > FLOOR, found, np.float32(0))
