"""The phantom's grades, measured again in the voxels by code that shares nothing with the drawing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import QUESTIONS, violations
from reasonknee_datasets.phantom import LABELS, REGION_NAMES, KneeSpec, draw_knee
from reasonknee_datasets.phantom.grade_sampling import RECORD_SLOTS
from reasonknee_datasets.phantom.mask_labels import FINDINGS
from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_cases import LAYOUTS, TILTS, deal_knees, grid
from tests.helpers.measure_menisci import hypertrophy_mm3
from tests.helpers.measure_phantom import PRESENT, Measured, measure_knee
from tests.helpers.measure_view import View

# The drawn and measured knees are kept for the whole file: with pytest-xdist, one worker takes all of it.
pytestmark = pytest.mark.xdist_group("phantom_grades")

TINY_KNEES, TINY_SEED = 16, 301
OAI_KNEES, OAI_SEED = 4, 302

TINY_CANNOT_SHOW = (
    (
        "cartilage_lesion",
        "depth",
        "a defect of less than 10 % of a surface is two or three voxels wide: too few to tell how much of it is bare",
    ),
    (
        "meniscal_morphology",
        "morphology",
        "a meniscus is six voxels wide and four high: fluid in it shows (2 to 8), its pattern and a blob (1) do not",
    ),
)
"""Finding, attribute and why a tiny knee's voxels are too large for it."""


@dataclass(frozen=True)
class Case:
    """A knee: what was asked, where its boxes are, what was measured, and its voxels where they are still needed."""

    spec: KneeSpec
    boxes: dict[int, Box]
    measured: dict[tuple[int, str], Measured]
    voxels: np.ndarray | None = None

    def pairs(self, finding: str, attribute: str):
        """Return grade and measured grade of every slot of a kind."""
        for (question, name), measured in self.measured.items():
            if (QUESTIONS[question].finding, name) == (finding, attribute):
                yield self.spec.grades[question][name], measured.grade


def measure(spec: KneeSpec, *, keep: bool = False) -> Case:
    knee = draw_knee(spec)
    measured = measure_knee(knee.clean, knee.mask, knee.affine, spec.side)
    return Case(spec, knee.boxes, measured, knee.voxels if keep else None)


def view(spec: KneeSpec) -> View:
    knee = draw_knee(spec)
    return View.of(knee.clean, knee.mask, knee.affine, spec.side)


@cache
def tiny() -> tuple[Case, ...]:
    return tuple(measure(replace(spec, noise=False)) for spec in deal_knees("tiny", TINY_KNEES, TINY_SEED))


@cache
def oai() -> tuple[Case, ...]:
    specs = deal_knees("oai", OAI_KNEES, OAI_SEED)
    return tuple(measure(spec, keep=number == 0) for number, spec in enumerate(specs))


SCALE = {(QUESTIONS[slot.question_id].finding, slot.attribute): slot.scale for slot in RECORD_SLOTS}
ORDINAL = [kind for kind, scale in SCALE.items() if scale == "ordinal"]
OTHER = [kind for kind, scale in SCALE.items() if scale != "ordinal"]
NOT_IN_TINY = {(finding, attribute) for finding, attribute, _ in TINY_CANNOT_SHOW}


def agreement(pairs) -> float:
    return float(np.mean([graded == measured for graded, measured in pairs]))


def wrong(cases, kinds) -> list[str]:
    """Name every slot that was measured as another grade than was drawn."""
    return [
        f"knee {number} question {question} {name}: drawn {case.spec.grades[question][name]}, measured {measured}"
        for number, case in enumerate(cases)
        for (question, name), measured in case.measured.items()
        if (QUESTIONS[question].finding, name) in kinds and measured.grade != case.spec.grades[question][name]
    ]


# Measured values


def test_cases_cover_every_grade():
    specs = deal_knees("tiny", TINY_KNEES, TINY_SEED)
    seen = {(slot.question_id, slot.attribute): set() for slot in RECORD_SLOTS}
    for spec in specs:
        for question, grades in spec.grades.items():
            assert not violations(question, grades, "48M")
            for attribute, grade in grades.items():
                seen[question, attribute].add(grade)
    assert len(seen) == 111
    for slot in RECORD_SLOTS:
        assert seen[slot.question_id, slot.attribute] == set(slot.legal), slot
    assert {spec.side for spec in specs} == {"left", "right"}
    assert len({spec.geometry.shape for spec in specs}) == 3
    assert len({spec.patient_seed for spec in specs}) == TINY_KNEES // 2
    assert len(LAYOUTS) == 4
    assert max(TILTS) == 16.0


