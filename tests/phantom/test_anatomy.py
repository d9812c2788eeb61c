"""The drawn knee: that it is one, on any grid, and that each grade leaves its sign where its question's box is."""

from __future__ import annotations

import gzip
from functools import cache

import numpy as np
import pytest

from reasonknee_datasets.boxes import label_boxes
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom import LABELS, REGION_NAMES, DrawnKnee, KneeSpec, draw_knee, region_of
from reasonknee_datasets.phantom.anatomy import look
from reasonknee_datasets.phantom.grade_sampling import RECORD_SLOTS
from reasonknee_datasets.phantom.knee import knee_frame
from reasonknee_datasets.phantom.mask_labels import FINDINGS, STRUCTURES
from reasonknee_datasets.phantom.shape import draw_shape
from reasonknee_datasets.phantom.signs import SIGNAL, SIGNS
from reasonknee_datasets.volumes.reference import Geometry

COARSE, TINY, OAI = (40, 70, 70), (64, 128, 128), (160, 384, 384)
FIELD = (112.0, 140.0, 140.0)


def grid(counts=COARSE, tilt=6.0, axes=((0, 1), (1, 1), (2, 1))):
    """A tilted grid over the usual field of view; `axes` gives each array axis its world axis and direction."""
    angle = np.deg2rad(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    for column, (axis, sign) in enumerate(axes):
        affine[:3, column] = turn[:, axis] * (sign * FIELD[axis] / counts[axis])
    shape = tuple(counts[axis] for axis, _ in axes)
    affine[:3, 3] = np.array([80.0, -12.0, 7.0]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


@cache
def healthy(side="right", counts=COARSE, seed=3) -> DrawnKnee:
    return draw_knee(KneeSpec(seed, 1, 1, side, {}, grid(counts), noise=False))


def graded(grades, counts=COARSE, side="right", seed=3, **flags) -> DrawnKnee:
    return draw_knee(KneeSpec(seed, 1, 1, side, grades, grid(counts), noise=False, **flags))


def world(mask, affine):
    """World coordinates of a mask's voxels."""
    return np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]


def middle(knee, *names):
    return world(np.isin(knee.mask, [LABELS[name] for name in names]), knee.affine).mean(axis=0)


# Anatomy


@pytest.mark.slow
def test_extents_are_the_medians_of_real_knees():
    wanted = {"femur": (80, 66, 84), "tibia": (76, 57, 65), "patella": (44, 23, 42), "cartilage": (73, 69, 44)}
    found = {name: [] for name in wanted}
    for seed in range(7):
        spec = KneeSpec(seed, 1, 1, "right", {}, grid((64, 84, 84), tilt=0.0))
        shape = draw_shape(seed, 1)
        points = knee_frame(spec, shape).points((0, 0, 0), spec.geometry.shape)
        view = look(points, shape)
        solids = {name: bone.distance < 0 for name, bone in view.bones.items()}
        femur = view.bones["femur"]
        solids["cartilage"] = (femur.distance > 0) & (femur.distance < femur.cartilage)
        for name, solid in solids.items():
            at = world(solid.reshape(spec.geometry.shape), np.asarray(spec.geometry.affine))
            found[name].append(np.ptp(at, axis=0) + np.array(FIELD) / (64, 84, 84))
    for name, extents in found.items():
        assert np.median(extents, axis=0) == pytest.approx(wanted[name], rel=0.07), name
        assert (np.std(extents, axis=0) > 0.5).all(), f"{name} must vary between patients"


@pytest.mark.parametrize(("side", "lateral"), [("right", 1.0), ("left", -1.0)])
def test_anatomy_parts_are_in_place(side, lateral):
    knee = healthy(side)
    femur, tibia = middle(knee, "femur_medial_central", "femur_lateral_central"), middle(knee, "tibia_subspinous")
    assert femur[2] > tibia[2]
    assert middle(knee, "patella_medial", "patella_lateral")[1] > femur[1] + 25
    assert middle(knee, "hoffa_fat_pad")[1] > tibia[1] + 20
    for part in ("meniscus", "tibia_{}_central", "femur_{}_posterior", "patella_{}"):
        names = [part.format(half) if "{" in part else f"{half}_{part}" for half in ("medial", "lateral")]
        medial, outer = (middle(knee, name) for name in names)
        assert (outer[0] - medial[0]) * lateral > 12, part
    assert middle(knee, "femur_medial_posterior")[1] < middle(knee, "femur_medial_anterior")[1] - 25


@pytest.mark.parametrize(("side", "lateral"), [("right", 1.0), ("left", -1.0)])
def test_fibula_is_lateral_and_behind(side, lateral):
    knee = healthy(side, TINY)
    tibia = world(np.isin(knee.mask, range(58, 65)), knee.affine)
    low = world((knee.clean < 80) & (knee.clean > 60) & (knee.mask == 0), knee.affine)
    low = low[(low[:, 2] < tibia[:, 2].min() - 6) & (low[:, 2] > tibia[:, 2].min() - 10)]
    side_of = (low[:, 0] - np.median(tibia[:, 0])) * lateral
    fibula = low[side_of > 26]
    assert len(fibula) > 50
    assert fibula[:, 1].mean() < np.median(tibia[:, 1]) - 10
    assert (side_of < -26).sum() < len(fibula) / 4, "on the medial side there is only the edge of the skin"


def test_medial_and_lateral_differ_in_shape():
    knee = healthy(counts=TINY)
    medial, lateral = (world(knee.mask == LABELS[f"{half}_meniscus"], knee.affine) for half in ("medial", "lateral"))
    assert np.ptp(medial[:, 1]) > np.ptp(lateral[:, 1]) + 3, "the medial meniscus is longer from front to rear"


def test_contrast_is_that_of_water_excited_dess():
    knee = healthy(counts=TINY)
    level = {name: np.median(knee.clean[knee.mask == LABELS[name]]) for name in STRUCTURES | {"joint_effusion": 0}}
    dark = {level["medial_meniscus"], level["anterior_cruciate_ligament"], level["patellar_tendon"]}
    assert max(dark) < level["femur_medial_central"] < level["hoffa_fat_pad"] < level["tibial_cartilage"]
    assert level["tibial_cartilage"] * 2 < level["joint_effusion"]


def test_draw_knee_has_all_labels_and_boxes():
    knee = healthy()
    assert sorted(np.unique(knee.mask)) == [0, *sorted([*STRUCTURES.values(), LABELS["joint_effusion"]])]
    boxes = label_boxes(knee.mask)
    assert set(knee.boxes) == set(REGION_NAMES) == set(range(1, 63))
    for question, box in knee.boxes.items():
        parts = [boxes[label] for label in region_of(question)]
        assert box.start == tuple(min(part.start[axis] for part in parts) for axis in range(3))
        assert box.stop == tuple(max(part.stop[axis] for part in parts) for axis in range(3))


def test_a_subregions_box_holds_its_cartilage():
    knee = healthy(counts=TINY)
    cartilage = world(np.isin(knee.mask, (47, 48, 49)), knee.affine)
    index = np.argwhere(np.isin(knee.mask, (47, 48, 49)))
    held = np.zeros(len(cartilage), bool)
    for question in range(16, 30):
        box = knee.boxes[question]
        held |= ((index >= box.start) & (index < box.stop)).all(axis=1)
    assert held.mean() > 0.97


# Grids


def test_draw_knee_left_mirrors_right():
    geometry = grid()
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    grades = {4: {"size": 2, "number": 2, "percent": 1}, 45: {"grade": 3}, 41: {"grade": 2}, 60: {"repair": 1}}
    right = draw_knee(KneeSpec(5, 6, 7, "right", grades, geometry))
    left = draw_knee(KneeSpec(5, 6, 7, "left", grades, Geometry(geometry.shape, mirror @ geometry.matrix)))
    np.testing.assert_allclose(left.clean, right.clean, atol=0.05)
    assert (left.mask != right.mask).mean() < 1e-5
    assert np.abs(left.voxels.astype(int) - right.voxels).max() <= 1


@pytest.mark.parametrize("axes", [((1, -1), (2, -1), (0, 1)), ((2, 1), (0, -1), (1, 1)), ((0, -1), (1, 1), (2, 1))])
def test_any_layout_shows_the_same_knee(axes):
    turned = draw_knee(KneeSpec(3, 1, 1, "right", {}, grid(axes=axes), noise=False))
    usual = healthy()
    order = [axis for axis, _ in axes]
    back = np.flip(turned.clean, [i for i, (_, sign) in enumerate(axes) if sign < 0]).transpose(np.argsort(order))
    np.testing.assert_allclose(back, usual.clean, atol=0.05)


@pytest.mark.parametrize("counts", [(8, 90, 90), (44, 70, 64), (3, 20, 20)])
def test_odd_grids_work(counts):
    knee = draw_knee(KneeSpec(1, 1, 1, "left", {}, grid(counts, tilt=16.0)))
    assert knee.voxels.shape == counts
    assert knee.voxels.dtype == np.int16
    assert knee.mask.any()
    assert set(knee.boxes) <= set(REGION_NAMES)


def test_draw_knee_omits_boxes_off_grid():
    geometry = grid((10, 30, 30))
    affine = geometry.matrix
    affine[:3, :3] *= 0.25
    boxes = draw_knee(KneeSpec(1, 1, 1, "right", {}, Geometry(geometry.shape, affine))).boxes
    assert 62 not in boxes
    assert 4 in boxes


# Seeds


def test_the_same_seeds_give_the_same_voxels():
    spec = KneeSpec(1, 2, 3, "right", {7: {"size": 2}}, grid())
    first, second = draw_knee(spec), draw_knee(spec)
    for name in ("voxels", "clean", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.slow
def test_visits_share_bones_and_patients_do_not():
    def extent(patient, visit):
        knee = draw_knee(KneeSpec(patient, 1, visit, "right", {}, grid(), noise=False))
        return [np.ptp(world(knee.mask == label, knee.affine), axis=0) for label in (51, 54, 59, 62)]

    same = np.abs(np.subtract(extent(1, 1), extent(1, 2))).mean()
    other = np.mean([np.abs(np.subtract(extent(1, 1), extent(patient, 1))).mean() for patient in (2, 3, 4)])
    assert same < other


def test_draw_knee_clean_has_no_noise():
    spec = KneeSpec(3, 1, 1, "right", {}, grid())
    noisy = draw_knee(spec)
    np.testing.assert_array_equal(noisy.clean, healthy().clean)
    assert np.abs(healthy().voxels - healthy().clean).max() <= 0.5
    assert np.std(noisy.voxels[noisy.clean == 0]) > 1
    assert set(np.round(np.unique(healthy().clean), 3)) >= {SIGNAL["air"], SIGNAL["marrow"]}


# Grades


def test_boxes_depend_on_effusion_grade_only():
    worst = {q.id: {slot.attribute: slot.high for slot in q.slots} for q in QUESTIONS.values() if q.in_records}
    boxes = graded(worst).boxes
    usual = healthy().boxes
    assert {q for q in usual if boxes[q] != usual[q]} == {43}
    assert boxes[43].size > 2 * usual[43].size


def _settings():
    for slot in RECORD_SLOTS:
        if slot.attribute in ("number", "percent", "depth"):
            continue  # these say how a lesion looks, not that it is there
        grades = [slot.high if slot.scale == "ordinal" else 1]
        if slot.attribute == "morphology":
            grades = list(range(1, 9))
        elif slot.attribute == "tear_location":
            grades = [0, 1, 2]
        question = QUESTIONS[slot.question_id]
        for grade in grades if question.id in (49, 54) else grades[-1:]:
            yield pytest.param(slot, grade, id=f"q{question.id:02d}-{slot.attribute}-{grade}")


@pytest.mark.slow
@pytest.mark.parametrize(("slot", "grade"), list(_settings()))
def test_a_grade_changes_voxels_inside_its_box(slot, grade):
    knee, usual = graded({slot.question_id: {slot.attribute: grade}}), healthy()
    change = np.abs(knee.clean - usual.clean)
    assert change.max() > 50
    box = knee.boxes[slot.question_id]
    inside = change[tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))].sum()
    assert inside > 0.5 * change.sum(), "the rest may lie within a voxel of the box"


