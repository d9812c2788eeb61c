"""Render a knee as a scanner without noise would see it: signals of all tissues, mixed where a voxel has several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom import tissues
from reasonknee_datasets.phantom.anatomy import CAPSULE, NearbyAnatomy, is_near, label_map, look, take_sample
from reasonknee_datasets.phantom.lesions import (
    CORTEX,
    WORN,
    BoneLesion,
    CartilageLesion,
    plan_bone_lesions,
    plan_cartilage_lesions,
)
from reasonknee_datasets.phantom.mask_labels import FINDINGS
from reasonknee_datasets.phantom.osteophytes import Lip, plan_osteophytes
from reasonknee_datasets.phantom.shape import (
    FAR,
    FILM,
    Field,
    Points,
    Shape,
    ball,
    ellipsoid,
    filled_share,
    region_labels,
    smooth_max,
    smooth_step,
)
from reasonknee_datasets.phantom.signs import SIGNAL, Wanted, questions_of
from reasonknee_datasets.phantom.soft_tissue_findings import (
    EFFUSION_REACH,
    Effusion,
    MeniscusPlan,
    Synovitis,
    plan_effusion,
    plan_menisci,
    plan_synovitis,
    streaks,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One knee with all its lesions, ready to be painted at any points."""

    shape: Shape
    bone_lesions: tuple[BoneLesion, ...]
    cartilage_lesions: tuple[CartilageLesion, ...]
    lips: tuple[Lip, ...]
    menisci: dict[str, MeniscusPlan]
    effusion: Effusion
    synovitis: Synovitis | None
    ligaments: frozenset[tuple[str, str]]  # findings of ligaments and tendon that are there, by name and attribute


def plan_scene(wanted: Wanted, shape: Shape, seed: list[int]) -> Scene:
    """Turn grades into lesions of known place and size."""
    sample = take_sample(shape)
    return Scene(
        shape=shape,
        bone_lesions=plan_bone_lesions(wanted, sample, shape, seed),
        cartilage_lesions=plan_cartilage_lesions(wanted, sample, shape, seed),
        lips=plan_osteophytes(wanted, shape),
        menisci=plan_menisci(wanted, shape),
        effusion=plan_effusion(wanted, shape),
        synovitis=plan_synovitis(wanted, sample, seed),
        ligaments=frozenset(
            (slot.finding, slot.attribute)
            for finding in (*tissues.CRUCIATES, "patellar_tendon")
            for question in questions_of(finding)
            for slot in QUESTIONS[question].slots
            if wanted.grade(question, slot.attribute)
        ),
    )


class Canvas:
    """Signals and labels of some points, painted tissue over tissue.

    `width`: edges are blurred over this many mm, about a voxel.
    """

    def __init__(self, scene: Scene, p: Points, width: float) -> None:
        self.scene, self.p, self.width = scene, p, width
        self.signal = np.zeros_like(p.u)
        self.label = np.zeros_like(p.u)

    def over(self, distance: Field, tissue: str, index: NDArray[np.intp] | None = None) -> None:
        """Paint a solid over what is there; with an index, over those points only."""
        share = filled_share(distance, self.width)
        if index is None:
            self.signal += share * (SIGNAL[tissue] - self.signal)
        else:
            below = self.signal[index]
            self.signal[index] = below + share * (SIGNAL[tissue] - below)

    def near(self, distance: Field, within: float = 0.0) -> NDArray[np.intp]:
        """Find the points that a solid touches."""
        return np.flatnonzero(distance < within + self.width)


def paint(scene: Scene, p: Points, width: float) -> Canvas:
    """Paint all tissues at some points, from the skin inward."""
    canvas = Canvas(scene, p, width)
    skin = tissues.leg(p)
    if float(skin.min()) > width:
        return canvas  # air
    canvas.over(skin, "skin")
    canvas.over(skin + 2.0, "fat")
    canvas.over(tissues.muscles(p), "muscle")
    canvas.over(tissues.vessels(p), "vessel")
    view = look(p, scene.shape)
    canvas.label = label_map(view, scene.shape)
    _around_joint(canvas, view)
    _fluid(canvas, view)
    lips = _osteophytes(canvas, view)
    standing = _cartilage(canvas, view)
    _bone(canvas, view, standing)
    added = np.full_like(p.u, FAR)
    for half, ring in view.menisci.items():
        grown = _meniscus(canvas, scene.menisci[half], ring, view.distance("femur"))
        if scene.menisci[half].grown:
            added = np.minimum(added, grown)
    _ligaments(canvas, view)
    _label_findings(canvas, view, lips, added)
    return canvas


