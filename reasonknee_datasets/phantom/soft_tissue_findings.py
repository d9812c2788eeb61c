"""Findings of menisci, joint fluid and Hoffa's fat pad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom.anatomy import NearbyAnatomy, Sample, lattice, look, share_level
from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.shape import FAR, Field, Points, Shape, ball, ellipsoid, points_of, smooth_max
from reasonknee_datasets.phantom.signs import SIGNS, Wanted, questions_of
from reasonknee_datasets.phantom.tissues import MENISCUS_CENTRE, Meniscus, quadriceps_tendon, ring_axes, root_angle

PARTS = ("anterior", "body", "posterior")
_ANGLES = (1.05, 0.0, -1.05)  # middle of each part around the ring
_WINDOWS = (0.30, 0.26, 0.30)  # half of each part's arc that patterns keep to
_CLEFT_ANGLES = (0.85, -0.12, -0.95)  # next to the start of an extruded tongue
HALF_SHEET = 0.8  # of a tear, mm
RIM = 2.2  # depth that patterns leave alone: the outer rim is where `tear_location` shows
_LOST_FROM = {6: 4.6, 7: 3.3, 8: RIM}  # depth beyond which maceration leaves nothing
_VERTICAL_DEPTH = 3.4
CYST_RADIUS = 3.0
TALLER = 3.5  # hypertrophy under the condyle, as far as there is room
LIP_HALF, LIP_OUT, LIP_UP = 14.0, 5.0, 5.0  # its lip: half the arc, how far beyond the wall and above the top
_LIP_LIFT = 0.5  # of the lip's lower side beyond the wall, clear of an extruded tongue, mm
_SLANT = 0.8  # turns a height above that side, where it slants, into a distance
_OFF_BONE = 2.5  # a growth from the bone is an osteophyte
_EDGE = 1.6  # rounding of an extruded tongue, mm


@dataclass(frozen=True, slots=True)
class MeniscusPlan:
    """The findings of one meniscus; lengths in knee coordinates."""

    medial: bool
    morphology: tuple[int, int, int]
    tear: int
    outward: float
    forward: float
    cyst: bool
    hypertrophy: bool
    grown: bool  # a grade of extrusion or hypertrophy says so; every meniscus has some tissue beyond its outline
    root_tear: bool
    axes: tuple[float, float]

    def added(self, p: Points, ring: Meniscus, femur: Field | np.float32) -> Field:
        """Distance to meniscus tissue beyond the healthy meniscus; `femur` is the distance to that bone."""
        centre = MENISCUS_CENTRE if self.medial else -MENISCUS_CENTRE
        # The tongue leaves the body a little in front of its middle; a cleft of the rim keeps a little behind.
        side = _tongue(p, ring, self.outward, np.abs(p.v - 1.0 - 0.1 * self.axes[1]))
        side = np.where(np.abs(ring.angle) < 0.8, side, FAR)
        front = np.where(ring.angle > 0.9, _tongue(p, ring, self.forward, np.abs(p.u - centre)), FAR)
        solid = np.maximum(np.minimum(side, front), ring.free)
        if self.hypertrophy:
            within = np.maximum(np.maximum(-ring.depth, ring.depth - 6.0), np.abs(ring.angle) * 12.0 - 19.0)
            high = np.maximum(p.w - ring.top - TALLER, ring.top - 0.5 - p.w)
            solid = np.minimum(solid, np.maximum(np.maximum(within, high), ring.free))
            solid = np.minimum(solid, np.maximum(self._lip(p, ring), _OFF_BONE - femur))
        return solid

    def _lip(self, p: Points, ring: Meniscus) -> Field:
        """Distance to a lip that rises from the body's upper outer edge into the capsule next to the condyle."""
        lift = _LIP_LIFT * np.clip(-ring.depth, 0.0, 1.0)
        high = np.maximum(p.w - ring.top - LIP_UP, (ring.top + lift - p.w) * _SLANT)
        solid = smooth_max(np.maximum(high, ring.depth - 1.0), -ring.depth - LIP_OUT, 2.0)
        solid = smooth_max(solid, np.abs(self._arc(ring, 0.0)) - LIP_HALF, 2.0)
        # The film of fluid on the cartilage stays.
        return np.asarray(np.maximum(solid, ring.free + 0.4))

    def lost(self, p: Points, ring: Meniscus) -> Field:
        """Distance to fluid within the healthy meniscus."""
        solid = np.full_like(p.u, FAR)
        for part, pattern in enumerate(self.morphology):
            if pattern >= 2:
                solid = np.minimum(solid, self._pattern(p, ring, part, pattern))
        if self.tear < 3:
            along = np.abs(self._arc(ring, _CLEFT_ANGLES[self.tear])) - 3.0
            solid = np.minimum(solid, np.maximum(np.abs(ring.depth - 0.8) - 1.1, along))
        if self.root_tear:
            from_end = (root_angle(medial=self.medial) + ring.angle) * (0.5 * sum(self.axes) - 5.0)
            solid = np.minimum(solid, from_end - 5.5)
        return np.asarray(np.maximum(np.maximum(solid, ring.distance - 0.3), ring.free))

    def signal(self, p: Points, ring: Meniscus) -> Field:
        """Distance to abnormal signal that reaches no surface."""
        solid = np.full_like(p.u, FAR)
        for part, pattern in enumerate(self.morphology):
            if pattern == 1:
                along = self._arc(ring, _ANGLES[part])
                seen = Points(along, ring.depth, p.w - 0.5 * ring.top)
                solid = np.minimum(solid, ellipsoid(seen, (0.0, 3.6, 0.0), (4.0, 1.6, 1.1)))
        return np.asarray(np.maximum(solid, ring.distance + 0.4))

    def cyst_distance(self, p: Points) -> Field:
        """Distance to a cyst next to the rear outer corner, within the corner of the meniscus' box."""
        if not self.cyst:
            return np.full_like(p.u, FAR)
        a, b = self.axes
        angle = -0.85
        out = np.array([np.cos(angle) / a, np.sin(angle) / b])
        out /= np.linalg.norm(out)
        u = MENISCUS_CENTRE + a * np.cos(angle) + out[0] * (CYST_RADIUS + 0.2)
        v = 1.0 + b * np.sin(angle) + out[1] * (CYST_RADIUS + 0.2)
        return ball(p, (float(u) if self.medial else -float(u), float(v), 2.4), CYST_RADIUS)

    def _arc(self, ring: Meniscus, angle: float) -> Field:
        """Distance along the ring from an angle, mm."""
        a, b = self.axes
        radius = float(np.hypot(a * np.sin(angle), b * np.cos(angle)))
        return np.asarray((ring.angle - angle) * (radius * np.clip(1.0 - ring.depth * (2.0 / (a + b)), 0.3, 1.2)))

    def _pattern(self, p: Points, ring: Meniscus, part: int, pattern: int) -> Field:
        """Distance to a tear's sheet or to the macerated piece, clear of the outer rim."""
        window = (np.abs(ring.angle - _ANGLES[part]) - _WINDOWS[part]) * 14.0
        radial = np.abs(self._arc(ring, _ANGLES[part])) - HALF_SHEET
        vertical = np.maximum(np.abs(ring.depth - _VERTICAL_DEPTH) - HALF_SHEET, window)
        if pattern in _LOST_FROM:
            return np.asarray(np.maximum(window, _LOST_FROM[pattern] - ring.depth))
        sheets = {
            2: radial,
            3: np.maximum(np.abs(p.w - 0.5 * ring.top) - HALF_SHEET, window),
            4: vertical,
            5: np.minimum(radial, vertical),
        }
        return np.asarray(np.maximum(sheets[pattern], RIM - ring.depth))


