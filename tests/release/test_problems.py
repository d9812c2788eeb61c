"""Broken releases: each kind of problem is found, named with its place, and got by only where it is allowed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.release import KINDS, Release, ReleaseOptions, ReleaseReport, open_release
from reasonknee_datasets.release.release_volumes import other_names
from reasonknee_datasets.release.report import EXAMPLES
from tests.helpers.release_builder import Built, build_release
from tests.helpers.release_faults import FAULTS, Fault, box, diagnose, mirror, val


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def copy(sound: Built, tmp_path: Path) -> Built:
    shutil.copytree(sound.root, tmp_path / "copy")
    return Built(tmp_path / "copy", sound.knees, sound.boxes, sound.records)


def inspect(built: Built, *allow: str) -> tuple[Release, ReleaseReport]:
    release = open_release(built.root, ReleaseOptions(allow=frozenset(allow)))
    return release, release.inspect()


def names(faults: tuple[Fault, ...]) -> list[str]:
    return [f"{fault.kind}-{place}" for place, fault in enumerate(faults)]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=names(FAULTS))
def test_each_problem_is_named_with_its_place(fault: Fault, copy: Built) -> None:
    fault.spoil(copy)
    release, report = inspect(copy)
    assert set(report.counts) == {fault.kind, *fault.others}
    with pytest.raises(ReleaseError, match=fault.says):
        release.check()
    with pytest.raises(ReleaseError, match=r"The release has \d+ problem"):
        next(release.quintuples())


CAN_BE_ALLOWED = tuple(fault for fault in FAULTS if KINDS[fault.kind].allowed)


@pytest.mark.slow
@pytest.mark.parametrize("fault", CAN_BE_ALLOWED, ids=names(CAN_BE_ALLOWED))
def test_an_allowed_problem_costs_what_is_documented(fault: Fault, copy: Built) -> None:
    fault.spoil(copy)
    release, report = inspect(copy, fault.kind, *fault.others)
    release.check()
    assert len(list(release.quintuples())) == fault.left == sum(report.rows.values())
    folder = copy.data / "generate_data"
    official = [folder / f"{name}.json" for name in ("train", "val", "test")]
    seen = sum(len(json.loads(path.read_text())) for path in official if path.is_file())
    assert report.rows_dropped == seen - fault.left
    assert report.to_manifest()["allowed"] == report.counts
    assert f"(allowed: {KINDS[fault.kind].allowed})" in str(report)


CAN_NOT = tuple(fault for fault in FAULTS if not KINDS[fault.kind].allowed)


@pytest.mark.parametrize("fault", CAN_NOT, ids=names(CAN_NOT))
def test_some_problems_can_never_be_allowed(fault: Fault, copy: Built) -> None:
    with pytest.raises(ReleaseError, match=f"{fault.kind} cannot be allowed"):
        inspect(copy, fault.kind)
    fault.spoil(copy)
    with pytest.raises(ReleaseError, match=rf"Correct {fault.kind} and run again\."):
        inspect(copy, *(name for name, kind in KINDS.items() if kind.allowed))[0].check()


def test_every_kind_has_a_fault_here() -> None:
    assert {fault.kind for fault in FAULTS} == set(KINDS)


def test_all_problems_are_reported_at_once(copy: Built) -> None:
    diagnose(29, {"patella_superior_osteophyte": {"grade": 7}})(copy)
    box(3, [1, 2])(copy)
    val(lambda records: records.append(records[0]))(copy)
    mirror(copy)
    copy.image(0).unlink()
    copy.image(1).unlink()
    copy.edit_split("test_split.csv", lambda rows: rows[0].update(time="99M"))
    release, report = inspect(copy)
    assert report.counts == {
        "split-row": 1, "unknown-volume": 62 + 61, "duplicate-record": 1, "bad-grade": 1, "bad-box": 1,
        "missing-image": 2, "side-mismatch": 1,
    }  # fmt: skip
    with pytest.raises(ReleaseError, match=r"has 130 problems of 7 kinds. Correct the release") as error:
        release.check()
    text = str(error.value)
    assert text.count("\n  ") == 1 + EXAMPLES + 1 + 1 + 1 + 1 + 2 + 1
    assert f"... and {62 + 61 - EXAMPLES} more" in text
    assert all(f"--allow {kind}" in text for kind in report.counts)


def test_allowed_bad_grade_is_null_and_reported(copy: Built) -> None:
    diagnose(3, {"femur_medial_central_bone_marrow_lesion": {"size": 5, "number": 1, "percent": "2.1"}})(copy)
    release, report = inspect(copy, "bad-grade")
    row = next(row for _, row in release.quintuples() if row["id"] == "0000002/00M/right/q04")
    assert [(grade["attribute"], grade["grade"]) for grade in row["grades"]] == [
        ("size", None),
        ("number", 1),
        ("percent", None),
    ]
    assert '"Number of BML within subregion": 1' in row["answer"]
    nulled = report.to_manifest()["grades_nulled"]
    assert nulled == [
        {"id": "0000002/00M/right/q04", "attribute": "size", "raw": 5},
        {"id": "0000002/00M/right/q04", "attribute": "percent", "raw": "2.1"},
    ]
    assert "nulled: 0000002/00M/right/q04 size, was 5" in str(report)


def test_rebuild_record_of_nulled_grade(copy: Built) -> None:
    from reasonknee_datasets.release import rebuild_record

    diagnosis = {"femur_medial_central_bone_marrow_lesion": {"size": 5, "number": 1, "percent": "2.1"}}
    diagnose(3, diagnosis)(copy)
    release, _ = inspect(copy, "bad-grade")
    row = next(row for _, row in release.quintuples() if row["id"] == "0000002/00M/right/q04")
    again = rebuild_record(row, image="", convention=release.convention, shape=release.volumes[0].shape)
    assert again["final_diagnosis"]["final_diagnosis"] == diagnosis
    assert again["answer"].endswith(str(diagnosis))


def test_moaks_rules_are_reported_and_never_corrected(copy: Built) -> None:
    diagnose(18, {"femur_medial_central_cartilage_lesion": {"size": 0, "depth": 2}})(copy)
    release, report = inspect(copy)
    release.check()
    assert sum(report.violations.values()) == 1
    assert "MOAKS rule broken 1 time: " in str(report)
    row = next(row for _, row in release.quintuples() if row["id"] == "0000002/00M/right/q19")
    assert [grade["grade"] for grade in row["grades"]] == [0, 2]


def test_records_before_damage_are_still_checked(copy: Built) -> None:
    path = copy.data / "generate_data/train.json"
    path.write_bytes(path.read_bytes()[:-5000])
    diagnose(29, {"patella_superior_osteophyte": {"grade": 7}})(copy)
    _, report = inspect(copy)
    assert {"invalid-json", "incomplete-volume", "bad-grade", "unknown-balanced"} == set(report.counts)


def test_find_side_without_orientation(copy: Built) -> None:
    import nibabel as nib
    import numpy as np

    for path in (copy.mask(2), copy.image(2)):
        image = nib.load(path)
        plain = nib.Nifti1Image(np.asarray(image.dataobj), None)
        nib.save(plain, path)
    _, report = inspect(copy)
    assert report.ok


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_check_file_without_permission(copy: Built) -> None:
    for path in (copy.data / "generate_data/val.json", copy.image(0), copy.mask(1)):
        path.chmod(0)
    _, report = inspect(copy)
    assert set(report.counts) == {"missing-file", "bad-image", "bad-mask"}


def test_check_folder_instead_of_file(copy: Built) -> None:
    (copy.data / "generate_data/val.json").unlink()
    (copy.data / "generate_data/val.json").mkdir()
    copy.image(0).unlink()
    copy.image(0).mkdir()
    _, report = inspect(copy)
    assert set(report.counts) == {"missing-file", "bad-image"}


def test_missing_image_hints_at_other_endings(copy: Built) -> None:
    image = copy.image(2)
    plain = image.with_name(image.name.removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(image.read_bytes()))
    image.unlink()
    with pytest.raises(
        ReleaseError, match=rf"no file at .*, but {re.escape(plain.name)}: .*compress a \.nii with gzip"
    ):
        inspect(copy)[0].check()


@pytest.mark.parametrize(
    ("ending", "remedy"),
    [
        (" (1).nii.gz", "rename it"),
        (".nii (1).gz", "rename it"),
        (" - Copy.nii.gz", "rename it"),
        (".nii", r"compress a \.nii with gzip"),
        (".mgz", r"convert \.mgz with nibabel\.save"),
        (".hdr", r"convert \.hdr with nibabel\.save"),
        (".NRRD", r"convert \.nrrd with SimpleITK\.WriteImage"),
        (".mha", r"convert \.mha with SimpleITK\.WriteImage"),
        (".nii.gz.crdownload", "complete its download"),
        (".nii.gz.zip", r"unpack or convert it to \.nii\.gz"),
    ],
)
def test_other_names_same_stem(tmp_path: Path, ending: str, remedy: str) -> None:
    missing, name = tmp_path / "20050104_10097704_1.nii.gz", f"20050104_10097704_1{ending}"
    (tmp_path / name).touch()
    (tmp_path / "20050104_10097704_2.mgz").touch()
    assert re.fullmatch(rf", but {re.escape(name)}: {remedy}.*", other_names(missing))
    (tmp_path / name).unlink()
    assert other_names(missing) == other_names(tmp_path / "absent" / missing.name) == ""


def test_missing_mask_hints_at_other_endings(copy: Built) -> None:
    mask = copy.mask(2)
    mask.rename(mask.with_name(mask.name.replace(".nii.gz", ".nrrd")))
    with pytest.raises(
        ReleaseError, match=rf"no file at {re.escape(str(mask))}, but .*\.nrrd: convert \.nrrd with SimpleITK"
    ):
        inspect(copy)[0].check()


def test_images_in_upper_case_are_read(copy: Built) -> None:
    expected = [volume.image.name for volume in inspect(copy)[0].volumes]
    copy.image(2).rename(copy.image(2).with_name(copy.image(2).name.replace(".nii.gz", ".NII.GZ")))
    release, report = inspect(copy)
    release.check()
    assert not report.counts
    found = [volume.image.name for volume in release.volumes]
    assert sum(name.endswith(".NII.GZ") for name in found) == 1
    assert [name.replace(".NII.GZ", ".nii.gz") for name in found] == expected