def _around_joint(canvas: Canvas, view: NearbyAnatomy) -> None:
    """Capsule, fat pad and quadriceps tendon."""
    p = canvas.p
    around = np.minimum(view.distance("femur"), view.distance("tibia"))
    if "patella" in view.bones:
        # Thinner in front of the patella, where the skin is near.
        front = 4.0 * smooth_step((p.v - canvas.scene.shape.ridge - 10.0) * 0.2)
        around = np.minimum(around, view.distance("patella") + 0.5 + front)
    if view.bones:
        ends = np.maximum(p.w - 58.0 + 0.3 * np.abs(p.u), -22.0 - p.w)
        canvas.over(smooth_max(around - CAPSULE, ends, 14.0), "capsule")
    if view.hoffa is not None:
        index = canvas.near(view.hoffa)
        pad, q = view.hoffa[index], p.take(index)
        canvas.over(pad, "fat", index)
        canvas.over(np.maximum(streaks(q), pad + 0.5), "capsule", index)
        if canvas.scene.synovitis is not None:
            canvas.over(canvas.scene.synovitis.distance(q, pad), "synovitis", index)
    if is_near(p, ((-20.0, 18.0), (34.0, 66.0), (44.0, 120.0))):
        canvas.over(tissues.quadriceps_tendon(p, canvas.scene.shape), "muscle")


def _fluid(canvas: Canvas, view: NearbyAnatomy) -> None:
    """Effusion, and the film on all cartilage."""
    if is_near(canvas.p, EFFUSION_REACH):
        canvas.over(canvas.scene.effusion.distance(view, canvas.scene.shape), "fluid")
    for bone in view.bones.values():
        index = np.flatnonzero((bone.cartilage > 0.0) & (bone.distance < bone.cartilage + FILM + canvas.width))
        canvas.over((bone.distance - bone.cartilage)[index] - FILM, "fluid", index)
    for plan in canvas.scene.menisci.values():
        if plan.cyst:
            canvas.over(plan.cyst_distance(canvas.p), "fluid")


def _osteophytes(canvas: Canvas, view: NearbyAnatomy) -> Field:
    """Lips of marrow; what they cover is returned, since no fluid is there."""
    covered = np.full_like(canvas.p.u, FAR)
    for lip in canvas.scene.lips:
        if lip.bone in view.bones:
            bone = view.bones[lip.bone]
            distance = lip.distance(canvas.p)
            distance = np.where(bone.cartilage > 0.0, np.maximum(distance, bone.cartilage - bone.distance), distance)
            canvas.over(distance, "marrow")
            covered = np.minimum(covered, distance)
    return covered


def _cartilage(canvas: Canvas, view: NearbyAnatomy) -> dict[str, Field]:
    """Cartilage without its defects; returns the distance to the bone that remains under them."""
    standing = {name: bone.distance for name, bone in view.bones.items()}
    for name, bone in view.bones.items():
        close = np.abs(bone.distance - 0.5 * bone.cartilage) < 0.5 * bone.cartilage + canvas.width + WORN
        index = np.flatnonzero((bone.cartilage > 0.0) & close)
        if not index.size:
            continue
        worn = np.zeros_like(canvas.p.u)
        p, thick = canvas.p.take(index), bone.cartilage[index]
        owner = region_labels(p, canvas.scene.shape, name)
        for lesion in canvas.scene.cartilage_lesions:
            mine = np.flatnonzero(owner == lesion.region.label)
            if mine.size:
                left, bare = lesion.remaining(p.take(mine), canvas.width)
                thick[mine] *= left
                worn[index[mine]] = WORN * bare
        standing[name] = bone.distance + worn
        distance = bone.distance[index]
        canvas.over(distance - bone.cartilage[index], "fluid", index)
        # Bare bone: no cartilage at all, not a film of half a voxel.
        canvas.over(np.where(thick > 0.02, distance - thick, FAR), "cartilage", index)
    return standing


