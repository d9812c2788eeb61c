"""Femur, tibia, patella and fibula as solids, and the cartilage that covers them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reasonknee_datasets.phantom.shape import MARGIN, TOP, Shape
from reasonknee_datasets.phantom.solids import (
    Field,
    Points,
    ball,
    ellipse,
    ellipsoid,
    rod,
    smooth_max,
    smooth_min,
    smooth_step,
)


@dataclass(frozen=True, slots=True)
class Bone:
    """A bone at some points: distance to its surface, and thickness of the healthy cartilage that covers the place."""

    distance: Field
    cartilage: Field


def notch(p: Points, shape: Shape) -> Field:
    """Intercondylar notch: what is between the condyles, behind Blumensaat's line."""
    behind = (p.v + 0.45 * p.w - 15.4) * (1.0 / 1.097)
    return smooth_max(np.abs(p.u) - shape.notch, behind, 5.0)


def femur(p: Points, shape: Shape) -> Bone:
    """Distal femur: trochlea, two condyles, notch, epicondyles, shaft."""
    flank = np.maximum(np.abs(p.u) - 19.0, 0.0)
    barrel = flank * flank * (1.0 / 48.0)
    v, w = shape.front_centre
    groove = shape.groove * np.exp((p.u + 1.0) ** 2 * (-0.5 / 7.5**2))
    roll = np.sqrt((p.v - v) ** 2 + (p.w - w) ** 2) - shape.front_radius + groove + barrel
    middle = 0.5 * (shape.medial_width - shape.lateral_width)
    solid = smooth_max(roll, np.abs(p.u - middle) - (22.0 + 0.5 * (shape.medial_width + shape.lateral_width)), 13.0)
    for medial in (True, False):
        v, w = shape.rear_centre(medial=medial)
        radius, width = (
            (shape.medial_radius, shape.medial_width) if medial else (shape.lateral_radius, shape.lateral_width)
        )
        centre = 22.0 if medial else -22.0
        roll = np.sqrt((p.v - v) ** 2 + (p.w - w) ** 2) - radius + barrel
        solid = smooth_min(solid, smooth_max(roll, np.abs(p.u - centre) - width, 11.0), 3.0)
    # Above the epicondyles the bone narrows to the shaft, on both sides and from behind.
    roof = np.maximum((np.abs(p.u) + 0.95 * p.w - 75.0) * 0.725, (0.85 * p.w - p.v - 47.0) * 0.762)
    solid = smooth_min(smooth_max(solid, roof, 8.0), _shaft(p), 6.0)
    gap = notch(p, shape)
    solid = smooth_max(solid, -gap, 3.0)
    return Bone(solid, _femoral_cartilage(p, shape, gap))


def _shaft(p: Points) -> Field:
    """Metaphysis and shaft, widening from the shaft to the epicondyles and leaning lateral upward."""
    flare = smooth_step((67.0 - p.w) * (1.0 / 34.0))
    half_u, half_v = 14.0 + 26.0 * flare, 13.5 + 5.5 * flare
    u = p.u + 6.0 * np.clip((p.w - 36.0) * (1.0 / 48.0), 0.0, 1.3)
    side = ellipse(u, p.v - 12.5 + 2.0 * flare, half_u, half_v)
    # The flare slopes outward, so the nearest point of the surface is nearer than the one at the same height.
    slope = (26.0 * 6.0 / 34.0) * (flare * 0.0 + np.clip((67.0 - p.w) * (1.0 / 34.0), 0.0, 1.0))
    slope = slope * (1.0 - np.clip((67.0 - p.w) * (1.0 / 34.0), 0.0, 1.0)) * np.minimum(np.abs(u) / half_u, 1.0)
    return smooth_max(side / np.sqrt(1.0 + slope * slope), 25.0 - p.w, 8.0)


def _blunt(inside: Field, ramp: float = 2.5) -> Field:
    """Share of a cartilage's thickness `inside` mm from its margin: it ends in a step, so that its edge is sharp."""
    return np.where(inside > 0.0, 0.4 + 0.6 * smooth_step(inside * (1.0 / ramp)), np.float32(0.0))


