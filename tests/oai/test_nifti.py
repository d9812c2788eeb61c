"""``reasonknee convert --nifti``: volumes from other converters."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai import ConversionReport, RowOutcome, convert
from reasonknee_datasets.oai.image_files import explained_variance, match_content
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.release import open_release
from reasonknee_datasets.release.split_files import Study


@pytest.fixture(scope="module")
def truth(phantom_release: Path) -> dict[str, Study]:
    """The studies of a synthetic release, whose own images are what must come out, by their key."""
    return {study.key: study for study in open_release(phantom_release).studies}


@pytest.fixture
def study(truth: dict[str, Study]) -> Study:
    """One of the usual depth."""
    return next(study for study in truth.values() if min(nib.load(study.image).shape) == 64)


def run(root: Path, release: Path, out: Path) -> ConversionReport:
    return convert(out, nifti=root, release=release, workers=1, progress=False)


def row_of(report: ConversionReport, study: Study) -> RowOutcome:
    return next(row for row in report.rows if (row.patient, row.series) == (study.patient, study.series))


def save(study: Study, path: Path, turn: Reorientation | None = None) -> Path:
    """Save a study's image under another name, in another layout."""
    image, turn = nib.load(study.image), turn or Reorientation()
    voxels = np.ascontiguousarray(turn.apply_array(np.asarray(image.dataobj)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, turn.apply_affine(image.affine, image.shape)), path)
    return path


def check(study: Study, row: RowOutcome, out: Path) -> None:
    assert (row.status, row.message) == ("converted", "")
    made, expected = nib.load(out / row.output), nib.load(study.image)
    assert np.array_equal(np.asarray(made.dataobj), np.asarray(expected.dataobj))
    assert np.abs(made.affine - expected.affine).max() < 1e-3
    assert made.get_data_dtype() == np.int16


TURN = Reorientation((2, 0, 1), (True, False, True))


@pytest.mark.parametrize(
    "name",
    [
        "{patient}/{study}/{series}.nii.gz",
        "{patient}/{study}/dess_{side}.nii.gz",
        "sub-{patient}_ses-{study}_SAG_3D_DESS_{SIDE}.nii",
        "{series}_SAG_3D_DESS_{SIDE}_{study}091500_5.nii.gz",  # dcm2niix: %f_%p_%t_%s
        "images/{patient}_{visit}/0166{series}.nii.gz",
    ],
)
def test_volumes_are_matched_by_their_names(name: str, study: Study, phantom_release: Path, tmp_path: Path) -> None:
    fields = {key: getattr(study, key) for key in ("patient", "study", "series", "side", "visit")}
    save(study, tmp_path / "nifti" / name.format(**fields, SIDE=study.side.upper()), TURN)
    report = run(tmp_path / "nifti", phantom_release, tmp_path / "out")
    row = row_of(report, study)
    check(study, row, tmp_path / "out")
    assert "matched by names" in row.notes
    assert report.counts == {"converted": 1, "missing": len(report.rows) - 1}


def test_index_images_by_sidecar(study: Study, phantom_release: Path, tmp_path: Path) -> None:
    path = save(study, tmp_path / "nifti/scan.nii.gz")
    facts = {"PatientID": study.patient, "AccessionNumber": f"0166{study.series}"}
    path.with_name("scan.json").write_text(json.dumps(facts))
    check(study, row_of(run(tmp_path / "nifti", phantom_release, tmp_path / "out"), study), tmp_path / "out")


def test_index_images_by_mask_grid(study: Study, phantom_release: Path, tmp_path: Path) -> None:
    save(study, tmp_path / "nifti/scan.nii.gz", TURN)
    row = row_of(run(tmp_path / "nifti", phantom_release, tmp_path / "out"), study)
    check(study, row, tmp_path / "out")
    assert "matched by grid" in row.notes


@pytest.mark.slow
def test_volumes_are_matched_by_their_content(truth: dict[str, Study], phantom_release: Path, tmp_path: Path) -> None:
    """Volumes without a name or an affine that identifies knee or orientation."""
    chosen = [study for study in truth.values() if sorted(nib.load(study.image).shape) == [64, 128, 128]][:2]
    (tmp_path / "nifti").mkdir()
    for name, study in zip("ab", chosen, strict=True):
        voxels = np.ascontiguousarray(TURN.apply_array(np.asarray(nib.load(study.image).dataobj)))
        nib.save(nib.Nifti1Image(voxels, None), tmp_path / f"nifti/{name}.nii.gz")
    report = run(tmp_path / "nifti", phantom_release, tmp_path / "out")
    for study in chosen:
        row = row_of(report, study)
        check(study, row, tmp_path / "out")
        assert "matched by content" in row.notes
    assert report.unknown == {}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["oaizib_{n:03d}", "{n}"])
