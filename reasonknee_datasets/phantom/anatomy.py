"""The healthy knee near some points: signed distances of every solid, and the label map.

A coarse sample of a knee is taken before it is drawn, so that a lesion's size can be set to a share of its region.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.phantom import tissues
from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.shape import FAR, FILM, Field, Points, Shape, ball, points_of, region_labels
from reasonknee_datasets.phantom.tissues import Bone, Meniscus

CARTILAGES = {"femur": 47, "patella": 48, "tibia": 49}
CAPSULE = 9.0  # how far the capsule reaches from the ends of femur and tibia, mm

# Lowest and highest u, v, w at which a solid, or the capsule around it, is still of interest.
_REACH = {
    "femur": ((-53.0, 53.0), (-38.0, 56.0), (-1.0, 300.0)),
    "tibia": ((-53.0, 53.0), (-40.0, 46.0), (-300.0, 16.0)),
    "patella": ((-34.0, 32.0), (31.0, 74.0), (8.0, 68.0)),
    "fibula": ((-52.0, -18.0), (-42.0, -6.0), (-300.0, -6.0)),
    "medial": ((-4.0, 44.0), (-34.0, 34.0), (-4.0, 13.0)),
    "lateral": ((-44.0, 4.0), (-34.0, 34.0), (-4.0, 13.0)),
    "cruciate": ((-22.0, 22.0), (-30.0, 22.0), (-22.0, 36.0)),
    "patellar_tendon": ((-22.0, 18.0), (22.0, 66.0), (-44.0, 28.0)),
    "hoffa": ((-24.0, 20.0), (18.0, 54.0), (-18.0, 28.0)),
}


def is_near(p: Points, reach: tuple[tuple[float, float], ...]) -> bool:
    """Check whether some of the points may be within a range of u, v and w."""
    return all(low < top and high > bottom for (low, high), (bottom, top) in zip(p.bounds, reach, strict=True))


@dataclass(frozen=True, slots=True)
class NearbyAnatomy:
    """The healthy anatomy at some points; None for what is too far away to matter."""

    p: Points
    bones: dict[str, Bone]  # femur, tibia, patella: those that are near
    fibula: Field | None
    menisci: dict[str, Meniscus]  # medial, lateral: those that are near
    cruciates: dict[str, tuple[Field, Field]]  # distance, and place along from the tibia (0) to the femur (1)
    sites: dict[str, tuple[Field, Field]]  # distances to a cruciate ligament's tibial and femoral attachment
    patellar_tendon: tuple[Field, Field] | None
    hoffa: Field | None

    def distance(self, bone: str) -> Field | np.float32:
        """Distance to a bone, or far."""
        return self.bones[bone].distance if bone in self.bones else FAR

    def beyond_cartilage(self, bone: str) -> Field | np.float32:
        """Distance to a bone's surface, cartilage included, or far."""
        return self.bones[bone].distance - self.bones[bone].cartilage if bone in self.bones else FAR


def look(p: Points, shape: Shape) -> NearbyAnatomy:
    """Evaluate every solid that is near the points."""
    near = {name for name, reach in _REACH.items() if is_near(p, reach)}
    found: dict[str, Bone] = {}
    contours: dict[str, Field] = {}
    if "femur" in near:
        found["femur"] = tissues.femur(p, shape)
    if "tibia" in near:
        contours = {half: tissues.plateau(p, shape, medial=half == "medial") for half in ("medial", "lateral")}
        found["tibia"] = tissues.tibia(p, shape, contours["medial"], contours["lateral"])
    if "patella" in near:
        found["patella"] = tissues.patella(p, shape)
    menisci: dict[str, Meniscus] = {}
    if contours:
        for half in ("medial", "lateral"):
            if half in near:
                free = _joint_space(found)
                menisci[half] = tissues.meniscus(p, shape, contours[half], free, medial=half == "medial")
    cruciates: dict[str, tuple[Field, Field]] = {}
    sites: dict[str, tuple[Field, Field]] = {}
    if "cruciate" in near:
        for name, (path, (tibial, femoral)) in tissues.CRUCIATES.items():
            cruciates[name] = tissues.cruciate(p, path)
            sites[name] = ball(p, tibial, tissues.SITE_RADIUS), ball(p, femoral, tissues.SITE_RADIUS)
    tendon = tissues.patellar_tendon(p, shape) if "patellar_tendon" in near else None
    hoffa = _fat_pad(p, shape, found, tendon) if "hoffa" in near else None
    fibula = tissues.fibula(p) if "fibula" in near else None
    return NearbyAnatomy(p, found, fibula, menisci, cruciates, sites, tendon, hoffa)


def _joint_space(found: dict[str, Bone]) -> Field:
    """Distance to the cartilages of femur and tibia: negative in the space that menisci fill."""
    tibia = found["tibia"]
    floor = tibia.cartilage - tibia.distance + 0.4
    if "femur" not in found:
        return floor
    femur = found["femur"]
    return np.maximum(floor, femur.cartilage - femur.distance + 0.4)