def _femoral_cartilage(p: Points, shape: Shape, gap: Field) -> Field:
    top = TOP - 9.0 * smooth_step((14.0 - p.v) * (1.0 / 22.0))
    # Near the joint line it reaches the condyle's edge; higher up the flank is bare, and osteophytes grow there.
    side = 35.8 - 2.2 * smooth_step((p.w - 9.0) * 0.25) - 9.5 * smooth_step((p.v - 8.0) * (1.0 / 28.0))
    crest = (71.0 - np.abs(p.u) - 0.95 * p.w) * 0.725  # none on the slopes above the epicondyles
    inside = np.minimum(np.minimum(top - p.w, side - np.abs(p.u)), np.minimum((gap - 1.0) * 1.2, crest))
    front = 1.0 + 0.15 * smooth_step((p.v - 16.0) * (1.0 / 10.0))
    return shape.femoral_cartilage * front * _blunt(inside)


def plateau(p: Points, shape: Shape, *, medial: bool) -> Field:
    """Contour of one half of the tibia's head, seen from above; `MARGIN` inside it ends the articular surface."""
    sink = smooth_step((-p.w - 9.0) * (1.0 / 46.0))
    sign = 1.0 if medial else -1.0
    depth = shape.plateau_depth if medial else shape.lateral_depth
    half_u, half_v = 19.6 - 4.6 * sink, depth + (15.5 - depth) * sink
    return ellipse(p.u - sign * (18.6 - 14.6 * sink), p.v - 1.0 - 0.5 * sink, half_u, half_v)


def tibia(p: Points, shape: Shape, medial: Field, lateral: Field) -> Bone:
    """Proximal tibia with its spines and tubercle, from the contours of its two halves."""
    side = smooth_min(smooth_min(medial, lateral, 9.0), ellipse(p.u, p.v - 1.0, 19.0, 19.5), 7.0)
    side = smooth_max(side, 8.5 - np.sqrt(p.u * p.u + (p.v + 27.0) ** 2), 6.0)
    thick = np.where(p.u > 0.0, np.float32(shape.medial_cartilage), np.float32(shape.lateral_cartilage))
    # The halves differ in height; blended over the eminence, where the spines hide the step.
    blend = smooth_step((p.u + 6.0) * (1.0 / 12.0))
    level = shape.lateral_cartilage + (shape.medial_cartilage - shape.lateral_cartilage) * blend
    solid = smooth_max(side, p.w + level, 6.0)
    for u, v, top in ((5.6, -1.0, 7.0), (-5.6, -3.0, 5.6)):
        solid = smooth_min(solid, ellipsoid(p, (u, v, -4.0), (4.6, 8.0, top + 4.0)), 4.0)
    solid = smooth_min(solid, ellipsoid(p, (-3.0, 20.5, -35.0), (10.0, 11.0, 15.0)), 6.0)
    margin = -MARGIN - np.where(p.u > 0.0, medial, lateral)
    inside = np.minimum(np.minimum(margin, np.abs(p.u) - 7.8), p.w + 9.0)
    return Bone(solid, thick * _blunt(inside))


def patella(p: Points, shape: Shape) -> Bone:
    """Patella: a dome in front, two facets behind that meet in a ridge, a blunt point below."""
    cu, cw = shape.patella_centre
    u, w = p.u - cu, p.w - cw
    rim = ellipse(u, w, shape.patella_width, shape.patella_height)
    reach2 = (u / shape.patella_width) ** 2 + (w / shape.patella_height) ** 2
    front = (p.v - (shape.ridge + 22.0) + 7.0 * np.minimum(reach2, 1.5)) * 0.9
    facet = np.where(u > 0.0, np.float32(0.52), np.float32(0.42)) * (np.sqrt(u * u + 2.0) - 1.4)
    facet = facet + 0.35 * np.maximum(-8.0 - w, 0.0)
    back = (shape.ridge + facet - p.v) * 0.9
    solid = smooth_max(smooth_max(front, back, 4.0), rim, 4.0)
    inside = np.minimum(np.minimum(-5.5 - rim, w + 13.5), shape.patella_height - 9.0 - w)
    inside = np.minimum(inside, back + 3.0)
    return Bone(solid, shape.patellar_cartilage * _blunt(inside))


def fibula(p: Points) -> Field:
    """Head and shaft of the fibula: lateral, behind, below."""
    shaft, _ = rod(p, (-35.0, -22.0, -24.0), (-32.0, -21.0, -110.0), 6.5)
    return smooth_min(shaft, ball(p, (-36.0, -21.0, -23.0), 10.0), 8.0)