@pytest.mark.parametrize("size", [2, 3])
def test_marrow_lesions_fill_share_of_subregion(size):
    knee = graded({q: {"size": size, "number": 1, "percent": 3} for q in range(1, 16)}, TINY)
    usual = healthy(counts=TINY)
    for question in range(1, 16):
        bone = (knee.mask == region_of(question)[0]) & (usual.clean < 130)
        share = (knee.clean[bone] > 215).mean()
        assert share == pytest.approx(SIGNS["bone_marrow_lesion", "size"].targets[size], abs=0.06), REGION_NAMES[
            question
        ]


def test_small_marrow_lesions_have_real_volumes():
    femur = [q.id for q in QUESTIONS.values() if q.finding == "bone_marrow_lesion" and "femur" in q.subregion]
    knee = graded({q: {"size": 1, "number": 1, "percent": 3} for q in femur}, TINY)
    extents = []
    for question in femur:
        lesion = (knee.mask == region_of(question)[0]) & (knee.clean > 215) & (healthy(counts=TINY).clean < 130)
        extents.append(np.ptp(world(lesion, knee.affine), axis=0) + np.array(FIELD) / TINY)
    assert np.median(extents, axis=0) == pytest.approx((7, 12, 9), abs=3.0)


def test_missing_grades_draw_as_none():
    asked = {4: {"size": None, "number": None, "percent": None}, 42: {"grade": None}, 54: {"tear_location": None}}
    np.testing.assert_array_equal(graded(asked).clean, healthy().clean)
    hinted = graded({4: {"size": None, "number": 1, "percent": None}})
    assert (hinted.clean != healthy().clean).any(), "another slot says that there is a lesion"
    denied = graded({4: {"size": 0, "number": 2, "percent": 1}})
    np.testing.assert_array_equal(denied.clean, healthy().clean)