def _tongue(p: Points, ring: Meniscus, reach: float, beside: Field) -> Field:
    """Return a rounded bar from the outer wall outward; its flat end is `reach` mm beyond the wall."""
    out = np.maximum(-ring.depth - (reach - _EDGE), ring.depth - 1.0)
    side = np.maximum(beside - 3.5, 0.0)
    height = np.maximum(np.abs(p.w - 2.0) - 0.7, 0.0)
    beyond = np.maximum(out, 0.0)
    return np.asarray(np.sqrt(beyond * beyond + side * side + height * height) - _EDGE)


def plan_menisci(wanted: Wanted, shape: Shape) -> dict[str, MeniscusPlan]:
    """Read both menisci's findings from the grades."""
    plans = {}
    for half in ("medial", "lateral"):
        own = {finding: _own(finding, half) for finding in _FINDINGS}
        extrusion = SIGNS["meniscal_extrusion", "grade"].targets
        by_place = {
            QUESTIONS[q].subregion.rsplit("_", 1)[1]: wanted.grade(q, "grade") for q in own["meniscal_extrusion"]
        }
        cyst = own["meniscal_cyst"][0]
        hypertrophy = wanted.grade(own["meniscal_hypertrophy"][0], "presence") == 1
        first, second, third = (wanted.grade(q, "morphology") for q in own["meniscal_morphology"])
        plans[half] = MeniscusPlan(
            medial=half == "medial",
            morphology=(first, second, third),
            tear=wanted.grade(cyst, "tear_location"),
            outward=extrusion[by_place[half]] / shape.scale,
            forward=extrusion[by_place["anterior"]] / shape.scale,
            cyst=wanted.grade(cyst, "presence") == 1,
            hypertrophy=hypertrophy,
            grown=hypertrophy or any(by_place.values()),
            root_tear=wanted.grade(own["meniscal_root_tear"][0], "presence") == 1,
            axes=ring_axes(shape, medial=half == "medial"),
        )
    return plans


_FINDINGS = (
    "meniscal_extrusion",
    "meniscal_morphology",
    "meniscal_cyst",
    "meniscal_hypertrophy",
    "meniscal_root_tear",
)


