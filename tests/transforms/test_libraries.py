"""Rows handed on to MONAI and TorchIO as the documentation shows it, with the libraries themselves."""

from __future__ import annotations

import pickle
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `torch`")

from reasonknee_datasets import QuintupleCollator, make_dataloader
from reasonknee_datasets.transforms import Compose, CropToBox, ToCanonical, Window, read_voxels
from tests.helpers.transform_examples import plain_case

CROP = (ToCanonical(), CropToBox(size=(12, 16, 20)), Window(0, 1_500_000))  # values are voxel numbers


def rows() -> list[dict[str, Any]]:
    """Two rows of different array order, as numbers that tell every voxel from every other."""
    return [plain_case(side, seed).example() for side, seed in (("right", 1), ("left", 4))]


def test_the_rows_have_different_array_orders() -> None:
    assert len({nib.aff2axcodes(row["volume"].affine) for row in rows()}) == 2


@pytest.mark.slow
def test_monai_dict_transforms_are_steps_of_compose() -> None:
    monai = pytest.importorskip("monai.transforms")
    steps = [
        monai.EnsureChannelFirstd("voxels", channel_dim="no_channel"),
        monai.ScaleIntensityd("voxels", minv=-1.0, maxv=1.0),
        monai.RandFlipd("voxels", prob=1.0, spatial_axis=2),
    ]
    plain, both = Compose(CROP), Compose([*CROP, *steps])
    for row in rows():
        expected = plain(row)["voxels"]
        low, high = expected.min(), expected.max()
        expected = ((expected - low) / (high - low) * 2 - 1)[None, :, :, ::-1]
        made = both(row)
        assert made["voxels"].shape == (1, 12, 16, 20)
        np.testing.assert_allclose(np.asarray(made["voxels"]), expected, atol=1e-5)
        assert (made["id"], made["box"], made["side"]) == (row["id"], plain(row)["box"], row["side"])
    batch = QuintupleCollator(keep=())([pickle.loads(pickle.dumps(both))(row) for row in rows()])
    assert batch["volume"].shape == (2, 1, 12, 16, 20)


@pytest.mark.slow
def test_monai_transforms_run_in_the_loader() -> None:
    monai = pytest.importorskip("monai.transforms")
    steps = Compose([*CROP, monai.ScaleIntensityRanged("voxels", 0, 1, 10, 20)])
    with make_dataloader(rows(), batch_size=2, transform=steps, collate_fn=QuintupleCollator(keep=())) as loader:
        batch = next(iter(loader))
    expected = np.stack([Compose(CROP)(row)["voxels"] * 10 + 10 for row in rows()])
    np.testing.assert_allclose(batch["volume"][:, 0].numpy(), expected, rtol=1e-5)


def test_monai_meta_tensor_has_crops_affine() -> None:
    data = pytest.importorskip("monai.data")
    for row in rows():
        crop = Compose(CROP[:2])(row)
        tensor = data.MetaTensor(read_voxels(crop)[None], affine=crop["volume"].affine)
        assert nib.aff2axcodes(tensor.affine.numpy()) == ("R", "A", "S")
        np.testing.assert_array_equal(tensor[0].numpy(), np.asarray(crop["volume"].dataobj))


def test_torchio_image_lies_where_the_crop_lies() -> None:
    tio = pytest.importorskip("torchio")
    for row in rows():
        stored = CropToBox(size=(12, 16, 20))(row)
        values = read_voxels(stored).astype(np.float32)[None]
        image = tio.ToCanonical()(tio.ScalarImage(tensor=values, affine=stored["volume"].affine))
        ours = ToCanonical()(stored)
        np.testing.assert_array_equal(image.data[0].numpy(), np.asarray(ours["volume"].dataobj))
        np.testing.assert_allclose(image.affine, ours["volume"].affine, atol=1e-4)


def test_torchio_transforms_are_steps_of_compose() -> None:
    tio = pytest.importorskip("torchio")
    rescale = tio.RescaleIntensity((0, 10))
    steps = Compose([*CROP, lambda row: row | {"voxels": rescale(row["voxels"][None])}])
    for row in rows():
        voxels = Compose(CROP)(row)["voxels"]
        expected = (voxels - voxels.min()) / (voxels.max() - voxels.min()) * 10
        np.testing.assert_allclose(np.asarray(steps(row)["voxels"])[0], expected, atol=1e-5)


def test_mapped_crop_stays_a_lazy_volume(prepared: Any) -> None:
    from reasonknee_datasets import Box, load_dataset

    data = load_dataset(split="train", data_dir=prepared).select(range(3))
    mapped = data.map(CropToBox(margin_voxels=2))
    for before, after in zip(data, mapped, strict=True):
        region = Box(before["box"]).pad(voxels=2).clip(before["volume"].shape)
        np.testing.assert_array_equal(np.asarray(after["volume"].dataobj), before["volume"].dataobj[region.slices])
        np.testing.assert_allclose(after["volume"].affine, before["volume"].slicer[region.slices].affine)
        assert after["region"] == region.to_row()
    assert mapped.data.nbytes < data.data.nbytes + 3 * 500  # numbers, and no voxels
