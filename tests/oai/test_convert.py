"""``reasonknee convert``: finding, proving, converting and reporting the rows of a release."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.atomic_files import part_path
from reasonknee_datasets.cli import main
from reasonknee_datasets.errors import ConvertError, ReleaseError
from reasonknee_datasets.oai import ConversionReport, RowOutcome, archives, convert
from reasonknee_datasets.oai.download_index import index_download, read_index
from reasonknee_datasets.orientation import Reorientation
from tests.helpers.dicom_files import SHAPE, facts_of, oblique_affine, save, slices, tar, voxels, write_release

pytest.importorskip("pydicom", reason="DICOM needs the dicom extra")

KEY = "9000000/20050926/10593810"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release", [facts_of(0)])


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """The files of the release's one row, outside of any download."""
    return save(slices(facts_of(0)), tmp_path / "files")


def run(tmp_path: Path, release: Path | None, **options: object) -> ConversionReport:
    given = {"oai": tmp_path / "oai", "release": release, "workers": 1, "progress": False, **options}
    return convert(tmp_path / "out", **given)  # type: ignore[arg-type]


def only(report: ConversionReport) -> RowOutcome:
    (row,) = report.rows
    return row


def check_converted(tmp_path: Path, row: RowOutcome) -> None:
    assert (row.status, row.kind, row.message) == ("converted", "", "")
    image = nib.load(tmp_path / "out" / row.output)
    assert np.array_equal(np.asarray(image.dataobj), voxels())
    assert image.affine == pytest.approx(oblique_affine(), abs=1e-4)


def as_nda(files: Path, root: Path) -> None:
    tar(files, root / f"Package_12/image03/00m/0.C.2/{KEY}.tar.gz")


def as_plain_tar(files: Path, root: Path) -> None:
    tar(files, root / f"{KEY}.tar", mode="w", prefix="")


def as_results(files: Path, root: Path) -> None:
    shutil.copytree(files, root / f"OAIBaselineImages/results/0.C.2/{KEY}")


def as_quoted_root(files: Path, root: Path) -> None:
    shutil.copytree(files, root / f"Package_7/results%2FP001/0.E.1/{KEY}")


def as_data_folder(files: Path, root: Path) -> None:
    shutil.copytree(files, root / "9000000/data/20050926/10593810")


def as_date_folder(files: Path, root: Path) -> None:
    shutil.copytree(files, root / "9000000/data/20050926")


def as_renamed(files: Path, root: Path) -> None:
    shutil.copytree(files, root / "a b/c/d/e")


def with_extension(files: Path, root: Path) -> None:
    shutil.copytree(files, root / KEY)
    for path in (root / KEY).iterdir():
        path.rename(path.with_name(f"{path.name}.dcm"))


def as_zip(files: Path, root: Path) -> None:
    root.mkdir()
    with zipfile.ZipFile(root / "00m.zip", "w") as archive:
        for path in files.iterdir():
            archive.write(path, f"results/00m/0.C.2/{KEY}/{path.name}")


def as_zip_of_tars(files: Path, root: Path) -> None:
    tar(files, root.parent / "one.tar.gz")
    root.mkdir()
    with zipfile.ZipFile(root / "00m.zip", "w") as archive:
        archive.write(root.parent / "one.tar.gz", f"00m/0.C.2/{KEY}.tar.gz")


def as_series_zip(files: Path, root: Path) -> None:
    (root / KEY).parent.mkdir(parents=True)
    with zipfile.ZipFile(root / f"{KEY}.zip", "w") as archive:
        for path in files.iterdir():
            archive.write(path, path.name)


