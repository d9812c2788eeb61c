"""The plan: who is scanned when and how, and grades that a cohort could have."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest

from reasonknee_datasets.moaks import CATEGORIES, QUESTIONS, Slot, violations
from reasonknee_datasets.phantom.grade_sampling import (
    MISSING,
    RECORD_SLOTS,
    as_mapping,
    sample_knee,
    slot_column,
)
from reasonknee_datasets.phantom.release_files import table_columns, write_tables
from reasonknee_datasets.phantom.scan_grids import SIZES
from reasonknee_datasets.phantom.study_plan import OFFICIAL_SPLITS, PhantomError, StudyPlan, plan_study

COHORT = 500


@pytest.fixture(scope="module")
def cohort() -> StudyPlan:
    return plan_study(COHORT, size="oai", seed=3)


def columns(finding: str, attribute: str) -> list[int]:
    return [c for c, slot in enumerate(RECORD_SLOTS) if (slot.finding, slot.attribute) == (finding, attribute)]


def same_plan(one: StudyPlan, other: StudyPlan) -> bool:
    return (
        one.volumes == other.volumes
        and np.array_equal(one.true_grades, other.true_grades)
        and np.array_equal(one.read_grades, other.read_grades)
    )


def test_plan_study_follows_from_its_seed() -> None:
    assert same_plan(plan_study(8, seed=5), plan_study(8, seed=5))
    assert not same_plan(plan_study(8, seed=5), plan_study(8, seed=6))


def test_patients_are_none_of_oai(cohort: StudyPlan) -> None:
    patients = {volume.patient for volume in cohort.volumes}
    assert patients == {f"{number:07d}" for number in range(1, COHORT + 1)}
    assert max(patients) < "9000000"


def test_plan_study_names_volumes_once(cohort: StudyPlan) -> None:
    volumes = cohort.volumes
    assert [volume.number for volume in volumes] == list(range(len(volumes)))
    assert volumes[7].mask_name == "knee_007.nii.gz"
    assert volumes[1007].mask_name == "knee_1007.nii.gz"
    assert len({volume.image_key for volume in volumes}) == len(volumes)
    assert len({volume.series for volume in volumes}) == len(volumes)
    assert 2.7 < len(volumes) / COHORT < 3.3


def test_splits_are_disjoint_with_official_shares(cohort: StudyPlan) -> None:
    patients = {split: {volume.patient for volume in cohort.of_split(split)} for split in OFFICIAL_SPLITS}
    for one, other in combinations(OFFICIAL_SPLITS, 2):
        assert not patients[one] & patients[other]
    assert {split: len(found) for split, found in patients.items()} == {"train": 375, "val": 50, "test": 75}


@pytest.mark.parametrize("patients", [6, 7, 11])
def test_splits_have_sides_visits_and_categories(patients: int) -> None:
    for seed in range(12):
        plan = plan_study(patients, seed=seed)
        for split in OFFICIAL_SPLITS:
            recorded = [volume for volume in plan.of_split(split) if volume.has_records]
            assert {volume.side for volume in recorded} == {"left", "right"}
            assert len({volume.visit for volume in recorded}) > 1
            categories = {QUESTIONS[question].category for volume in recorded for question in plan.reading(volume)}
            assert categories == set(CATEGORIES) - {"periarticular"}


@pytest.mark.parametrize("patients", [3, 6, 40])
def test_everything_irregular_happens(patients: int) -> None:
    for seed in range(6):
        plan = plan_study(patients, seed=seed)
        volumes = plan.volumes
        assert sum(volume.empty_label is not None for volume in volumes) == 1
        assert sum(volume.split_meniscus for volume in volumes) == 1
        assert any(not volume.has_records for volume in volumes)
        knees = Counter((volume.patient, volume.visit, volume.side) for volume in volumes)
        assert sorted(knees.values())[-2:] == [1, 2]
        shapes = {tuple(sorted(volume.geometry.shape)) for volume in volumes}
        assert shapes >= {(64, 128, 128), (8, 128, 128), (70, 128, 128), (64, 117, 128)}


def test_two_series_of_knee_share_grades(cohort: StudyPlan) -> None:
    knees = defaultdict(list)
    for volume in cohort.volumes:
        knees[volume.key].append(volume)
    one, other = next(found for found in knees.values() if len(found) == 2)
    assert one.series != other.series
    assert one.study == other.study
    assert one.scan_seed != other.scan_seed
    assert cohort.reading(one) == cohort.reading(other)


def test_one_patient_is_enough_for_a_plan() -> None:
    assert {volume.split for volume in plan_study(1).volumes} == {"train"}
    assert {volume.split for volume in plan_study(2).volumes} == {"train", "test"}


def test_grids_are_oblique_and_exact_in_float32(cohort: StudyPlan) -> None:
    oblique = [np.rad2deg(nibabel.affines.obliquity(volume.geometry.matrix)).max() for volume in cohort.volumes]
    assert 4.0 < np.median(oblique) < 6.0
    assert 13.0 < max(oblique) <= 16.01
    codes = Counter("".join(nibabel.aff2axcodes(volume.geometry.matrix)) for volume in cohort.volumes)
    assert set(codes) == {"RAS", "PIR", "PIL"}
    shapes = Counter(volume.geometry.shape for volume in cohort.volumes)
    assert shapes[160, 384, 384] > 500
    assert shapes[384, 384, 160] > 300
    assert all(shapes[shape] + shapes[shape[1:] + shape[:1]] for shape in [(8, 384, 384), (176, 384, 384)])
    assert shapes[160, 384, 352] + shapes[384, 352, 160]
    for volume in cohort.volumes[:50]:
        matrix = volume.geometry.matrix
        np.testing.assert_array_equal(matrix, matrix.astype(np.float32))


def test_knees_lie_on_their_world_side(cohort: StudyPlan) -> None:
    for volume in cohort.volumes:
        middle = volume.geometry.matrix @ [*(np.array(volume.geometry.shape) - 1) / 2, 1]
        assert (middle[0] > 0) == (volume.side == "right")


@pytest.mark.parametrize("size", sorted(SIZES))
def test_sizes_cover_the_same_field(size: str) -> None:
    grid = SIZES[size]  # type: ignore[index]
    field = [count * length for count, length in zip(grid.counts, grid.spacing, strict=True)]
    assert field == pytest.approx([112, 140, 140], abs=0.01)


def test_grades_are_legal_and_break_no_rule(cohort: StudyPlan) -> None:
    for volume in cohort.volumes[::4]:
        for grades in (as_mapping(cohort.true_grades[volume.number]), cohort.reading(volume)):
            for question, values in grades.items():
                assert not violations(question, values, volume.visit)
                for slot in QUESTIONS[question].slots:
                    value = values[slot.attribute]
                    assert value is None or value in slot.legal


def severity_rank(slot: Slot, grade: int) -> int:
    """Order a slot's grades by severity, also where their numbers have no order."""
    if slot.attribute == "morphology":
        return (0, 1, 2, 2, 2, 3, 4, 5, 6)[grade]
    return int(grade != 3) if slot.attribute == "tear_location" else grade


