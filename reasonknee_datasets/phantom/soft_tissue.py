"""Menisci, ligaments, tendons, fat pad, muscles and skin as solids."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from reasonknee_datasets.phantom.shape import MARGIN, Shape
from reasonknee_datasets.phantom.solids import (
    FAR,
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

MENISCUS_WIDTH = 10.0  # from the outer wall to the free inner edge, mm
MENISCUS_CENTRE = 18.6  # distance of a meniscus' middle from the mid-line, mm

Triple = tuple[float, float, float]

# Attachments of the cruciate ligaments in bone: at the tibia, at the femur. The balls are part of the ligament's label.
ACL_PATH: tuple[Triple, ...] = ((2.0, 10.0, -2.0), (-9.0, -3.0, 25.0))
PCL_PATH: tuple[Triple, ...] = ((-0.5, -18.0, -8.0), (2.5, -13.5, 8.0), (9.0, 3.0, 17.5))
ACL_SITES: tuple[Triple, ...] = ((2.2, 10.8, -6.5), (-12.6, -3.6, 26.0))
PCL_SITES: tuple[Triple, ...] = ((-0.5, -15.5, -11.5), (12.0, 4.2, 18.4))
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

    `contour`: `reasonknee_datasets.phantom.bones.plateau` of this half. `free`: distance to the nearer of the two
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


def attachments(p: Points, sites: tuple[Triple, ...]) -> tuple[Field, Field]:
    """Distance to a ligament's two attachments in bone: tibial, femoral."""
    return ball(p, sites[0], SITE_RADIUS), ball(p, sites[1], SITE_RADIUS)


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