def test_index_images_by_oaizib_tables(
    case: str, truth: dict[str, Study], phantom_release: Path, tmp_path: Path
) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    chosen = [study for study in truth.values() if study.visit == "00M"][:3]
    book = openpyxl.Workbook()
    book.active.append(["SubjectID", "Case", "Path", "MRBarCode", "KneeSide", "KLGrade"])
    for number, study in enumerate(chosen, start=1):
        path = f"0.E.1/{study.patient}/{study.study}/{study.series}"
        book.active.append([study.patient, case.format(n=number), path, f"166{study.series}", study.side.upper(), 2])
        # Reoriented and without an orientation in its header, as some copies of it are.
        voxels = TURN.apply_array(np.asarray(nib.load(study.image).dataobj))
        image = nib.Nifti1Image(np.ascontiguousarray(voxels).astype(np.float64), None)
        (tmp_path / "nifti/imagesTr").mkdir(parents=True, exist_ok=True)
        nib.save(image, tmp_path / f"nifti/imagesTr/oaizib_{number:03d}_0000.nii.gz")
        (tmp_path / "nifti/labelsTr").mkdir(exist_ok=True)
        nib.save(image, tmp_path / f"nifti/labelsTr/oaizib_{number:03d}.nii.gz")
    book.save(tmp_path / "nifti/subInfo_train.xlsx")
    report = run(tmp_path / "nifti", phantom_release, tmp_path / "out")
    for study in chosen:
        row = row_of(report, study)
        check(study, row, tmp_path / "out")
        assert "orientation found by content" in row.notes
        assert "matched by table" in row.notes


def test_read_image_content_contradicts_affine(study: Study, phantom_release: Path, tmp_path: Path) -> None:
    """Voxels were flipped and the affine was not, as careless converters do."""
    image = nib.load(study.image)
    path = tmp_path / f"nifti/{study.series}.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.ascontiguousarray(np.asarray(image.dataobj)[:, ::-1]), image.affine), path)
    row = row_of(run(tmp_path / "nifti", phantom_release, tmp_path / "out"), study)
    assert (row.status, row.kind) == ("refused", "no-orientation")
    assert "content contradicts" in row.message


def test_a_resampled_volume_is_refused(study: Study, phantom_release: Path, tmp_path: Path) -> None:
    image = nib.load(study.image)
    path = tmp_path / f"nifti/{study.series}.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::2], image.affine @ np.diag([2, 1, 1, 1])), path)
    row = row_of(run(tmp_path / "nifti", phantom_release, tmp_path / "out"), study)
    assert (row.status, row.kind) == ("refused", "grid")


@pytest.mark.slow
def test_index_images_no_row(study: Study, phantom_release: Path, tmp_path: Path) -> None:
    image = nib.load(study.image)
    (tmp_path / "nifti").mkdir()
    moved = image.affine + np.array([[0, 0, 0, 40.0], [0] * 4, [0] * 4, [0] * 4])
    noise = np.random.default_rng(0).integers(0, 900, image.shape, dtype=np.int16)
    nib.save(nib.Nifti1Image(noise, moved), tmp_path / "nifti/a.nii.gz")
    (tmp_path / "nifti/b.nii.gz").write_bytes(b"no NIfTI")
    no_row = r"a\.nii\.gz names no row, and no mask has its grid\. Its content fits none of"
    with pytest.raises(ConvertError, match=rf"(?s){no_row}.*b\.nii\.gz .*NIfTI"):
        run(tmp_path / "nifti", phantom_release, tmp_path / "out")
    save(study, tmp_path / f"nifti/{study.series}.nii.gz")
    report = run(tmp_path / "nifti", phantom_release, tmp_path / "out")
    assert [Path(path).name for path in report.unknown] == ["a.nii.gz", "b.nii.gz"]
    assert report.counts == {"converted": 1, "missing": len(report.rows) - 1}


def test_index_images_name_of_two_rows(truth: dict[str, Study], phantom_release: Path, tmp_path: Path) -> None:
    days: dict[tuple[str, str], list[Study]] = {}
    for study in truth.values():
        days.setdefault((study.patient, study.study), []).append(study)
    both = next(studies for studies in days.values() if len(studies) > 1)
    save(both[0], tmp_path / f"nifti/{both[0].patient}/{both[0].study}/dess.nii.gz")
    with pytest.raises(ConvertError, match=rf"dess\.nii\.gz fits {len(both)} rows"):
        run(tmp_path / "nifti", phantom_release, tmp_path / "out")


def test_volumes_that_dcm2niix_made(study: Study, phantom_release: Path, tmp_path: Path) -> None:
    dcm2niix = pytest.importorskip("dcm2niix")
    from reasonknee_datasets.phantom.dicom_series import SeriesFacts, make_slices
    from tests.helpers.dicom_files import save as save_slices

    image = nib.load(study.image)
    facts = SeriesFacts(study.patient, study.visit, study.study, study.series, study.side)
    folder = save_slices(make_slices(np.asarray(image.dataobj), image.affine, facts), tmp_path / study.series)
    (tmp_path / "nifti").mkdir()
    command = [dcm2niix.bin, "-z", "y", "-ba", "n", "-o", str(tmp_path / "nifti"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(folder)
    check(study, row_of(run(tmp_path / "nifti", phantom_release, tmp_path / "out"), study), tmp_path / "out")


@pytest.mark.slow
def test_match_content_finds_every_orientation(study: Study) -> None:
    voxels, labels = np.asarray(nib.load(study.image).dataobj), np.asarray(nib.load(study.mask).dataobj)
    for turn in Reorientation.all():
        match = match_content(turn.apply_array(voxels), labels)
        assert match is not None
        assert match.turn == turn.inverse()
        assert match.clear


def test_explained_variance_against_counted_sums() -> None:
    rng = np.random.default_rng(1)
    voxels, labels = rng.normal(size=(4, 5, 6)), rng.integers(0, 3, (4, 5, 6))
    whole = ((voxels - voxels.mean()) ** 2).sum()
    within = sum(((voxels[labels == n] - voxels[labels == n].mean()) ** 2).sum() for n in range(3))
    assert explained_variance(voxels, labels) == pytest.approx(1 - within / whole)