def _fat_pad(p: Points, shape: Shape, found: dict[str, Bone], tendon: tuple[Field, Field] | None) -> Field:
    """Hoffa's fat pad without its neighbours, and clear of where the patella's lower osteophyte grows."""
    solid = tissues.fat_pad(p, shape)
    for name, clear in (("femur", 2.2), ("tibia", 2.0), ("patella", 1.5)):
        if name in found:
            solid = np.maximum(solid, found[name].cartilage + clear - found[name].distance)
    if tendon is not None:
        (v, w), (end_v, end_w), _ = tissues.patellar_tendon_path(shape)
        behind = (p.v - v - (p.w - w) * ((end_v - v) / (end_w - w))) * 0.95
        solid = np.maximum(solid, np.maximum(0.6 - tendon[0], behind))
    site = (shape.patella_centre[0], shape.ridge + 3.0, shape.patella_centre[1] - 19.0)
    return np.maximum(solid, -ball(p, site, 9.5))


def label_map(view: NearbyAnatomy, shape: Shape) -> Field:
    """Label the healthy anatomy, without the effusion."""
    label = np.zeros_like(view.p.u)
    closest = np.full_like(view.p.u, FILM)
    own = {name: region_labels(view.p, shape, name) for name in view.bones}
    for name, bone in view.bones.items():
        outside = bone.distance - bone.cartilage
        film = (bone.cartilage > 0.0) & (outside < closest)
        label = np.where(film, own[name], label)
        closest = np.where(film, outside, closest)
    if view.hoffa is not None:
        label[view.hoffa < 0.0] = LABELS["hoffa_fat_pad"]
    for name, bone in view.bones.items():
        label[(bone.cartilage > 0.0) & (bone.distance < bone.cartilage)] = CARTILAGES[name]
    for half, ring in view.menisci.items():
        label[ring.distance < 0.0] = LABELS[f"{half}_meniscus"]
    if view.patellar_tendon is not None:
        label[view.patellar_tendon[0] < 0.0] = LABELS["patellar_tendon"]
    for name, (distance, _) in view.cruciates.items():
        label[distance < 0.0] = LABELS[name]
    for name, bone in view.bones.items():
        inside = bone.distance < 0.0
        label[inside] = own[name][inside]
    for name, (tibial, femoral) in view.sites.items():
        in_tibia = (tibial < 0.0) & (view.distance("tibia") < 0.0)
        in_femur = (femoral < 0.0) & (view.distance("femur") < 0.0)
        label[in_tibia | in_femur] = LABELS[name]
    return label


STEP = 2.4  # of the lattice, mm: more than a thousand points in the smallest subregion's bone
FINE = 3  # cartilage is 2 to 4 mm thick, so its lattice is this much finer

_LOW, _HIGH = (-42.0, -30.0, -28.0), (43.0, 66.0, 61.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """Lattice points of the joint: their anatomy and label."""

    view: NearbyAnatomy
    label: Field

    def where(self, label: int) -> NDArray[np.intp]:
        """Find the points with a label."""
        return np.flatnonzero(self.label == label)


def lattice(low: tuple[float, ...], high: tuple[float, ...], step: float) -> NDArray[np.float32]:
    """One point somewhere in every cell of a cubic lattice, (n, 3).

    Not in the cells' middles: the borders of subregions run along the axes, and would be off by up to a step.

    Examples
    --------
    >>> np.floor(lattice((0, 0, 0), (2, 1, 1), 1.0)).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    axes = [np.arange(a, b, step, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = np.random.Generator(np.random.PCG64(0)).random(corners.shape, dtype=np.float32)
    return corners + np.float32(step) * shifts


def take_sample(shape: Shape) -> Sample:
    """Sample the whole joint."""
    view = look(points_of(lattice(_LOW, _HIGH, STEP)), shape)
    return Sample(view, label_map(view, shape))


def cartilage_points(sample: Sample, shape: Shape, bone: str, label: int) -> NearbyAnatomy:
    """Sample the cartilage over one subregion more finely."""
    coarse = sample.view.bones[bone]
    shell = np.abs(coarse.distance - 0.5 * coarse.cartilage) < 0.5 * coarse.cartilage + STEP
    owner = region_labels(sample.view.p, shape, bone) == label
    index = np.flatnonzero(shell & (coarse.cartilage > 0.0) & owner)
    p = sample.view.p
    centres = np.stack([p.u[index], p.v[index], p.w[index]], axis=-1)
    shifts = STEP * (np.array(list(itertools.product(range(FINE), repeat=3)), np.float32) - (FINE - 1) / 2) / FINE
    view = look(points_of((centres[:, None] + shifts).reshape(-1, 3)), shape)
    labels = label_map(view, shape)
    mine = (labels == CARTILAGES[bone]) & (region_labels(view.p, shape, bone) == label)
    return look(view.p.take(np.flatnonzero(mine)), shape)


def share_level(values: Field, share: float, total: float | None = None, weights: Field | None = None) -> float:
    """Find the level below which are `share` of all points; infinite values are never below it.

    `share`: share of `total`. `total`: by default the sum of the weights.

    Examples
    --------
    >>> share_level(np.arange(10, dtype=np.float32), 0.3)
    2.5
    """
    order = np.argsort(values, kind="stable")
    weight = np.ones_like(values) if weights is None else weights
    reached = np.cumsum(weight[order], dtype=np.float64)
    goal = share * (float(reached[-1]) if total is None else total)
    finite = int(np.isfinite(values).sum())
    index = min(int(np.searchsorted(reached, goal - 1e-9)), finite - 1)
    if index >= finite - 1:
        return float(values[order[finite - 1]]) + 1.0
    return float(0.5 * (values[order[index]] + values[order[index + 1]]))
