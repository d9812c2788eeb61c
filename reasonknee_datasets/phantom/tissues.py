"""Bones with their cartilage, menisci, ligaments, tendons, fat pad, muscles and skin as solids."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reasonknee_datasets.phantom.shape import (
    FAR,
    MARGIN,
    TOP,
    Field,
    Points,
    Shape,
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


MENISCUS_WIDTH = 10.0  # from the outer wall to the free inner edge, mm
MENISCUS_CENTRE = 18.6  # distance of a meniscus' middle from the mid-line, mm

Triple = tuple[float, float, float]

# Path of each cruciate ligament, and its attachments in bone, both from tibia to femur. The attachments are balls that
# are part of the ligament's label.
CRUCIATES: Mapping[str, tuple[tuple[Triple, ...], tuple[Triple, Triple]]] = {
    "anterior_cruciate_ligament": (
        ((2.0, 10.0, -2.0), (-9.0, -3.0, 25.0)),
        ((2.2, 10.8, -6.5), (-12.6, -3.6, 26.0)),
    ),
    "posterior_cruciate_ligament": (
        ((-0.5, -18.0, -8.0), (2.5, -13.5, 8.0), (9.0, 3.0, 17.5)),
        ((-0.5, -15.5, -11.5), (12.0, 4.2, 18.4)),
    ),
}
SITE_RADIUS = 4.8
LIGAMENT_RADIUS = 3.9


@dataclass(frozen=True, slots=True)
class Meniscus:
    """A meniscus at some points."""

    distance: Field  # to the healthy meniscus' surface
    depth: Field  # from the outer wall inward, mm; negative outside
    angle: Field  # around the ring, radians: 0 outward, positive to the front; the roots are near ±2
    top: Field  # height of the healthy upper surface above the plateau, mm
    free: Field  # distance to the cartilages' surfaces: negative where a meniscus could be without touching them


def meniscus(p: Points, shape: Shape, contour: Field, free: Field, *, medial: bool) -> Meniscus:
    """Wedge-shaped ring on the margin of one half of the plateau, open toward the notch.

    `contour`: `reasonknee_datasets.phantom.tissues.plateau` of this half. `free`: distance to the nearer of the two
    cartilages, negative between them.
    """
    half_u, half_v = ring_axes(shape, medial=medial)
    u = p.u - MENISCUS_CENTRE if medial else -MENISCUS_CENTRE - p.u
    angle = np.arctan2((p.v - 1.0) * (1.0 / half_v), u * (1.0 / half_u))
    depth = -MARGIN - contour
    top = np.clip(5.6 - 0.47 * depth, 0.9, 5.6)
    end = (np.abs(angle) - root_angle(medial=medial)) * (0.5 * (half_u + half_v) - 5.0)
    wedge = np.maximum((p.w - top) * 0.9, free)
    distance = smooth_max(np.maximum(np.maximum(-depth, depth - MENISCUS_WIDTH), wedge), end, 2.0)
    return Meniscus(distance, depth, angle, top, free)


def ring_axes(shape: Shape, *, medial: bool) -> tuple[float, float]:
    """Half axes (u, v) of a meniscus' outer wall."""
    return 19.6 - MARGIN, (shape.plateau_depth if medial else shape.lateral_depth) - MARGIN


def root_angle(*, medial: bool) -> float:
    """Angle at which the horns end: the lateral meniscus is nearly a closed ring."""
    return 2.10 if medial else 2.42


def cruciate(p: Points, path: tuple[Triple, ...]) -> tuple[Field, Field]:
    """Distance to a cruciate ligament, and how far along it each point is: 0 at the tibia, 1 at the femur."""
    lengths = [float(np.linalg.norm(np.subtract(b, a))) for a, b in itertools.pairwise(path)]
    total, done = sum(lengths), 0.0
    distance, along = np.full_like(p.u, 1e3), np.zeros_like(p.u)
    for start, end, length in zip(path, path[1:], lengths, strict=False):
        piece, share = rod(p, start, end, LIGAMENT_RADIUS)
        nearer = piece < distance
        along = np.where(nearer, (done + share * length) * (1.0 / total), along)
        distance = np.minimum(distance, piece)
        done += length
    return distance, along


def _strap(
    p: Points, start: tuple[float, float], end: tuple[float, float], u: float, half_width: float, half_thick: float
) -> tuple[Field, Field]:
    """Flat band in the (v, w) plane from start to end; distance and how far along."""
    axis_v, axis_w = end[0] - start[0], end[1] - start[1]
    v, w = p.v - start[0], p.w - start[1]
    along = np.clip((v * axis_v + w * axis_w) * (1.0 / (axis_v**2 + axis_w**2)), 0.0, 1.0)
    off = np.sqrt((v - along * axis_v) ** 2 + (w - along * axis_w) ** 2) - half_thick
    return smooth_max(off, np.abs(p.u - u) - half_width, 3.0), along