def test_record_slots_have_91_ordinal():
    counts = Counter(slot.scale for slot in RECORD_SLOTS)
    assert counts["ordinal"] == 91
    assert counts["binary"] + counts["nominal"] == 20


# Tiny


@pytest.mark.slow
def test_tiny_knee_shows_95_percent_of_grades():
    pairs = [pair for case in tiny() for kind in ORDINAL for pair in case.pairs(*kind)]
    assert len(pairs) == 91 * TINY_KNEES
    assert agreement(pairs) >= 0.95, wrong(tiny(), ORDINAL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in SCALE if kind not in NOT_IN_TINY], ids="-".join)
def test_tiny_knee_shows_unlisted_signs(kind):
    pairs = [pair for case in tiny() for pair in case.pairs(*kind)]
    assert agreement(pairs) >= 0.95, wrong(tiny(), [kind])


@pytest.mark.slow
@pytest.mark.parametrize(("finding", "attribute", "reason"), TINY_CANNOT_SHOW)
def test_unmeasurable_list_is_minimal(finding, attribute, reason):
    pairs = [pair for case in tiny() for pair in case.pairs(finding, attribute)]
    assert agreement(pairs) < 0.95, f"{finding} {attribute} shows well enough: {reason}"


@pytest.mark.slow
def test_tiny_knee_shows_cartilage_depth():
    pairs = [
        (grades["depth"], case.measured[question, "depth"].grade)
        for case in tiny()
        for question, grades in case.spec.grades.items()
        if QUESTIONS[question].finding == "cartilage_lesion" and grades["size"] != 1
    ]
    assert agreement(pairs) >= 0.95, wrong(tiny(), [("cartilage_lesion", "depth")])


@pytest.mark.slow
def test_tiny_knee_shows_meniscal_fluid():
    pairs = [
        (graded >= 2, measured >= 2)
        for case in tiny()
        for graded, measured in case.pairs("meniscal_morphology", "morphology")
    ]
    assert agreement(pairs) >= 0.9
    assert agreement([pair for pair in pairs if not pair[0]]) >= 0.95


# OAI size


@pytest.mark.slow
def test_an_oai_knee_shows_every_ordinal_grade():
    pairs = [pair for case in oai() for kind in ORDINAL for pair in case.pairs(*kind)]
    assert len(pairs) == 91 * OAI_KNEES
    assert wrong(oai(), ORDINAL) == []


@pytest.mark.slow
def test_an_oai_knee_shows_every_other_sign():
    patterns = ("meniscal_morphology", "morphology")
    assert wrong(oai(), [kind for kind in OTHER if kind != patterns]) == []
    pairs = [pair for case in oai() for pair in case.pairs(*patterns)]
    assert all((graded > 0) == (measured > 0) for graded, measured in pairs), wrong(oai(), [patterns])
    assert agreement(pairs) >= 0.9, "which of the eight patterns it is"


@pytest.mark.slow
def test_oai_volume_compresses_like_real_dess(tmp_path):
    voxels, affine = oai()[0].voxels, np.array(oai()[0].spec.geometry.affine)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "knee.nii.gz")
    assert 22 <= (tmp_path / "knee.nii.gz").stat().st_size / 1e6 <= 25


# Hypertrophy: where a horn is macerated none is dealt, and too few are left to tell

HYPERTROPHY = {"medial": 56, "lateral": 57}


def enlarged(spec: KneeSpec, *sides: str) -> KneeSpec:
    """Make the menisci on some sides hypertrophic, and no others."""
    grades = {number: {"presence": int(side in sides)} for side, number in HYPERTROPHY.items()}
    return replace(spec, grades={**spec.grades, **grades}, noise=False)


def enlargement(spec: KneeSpec) -> dict[str, bool]:
    seen = view(spec)
    return {side: hypertrophy_mm3(seen, f"{side}_meniscus") > PRESENT["hypertrophy"] for side in ("medial", "lateral")}


@pytest.mark.slow
def test_hypertrophic_meniscus_is_measurable_at_tiny():
    for spec in deal_knees("tiny", 8, 303):
        assert enlargement(enlarged(spec, "medial")) == {"medial": True, "lateral": False}
        assert enlargement(enlarged(spec, "lateral")) == {"medial": False, "lateral": True}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "side"), [(0, "medial"), (1, "lateral"), (2, "lateral"), (3, "medial")])
def test_hypertrophic_meniscus_is_measurable_at_oai(number, side):
    found = enlargement(enlarged(deal_knees("oai", 4, 304)[number], side))
    assert found == {name: name == side for name in HYPERTROPHY}


def structures(mask):
    """Leave the labels of findings out: they are where no structure is, and follow the grades."""
    return np.where(np.isin(mask, list(FINDINGS.values())), 0, mask)