def _own(finding: str, half: str) -> tuple[int, ...]:
    return tuple(q for q in questions_of(finding) if QUESTIONS[q].subregion.startswith(half))


_HALF = (21.0, 7.5, 17.0)  # half axes of the suprapatellar recess at level 1, mm
_STEP = 2.0
_LOW, _HIGH = (-50.0, 14.0, 24.0), (48.0, 60.0, 92.0)
EFFUSION_REACH = ((-44.0, 42.0), (16.0, 58.0), (20.0, 90.0))
FAT_PAD_EDGE = 0.8  # of the fat pad that synovitis leaves out, mm


@dataclass(frozen=True, slots=True)
class Effusion:
    """Fluid of the suprapatellar recess, which reaches down between patella and trochlea."""

    level: float
    middle: tuple[float, float, float]

    def fill(self, p: Points) -> Field:
        """Level at which the fluid reaches a point."""
        return np.asarray(np.sqrt(sum((c * (1.0 / half)) ** 2 for c, half in zip(self._axes(p), _HALF, strict=True))))

    def _axes(self, p: Points) -> tuple[Field, Field, Field]:
        u, v, w = (c - m for c, m in zip((p.u, p.v, p.w), self.middle, strict=True))
        return u, v + 0.2 * w, w  # the recess leans back upward, along the quadriceps tendon

    def distance(self, view: NearbyAnatomy, shape: Shape) -> Field:
        """Distance to the fluid."""
        level = self.fill(view.p) + np.float32(1e-6)
        slopes = ((c / half**2) ** 2 for c, half in zip(self._axes(view.p), _HALF, strict=True))
        slope = np.sqrt(sum(slopes)) + 1e-6
        return np.asarray(np.maximum((level - self.level) * level / slope, walls(view, shape)))


def walls(view: NearbyAnatomy, shape: Shape) -> Field:
    """Distance to the room that fluid can fill: outside bones and cartilage, behind the quadriceps tendon."""
    solid = -quadriceps_tendon(view.p, shape)
    for bone in ("femur", "patella"):
        solid = np.maximum(solid, -view.beyond_cartilage(bone))
    return solid


def plan_effusion(wanted: Wanted, shape: Shape) -> Effusion:
    """Fill the recess with the grade's number of millilitres."""
    target = SIGNS["effusion_synovitis", "grade"].targets[wanted.grade(43, "grade")]
    u, w = shape.patella_centre
    empty = Effusion(0.0, (u, shape.ridge - 4.5, w + shape.patella_height - 1.0))
    view = look(points_of(lattice(_LOW, _HIGH, _STEP)), shape)
    fill = np.where(walls(view, shape) < 0.0, empty.fill(view.p), np.float32(np.inf)).astype(np.float32)
    voxels = target * 1000.0 / (_STEP * shape.scale) ** 3
    return Effusion(share_level(fill, 1.0, total=voxels), empty.middle)


@dataclass(frozen=True, slots=True)
class Synovitis:
    """Patches of bright signal that grow from a few foci in the fat pad."""

    radius: float
    foci: tuple[tuple[float, float, float], ...]

    def reach(self, p: Points) -> Field:
        """Distance from the nearest focus."""
        squares = [(p.u - u) ** 2 + (p.v - v) ** 2 + (p.w - w) ** 2 for u, v, w in self.foci]
        return np.asarray(np.sqrt(np.minimum.reduce(squares)))

    def distance(self, p: Points, fat_pad: Field) -> Field:
        """Distance to the patches."""
        return np.asarray(np.maximum(self.reach(p) - self.radius, fat_pad + FAT_PAD_EDGE))


def plan_synovitis(wanted: Wanted, sample: Sample, seed: list[int]) -> Synovitis | None:
    """Grow the patches to the grade's share of the fat pad."""
    grade = wanted.grade(42, "grade")
    if grade == 0 or sample.view.hoffa is None:
        return None
    random = np.random.Generator(np.random.PCG64([*seed, 42]))
    index = sample.where(LABELS["hoffa_fat_pad"])
    p, pad = sample.view.p.take(index), sample.view.hoffa[index]
    deep = np.flatnonzero(pad < -3.0)
    chosen = random.choice(deep, size=5, replace=False)
    foci = tuple((float(p.u[i]), float(p.v[i]), float(p.w[i])) for i in chosen)
    found = Synovitis(0.0, foci)
    reach = np.where(pad < -FAT_PAD_EDGE, found.reach(p), np.float32(np.inf)).astype(np.float32)
    return Synovitis(share_level(reach, SIGNS["hoffa_synovitis", "grade"].targets[grade]), foci)


_STREAKS = ((-8.0, 1.1), (2.0, 0.9), (9.0, -1.0))


def streaks(p: Points) -> Field:
    """Distance to the thin septa that run through any fat pad."""
    sheets = [np.abs((p.u - u) + 0.5 * (p.w - slope * (p.v - 36.0))) * 0.75 for u, slope in _STREAKS]
    return np.asarray(np.minimum.reduce(sheets)) - 0.25
