"""Osteophytes: lips of marrow on the joint margins, where the healthy region's box has an empty corner for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom import tissues
from reasonknee_datasets.phantom.shape import Field, Points, Shape, points_of
from reasonknee_datasets.phantom.signs import SIGNS, Wanted, questions_of

THICKNESS = 2.7  # half the thickness of a lip, mm
LENGTH = 4.0  # half the length of a lip along the joint margin, mm
_EDGE = 1.5  # rounding, mm
_ROOT = 2.5  # how far a lip reaches into the bone that it grows from, mm

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
    across: Vector
    length: float

    def distance(self, p: Points) -> Field:
        """Distance to the lip; its inner end is within the bone."""
        u, v, w = p.u - self.tip[0], p.v - self.tip[1], p.w - self.tip[2]
        out, side, rest = (u * axis[0] + v * axis[1] + w * axis[2] for axis in (self.outward, self.along, self.across))
        beyond = np.maximum(np.maximum(out + _EDGE, -self.length - out), 0.0)
        side = np.maximum(np.abs(side) - (LENGTH - _EDGE), 0.0)
        rest = np.maximum(np.abs(rest) - (THICKNESS - _EDGE), 0.0)
        return np.asarray(np.sqrt(beyond * beyond + side * side + rest * rest) - _EDGE)


def sites_of(shape: Shape) -> dict[str, Site]:
    """Place the twelve sites on a knee."""
    cu, cw = shape.patella_centre
    ridge, half, tall = shape.ridge, shape.patella_width, shape.patella_height
    found = {
        "patella_superior": Site("patella", (cu, ridge + 9, cw + tall - 5.5), (0, -0.97, 0.25), (1, 0, 0)),
        "patella_inferior": Site("patella", (cu, ridge + 6, cw - tall + 10), (0, -0.78, -0.63), (1, 0, 0)),
    }
    for half_name, sign in (("medial", 1.0), ("lateral", -1.0)):
        found[f"patella_{half_name}"] = Site(
            "patella", (cu + sign * (half - 4.9), ridge + 12, cw + 1), (sign * 0.1, -0.99, 0), (0, 0, 1)
        )
        found[f"femur_{half_name}_anterior"] = Site("femur", (sign * 20, 22, 22), (sign * 0.8, 0.6, 0), (0, 0, 1))
        found[f"femur_{half_name}_central"] = Site("femur", (sign * 24, 6, 20), (sign * 0.95, 0, -0.3), (0, 1, 0))
        found[f"femur_{half_name}_posterior"] = Site("femur", (sign * 22, -11, 30), (0, -0.6, 0.8), (1, 0, 0))
        found[f"tibia_{half_name}"] = Site("tibia", (sign * 21, 8, -8), (sign * 0.75, 0.66, 0), (-0.66, sign * 0.75, 0))
    return found


def plan_osteophytes(wanted: Wanted, shape: Shape) -> tuple[Lip, ...]:
    """Return the osteophytes of the grades."""
    sites = sites_of(shape)
    lips = []
    for question_id in questions_of("osteophyte"):
        reach = SIGNS["osteophyte", "grade"].targets[wanted.grade(question_id, "grade")] / shape.scale
        if reach > 0.0:
            lips.append(_grow(sites[QUESTIONS[question_id].subregion], reach, shape))
    return tuple(lips)


def _grow(site: Site, reach: float, shape: Shape) -> Lip:
    """Push a lip outward until the point of its end that is farthest from the healthy bone is `reach` mm away."""
    outward, along = (np.array(axis) / np.linalg.norm(axis) for axis in (site.outward, site.along))
    across = np.cross(outward, along)
    inside = np.array(site.inside)
    surface = _surface(site, outward, along, across, shape)
    end = np.array([(a, b) for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0)])
    face = end[:, :1] * along * (LENGTH - _EDGE) + end[:, 1:] * across * (THICKNESS - _EDGE)
    low, high = 0.0, 40.0
    for _ in range(14):
        middle = 0.5 * (low + high)
        points = inside + middle * outward + face
        out = _distance(site.bone, points, shape) > 0.0
        gaps = np.sqrt(((points[:, None] - surface) ** 2).sum(axis=-1).min(axis=1))
        low, high = (low, middle) if float((gaps * out).max()) > reach else (middle, high)
    tip = _vector(inside + low * outward)
    return Lip(site.bone, tip, _vector(outward), _vector(along), _vector(across), reach + _ROOT)


def _surface(
    site: Site,
    outward: NDArray[np.float64],
    along: NDArray[np.float64],
    across: NDArray[np.float64],
    shape: Shape,
) -> NDArray[np.float64]:
    """Points of the bone's surface around a site: where a bundle of rays outward leaves the bone."""
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(-9.0, 9.1), np.arange(-9.0, 9.1)))
    starts = np.array(site.inside) + a[:, None] * along + b[:, None] * across
    steps = np.arange(-14.0, 40.0)
    rays = starts[:, None] + steps[:, None] * outward
    distance = _distance(site.bone, rays.reshape(-1, 3), shape).reshape(len(starts), len(steps))
    rows = np.flatnonzero((distance < 0.0).any(axis=1))
    last = len(steps) - 2 - np.argmax(distance[rows, -2::-1] < 0.0, axis=1)
    inner, outer = distance[rows, last], distance[rows, last + 1]
    leave = steps[last] + np.where(outer > 0.0, inner / np.minimum(inner - outer, -1e-6), 0.0)
    return np.asarray(starts[rows] + leave[:, None] * outward)


def _distance(bone: str, points: NDArray[np.float64], shape: Shape) -> Field:
    """Distance to one bone's surface."""
    p = points_of(points)
    if bone == "femur":
        return tissues.femur(p, shape).distance
    if bone == "patella":
        return tissues.patella(p, shape).distance
    medial, lateral = (tissues.plateau(p, shape, medial=half) for half in (True, False))
    return tissues.tibia(p, shape, medial, lateral).distance


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
