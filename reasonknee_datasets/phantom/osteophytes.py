"""Osteophytes: lips of marrow on the joint margins, where the healthy region's box has an empty corner for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom.anatomy import look
from reasonknee_datasets.phantom.signs import SIGNS
from reasonknee_datasets.phantom.solids import points_of
from reasonknee_datasets.phantom.wanted import Wanted, questions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.shape import Shape
    from reasonknee_datasets.phantom.solids import Field, Points

THICKNESS = 3.0
"""Half the thickness of a lip, mm; its end is round."""

LENGTH = 3.0
"""Half the straight part of a lip along the joint margin, mm."""

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Site:
    """Where an osteophyte grows: a point inside the bone, the direction outward, and along the margin."""

    bone: str
    inside: Vector
    outward: Vector
    along: Vector


@dataclass(frozen=True, slots=True)
class Lip:
    """One osteophyte: a rounded bar along the margin, pushed out to its reach."""

    bone: str
    tip: Vector
    outward: Vector
    along: Vector

    def distance(self, p: Points) -> Field:
        """Distance to the lip; its inner end lies within the bone."""
        u, v, w = p.u - self.tip[0], p.v - self.tip[1], p.w - self.tip[2]
        out = u * self.outward[0] + v * self.outward[1] + w * self.outward[2] + THICKNESS
        side = u * self.along[0] + v * self.along[1] + w * self.along[2]
        rest = np.maximum(u * u + v * v + w * w - (out - THICKNESS) ** 2 - side * side, 0.0)
        beyond = np.maximum(np.maximum(out, -7.0 - out), 0.0)
        past = np.maximum(np.abs(side) - LENGTH, 0.0)
        return np.sqrt(beyond * beyond + past * past + rest) - THICKNESS


def sites_of(shape: Shape) -> dict[str, Site]:
    """Place the twelve sites on a knee."""
    cu, cw = shape.patella_centre
    ridge, half, tall = shape.ridge, shape.patella_width, shape.patella_height
    found = {
        "patella_superior": Site("patella", (cu, ridge + 7, cw + tall - 8), (0, -0.5, 0.87), (1, 0, 0)),
        "patella_inferior": Site("patella", (cu, ridge + 8, cw - tall + 9), (0, -0.6, -0.8), (1, 0, 0)),
    }
    for half_name, sign in (("medial", 1.0), ("lateral", -1.0)):
        found[f"patella_{half_name}"] = Site(
            "patella", (cu + sign * (half - 5.5), ridge + 12, cw), (sign * 0.35, -0.94, 0), (0, 0, 1)
        )
        found[f"femur_{half_name}_anterior"] = Site("femur", (sign * 20, 24, 22), (sign * 0.8, 0.6, 0), (0, 0, 1))
        found[f"femur_{half_name}_central"] = Site("femur", (sign * 24, 9, 17), (sign * 0.9, 0, -0.43), (0, 1, 0))
        found[f"femur_{half_name}_posterior"] = Site("femur", (sign * 22, -9, 30), (0, -0.6, 0.8), (1, 0, 0))
        found[f"tibia_{half_name}"] = Site("tibia", (sign * 21, 8, -8), (sign * 0.75, 0.66, 0), (-0.66, sign * 0.75, 0))
    return found


def plan_osteophytes(wanted: Wanted, shape: Shape) -> tuple[Lip, ...]:
    """Give the osteophytes that the grades ask for."""
    sites = sites_of(shape)
    lips = []
    for question_id in questions_of("osteophyte"):
        reach = SIGNS["osteophyte", "grade"].targets[wanted.grade(question_id, "grade")] / shape.scale
        if reach > 0.0:
            lips.append(_grow(sites[QUESTIONS[question_id].subregion], reach, shape))
    return tuple(lips)


def _grow(site: Site, reach: float, shape: Shape) -> Lip:
    """Push a lip outward until its tip is `reach` mm from the healthy bone."""
    outward: NDArray[np.float64] = np.array(site.outward) / np.linalg.norm(site.outward)
    steps = np.arange(0.0, 40.0, 0.05)
    ray = np.array(site.inside) + steps[:, None] * outward
    distance = look(points_of(ray), shape).bones[site.bone].distance
    outside = np.flatnonzero(distance < 0.0)[-1]
    tip = ray[outside + int(np.searchsorted(distance[outside:], reach))]
    along = np.array(site.along) / np.linalg.norm(site.along)
    return Lip(site.bone, _vector(tip), _vector(outward), _vector(along))


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
