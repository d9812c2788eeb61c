"""Measures of one knee, drawn from its seeds, and the MOAKS subregions as boxes in knee coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.solids import Field, Points

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