def test_effusion_grows_with_its_grade():
    spacing = np.array(FIELD) / COARSE
    volumes = []
    for grade in range(4):
        mask = graded({43: {"grade": grade}}).mask
        volumes.append((mask == LABELS["joint_effusion"]).sum() * np.prod(spacing) / 1000)
    assert volumes == pytest.approx((2.0, 7.0, 17.0, 38.0), rel=0.12)


def test_findings_have_official_label_ids():
    assert sorted(FINDINGS.values()) == [42, 43, 45, 46]
    assert not set(FINDINGS.values()) & set(STRUCTURES.values())
    assert LABELS == STRUCTURES | FINDINGS


@pytest.mark.parametrize(
    ("name", "grades"),
    [
        ("marginal_osteophyte", {35: {"grade": 3}}),
        ("meniscal_cyst", {54: {"presence": 1, "tear_location": 1}}),
        ("meniscal_extrusion", {45: {"grade": 3}}),
    ],
)
def test_findings_are_labelled_where_no_structure_is(name, grades):
    knee, usual = graded(grades, TINY), healthy(counts=TINY)
    label = FINDINGS[name]
    assert (knee.mask == label).sum() > 10
    assert not (usual.mask == label).any()
    others = [*STRUCTURES.values(), FINDINGS["joint_effusion"]]
    for kept in others:
        # An osteophyte displaces fluid, as it does in the picture; nothing else moves.
        moved = (knee.mask == kept) != (usual.mask == kept)
        assert not moved.any() or kept == FINDINGS["joint_effusion"]
    assert knee.boxes == usual.boxes
    assert (knee.clean != usual.clean)[knee.mask == label].mean() > 0.9