@pytest.mark.slow
def test_hypertrophy_changes_no_other_grade_or_box():
    for spec in deal_knees("tiny", 4, 305):
        usual, large = draw_knee(enlarged(spec)), draw_knee(enlarged(spec, "medial", "lateral"))
        assert (usual.clean != large.clean).any()
        np.testing.assert_array_equal(structures(usual.mask), structures(large.mask))
        beyond = FINDINGS["meniscal_extrusion"]  # the label of what grows beyond the healthy outline
        assert np.count_nonzero(large.mask == beyond) > np.count_nonzero(usual.mask == beyond)
        assert usual.boxes == large.boxes
        grades = [measure_knee(knee.clean, knee.mask, knee.affine, spec.side) for knee in (usual, large)]
        for (question, name), usually in grades[0].items():
            measured = grades[1][question, name]
            if QUESTIONS[question].finding == "meniscal_extrusion":
                # The rays' uppermost meet the lip's blurred edge; a voxel is 1.1 to 1.75 mm.
                assert abs(measured.value - usually.value) < 0.4
            elif question not in HYPERTROPHY.values():
                assert measured.grade == usually.grade, (question, name, usually, measured)


# The measurer can fail


@pytest.mark.slow
def test_another_knees_grades_agree_far_less():
    """Chance alone gives about a third: the grades are dealt evenly, and most slots without a lesion are 0."""
    cases = tiny()
    own, other = [], []
    for case, stranger in zip(cases, cases[3:] + cases[:3], strict=True):
        for (question, name), measured in case.measured.items():
            own.append(measured.grade == case.spec.grades[question][name])
            other.append(measured.grade == stranger.spec.grades[question][name])
    assert np.mean(own) > 0.9
    assert np.mean(other) < 0.45


@pytest.mark.slow
def test_a_healthy_knee_measures_as_healthy():
    spec = KneeSpec(11, 12, 13, "left", {}, grid("tiny", "left", layout=1, tilt=9.0), noise=False)
    found = {place: measured.grade for place, measured in measure(spec).measured.items() if measured.grade}
    assert found == {(54, "tear_location"): 3, (55, "tear_location"): 3}


@pytest.mark.slow
def test_measured_grades_reveal_swapped_healthy_knee():
    """The measurer reads voxels, not labels: with a sick knee's mask over healthy voxels, no lesion is left."""
    spec = replace(deal_knees("tiny", TINY_KNEES, TINY_SEED)[3], noise=False)
    sick, healthy = draw_knee(spec), draw_knee(replace(spec, grades={}))
    measured = measure_knee(healthy.clean, sick.mask, sick.affine, spec.side)
    sizes = [measured[question, "size"].grade for question in range(1, 30)]
    assert sum(sizes) == 0
    assert sum(grades["size"] for question, grades in spec.grades.items() if question < 30) > 20


# Missing grades


def missing(grades) -> dict[tuple[int, str], Measured]:
    """Measure a knee of which only some slots have a grade."""
    return measure(
        KneeSpec(21, 22, 23, "right", grades, grid("tiny", "right", layout=0, tilt=4.9), noise=False)
    ).measured


@pytest.mark.slow
def test_missing_grades_are_drawn_as_none():
    everything = {q.id: {slot.attribute: None for slot in q.slots} for q in QUESTIONS.values() if q.in_records}
    measured = missing(everything)
    assert {place for place, found in measured.items() if found.grade} == {(54, "tear_location"), (55, "tear_location")}


@pytest.mark.slow
def test_implied_lesion_is_drawn_smallest():
    measured = missing(
        {
            4: {"size": None, "number": 2, "percent": None},
            7: {"size": 3, "number": None, "percent": 1},
            10: {"size": 2, "number": 2, "percent": None},
            19: {"size": None, "depth": 3},
            25: {"size": 3, "depth": None},
        }
    )
    found = {question: [m.grade for (q, _), m in measured.items() if q == question] for question in (4, 7, 10, 19, 25)}
    assert found[4][:2] == [1, 2]
    assert found[7] == [3, 1, 1]
    assert found[10][:2] == [2, 2]
    assert found[19][0] == 1
    assert found[25] == [3, 0]
    assert found[4][2] > 0, "a lesion has some share that is no cyst"


# Boxes


