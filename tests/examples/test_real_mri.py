"""The example on real MRI: what a stranger's NIfTI file becomes, and what is said where it cannot be read."""

from __future__ import annotations

import gzip
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, GeometryError, VolumeNotFoundError
from reasonknee_datasets.figures import show
from reasonknee_datasets.orientation import Reorientation
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL, ROOT

pytest.importorskip("matplotlib", reason="figures need the figures extra")

pytestmark = pytest.mark.slow

REAL = OFFICIAL / "knee_mri/MESE_TE006.3.nii.gz"
LABELS = OFFICIAL / "knee_mri/dess_right_labels.nrrd"
PATELLA, FIBULA = 7, 8
needs_real = pytest.mark.skipif(not REAL.is_file(), reason=NO_OFFICIAL)


@pytest.fixture(scope="module")
def real_mri() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_mri", ROOT / "examples/real_mri.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def knee(tmp_path: Path) -> Path:
    voxels = np.arange(12 * 20 * 24, dtype=np.int16).reshape(12, 20, 24)
    affine = np.array([[0, 0, -0.7, 5], [-0.4, 0.05, 0, 3], [0.05, 0.4, 0, -2], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "knee.nii.gz")
    return tmp_path / "knee.nii.gz"


def save_mask(knee: Path, turn: Reorientation) -> Path:
    """Label two regions and store the mask in another order of axes."""
    image = nib.load(knee)
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[2:5, 3:9, 10:20] = 44
    labels[9:11, 1:2, 0:4] = 7
    path = knee.with_name("labels.nii.gz")
    turned = np.ascontiguousarray(turn.apply_array(labels))
    nib.save(nib.Nifti1Image(turned, turn.apply_affine(image.affine, image.shape)), path)
    return path


@needs_real
def test_main_draws_the_real_knee(real_mri: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "knee.png"
    arguments = [str(REAL), "--box", "100", "110", "8", "180", "160", "14", "--side", "right", "--out", str(out)]
    assert real_mri.main(arguments) == 0
    said = capsys.readouterr().out
    for fact in ("2,098,530 bytes", "(256, 256, 24), int16", "0.625 x 0.625 x 4 mm", "PIR", "(80, 50, 6)", str(out)):
        assert fact in said
    assert out.read_bytes()[:4] == b"\x89PNG"


@needs_real
def test_look_agrees_with_nibabel(real_mri: ModuleType) -> None:
    result = real_mri.look(REAL, box=[100, 110, 8, 180, 160, 14])
    plain = nib.load(REAL)
    voxels = np.asarray(plain.dataobj)
    np.testing.assert_array_equal(np.asarray(result.crop.dataobj), voxels[100:180, 110:160, 8:14])
    np.testing.assert_allclose(result.crop.affine, plain.slicer[100:180, 110:160, 8:14].affine)
    drawn = {axes.get_label(): np.asarray(axes.images[0].get_array()) for axes in result.figure.axes}
    # Stored as P, I, R: rows run down (inferior) and columns to the back already; right must turn to the left.
    np.testing.assert_array_equal(drawn["sagittal"], voxels[:, :, 11].T)
    np.testing.assert_array_equal(drawn["coronal"], voxels[140, :, ::-1])
    np.testing.assert_array_equal(drawn["axial"], voxels[:, 135, ::-1])
    heights = {axes.get_label(): axes.images[0].get_extent() for axes in result.figure.axes}
    np.testing.assert_allclose(heights["coronal"], (0, 24 * 4, 256 * 0.625, 0), rtol=1e-5)


def read_real_labels() -> Any:
    """Read the real DESS label map (NRRD, LPS) as a NIfTI image."""
    head, body = LABELS.read_bytes().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    shape = [int(count) for count in fields["sizes"].split()]
    columns, origin = (
        [[float(number) for number in group.split(",")] for group in re.findall(r"\(([^)]*)\)", fields[name])]
        for name in ("space directions", "space origin")
    )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.transpose(columns), origin[0]
    voxels = np.frombuffer(gzip.decompress(body), dtype=np.uint8).reshape(shape, order="F")
    return nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


@pytest.mark.skipif(not LABELS.is_file(), reason=NO_OFFICIAL)
@pytest.mark.parametrize("turn", list(Reorientation.all())[::11], ids=str)
def test_show_places_real_fibula_and_patella(turn: Reorientation) -> None:
    stored = read_real_labels()
    voxels = np.ascontiguousarray(turn.apply_array(np.asarray(stored.dataobj)))
    image = nib.Nifti1Image(voxels, turn.apply_affine(stored.affine, stored.shape))

    def drawn(label: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return for each plane through a label's box where the label and all bone lie: fractions down and across."""
        figure = show({"volume": image, "box": Box.from_mask(voxels, label).to_row(), "side": "right"})
        arrays = {axes.get_label(): np.asarray(axes.images[0].get_array()) for axes in figure.axes}
        return {
            plane: (np.argwhere(array == label).mean(axis=0), np.argwhere(array).mean(axis=0))
            for plane, array in arrays.items()
        }

    patella = drawn(PATELLA)
    for plane, across in (("sagittal", 1), ("axial", 0)):
        own, bones = patella[plane]
        assert own[across] < bones[across] - 50, f"the patella is anterior on the {plane} slice"
    fibula = drawn(FIBULA)
    for plane in ("coronal", "axial"):
        own, bones = fibula[plane]
        assert own[1] < bones[1] - 10, f"a right knee's fibula is at the viewer's left on the {plane} slice"
    own, bones = fibula["axial"]
    assert own[0] > bones[0] + 10, "and posterior"
    own, bones = fibula["coronal"]
    assert own[0] > bones[0] + 10, "and low"


@pytest.mark.parametrize("turn", list(Reorientation.all())[::7], ids=str)
def test_look_turns_masks_of_other_axes(real_mri: ModuleType, knee: Path, turn: Reorientation) -> None:
    result = real_mri.look(knee, mask=save_mask(knee, turn), label=44)
    assert result.box.to_row() == [2, 3, 10, 5, 9, 20]
    assert result.crop.shape == (3, 6, 10)


def test_main_without_box_shows_the_middle(
    real_mri: ModuleType, knee: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert real_mri.main([str(knee), "--out", str(knee.with_name("out.png"))]) == 0
    assert "none given: the slices go through the middle" in capsys.readouterr().out


def test_look_names_the_nearest_file(real_mri: ModuleType, knee: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert real_mri.main([str(knee.with_name("kne.nii.gz"))]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: There is no file ")
    assert f"Did you mean {knee}?" in said
    with pytest.raises(VolumeNotFoundError, match=r"nowhere holds no \.nii file"):
        real_mri.look(knee.parent / "nowhere" / "knee.nii.gz")


def errors_of(real_mri: ModuleType, knee: Path) -> list[tuple[dict[str, Any], type[Exception], str]]:
    other = knee.with_name("other.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((12, 20, 24), np.uint8), np.eye(4)), other)
    return [
        ({"box": [0, 0, 0, 12, 20, 25]}, BoxError, r"stop \(12, 20, 25\) is outside the volume.*knee.nii.gz"),
        ({"box": [5, 0, 0, 5, 20, 24]}, BoxError, "is not below its stop"),
        ({"mask": save_mask(knee, Reorientation()), "label": 45}, BoxError, "mask for label 45 marks no voxel"),
        ({"mask": other}, GeometryError, r"The two grids .*other.nii.gz.* differ by more than"),
        ({"mask": knee.with_name("label.nii.gz")}, VolumeNotFoundError, r"Did you mean .*labels\.nii\.gz\?"),
    ]


@pytest.mark.parametrize("number", range(5))
def test_look_explains_wrong_boxes(real_mri: ModuleType, knee: Path, number: int) -> None:
    arguments, kind, match = errors_of(real_mri, knee)[number]
    with pytest.raises(kind, match=match):
        real_mri.look(knee, **arguments)


def test_main_rejects_other_formats(real_mri: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labels.nrrd"
    path.write_bytes(b"NRRD0004\n" + bytes(1000))
    assert real_mri.main([str(path)]) == 1
    assert "is not a NIfTI-1 or NIfTI-2 file" in capsys.readouterr().err


def test_main_rejects_label_without_mask(real_mri: ModuleType, knee: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        real_mri.main([str(knee), "--label", "44"])
    assert "--label: needs --mask" in capsys.readouterr().err