def _bone(canvas: Canvas, view: NearbyAnatomy, standing: dict[str, Field]) -> None:
    """Cortex, marrow, and lesions in the marrow."""
    for name, bone in standing.items():
        index = canvas.near(bone)
        if not index.size:
            continue
        distance, p = bone[index], canvas.p.take(index)
        canvas.over(distance, "cortex", index)
        canvas.over(distance + CORTEX, "marrow", index)
        labels = canvas.label[index]
        for lesion in canvas.scene.bone_lesions:
            mine = np.flatnonzero((labels == lesion.region.label) & (distance < 0.0))
            if lesion.region.bone == name and mine.size:
                whole, cyst = lesion.distances(p.take(mine), distance[mine])
                canvas.over(whole, "bone_marrow_lesion", index[mine])
                canvas.over(cyst, "fluid", index[mine])
    if view.fibula is not None:
        canvas.over(view.fibula, "cortex")
        canvas.over(view.fibula + CORTEX, "marrow")
    _attachments(canvas, view)


def _attachments(canvas: Canvas, view: NearbyAnatomy) -> None:
    """Lesion at a ligament's tibial attachment, screw at its femoral one."""
    found = canvas.scene.ligaments
    for name in view.sites:
        _, sites = tissues.CRUCIATES[name]
        if (name, "insertion_lesion") in found:
            inside = view.distance("tibia") + CORTEX
            canvas.over(np.maximum(ball(canvas.p, sites[0], 4.0), inside), "bone_marrow_lesion")
            canvas.over(np.maximum(ball(canvas.p, sites[0], 2.0), inside), "fluid")
        if (name, "repair") in found:
            inside = view.distance("femur") + CORTEX
            canvas.over(np.maximum(ball(canvas.p, sites[1], 4.4), inside), "bone_marrow_lesion")
            canvas.over(np.maximum(ball(canvas.p, sites[1], 2.9), inside), "screw")


def _meniscus(canvas: Canvas, plan: MeniscusPlan, ring: tissues.Meniscus, femur: Field | np.float32) -> Field:
    """Paint the wedge with added and missing tissue; return the distance to the added tissue."""
    added = plan.added(canvas.p, ring, femur)
    index = canvas.near(np.minimum(added, ring.distance))
    if not index.size:
        return added
    p = canvas.p.take(index)
    part = tissues.Meniscus(*(field[index] for field in (ring.distance, ring.depth, ring.angle, ring.top, ring.free)))
    canvas.over(part.distance, "meniscus", index)
    canvas.over(added[index], "meniscus", index)
    canvas.over(plan.signal(p, part), "meniscal_signal", index)
    canvas.over(plan.lost(p, part), "fluid", index)
    return added


def _ligaments(canvas: Canvas, view: NearbyAnatomy) -> None:
    """Cruciate ligaments outside bone, and the patellar tendon."""
    found = canvas.scene.ligaments
    for name, (distance, along) in view.cruciates.items():
        outside = np.maximum(distance, -np.minimum(view.distance("femur"), view.distance("tibia")))
        canvas.over(outside, "ligament")
        if (name, "complete_tear") in found:
            canvas.over(np.maximum(outside - 0.3, (np.abs(along - 0.5) - 0.16) * 28.0), "fluid")
    if view.patellar_tendon is not None:
        distance, _ = view.patellar_tendon
        canvas.over(distance, "ligament")
        if ("patellar_tendon", "signal") in found:
            (v, w), (end_v, end_w), u = tissues.patellar_tendon_path(canvas.scene.shape)
            centre = (u, v + 0.28 * (end_v - v), w + 0.28 * (end_w - w))
            spindle = ellipsoid(canvas.p, centre, (7.0, 5.0, 9.0))
            canvas.over(np.maximum(spindle, distance + 0.8), "tendon_signal")


def _label_findings(canvas: Canvas, view: NearbyAnatomy, lips: Field, added: Field) -> None:
    """Label the findings that are there, where no structure is labelled."""
    free = canvas.label == 0.0
    if is_near(canvas.p, EFFUSION_REACH):
        wet = canvas.scene.effusion.distance(view, canvas.scene.shape) < 0.0
        canvas.label[wet & (lips > 0.0) & free] = FINDINGS["joint_effusion"]
        free &= (
            canvas.label == 0.0
        )  # the effusion is a region: its label stays where it is, whatever the other findings
    for plan in canvas.scene.menisci.values():
        if plan.cyst:
            canvas.label[(plan.cyst_distance(canvas.p) < 0.0) & free] = FINDINGS["meniscal_cyst"]
    canvas.label[(added < 0.0) & free] = FINDINGS["meniscal_extrusion"]
    canvas.label[(lips < 0.0) & free] = FINDINGS["marginal_osteophyte"]