def test_grades_never_improve(cohort: StudyPlan) -> None:
    knees = defaultdict(list)
    for volume in cohort.volumes:
        knees[volume.patient, volume.side].append(volume)
    worsened = 0
    for scans in knees.values():
        rows = [cohort.true_grades[scan.number].tolist() for scan in sorted(scans, key=lambda scan: scan.visit)]
        for before, after in pairwise(rows):
            for slot, old, new in zip(RECORD_SLOTS, before, after, strict=True):
                assert severity_rank(slot, new) >= severity_rank(slot, old), slot.name
                worsened += new != old
    assert worsened > 100  # they do change: a frozen cohort would pass the line above


def test_progressive_maceration_needs_an_earlier_scan(cohort: StudyPlan) -> None:
    first: dict[tuple[str, str], str] = {}
    for volume in sorted(cohort.volumes, key=lambda volume: volume.visit):
        first.setdefault((volume.patient, volume.side), volume.visit)
    seen = 0
    for volume in cohort.volumes:
        if 7 in cohort.true_grades[volume.number, columns("meniscal_morphology", "morphology")]:
            assert volume.visit != first[volume.patient, volume.side]
            seen += 1
    assert seen


def test_cartilage_prevalence(cohort: StudyPlan) -> None:
    sizes = cohort.true_grades[:, columns("cartilage_lesion", "size")]
    assert (sizes == 0).mean() == pytest.approx(0.72, abs=0.025)
    assert all((sizes == grade).mean() > 0.01 for grade in (1, 2, 3))


def test_every_legal_grade_occurs(cohort: StudyPlan) -> None:
    seen: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for column, slot in enumerate(RECORD_SLOTS):
        seen[slot.finding, slot.attribute] |= set(cohort.true_grades[:, column].tolist())
    for slot in RECORD_SLOTS:
        assert seen[slot.finding, slot.attribute] == set(slot.legal), (slot.finding, slot.attribute)