LAYOUTS = (
    as_nda,
    as_plain_tar,
    as_results,
    as_quoted_root,
    as_data_folder,
    as_date_folder,
    as_renamed,
    with_extension,
    as_zip,
    as_zip_of_tars,
    as_series_zip,
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convert_finds_a_series_in_every_layout(
    layout: Callable[[Path, Path], None], release: Path, series: Path, tmp_path: Path
) -> None:
    layout(series, tmp_path / "oai")
    row = only(run(tmp_path, release))
    check_converted(tmp_path, row)
    assert row.output == "images/9000000/00M/20050926_10593810_1.nii.gz"
    assert row.grid_mm == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("turn", [Reorientation((2, 1, 0), (True, False, True)), Reorientation((1, 2, 0))])
def test_convert_to_mask_grid(turn: Reorientation, series: Path, tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", [facts_of(0)], {0: turn})
    as_results(series, tmp_path / "oai")
    row = only(run(tmp_path, release))
    image, mask = nib.load(tmp_path / "out" / row.output), nib.load(release / "data/masks/knee_000.nii.gz")
    assert image.shape == mask.shape == turn.apply_shape(SHAPE)
    assert np.abs(image.affine - mask.affine).max() < 1e-6
    assert np.array_equal(np.asarray(image.dataobj), turn.apply_array(voxels()))


def test_convert_again_recognises_its_files(release: Path, series: Path, tmp_path: Path) -> None:
    as_results(series, tmp_path / "oai")
    first = tmp_path / "out" / only(run(tmp_path, release)).output
    before = first.stat().st_mtime_ns, first.read_bytes()
    assert only(run(tmp_path, release)).status == "present"
    assert (first.stat().st_mtime_ns, first.read_bytes()) == before
    first.unlink()
    assert only(run(tmp_path, release)).status == "converted"
    assert first.read_bytes() == before[1]


def test_convert_temporary_files_of_other_run(release: Path, series: Path, tmp_path: Path) -> None:
    """Only those that a killed run left a while ago are removed."""
    as_results(series, tmp_path / "oai")
    path = tmp_path / "out" / only(run(tmp_path, release)).output
    old, young = part_path(path), part_path(path)
    for left, age in ((old, 120), (young, 0)):
        left.write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    run(tmp_path, release)
    assert {each.name for each in path.parent.iterdir()} == {path.name, young.name}


def test_convert_resumes(tmp_path: Path) -> None:
    rows = [facts_of(number) for number in range(4)]
    release = write_release(tmp_path / "release", rows)
    for facts in rows[:2]:
        save(slices(facts), tmp_path / f"oai/{facts.patient}/{facts.date}/{facts.series}")
    assert run(tmp_path, release).counts == {"converted": 2, "missing": 2}
    for facts in rows[2:]:
        save(slices(facts), tmp_path / f"oai/{facts.patient}/{facts.date}/{facts.series}")
    assert run(tmp_path, release).counts == {"converted": 2, "present": 2}


@pytest.mark.slow
def test_convert_in_parallel_writes_the_same_bytes(tmp_path: Path) -> None:
    rows = [facts_of(number) for number in range(5)]
    release = write_release(tmp_path / "release", rows)
    for facts in rows:
        save(slices(facts), tmp_path / f"oai/{facts.patient}/{facts.date}/{facts.series}")
    images = {}
    for workers in (1, 2):
        report = convert(
            tmp_path / f"out{workers}", oai=tmp_path / "oai", release=release, workers=workers, progress=False
        )
        assert report.counts == {"converted": 5}
        images[workers] = {row.output: (tmp_path / f"out{workers}" / row.output).read_bytes() for row in report.rows}
    assert images[1] == images[2]


@pytest.mark.parametrize("content", [b"mine", None], ids=["no NIfTI", "another image"])
def test_convert_replaces_no_file_of_somebody_else(
    content: bytes | None, release: Path, series: Path, tmp_path: Path
) -> None:
    as_results(series, tmp_path / "oai")
    there = tmp_path / "out/images/9000000/00M/20050926_10593810_1.nii.gz"
    there.parent.mkdir(parents=True)
    if content is None:
        nib.save(nib.Nifti1Image(voxels(), oblique_affine()), there)
    else:
        there.write_bytes(content)
    before = there.read_bytes()
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", "not-ours")
    assert there.read_bytes() == before


def test_convert_second_copy_of_damaged(release: Path, series: Path, tmp_path: Path) -> None:
    as_nda(series, tmp_path / "oai")
    as_results(series, tmp_path / "oai")
    cut = tmp_path / f"oai/OAIBaselineImages/results/0.C.2/{KEY}/003"
    cut.write_bytes(cut.read_bytes()[:-40])
    row = only(run(tmp_path, release))
    check_converted(tmp_path, row)
    assert "another copy was refused (damaged-file)" in row.notes


@pytest.mark.parametrize(
    ("tag", "value", "kind"),
    [
        ("PatientID", "9999999", "wrong-patient"),
        ("StudyDate", "20060101", "wrong-date"),
        ("AccessionNumber", "016610593899", "wrong-series"),
        ("AccessionNumber", "16610593899", "wrong-series"),
        ("AccessionNumber", "0166 10593899", "wrong-series"),
        ("SeriesDescription", "COR_MPR_RIGHT", "wrong-sequence"),
        ("SeriesDescription", "SAG_3D_DESS_LEFT", "wrong-side"),
        ("StudyDescription", "OAI^MR^ENROLLMENT^LEFT ", "wrong-side"),
        ("StudyDescription", "OAI^MR^24 MONTH^RIGHT ", "wrong-visit"),
    ],
)
def test_convert_header_contradicts_folder(tag: str, value: str, kind: str, release: Path, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    for each in made:
        setattr(each, tag, value)
    save(made, tmp_path / "oai" / KEY)
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", kind)
    assert repr(value.strip()) in row.message
    assert not (tmp_path / "out/images").exists()
    assert only(run(tmp_path, release, dry_run=True)).kind == kind


def in_date_folder(files: Path, root: Path) -> None:
    shutil.copytree(files, root / "9000000/data/20050926")


def in_one_tar(files: Path, root: Path) -> None:
    tar(files, root / "9000000.tar.gz")


def in_one_zip(files: Path, root: Path) -> None:
    root.mkdir()
    with zipfile.ZipFile(root / "knees.zip", "w") as archive:
        for path in files.iterdir():
            archive.write(path, path.name)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("layout", [in_date_folder, in_one_tar, in_one_zip])
def test_convert_finds_every_series_of_one_place(
    layout: Callable[[Path, Path], None], dry_run: bool, tmp_path: Path
) -> None:
    right = facts_of(0)
    left = replace(right, series="10593811", side="left")
    release = write_release(tmp_path / "release", [right, left])
    layout(save([*slices(right), *slices(left)], tmp_path / "files"), tmp_path / "oai")
    report = run(tmp_path, release, dry_run=dry_run)
    assert report.counts == {"found" if dry_run else "converted": 2}
    for row in () if dry_run else report.rows:
        assert row.notes == "left out 9 images of 1 other series"
        assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / row.output).dataobj), voxels())


