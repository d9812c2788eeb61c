"""The MOAKS subregions as boxes in knee coordinates: which bone each belongs to, and where its borders are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.phantom.mask_labels import LABELS

if TYPE_CHECKING:
    from reasonknee_datasets.phantom.shape import Shape
    from reasonknee_datasets.phantom.solids import Field, Points

_END = 300.0  # beyond any grid
_FRONT, _REAR = 14.0, -9.5  # where trochlea and posterior condyle begin, mm
TOP = 45.0
"""Height at which the femur's subregions, and its cartilage, end, mm."""

Range = tuple[float, float]


FLOOR = -29.0
"""Height at which the tibia's subregions end, mm."""


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
            np.maximum(_between(p.u, self.u), _between(p.v, self.v)),
            _between(p.w, self.w),
        )


def _between(axis: Field, limits: Range) -> Field:
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
