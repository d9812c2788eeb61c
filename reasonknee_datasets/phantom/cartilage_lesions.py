"""Cartilage defects: a patch of thinned cartilage on a subregion's surface, bare to the bone in its middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.phantom.mask_labels import REGION_NAMES
from reasonknee_datasets.phantom.sample import cartilage_points, share_level
from reasonknee_datasets.phantom.signs import SIGNS
from reasonknee_datasets.phantom.solids import filled_share
from reasonknee_datasets.phantom.subregion_boxes import regions_of
from reasonknee_datasets.phantom.target_grades import Wanted, questions_of

if TYPE_CHECKING:
    from reasonknee_datasets.phantom.sample import Sample
    from reasonknee_datasets.phantom.shape import Shape
    from reasonknee_datasets.phantom.solids import Field, Points
    from reasonknee_datasets.phantom.subregion_boxes import Region

THINNED = 0.5
"""Share of the thickness that is gone wherever there is a defect."""

WORN = 0.5
"""Bone that is worn away where it is bare, mm: without it, bare bone and a rest of cartilage look alike at tiny."""

_BORDER = 0.15  # from a defect to the border of its subregion, mm


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
        border = self.region.distance(p) + _BORDER
        thinned = filled_share(np.maximum(reach - self.radius, border), width)
        bare = filled_share(np.maximum(reach - self.bare, border), width)
        return 1.0 - THINNED * thinned - (1.0 - THINNED) * bare, bare


def plan_cartilage_lesions(
    wanted: Wanted, sample: Sample, shape: Shape, seed: list[int]
) -> tuple[CartilageLesion, ...]:
    """Compute the size of the defects of the grades."""
    regions = {region.name: region for region in regions_of(shape)}
    lesions = []
    for question_id in questions_of("cartilage_lesion"):
        grades = wanted.lesion(question_id)
        if grades:
            random = np.random.Generator(np.random.PCG64([*seed, question_id]))
            lesions.append(_plan(regions[REGION_NAMES[question_id][0]], grades, sample, shape, random))
    return tuple(lesions)


def _plan(
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
    allowed = region.distance(view.p) + _BORDER < 0.0
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
