"""DICOM series to volumes: voxels, geometry, and what is refused by name."""

from __future__ import annotations

import random
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai import Refusal, convert_series, read_series
from reasonknee_datasets.oai.archives import SeriesPlace
from reasonknee_datasets.oai.dicom_files import read_slices
from reasonknee_datasets.orientation import between, to_canonical
from reasonknee_datasets.phantom.dicom_series import get_pixels, set_pixels, write_bytes
from reasonknee_datasets.volumes.header import parse_index
from tests.helpers.dicom_files import SHAPE, oblique_affine, save, slices, voxels
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

pydicom = pytest.importorskip("pydicom", reason="DICOM needs the dicom extra")

REAL = OFFICIAL / "knee_mri"
needs_real = pytest.mark.skipif(not (REAL / "dicom_te006").is_dir(), reason=NO_OFFICIAL)


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a series on the axes closest to RAS+, rescaled."""
    volume = read_series(SeriesPlace(str(folder)))
    turn = to_canonical(volume.affine)
    assert (volume.slope, volume.intercept) == (1.0, 0.0)
    return turn.apply_array(volume.voxels), turn.apply_affine(volume.affine, volume.voxels.shape)


@needs_real
def test_real_series_is_the_published_nifti(tmp_path: Path) -> None:
    convert_series(REAL / "dicom_te006", tmp_path / "echo.nii.gz")
    made, published = nib.load(tmp_path / "echo.nii.gz"), nib.load(REAL / "MESE_TE006.3.nii.gz")
    turn = between(made.affine, made.shape, published.affine, published.shape, 0.01)
    assert np.array_equal(turn.apply_array(np.asarray(made.dataobj)), np.asarray(published.dataobj))
    assert np.abs(turn.apply_affine(made.affine, made.shape) - published.affine).max() < 0.01
    assert made.get_data_dtype() == np.int16
    head = (tmp_path / "echo.nii.gz").read_bytes()
    assert parse_index(head, len(head)) is not None  # seekable


def with_dcm2niix(folder: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    dcm2niix = pytest.importorskip("dcm2niix")
    subprocess.run([dcm2niix.bin, "-b", "n", "-f", "x", "-o", str(out), str(folder)], check=True, capture_output=True)
    image = nib.load(out / "x.nii")
    return np.asarray(image.dataobj), image.affine


def with_simpleitk(folder: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def with_highdicom(folder: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    highdicom = pytest.importorskip("highdicom")
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])
    return volume.array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine


@pytest.mark.slow
@pytest.mark.parametrize("series", ["real", "phantom"])
@pytest.mark.parametrize("library", [with_dcm2niix, with_simpleitk, with_highdicom])
def test_read_series_agrees_with_other_libraries(
    series: str, library: Callable[[Path, Path], tuple[np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    folder = REAL / "dicom_te006" if series == "real" else save(slices(), tmp_path / "series")
    if not folder.is_dir():
        pytest.skip(NO_OFFICIAL)
    array, affine = read(folder)
    (tmp_path / "out").mkdir()
    other, other_affine = library(folder, tmp_path / "out")
    turn = between(other_affine, other.shape, affine, array.shape, 0.01)
    assert np.array_equal(turn.apply_array(other), array)


def test_read_series_gives_voxels_and_affine_back(tmp_path: Path) -> None:
    array, affine = read(save(slices(), tmp_path / "series"))
    assert np.array_equal(array, voxels())
    assert affine == pytest.approx(oblique_affine(), abs=1e-6)


def test_stack_slices_sorts_by_position(tmp_path: Path) -> None:
    made = slices()
    numbers = list(range(len(made)))
    random.Random(3).shuffle(numbers)
    for each, number in zip(made, numbers, strict=True):
        each.InstanceNumber = str(number + 1)
    random.Random(4).shuffle(made)
    array, affine = read(save(made, tmp_path / "series"))
    assert np.array_equal(array, voxels())
    assert affine == pytest.approx(oblique_affine(), abs=1e-6)


@pytest.mark.parametrize("shape", [(8, 6, 7), (176, 5, 4), (9, 384, 352)])
def test_read_series_of_other_shapes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    array, _ = read(save(slices(shape=shape), tmp_path / "series"))
    assert np.array_equal(array, voxels(shape))


JPEG2000, JPEG_LS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", JPEG2000, JPEG_LS],
    ids=["little", "big", "rle", "jpeg2000", "jpeg-ls"],
)
def test_read_series_in_every_transfer_syntax(syntax: str, tmp_path: Path) -> None:
    pytest.importorskip({JPEG2000: "openjpeg", JPEG_LS: "jpeg_ls"}.get(syntax, "pydicom"))
    shape = (9, 64, 48)  # JPEG 2000 encodes nothing below 32 pixels
    made = slices(shape=shape)
    for each in made:
        each.file_meta.TransferSyntaxUID = syntax
    array, _ = read(save(made, tmp_path / "series"))
    assert np.array_equal(array, voxels(shape))


def test_implicit_little_endian_without_preamble(tmp_path: Path) -> None:
    made = slices()
    (tmp_path / "series").mkdir()
    for number, each in enumerate(made):
        del each.file_meta
        each.save_as(tmp_path / "series" / str(number), implicit_vr=True, little_endian=True)
        content = (tmp_path / "series" / str(number)).read_bytes()
        assert content[128:132] != b"DICM"
    array, _ = read(tmp_path / "series")
    assert np.array_equal(array, voxels())


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [("1", "-1024", np.int16), ("-2", "7", np.int16), ("0.125", "-0.5", np.int16)]
)
def test_rescale_slope_and_intercept(slope: str, intercept: str, dtype: type, tmp_path: Path) -> None:
    made = slices()
    for each in made:
        each.RescaleSlope, each.RescaleIntercept = slope, intercept
    out = tmp_path / "x.nii.gz"
    convert_series(save(made, tmp_path / "series"), out)
    image = nib.load(out)
    assert np.array_equal(np.asarray(image.dataobj), voxels() * float(slope) + float(intercept))
    assert image.get_data_dtype() == dtype


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("1e400", "0"), ("1", "-1e400")])
def test_rescale_that_keeps_no_voxel_is_refused(slope: str, intercept: str, tmp_path: Path) -> None:
    made = slices()
    made[3].RescaleSlope, made[3].RescaleIntercept = slope, intercept
    with pytest.raises(Refusal, match=r"004 has RescaleSlope .* which would lose voxel values") as refused:
        read(save(made, tmp_path / "series"))
    assert refused.value.kind == "damaged-file"


def test_rescale_that_differs_between_slices(tmp_path: Path) -> None:
    made = slices()
    for number, each in enumerate(made):
        each.RescaleSlope, each.RescaleIntercept = f"{1 + number / 8}", "0.5"
    array, _ = read(save(made, tmp_path / "series"))
    expected = voxels() * (1 + np.arange(SHAPE[0]) / 8)[:, None, None] + 0.5
    assert array.dtype == np.float32
    assert np.array_equal(array, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("add", "dtype"), [(0, np.int16), (-500, np.int16), (40_000, np.uint16)], ids=["positive", "negative", "unsigned"]
)
def test_signed_and_unsigned_pixels(add: int, dtype: type, tmp_path: Path) -> None:
    made = slices()
    for each in made:
        set_pixels(each, get_pixels(each).astype(np.int32) + add)
    array, _ = read(save(made, tmp_path / "series"))
    assert array.dtype == dtype
    assert np.array_equal(array, voxels().astype(np.int32) + add)


def test_twelve_stored_bits_of_sixteen(tmp_path: Path) -> None:
    made = slices()
    for each in made:
        each.BitsStored, each.HighBit, each.PixelRepresentation = 12, 11, 1
        signed = get_pixels(each).astype(np.int16) - 500
        each.PixelData = (signed & 0x0FFF).astype("<u2").tobytes()
    array, _ = read(save(made, tmp_path / "series"))
    assert np.array_equal(array, voxels() - 500)


def test_read_series_leaves_out_other_files(tmp_path: Path) -> None:
    made = slices()
    stranger = deepcopy(made[0])
    stranger.SeriesInstanceUID, stranger.SeriesDescription = "1.2.3", "3_PLANE_LOCALIZER"
    folder = save([stranger, *made], tmp_path / "series")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0 not DICOM")
    volume = read_series(SeriesPlace(str(folder)))
    assert volume.voxels.shape[2] == len(made)
    assert "left out 1 image of 1 other series" in volume.notes
    assert any("Thumbs.db" in note for note in volume.notes)


def refuse(folder: Path, kind: str, match: str) -> None:
    with pytest.raises(Refusal, match=match) as caught:
        read_series(SeriesPlace(str(folder)))
    assert caught.value.kind == kind


def test_missing_slices_are_counted_and_placed(tmp_path: Path) -> None:
    made = slices()
    folder = save([*made[:3], *made[5:]], tmp_path / "series")
    refuse(folder, "missing-slices", r"lacks 2 slices, the first after 003 \(7 are there, 0.7 mm apart\)")


def test_interleaved_acquisitions_are_no_finer_stack(tmp_path: Path) -> None:
    made = slices()
    second = deepcopy(made)
    for each in second:
        each.AcquisitionNumber, each.SOPInstanceUID = "2", each.SOPInstanceUID + ".1"
        step = 0.35 * oblique_affine()[:3, 0] / 0.7 * np.array([-1, -1, 1])
        each.ImagePositionPatient = [f"{value:.7f}" for value in np.array(each.ImagePositionPatient, float) + step]
    refuse(save(made + second, tmp_path / "series"), "two-acquisitions", "interleaved.*AcquisitionNumber")


def test_echoes_at_one_position_are_named(tmp_path: Path) -> None:
    made = slices()
    second = deepcopy(made)
    for each in second:
        each.EchoTime, each.SOPInstanceUID = "9.9", each.SOPInstanceUID + ".1"
        set_pixels(each, get_pixels(each) // 2)
    refuse(save(made + second, tmp_path / "series"), "two-acquisitions", "differ in EchoTime")


@pytest.mark.parametrize("content", [b"", b"not DICOM", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 400])
def test_files_that_are_no_images(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "001").write_bytes(content)
    refuse(tmp_path, "no-image", "has no DICOM image .files read: 1.")


@pytest.mark.parametrize("length", range(0, 1350, 37))
def test_read_slices_refuses_truncated_file(length: int) -> None:
    whole = write_bytes(slices()[0])
    assert len(whole) == 1350
    try:
        assert read_slices("001", whole[:length]) == []
    except Refusal as error:
        assert error.kind == "damaged-file"  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize("seed", range(60))
def test_read_series_changed_bytes(seed: int) -> None:
    content = bytearray(write_bytes(slices()[0]))
    chance = random.Random(seed)
    for _ in range(8):
        content[chance.randrange(132, len(content))] = chance.randrange(256)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # values out of range are expected in a hostile file
            found = read_slices("001", bytes(content))
    except Refusal as error:
        assert "001" in str(error)  # noqa: PT017
    else:
        assert all(each.voxels.ndim == 2 for each in found)


@pytest.mark.parametrize(
    ("source", "out", "match"),
    [
        ("series", "x.nii", "End its name in .nii.gz"),
        ("nothing", "x.nii.gz", "There is no series at"),
        ("series/001", "x.nii.gz", "is one file"),
        ("series", "there.nii.gz", "exists already"),
    ],
)
def test_convert_series_refuses_other_names(source: str, out: str, match: str, tmp_path: Path) -> None:
    save(slices(), tmp_path / "series")
    (tmp_path / "there.nii.gz").write_bytes(b"mine")
    with pytest.raises(ConvertError, match=match):
        convert_series(tmp_path / source, tmp_path / out)
    assert (tmp_path / "there.nii.gz").read_bytes() == b"mine"
    assert not (tmp_path / "x.nii.gz").exists()


def test_convert_series_from_a_zip_with_folders(tmp_path: Path) -> None:
    folder = save(slices(), tmp_path / "series")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"results/9000000/{path.name}")
    convert_series(tmp_path / "series.zip", tmp_path / "x.nii.gz")
    assert np.array_equal(np.asarray(nib.load(tmp_path / "x.nii.gz").dataobj), voxels())


@pytest.mark.parametrize(
    ("syntax", "marker", "offset"),
    [(JPEG2000, b"\xff\x4f\xff\x51", 8), (JPEG_LS, b"\xff\xf7", 5)],
    ids=["jpeg2000", "jpeg-ls"],
)
def test_read_series_compressed_other_size(syntax: str, marker: bytes, offset: int, tmp_path: Path) -> None:
    """Decoders allocate what compressed data claims: here 61,166 x 61,166 pixels and more in two kilobytes."""
    if syntax == JPEG_LS:
        pytest.importorskip("jpeg_ls", reason="needs pyjpegls to encode")
    made = slices(shape=(9, 64, 48))
    for each in made:
        each.file_meta.TransferSyntaxUID = syntax
    folder = save(made, tmp_path / "series")
    content = bytearray((folder / "004").read_bytes())
    place = content.index(marker) + offset
    content[place : place + 2] = b"\xee\xee"
    (folder / "004").write_bytes(content)
    refuse(folder, "damaged-file", r"004 states \(48, 64\) pixels, but frame 1 is coded as")