def test_missing_grades_are_only_in_records(cohort: StudyPlan) -> None:
    assert (cohort.true_grades >= 0).all()
    missing = cohort.read_grades == MISSING
    assert 0.01 < missing.mean() < 0.04
    np.testing.assert_array_equal(cohort.read_grades[~missing], cohort.true_grades[~missing])


@pytest.mark.slow
def test_knees_of_a_patient_resemble_each_other() -> None:
    rng = np.random.default_rng(11)
    column = slot_column(19, "size")
    pairs, severities = [], []
    for _ in range(1500):
        severity = float(rng.standard_normal())
        pairs.append([sample_knee(severity, rng)[0] for _ in range(2)])
        severities.append(severity)
    knees = np.array(pairs)
    within = np.corrcoef(knees[:, 0, column], knees[:, 1, column])[0, 1]
    strangers = np.corrcoef(knees[:, 0, column], np.roll(knees[:, 1, column], 1))[0, 1]
    neighbours = np.corrcoef(knees[:, 0, column], knees[:, 0, slot_column(25, "size")])[0, 1]
    assert within > 0.2
    assert neighbours > within
    assert abs(strangers) < 0.1


def test_tear_location_matches_torn_meniscus(cohort: StudyPlan) -> None:
    for side, cyst, first in (("medial", 54, 48), ("lateral", 55, 51)):
        assert QUESTIONS[first].subregion == f"{side}_meniscus_anterior"
        horns = cohort.true_grades[:, [slot_column(first + part, "morphology") for part in range(3)]]
        location = cohort.true_grades[:, slot_column(cyst, "tear_location")]
        torn = np.flatnonzero(location != 3)
        assert len(torn)
        assert np.isin(horns[torn, location[torn]], (2, 3, 4, 5)).all()
        assert not np.isin(horns[location == 3], (2, 3, 4, 5)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 0}, "patients is 0, but must be from 1 to 8,999,999"),
        ({"patients": 9_000_000}, "patients is 9000000, but must be from 1 to 8,999,999"),
        ({"patients": 1, "size": "huge"}, "Unknown size 'huge'. Available: tiny, oai"),
        ({"patients": 1, "seed": -1}, "seed is -1, but must be 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PhantomError, match=message):
        plan_study(**arguments)  # type: ignore[arg-type]


def test_tables_say_what_the_records_say(tmp_path: Path) -> None:
    plan = plan_study(30, seed=2)
    write_tables(tmp_path, plan)
    assert len(list(tmp_path.iterdir())) == 8
    assert not (tmp_path / "taxonomymatch_kMRI_FNIH_SQ_MOAKS_BICL06.csv").exists()
    read = {(volume.patient, volume.visit, str(volume.side_code)): plan.reading(volume) for volume in plan.volumes}
    names, checked = table_columns(), 0
    for visit, prefix in (("00M", "V00"), ("12M", "V01"), ("24M", "V03"), ("48M", "V06")):
        path = tmp_path / f"taxonomymatch_kMRI_SQ_MOAKS_BICL{prefix[1:]}.csv"
        header, *rows = csv.reader(path.open(encoding="utf-8"))
        assert header[:3] == ["ID", "SIDE", "VERSION"]
        assert len(rows) == len({key for key in read if key[1] == visit})
        for row in rows:
            for name, (question, held) in names.items():
                places = [place for place, column in enumerate(header) if column == prefix + name]
                assert len(places) == len(held)  # cartilage: two columns of one repeated name
                values = [read[row[0], visit, row[1]][question][attribute] for attribute in held]
                codes = [row[place] for place in places]
                if None in values:
                    assert all(code.startswith(".") or code in ("0.5", "-0.5", "-1") for code in codes)
                else:
                    assert codes == list(map(str, values))
                checked += 1
    assert checked > 1000


def test_a_second_reading_disagrees_now_and_then(tmp_path: Path) -> None:
    plan = plan_study(120, seed=2)
    write_tables(tmp_path, plan)
    first, second = (
        {(row["ID"], row["SIDE"]): row for row in csv.DictReader((tmp_path / name).open(encoding="utf-8"))}
        for name in ("taxonomymatch_kMRI_SQ_MOAKS_BICL00.csv", "taxonomymatch_kMRI_FNIH_SQ_MOAKS_BICL00.csv")
    )
    assert 0 < len(second) < len(first) / 3
    pairs = [(first[knee][name], row[name]) for knee, row in second.items() for name in row if name.startswith("V00")]
    differing = [pair for pair in pairs if "." not in "".join(pair) and pair[0] != pair[1]]
    assert 0 < len(differing) < 0.05 * len(pairs)
