"""Volumes handed on to other libraries give nibabel's voxels and affine there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.volumes import LazyVolume, open_volume, pack
from tests.helpers.volumes_files import knee, save

# Scaled, permuted and flipped: ITK takes no sheared affine, and nilearn reorders no oblique one.
AFFINE = np.array([[0.0, 0.0, 0.7, -40.0], [-0.4, 0.0, 0.0, 60.0], [0.0, 0.4, 0.0, 12.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pack(save(tmp_path / "plain.nii", knee((20, 24, 28)), AFFINE), tmp_path / "knee.nii.gz")
    return tmp_path / "knee.nii.gz"


CROP = np.s_[2:12, 3:20, 5:15]


@pytest.fixture(params=["whole", "crop", "canonical", "memory", ">i2"])
def pair(request: pytest.FixtureRequest, path: Path, tmp_path: Path) -> tuple[LazyVolume, Any]:
    """Make a volume, and the same image by nibabel alone."""
    if request.param == ">i2":
        path = save(tmp_path / "big.nii.gz", knee((20, 24, 28), ">i2"), AFFINE)
    ours, theirs = open_volume(path), nib.load(path)
    if request.param == "crop":
        return ours.slicer[CROP], theirs.slicer[CROP]
    if request.param == "canonical":
        return nib.as_closest_canonical(ours), nib.as_closest_canonical(theirs)
    if request.param == "memory":
        return LazyVolume(np.asarray(ours), ours.affine, ours.header), theirs
    return ours, theirs


def test_numpy(pair: tuple[LazyVolume, Any]) -> None:
    ours, theirs = pair
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs.dataobj))
    np.testing.assert_array_equal(np.array(ours, dtype=np.float32), np.asarray(theirs.dataobj, dtype=np.float32))
    np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())


def test_torch(pair: tuple[LazyVolume, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = pair
    expected = np.asarray(theirs.dataobj).astype(np.int16)
    np.testing.assert_array_equal(torch.as_tensor(ours).numpy(), expected)
    np.testing.assert_array_equal(torch.from_dlpack(ours).numpy(), expected)


def test_torchio(pair: tuple[LazyVolume, Any]) -> None:
    tio = pytest.importorskip("torchio")
    ours, theirs = pair
    image = tio.ScalarImage(tensor=np.array(ours, dtype=np.float32)[None], affine=ours.affine)
    moved = tio.ToCanonical()(image)
    expected = nib.as_closest_canonical(theirs)
    np.testing.assert_array_equal(moved.data[0].numpy(), np.asarray(expected.dataobj, dtype=np.float32))
    np.testing.assert_allclose(moved.affine, expected.affine, atol=1e-4)
    with pytest.raises(TypeError, match=r"torchio\.ScalarImage\(tensor=np\.asarray\(volume\)\[None\]"):
        tio.ScalarImage(ours)


@pytest.mark.slow
def test_monai_dict_transforms(pair: tuple[LazyVolume, Any]) -> None:
    monai = pytest.importorskip("monai.transforms")
    ours, theirs = pair
    steps = [
        monai.EnsureChannelFirstd("volume", channel_dim="no_channel"),
        monai.CastToTyped("volume", np.float32),
        monai.ScaleIntensityRanged("volume", -32768, 32767, 0, 1),
        monai.SpatialPadd("volume", (32, 32, 32)),
    ]
    found = monai.Compose(steps)({"id": "x", "volume": ours})["volume"]
    array = np.asarray(theirs.dataobj).astype(np.float32)  # monai itself does not take big-endian arrays
    expected = monai.Compose(steps)({"id": "x", "volume": array})["volume"]
    assert found.shape == (1, 32, 32, 32)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_simpleitk(pair: tuple[LazyVolume, Any], tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    ours, theirs = pair
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.GetImageFromArray(np.asarray(ours, np.int16).T)).T, np.asarray(theirs.dataobj)
    )
    nib.save(ours, tmp_path / "written.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "written.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, np.asarray(theirs.dataobj))
    lps = np.asarray(image.TransformContinuousIndexToPhysicalPoint([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(lps * [-1, -1, 1], (theirs.affine @ [1, 2, 3, 1])[:3], atol=1e-3)


def test_nilearn(pair: tuple[LazyVolume, Any]) -> None:
    image = pytest.importorskip("nilearn.image")
    ours, theirs = pair
    for found, expected in (
        (
            image.new_img_like(ours, ours.get_fdata() * 2, copy_header=True),
            image.new_img_like(theirs, theirs.get_fdata() * 2),
        ),
        (image.resample_img(ours, np.diag([2.0, 2, 2])), image.resample_img(theirs, np.diag([2.0, 2, 2]))),
        (image.smooth_img(ours, 2), image.smooth_img(theirs, 2)),
        (image.reorder_img(ours, resample="continuous"), image.reorder_img(theirs, resample="continuous")),
    ):
        np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), atol=1e-3)
        np.testing.assert_allclose(found.affine, expected.affine)