def test_convert_series_from_folders_above(release: Path, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    for each in made:
        each.AccessionNumber = ""
    save(made, tmp_path / "oai" / KEY / "DICOM/1")
    row = only(run(tmp_path, release))
    check_converted(tmp_path, row)
    assert row.notes == "no AccessionNumber: only names identify the series of that day"


def test_dry_run_refuses_nothing_that_converts(release: Path, tmp_path: Path) -> None:
    localizer = slices(replace(facts_of(0), series="10593801"))[0]
    localizer.SeriesDescription = "3_PLANE_LOCALIZER"
    save([localizer, *slices(facts_of(0))], tmp_path / "oai" / KEY)
    assert only(run(tmp_path, release, dry_run=True)).status == "found"
    assert only(run(tmp_path, release)).status == "converted"


def test_convert_damaged_file_names_place(release: Path, tmp_path: Path) -> None:
    folder = save(slices(facts_of(0)), tmp_path / "oai" / KEY)
    (folder / "004").write_bytes((folder / "004").read_bytes()[:-50])
    row = only(run(tmp_path, release))
    assert row.kind == "damaged-file"
    assert row.message.startswith(f"{folder}: 004 has unreadable pixel data")


def test_one_slice_of_another_patient_is_refused(release: Path, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    made[4].PatientID = "9999999"
    save(made, tmp_path / "oai" / KEY)
    assert only(run(tmp_path, release)).kind == "mixed-series"


@pytest.mark.parametrize("change", ["without last", "shifted"])
def test_convert_refuses_other_grid(change: str, release: Path, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    if change == "without last":
        made.pop()
    for each in made if change == "shifted" else ():
        moved = np.array(each.ImagePositionPatient, float) + np.array([0, 0, 0.2])
        each.ImagePositionPatient = [f"{value:.7f}" for value in moved]
    save(made, tmp_path / "oai" / KEY)
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", "grid")
    assert ("number of voxels" if change == "without last" else "different places") in row.message


@pytest.mark.parametrize("gone", [0, -1])
def test_without_a_mask_numbers_show_missing_ends(gone: int, release: Path, tmp_path: Path) -> None:
    (release / "data/masks/knee_000.nii.gz").unlink()
    made = slices(facts_of(0))
    made.pop(gone)
    save(made, tmp_path / "oai" / KEY)
    row = only(run(tmp_path, release))
    if gone == 0:
        assert (row.status, row.kind) == ("refused", "missing-slices")
        assert "InstanceNumber 2 to 9" in row.message
    else:  # nothing in the files shows it, so the report says that nothing was compared
        assert row.status == "converted"
        assert "no mask" in row.notes


def test_without_header_and_mask_nothing_is_proven(release: Path, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    for each in made:
        each.PatientID = each.AccessionNumber = each.StudyDate = each.SeriesDescription = each.StudyDescription = ""
    save(made, tmp_path / "oai" / KEY)
    row = only(run(tmp_path, release))
    assert row.status == "converted"
    assert "the header proves no series" in row.notes
    shutil.rmtree(tmp_path / "out")
    (release / "data/masks/knee_000.nii.gz").unlink()
    assert only(run(tmp_path, release)).kind == "unproven"


def write_index(root: Path, description: str, study: str) -> None:
    columns = ["image03_id", "image_description", "comments_misc", "image_file"]
    address = f"s3://bucket/submission_1/00m/0.C.2/{KEY}.tar.gz"
    lines = [columns, ["Image id", "Image description", "Comments", "Location"], ["1", description, study, address]]
    root.mkdir(parents=True, exist_ok=True)
    (root / "image03.txt").write_text("".join("\t".join(f'"{cell}"' for cell in line) + "\n" for line in lines))


def test_read_index_skips_the_second_header_row(tmp_path: Path) -> None:
    write_index(tmp_path, "SAG_3D_DESS_RIGHT", "OAI MR 24 MONTH RIGHT")
    ((key, row),) = read_index(tmp_path / "image03.txt").items()
    assert "/".join(key) == KEY
    assert (row.side, row.visit, row.is_dess, row.contradiction) == ("right", "24M", True, "")


def test_read_index_of_oai_contents(tmp_path: Path) -> None:
    path = tmp_path / "contents.0E1.csv"
    path.write_text(
        "Folder,ParticipantID,StudyDate,Barcode,StudyDescription,SeriesDescription\n"
        f"0.E.1/{KEY},9000000,20050926,016610593810,OAI^MR^ENROLLMENT^LEFT ,SAG_3D_DESS_LEFT\n"
    )
    ((key, row),) = read_index(path).items()
    assert "/".join(key) == KEY
    assert (row.side, row.visit) == ("left", "00M")


@pytest.mark.parametrize(
    ("description", "study", "kind"),
    [
        ("SAG_3D_DESS_LEFT", "OAI MR ENROLLMENT LEFT", "wrong-side"),
        ("SAG_3D_DESS_RIGHT", "OAI MR ENROLLMENT LEFT", "wrong-side"),
        ("SAG_T2_MAP_RIGHT", "OAI MR ENROLLMENT RIGHT", "wrong-sequence"),
        ("SAG_3D_DESS_RIGHT", "OAI MR 24 MONTH RIGHT", "wrong-visit"),
    ],
)
def test_convert_index_contradicts_row(
    description: str, study: str, kind: str, release: Path, series: Path, tmp_path: Path
) -> None:
    as_nda(series, tmp_path / "oai")
    write_index(tmp_path / "oai", description, study)
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", kind)
    assert "image03.txt line 3" in row.message


def test_dry_run_lists_what_to_order(tmp_path: Path, series: Path) -> None:
    release = write_release(tmp_path / "release", [facts_of(0), facts_of(1, side="left")])
    shutil.rmtree(series)
    write_index(tmp_path / "oai", "SAG_3D_DESS_RIGHT", "OAI MR ENROLLMENT RIGHT")
    report = run(tmp_path, release, dry_run=True)
    assert report.counts == {"missing": 2}
    assert [row.message.rpartition("is ")[2] for row in report.rows] == [
        "listed in its index, but not on disk.",
        "not in the download.",
    ]
    assert (tmp_path / "out/convert_report/to_order.txt").read_text().splitlines() == [
        f"s3://bucket/submission_1/00m/0.C.2/{KEY}.tar.gz",
        "00m/0.C.2/9000001/20050926/10593811.tar.gz",
    ]
    assert not (tmp_path / "out/images").exists()


def test_convert_unwritable_folder_before_search(
    release: Path, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_nda(series, tmp_path / "oai")
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr("reasonknee_datasets.oai.conversion.index_download", lambda root: pytest.fail("searched"))
    with pytest.raises(ConvertError, match="Cannot write to"):
        run(tmp_path, release)
    with pytest.raises(ReleaseError, match="is not an official release"):
        run(tmp_path, tmp_path)


def test_dry_run_finds_without_writing(release: Path, series: Path, tmp_path: Path) -> None:
    as_nda(series, tmp_path / "oai")
    row = only(run(tmp_path, release, dry_run=True))
    assert (row.status, Path(row.source).name) == ("found", "10593810.tar.gz")
    assert not (tmp_path / "out/images").exists()


def test_report_holds_every_row_in_three_forms(tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", [facts_of(number) for number in range(3)])
    save(slices(facts_of(0)), tmp_path / "oai" / KEY)
    odd = slices(facts_of(1))
    for each in odd:
        each.SeriesDescription = "<script>alert(1)</script>"
    save(odd, tmp_path / "oai/9000001/20050926/10593811")
    report = run(tmp_path, release)
    folder = tmp_path / "out/convert_report"
    assert [row.status for row in report.rows] == ["converted", "refused", "missing"]
    with (folder / "report.csv").open() as file:
        assert [(row["series"], row["status"], row["kind"]) for row in csv.DictReader(file)] == [
            ("10593810", "converted", ""),
            ("10593811", "refused", "wrong-sequence"),
            ("10593812", "missing", ""),
        ]
    assert json.loads((folder / "report.json").read_text()) == report.to_json()
    page = (folder / "report.html").read_text()
    assert all(page.count(f"<td>{row.series}") == 1 for row in report.rows)
    assert "<script" not in page


def test_convert_every_dess_without_release(tmp_path: Path) -> None:
    save(slices(facts_of(0, side="left", visit="24M")), tmp_path / "oai/9000000/20050926/10593810")
    other = slices(facts_of(1))
    for each in other:
        each.SeriesDescription = "SAG_IW_TSE_RIGHT"
    save(other, tmp_path / "oai/9000001/20050926/10593811")
    report = run(tmp_path, None)
    assert [row.output for row in report.rows] == ["images/9000000/24M/20050926_10593810_2.nii.gz"]
    assert report.counts == {"converted": 1}


@pytest.mark.parametrize(("folder", "visit"), [("0.E.1", "00M"), ("3.C.2", "24M"), ("10.C.1", "96M"), ("odd", None)])
def test_convert_visit_from_folder(folder: str, visit: str | None, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    for each in made:
        each.StudyDescription = ""
    save(made, tmp_path / "oai" / folder / KEY)
    row = only(run(tmp_path, None))
    assert (row.visit, row.kind) == (visit or "", "" if visit else "unknown-visit")


# Hostile archives


def hostile_tar(path: Path, files: Path, name: str, kind: bytes = tarfile.REGTYPE, size: int = 3) -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(files.iterdir()):
            archive.add(file, f"./{file.name}")
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        member.size = size if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"x" * member.size))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../../../outside", tarfile.REGTYPE),
        ("/tmp/outside-of-reasonknee", tarfile.REGTYPE),
        ("a\\..\\..\\outside", tarfile.REGTYPE),
        ("200", tarfile.SYMTYPE),
        ("200", tarfile.LNKTYPE),
        ("200", tarfile.CHRTYPE),
        ("200", tarfile.FIFOTYPE),
    ],
)
def test_convert_unsafe_tar(name: str, kind: bytes, release: Path, series: Path, tmp_path: Path) -> None:
    hostile_tar(tmp_path / f"oai/{KEY}.tar.gz", series, name, kind)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", "unsafe-archive")
    after = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert {path.parts[:2] for path in set(after) - set(before)} <= {("out",), ("out", "convert_report")}
    assert not Path("/tmp/outside-of-reasonknee").exists()


def test_convert_zip_with_climbing_names(release: Path, series: Path, tmp_path: Path) -> None:
    (tmp_path / "oai").mkdir()
    with zipfile.ZipFile(tmp_path / "oai/00m.zip", "w") as archive:
        for path in series.iterdir():
            archive.write(path, f"../../../{KEY}/{path.name}")
    check_converted(tmp_path, only(run(tmp_path, release)))  # the name only says which series it claims to be
    assert not list(tmp_path.parent.glob("9000000"))


def test_convert_endless_archive(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_SERIES_BYTES", 4_000_000)
    monkeypatch.setattr(archives, "MAX_FILES", 10)
    path = tmp_path / f"oai/{KEY}.tar.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wb") as stream:
        member = tarfile.TarInfo("./001")
        member.size = 64_000_000
        stream.write(member.tobuf() + bytes(member.size))
    assert path.stat().st_size < 100_000
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", "too-large")


def test_convert_too_large_member(release: Path, tmp_path: Path) -> None:
    path = tmp_path / f"oai/{KEY}.tar.gz"
    path.parent.mkdir(parents=True)
    member = tarfile.TarInfo("./001")
    member.size = archives.MAX_FILE_BYTES + 1
    path.write_bytes(gzip.compress(member.tobuf()))
    row = only(run(tmp_path, release))
    assert (row.status, row.kind) == ("refused", "too-large")


def test_too_many_files_are_refused(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 5)
    save(slices(facts_of(0)), tmp_path / "oai" / KEY)
    assert only(run(tmp_path, release)).kind == "too-large"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("layout", [as_nda, as_plain_tar, as_series_zip])
def test_convert_cut_archive(
    layout: Callable[[Path, Path], None], keep: float, release: Path, series: Path, tmp_path: Path
) -> None:
    layout(series, tmp_path / "oai")
    (path,) = (path for path in (tmp_path / "oai").rglob("*") if path.is_file())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    if layout is as_series_zip:  # an unreadable zip cannot even be searched
        with pytest.raises(ConvertError, match=rf"(?s)oai has no DICOM series.*{path.name} cannot .*Download it again"):
            run(tmp_path, release)
        return
    row = only(run(tmp_path, release))
    if row.status == "converted":  # tar ends in padding: all slices were there
        check_converted(tmp_path, row)
        assert layout is as_plain_tar
    else:
        assert row.kind in {"damaged-file", "no-image"}


def test_index_download_does_not_follow_links_round(tmp_path: Path, series: Path) -> None:
    shutil.copytree(series, tmp_path / "oai" / KEY)
    (tmp_path / "oai/9000000/again").symlink_to(tmp_path / "oai", target_is_directory=True)
    index = index_download(tmp_path / "oai")
    assert [len(places) for places in index.places.values()] == [1]


# The command


def test_command_converts_and_reports(
    release: Path, series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_nda(series, tmp_path / "oai")
    command = ["convert", "--oai", str(tmp_path / "oai"), "--release", str(release), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert re.match(r"1 converted\nreport: .*report\.html\n", capsys.readouterr().out)


def test_command_says_that_rows_were_refused(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(slices(facts_of(0))[:-1], tmp_path / "oai" / KEY)
    command = ["convert", "--oai", str(tmp_path / "oai"), "--release", str(release), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "grid: 1 (" in capsys.readouterr().out


def test_command_converts_one_series(series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--series", str(series), "--out", str(tmp_path / "x.nii.gz")]) == 0
    assert "SAG_3D_DESS_RIGHT, 9 slices" in capsys.readouterr().out
    assert np.array_equal(np.asarray(nib.load(tmp_path / "x.nii.gz").dataobj), voxels())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"oai": None}, "Name an OAI download with --oai"),
        ({"oai": None, "nifti": "x", "release": None}, "--nifti needs --release"),
        ({"oai": "nowhere"}, "nowhere does not exist. Name the folder of the OAI download"),
    ],
)
def test_convert_refuses_what_makes_no_sense(
    options: dict[str, str | None], match: str, release: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConvertError, match=match):
        convert(tmp_path / "out", **{"oai": tmp_path, "release": release, **options})


def test_convert_two_series_of_one_visit(tmp_path: Path) -> None:
    first, second = facts_of(0), replace(facts_of(0), series="10593813")
    release = write_release(tmp_path / "release", [first, second])
    for facts in (first, second):
        save(slices(facts), tmp_path / f"oai/{facts.patient}/{facts.date}/{facts.series}")
    report = run(tmp_path, release)
    assert [Path(row.output).name for row in report.rows] == [
        "20050926_10593810_1.nii.gz",
        "20050926_10593813_1.nii.gz",
    ]
    assert report.counts == {"converted": 2}


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_convert_resumes_stopped_run(signal_number: signal.Signals, tmp_path: Path) -> None:
    rows = [facts_of(number) for number in range(9)]
    release = write_release(tmp_path / "release", rows)
    whole = save(slices(rows[0]), tmp_path / f"oai/{rows[0].patient}/{rows[0].date}/{rows[0].series}")
    for facts in rows[1:]:
        save(slices(facts), tmp_path / f"oai/{facts.patient}/{facts.date}/{facts.series}")
    assert whole.is_dir()
    command = [sys.executable, "-m", "reasonknee_datasets", "convert", "--oai", str(tmp_path / "oai"), "--workers", "1"]
    command += ["--release", str(release), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob("out/images/*/*/*.nii.gz")):
            pass
        process.send_signal(signal_number)
        process.wait()
    report = run(tmp_path, release)
    assert sum(report.counts.values()) == report.counts.get("converted", 0) + report.counts["present"] == 9
    for row in report.rows:
        image = nib.load(tmp_path / "out" / row.output)
        assert np.array_equal(np.asarray(image.dataobj), voxels())


def test_convert_interrupted_reports_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reasonknee_datasets.oai import conversion

    rows = [facts_of(number) for number in range(3)]
    release = write_release(tmp_path / "release", rows)
    for facts in rows:
        save(slices(facts), tmp_path / f"oai/{facts.patient}/{facts.date}/{facts.series}")
    real, seen = conversion.convert_row, []

    def interrupted(task: object) -> object:
        seen.append(task)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(task)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "convert_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, release)
    assert json.loads((tmp_path / "out/convert_report/report.json").read_text())["counts"] == {
        "converted": 2,
        "pending": 1,
    }


def test_convert_notes_missing_accession(release: Path, tmp_path: Path) -> None:
    made = slices(facts_of(0))
    for each in made:
        each.AccessionNumber = ""
    save(made, tmp_path / "oai" / KEY)
    row = only(run(tmp_path, release))
    assert row.status == "converted"
    assert "only names identify the series" in row.notes


def test_convert_skips_large_other_file(release: Path, series: Path, tmp_path: Path) -> None:
    as_results(series, tmp_path / "oai")
    with (tmp_path / "oai/film.mp4").open("wb") as file:
        file.truncate(archives.MAX_FILE_BYTES * 8)  # sparse: takes no disk, and would take 4 GB of memory
    report = run(tmp_path, release)
    check_converted(tmp_path, only(report))
    assert report.unknown == {}


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["9000000/report.pdf", "image03/readme"]])
@pytest.mark.parametrize("with_release", [False, True])
def test_convert_folder_without_series(files: list[str], with_release: bool, release: Path, tmp_path: Path) -> None:
    (tmp_path / "oai").mkdir()
    for name in files:
        (tmp_path / "oai" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "oai" / name).write_text("x", encoding="utf-8")
    match = r"oai has no DICOM series\. An OAI download has .*0\.C\.2/9000798/20040924/10249506\.tar\.gz.*--oai\."
    with pytest.raises(ConvertError, match=match):
        run(tmp_path, release if with_release else None)
    assert not (tmp_path / "out").exists()


def test_convert_dry_run_of_other_folder(release: Path, tmp_path: Path) -> None:
    (tmp_path / "oai").mkdir()
    assert run(tmp_path, release, dry_run=True).counts == {"missing": 1}
    (tmp_path / "oai/notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ConvertError, match=r"oai has no DICOM series"):
        run(tmp_path, release, dry_run=True)


def test_convert_folder_without_volumes(release: Path, tmp_path: Path) -> None:
    (tmp_path / "nifti").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)), tmp_path / "nifti/brain.nii.gz")
    with pytest.raises(ConvertError, match=r"(?s)nifti has no NIfTI volume .*brain\.nii\.gz names no row"):
        run(tmp_path, release, oai=None, nifti=tmp_path / "nifti")