@pytest.mark.slow
def test_boxes_predict_effusion_grades_only():
    first, *rest = (replace(spec, noise=False) for spec in deal_knees("tiny", 4, 7))
    usual = draw_knee(replace(first, grades={}))
    effusion = {0: usual.boxes[43]}
    for spec in (first, *rest):
        knee = draw_knee(replace(first, grades=spec.grades))
        assert {q for q, box in knee.boxes.items() if box != usual.boxes[q]} <= {43}
        elsewhere = (knee.mask != LABELS["joint_effusion"]) & (usual.mask != LABELS["joint_effusion"])
        np.testing.assert_array_equal(structures(knee.mask)[elsewhere], structures(usual.mask)[elsewhere])
        effusion[spec.grades[43]["grade"]] = knee.boxes[43]
    sizes = [effusion[grade].size for grade in range(4)]
    assert sizes == sorted(sizes)
    assert sizes[3] > 2 * sizes[0], "the one box that leaks, so that a leak can be detected"


@pytest.mark.slow
def test_boxes_hold_their_region_whatever_the_grades():
    knee = draw_knee(deal_knees("tiny", 4, 7)[1])
    for question, box in knee.boxes.items():
        region = np.isin(knee.mask, [LABELS[name] for name in REGION_NAMES[question]])
        assert box == Box.from_mask(region)


# World


@pytest.mark.slow
@pytest.mark.parametrize("layout", [0, 1])
def test_left_knee_mirrors_right_in_world(layout):
    """Seen from medial, both look the same: every label at the same place to a fraction of a voxel."""
    left, right = (
        view(KneeSpec(31, 32, 33, side, {}, grid("tiny", side, layout=layout, tilt=0.0), noise=False))
        for side in ("left", "right")
    )
    for name in LABELS:
        centers = [seen.mm(seen.label(name)).mean(axis=0) for seen in (left, right)]
        np.testing.assert_allclose(centers[0], centers[1], atol=0.6, err_msg=name)
    everywhere = left.mm(left.label("femur_medial_central", "tibia_lateral_central"))[::7]
    np.testing.assert_allclose(np.median(np.abs(left.at(everywhere) - right.at(everywhere))), 0.0, atol=20.0)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "lateral"), [("right", 1.0), ("left", -1.0)])
def test_the_fibula_is_lateral_and_posterior(side, lateral):
    """It has no label: it is the marrow next to the tibia, some way below the joint."""
    spec = KneeSpec(41, 42, 43, side, {}, grid("tiny", side, layout=1, tilt=4.9), noise=False)
    knee = draw_knee(spec)
    index = np.indices(knee.mask.shape, np.float32)
    x, y, z = (np.tensordot(row[:3], index, 1) + row[3] for row in knee.affine[:3])
    tibia = np.isin(knee.mask, [LABELS[name] for name in REGION_NAMES[40] + REGION_NAMES[41]])
    bottom = z[tibia].min()
    # Below the tibia's labels there is nothing else as dark and as large as the two shafts.
    marrow = (np.abs(knee.clean - SIGNAL["marrow"]) < 5) & (z < bottom - 2) & (z > bottom - 22)
    pieces, count = ndimage.label(marrow)
    volumes = np.bincount(pieces.ravel())[1:]
    largest, second = np.argsort(volumes)[::-1][:2] + 1
    assert count >= 2
    assert volumes[second - 1] > 100
    shift = np.array([axis[pieces == second].mean() - axis[pieces == largest].mean() for axis in (x, y)])
    assert lateral * shift[0] > 15.0
    assert shift[1] < -5.0


# Nuisances


@pytest.mark.slow
def test_simulate_scan_noise_is_rician():
    specs = [replace(spec, noise=True) for spec in deal_knees("tiny", 4, 9)[:2]]
    gains = []
    for spec in specs:
        noisy, quiet = draw_knee(spec), draw_knee(replace(spec, noise=False))
        np.testing.assert_array_equal(noisy.clean, quiet.clean)
        np.testing.assert_allclose(quiet.voxels, quiet.clean, atol=0.5)
        # Without signal the magnitude of complex noise is Rayleigh: its mean is 1.91 times its standard deviation.
        air = noisy.voxels[quiet.clean == SIGNAL["air"]].astype(float)
        assert air.mean() / air.std() == pytest.approx(1.913, abs=0.12)
        tissue = ndimage.binary_erosion(np.abs(quiet.clean - SIGNAL["muscle"]) < 40, iterations=2)
        ratio = np.where(tissue, noisy.voxels / np.maximum(quiet.clean, 1.0), 0.0)
        field = ndimage.uniform_filter(ratio, 9)[tissue] / ndimage.uniform_filter(tissue.astype(float), 9)[tissue]
        gains.append(float(np.median(field)))
        assert 1.1 < np.quantile(field, 0.99) / np.quantile(field, 0.01) < 3.0
        assert np.std(ratio[tissue] / field) < 0.3
    assert max(gains) > 1.01 * min(gains), "every scan has its own gain"