def patellar_tendon_path(shape: Shape) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Upper end, lower end (v, w) and u of the patellar tendon."""
    u, w = shape.patella_centre
    return (shape.ridge + 10.5, w - shape.patella_height + 1.0), (31.5, -34.0), u - 0.5


def patellar_tendon(p: Points, shape: Shape) -> tuple[Field, Field]:
    """Band from the patella's point to the tibial tubercle; distance and how far down it."""
    start, end, u = patellar_tendon_path(shape)
    return _strap(p, start, end, u, 12.0, 2.9)


def quadriceps_tendon(p: Points, shape: Shape) -> Field:
    """Band from the patella upward, in front of the suprapatellar recess."""
    u, w = shape.patella_centre
    top = w + shape.patella_height
    return _strap(p, (shape.ridge + 14.0, top - 2.0), (shape.ridge + 2.0, top + 45.0), u, 15.0, 3.4)[0]


def fat_pad(p: Points, shape: Shape) -> Field:
    """Hoffa's fat pad, between patellar tendon, trochlea and tibia, before its neighbours are taken out."""
    _, (_, w) = shape.front_centre, shape.patella_centre
    return ellipsoid(p, (-2.0, 34.0, w - 32.0), (19.0, 14.5, 18.0))


def leg(p: Points) -> Field:
    """Skin: fullest around the patella, slimmer above and below."""
    front = 68.5 - 15.0 * smooth_step((16.0 - p.w) * (1.0 / 55.0)) - 6.0 * smooth_step((p.w - 52.0) * (1.0 / 45.0))
    back = 57.0 + 3.0 * smooth_step(p.w * (1.0 / 80.0))
    return ellipse(p.u, p.v - 0.5 * (front - back), 57.0, 0.5 * (front + back))


_MUSCLES: tuple[tuple[Triple, Triple], ...] = (
    ((27.0, 17.0, 72.0), (15.0, 20.0, 32.0)),  # vastus medialis
    ((-29.0, 19.0, 78.0), (14.0, 20.0, 34.0)),  # vastus lateralis
    ((-27.0, -36.0, 45.0), (11.0, 12.0, 60.0)),  # biceps femoris
    ((20.0, -38.0, 48.0), (15.0, 12.0, 60.0)),  # semimembranosus
    ((18.0, -38.0, -18.0), (14.0, 12.0, 44.0)),  # gastrocnemius, medial head
    ((-18.0, -37.0, -20.0), (13.0, 11.0, 44.0)),  # gastrocnemius, lateral head
    ((-26.0, 16.0, -52.0), (12.0, 14.0, 30.0)),  # tibialis anterior
    ((2.0, -26.0, -44.0), (20.0, 8.0, 27.0)),  # popliteus and soleus
)
_VESSELS: tuple[tuple[Triple, Triple, float], ...] = (
    ((-3.0, -33.0, 100.0), (-1.0, -36.0, 10.0), 3.2),  # popliteal artery
    ((-1.0, -36.0, 10.0), (-4.0, -33.0, -80.0), 3.0),
    ((4.0, -38.0, 100.0), (4.5, -41.0, 5.0), 3.8),  # popliteal vein
    ((4.5, -41.0, 5.0), (2.0, -37.0, -80.0), 3.4),
    ((46.0, -26.0, 100.0), (47.0, -24.0, -80.0), 1.9),  # great saphenous vein
    ((-2.0, -35.0, 44.0), (30.0, -20.0, 50.0), 1.3),  # geniculate branches
    ((-2.0, -35.0, 44.0), (-30.0, -20.0, 48.0), 1.3),
)


def muscles(p: Points) -> Field:
    """All muscles as one solid."""
    solid, bounds = np.full_like(p.u, FAR), p.bounds
    for centre, half in _MUSCLES:
        low = [c - h - 3.0 for c, h in zip(centre, half, strict=True)]
        high = [c + h + 3.0 for c, h in zip(centre, half, strict=True)]
        if _meets(bounds, low, high):
            solid = smooth_min(solid, ellipsoid(p, centre, half), 2.0)
    return solid


def vessels(p: Points) -> Field:
    """All vessels as one solid."""
    solid, bounds = np.full_like(p.u, FAR), p.bounds
    for start, end, radius in _VESSELS:
        low = [min(a, b) - radius - 2.0 for a, b in zip(start, end, strict=True)]
        high = [max(a, b) + radius + 2.0 for a, b in zip(start, end, strict=True)]
        if _meets(bounds, low, high):
            solid = np.minimum(solid, rod(p, start, end, radius)[0])
    return solid


def _meets(bounds: tuple[tuple[float, float], ...], low: list[float], high: list[float]) -> bool:
    return all(a < top and b > bottom for (a, b), bottom, top in zip(bounds, low, high, strict=True))