def test_convert_series_of_other_patients(release: Path, tmp_path: Path) -> None:
    other = facts_of(5)
    save(slices(other), tmp_path / f"oai/{other.patient}/{other.date}/{other.series}")
    with pytest.raises(ConvertError, match=rf"None of the 1 series in .*{other.series}, is in the split files"):
        run(tmp_path, release)


def test_convert_series_of_other_sequences(tmp_path: Path) -> None:
    odd = slices(facts_of(0))
    for each in odd:
        each.SeriesDescription = "COR_IW_TSE_RIGHT"
    save(odd, tmp_path / "oai" / KEY)
    with pytest.raises(ConvertError, match=r"None of the 1 series in .*oai is a sagittal 3D DESS series"):
        run(tmp_path, None)


def test_convert_empty_folder_after_conversion(release: Path, series: Path, tmp_path: Path) -> None:
    """Archives may be deleted after their conversion: the images are there."""
    as_results(series, tmp_path / "oai")
    run(tmp_path, release)
    shutil.rmtree(tmp_path / "oai")
    (tmp_path / "oai").mkdir()
    assert run(tmp_path, release).counts == {"present": 1}


def test_convert_missing_download_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for out in ("out", "there"):
        with pytest.raises(ConvertError, match="absent"):
            convert(tmp_path / out, oai=tmp_path / "absent")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