# Flaws of segmentations


def test_mask_can_omit_a_label():
    knee = graded({}, empty_label="posterior_cruciate_ligament")
    assert not (knee.mask == LABELS["posterior_cruciate_ligament"]).any()
    np.testing.assert_array_equal(knee.clean, healthy().clean)


def test_a_meniscus_can_be_in_two_pieces():
    ndimage = pytest.importorskip("scipy.ndimage")
    knee = graded({}, split_meniscus=True)
    meniscus = knee.mask == LABELS["medial_meniscus"]
    assert ndimage.label(meniscus, np.ones((3, 3, 3)))[1] == 2
    assert label_boxes(knee.mask)[LABELS["medial_meniscus"]] == label_boxes(healthy().mask)[LABELS["medial_meniscus"]]


# Size


@pytest.mark.slow
def test_size_oai_compresses_like_real_dess():
    knee = draw_knee(KneeSpec(1, 1, 1, "right", {43: {"grade": 2}, 4: {"size": 1}}, grid(OAI, tilt=5.0)))
    stored = len(gzip.compress(knee.voxels.tobytes(order="F"), 6)) / 1e6
    assert 22 < stored < 25
    assert np.percentile(knee.voxels, 99.9) < 2048
    assert (knee.voxels < 400).mean() > 0.95
