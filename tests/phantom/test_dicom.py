"""From downloads with planted defects to examples: every defect is in the report, and none in the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.cli import main
from reasonknee_datasets.oai import REFUSALS, convert
from reasonknee_datasets.phantom import PhantomError, check_downloads, write_download, write_release
from reasonknee_datasets.phantom.dicom_defects import DEFECTS
from reasonknee_datasets.phantom.dicom_download import FORMS, Form, _plan
from reasonknee_datasets.phantom.release_writer import check_space
from reasonknee_datasets.phantom.study_plan import plan_study
from reasonknee_datasets.prepare import prepare

pytest.importorskip("pydicom", reason="DICOM needs the dicom extra")
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic release with enough volumes for every defect; its images are the truth."""
    folder = tmp_path_factory.mktemp("dicom") / "release"
    write_release(folder, patients=15, workers=2)
    return folder


@pytest.fixture(scope="module")
def without_images(release: Path) -> Path:
    """The same release as users have it."""
    folder = release.with_name("official")
    shutil.copytree(release, folder, ignore=shutil.ignore_patterns("images"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_convert_reports_every_planted_defect(form: Form, release: Path, without_images: Path, tmp_path: Path) -> None:
    planted = json.loads(write_download(release, tmp_path / form, form=form).read_text())
    expected = {defect.name for defect in DEFECTS if form == "nda" or not (defect.archive or defect.place == "index")}
    assert {row["defect"] for row in planted} - {""} == expected

    dry = convert(
        tmp_path / "dry", oai=tmp_path / form, release=without_images, dry_run=True, workers=1, progress=False
    )
    convertible = {(plan["patient"], plan["date"], plan["series"]) for plan in planted if plan["status"] == "converted"}
    assert convertible <= {(row.patient, row.date, row.series) for row in dry.rows if row.status == "found"}

    report = convert(tmp_path / "converted", oai=tmp_path / form, release=without_images, workers=2, progress=False)
    rows = {(row.patient, row.date, row.series): row for row in report.rows}
    assert len(rows) == len(planted)
    for plan in planted:
        row = rows[plan["patient"], plan["date"], plan["series"]]
        assert (row.status, row.kind) == (plan["status"], plan["kind"]), plan["defect"]

    good = {row.output for row in report.rows if row.status == "converted"}
    folder = tmp_path / "converted"
    assert {path.relative_to(folder).as_posix() for path in (folder / "images").rglob("*.nii.gz")} == good
    for output in good:
        made, truth = nib.load(folder / output), nib.load(release / "data" / output)
        assert np.array_equal(np.asarray(made.dataobj), np.asarray(truth.dataobj)), output
        assert np.abs(made.affine - truth.affine).max() < 1e-3

    repository = tmp_path / "3dreasonknee"
    prepare(
        without_images, repository, images=folder, volumes="link", allow=["missing-image"], workers=1, progress=False
    )
    streamed = set()
    for split in SPLITS:
        for example in load_dataset(data_dir=repository, split=split, streaming=True):
            key = example["patient"], example["study"], example["series"]
            if key not in streamed:  # 62 rows a volume
                streamed.add(key)
                truth = nib.load(release / "data" / rows[key].output)
                assert np.array_equal(np.asarray(example["volume"].dataobj), np.asarray(truth.dataobj))
    assert streamed <= {key for key, row in rows.items() if row.status == "converted"}
    assert len(streamed) > len(good) / 2


def test_defects_have_unique_names_and_outcomes() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) > 40
    for defect in DEFECTS:
        assert (defect.status == "refused") == (defect.kind in REFUSALS), defect.name


@pytest.mark.slow
def test_write_download_is_reproducible_and_converts_whole(phantom_release: Path, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        write_download(phantom_release, tmp_path / str(number) / "nda", form="nda", defects=False)
        files = sorted(path for path in (tmp_path / str(number)).rglob("*") if path.is_file())
        written.append({path.relative_to(tmp_path / str(number)): path.read_bytes() for path in files})
    assert written[0] == written[1]
    report = convert(tmp_path / "out", oai=tmp_path / "0", release=phantom_release, workers=1, progress=False)
    assert report.counts == {"converted": len(report.rows)}


def test_write_download_refuses_too_few_volumes(phantom_release: Path, tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match=r"42 defects need 45 volumes, .* and the release has .* such as 18"):
        write_download(phantom_release, tmp_path / "nda", form="nda")
    assert not (tmp_path / "nda").exists()


@pytest.mark.parametrize("size", ["tiny", "oai"])
@pytest.mark.parametrize("patients", [1, 2, 12])
def test_command_refuses_too_few_patients_first(
    patients: int, size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "release"
    command = ["phantom", "--dicom", "--out", str(out), "--patients", str(patients), "--size", size]
    assert main(command) == 1
    assert "42 defects need 45 volumes" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_check_downloads_counts_as_write_download_does(release: Path) -> None:
    check_downloads(release, 15)
    rows = _plan(release, "nda", True)
    deep = [volume for volume in plan_study(15).volumes if min(volume.geometry.shape) > 16]
    assert len(rows) == len(plan_study(15).volumes)
    assert len(deep) == sum(min(nib.load(row.image).shape) > 16 for row in rows)


def test_check_downloads_asks_for_disk_space(tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match=r"1,000,000 patients need about .* GB of disk space"):
        check_space(tmp_path / "release", 1_000_000, "oai", extra=120_000_000)


@pytest.mark.slow
def test_command_replaces_images_by_three_downloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["phantom", "--dicom", "--out", str(tmp_path / "release"), "--workers", "2", "--patients", "15"]
    assert main(command) == 0
    assert not (tmp_path / "release/data/images").exists()
    for form in FORMS:
        assert (tmp_path / f"release/oai/{form}").is_dir()
        assert (tmp_path / f"release/oai/{form}_planted_defects.json").is_file()
    assert capsys.readouterr().out.count("SYNTHETIC download") == 3
