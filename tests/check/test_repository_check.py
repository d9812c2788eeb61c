"""``reasonknee check``: each planted defect is found by its check, and clean data have no errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.check import check_data, write_check_report
from reasonknee_datasets.cli import main
from reasonknee_datasets.errors import PrepareError, ReleaseError, RepositoryError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.quality import CHECKS, QualityReport
from reasonknee_datasets.quality.data_checks import Findings
from reasonknee_datasets.quality.row_checks import RowChecks
from tests.helpers.paths import ROOT
from tests.helpers.planted_defects import DEFECTS, Defect, image, row, rows_of, scaled

THICK = {"slice-thickness": 1}  # the phantom's volume of 8 slices, as there are in the official release


def check(root: Path, **options: object) -> QualityReport:
    return check_data(root, workers=1, progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.slow
def test_check_data_finds_nothing_in_clean_data(tmp_path: Path) -> None:
    write_release(tmp_path / "release", patients=2, seed=1, workers=1)  # too few for the irregularities of the release
    prepare(tmp_path / "release", tmp_path / "ready", workers=1, progress=False)
    report = check(tmp_path / "ready")
    assert report.groups == ()
    assert report.rows == 62 * report.volumes
    assert report.images == report.volumes >= 2
    assert "warnings" not in Manifest.load(tmp_path / "ready").report


def test_check_data_warns_of_thick_slices_alone(prepared: Path) -> None:
    report = check(prepared)
    assert report.counts == THICK == Manifest.load(prepared).report["warnings"]
    assert report.refused == ()


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=[f"{each.check}-{place}" for place, each in enumerate(DEFECTS)])
def test_check_data_finds_planted_defects(defect: Defect, copy: Path) -> None:
    defect.plant(copy)
    report = check(copy)
    assert set(report.counts) == {defect.check, *defect.others, *THICK}
    group = next(group for group in report.groups if group.check.name == defect.check)
    assert re.search(defect.says, group.examples[0].message)
    assert (group in report.refused) is (CHECKS[defect.check].severity == "error")
    allowed = check(copy, allow=[defect.check, *defect.others])
    assert allowed.refused == ()
    assert allowed.counts == report.counts


def test_every_data_check_has_a_planted_defect() -> None:
    assert {each.check for each in DEFECTS} | set(THICK) == set(CHECKS)


def test_the_how_to_page_lists_every_check() -> None:
    page = (ROOT / "docs/howto/check.md").read_text(encoding="utf-8")
    assert not [name for name in CHECKS if f"`{name}`" not in page]


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ([80, 100, 100, 81, 101, 101], "box-size"),  # what normalised coordinates make: one voxel
        ([80, 100, 100, 84, 101, 101], "unusual-box-size"),  # thinner than a millimetre
        ([80, 100, 100, 81, 120, 120], "unusual-box-size"),  # a lesion in one slice
        ([80, 100, 100, 90, 133, 125], None),  # a bone marrow lesion: 7 x 12 x 9 mm
        ([20, 60, 90, 130, 280, 310], None),  # a femur
        ([0, 0, 0, 160, 384, 384], "unusual-box-size"),  # the whole field, 140 mm
    ],
)
def test_check_box_at_the_spacing_of_oai(prepared: Path, box: list[int], found: str | None) -> None:
    lesion = next(
        each for each in rows_of(prepared) if each["category"] == "bone_marrow_lesion" and "femur" in each["subregion"]
    )
    findings = Findings()
    assert RowChecks(findings).check_box({**lesion, "box": box}, (160, 384, 384), (0.7, 0.36458, 0.36458))
    assert list(findings.counts) == ([] if found is None else [found])


@pytest.mark.slow
def test_check_command_writes_reports(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row(30, lambda each: each.update(box=[0, 0, 0, 64, 117, 60]))(copy)
    arguments = ["check", str(copy), "--workers", "1"]
    assert main([*arguments, "--report", str(tmp_path / "report")]) == 1
    assert "box-size (error): 1, a box is smaller or larger than its structure can be" in capsys.readouterr().out
    tree = json.loads((tmp_path / "report/check.json").read_text(encoding="utf-8"))
    assert (tree["ok"], tree["findings"][0]["name"], tree["findings"][0]["count"]) == (False, "box-size", 1)
    assert set(tree["passed"]) == set(CHECKS) - {"box-size", *THICK}
    page = (tmp_path / "report/check.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2, "a picture of the row and one of the thick slices"
    assert "<script" not in page
    assert main([*arguments, "--allow", "box-size"]) == 0
    assert main([*arguments, "--allow", "box-sizes"]) == 1
    assert "Unknown check 'box-sizes' to allow. Did you mean 'box-size'?" in capsys.readouterr().err


@pytest.mark.slow
def test_write_check_report_escapes_html(copy: Path, tmp_path: Path) -> None:
    row(30, lambda each: each.update(finding="<script>alert(1)</script>"))(copy)
    write_check_report(check(copy), tmp_path / "report", copy, pictures=False)
    page = (tmp_path / "report/check.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_write_check_report_in_read_only_folder(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match=r"Cannot write .*file/below: Not a directory"):
        write_check_report(check(prepared), tmp_path / "file/below", prepared, pictures=False)


def test_check_command_checks_the_report_folder_first(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["check", str(prepared), "--report", str(tmp_path / "file/below")]) == 1
    assert main(["check", str(prepared), "--files", "--report", str(tmp_path / "report")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Cannot write to" in printed.err
    assert "--report is of the rows and images, which --files does not check" in printed.err


@pytest.mark.slow
def test_prepare_stops_at_check_errors(phantom_release: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_release, tmp_path / "release")
    first = sorted((tmp_path / "release/data/images").rglob("*.nii.gz"))[0]
    import nibabel as nib

    old = nib.load(first)
    nib.save(nib.Nifti1Image(scaled(2.0)(np.asarray(old.dataobj)), old.affine), first)
    arguments = (tmp_path / "release", tmp_path / "out")
    with pytest.raises(PrepareError, match=r"found 1 errors.*--allow rescaled-image\nrescaled-image \(error\): 1"):
        prepare(*arguments, workers=1, progress=False)
    assert not (tmp_path / "out").exists()
    made = prepare(*arguments, workers=1, progress=False, allow=["rescaled-image"])
    assert made.manifest.report["allowed"] == {"rescaled-image": 1}
    assert made.manifest.source["options"]["allow"] == ["rescaled-image"]
    with pytest.raises(ReleaseError, match=r"Unknown problem or check 'rescaled' to allow. Did you mean"):
        prepare(*arguments, workers=1, progress=False, allow=["rescaled"])


@pytest.mark.slow
def test_check_data_reports_alike_in_processes(copy: Path) -> None:
    image(np.zeros_like)(copy)
    assert check_data(copy, workers=2, progress=False) == check(copy)


def test_check_command_unwritable_report(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reasonknee_datasets.check.check_data", lambda *_, **__: pytest.fail("checked"))
    (tmp_path / "report").write_text("a file")
    assert main(["check", str(prepared), "--report", str(tmp_path / "report")]) == 1
    assert "Cannot write to" in capsys.readouterr().err
