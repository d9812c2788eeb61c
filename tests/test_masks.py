"""Masks: prepared on the grids of their images, loaded beside the volume, and moved with it by every transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets import CropToBox, ToCanonical, Window, load_dataset
from reasonknee_datasets.check import check_files
from reasonknee_datasets.errors import PrepareError, RepositoryError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.release import open_release
from reasonknee_datasets.summary import summarise
from reasonknee_datasets.transforms import Compose, RandomFlip, RandomShift, Resample, Resize
from reasonknee_datasets.transforms.base import TransformError
from reasonknee_datasets.volumes import LazyVolume


@pytest.fixture(scope="module")
def masked(phantom_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked") / "3dreasonknee"
    prepare(phantom_release, folder, volumes="link", masks=True, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rows(masked: Path, cache: str) -> datasets.Dataset:
    return load_dataset(data_dir=masked, cache_dir=cache, split="train", masks=True)


def test_prepare_writes_masks_on_the_grids_of_their_images(masked: Path, phantom_release: Path) -> None:
    manifest = Manifest.load(masked)
    layouts = set()
    for volume in open_release(phantom_release).volumes:
        assert volume.mask is not None
        path = masked / volume.volume_path.replace("volumes/", "masks/")
        image, mask, official = nib.load(volume.image), nib.load(path), nib.load(volume.mask)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert mask.get_data_dtype() == np.uint8
        canonical = (np.asanyarray(nib.as_closest_canonical(each).dataobj) for each in (mask, official))
        np.testing.assert_array_equal(*canonical)
        assert manifest.masks[path.relative_to(masked).as_posix()].index_sha256 is not None  # seekable
        layouts.add(image.shape == official.shape)
    assert manifest.labels == {name: label for label, name in open_release(phantom_release).labels.names.items()}
    assert check_files(masked, progress=False).problems == ()


def test_prepare_again_has_nothing_to_do_until_masks_are_left_out(masked: Path, phantom_release: Path) -> None:
    assert not prepare(phantom_release, masked, volumes="link", masks=True, workers=1, progress=False).written
    with pytest.raises(PrepareError, match=r"options .*'masks': True.*'masks': False"):
        prepare(phantom_release, masked, volumes="link", workers=1, progress=False)


def test_check_files_finds_a_changed_mask(masked: Path, tmp_path: Path) -> None:
    path = next(iter(Manifest.load(masked).masks))
    (tmp_path / "saved").write_bytes((masked / path).read_bytes())
    try:
        (masked / path).write_bytes(b"x" + (masked / path).read_bytes()[1:])
        assert [problem.path for problem in check_files(masked, progress=False).problems] == [path]
    finally:
        (masked / path).write_bytes((tmp_path / "saved").read_bytes())


def test_volumes_have_masks(masked: Path, cache: str) -> None:
    volumes = load_dataset(data_dir=masked, cache_dir=cache, split="test", name="volumes")
    for row in volumes:
        assert row["mask_path"] == row["volume_path"].replace("volumes/", "masks/")
        assert isinstance(row["mask"], LazyVolume)
        assert row["mask"].shape == row["volume"].shape
        stored = np.asanyarray(nib.load(masked / row["mask_path"]).dataobj)
        np.testing.assert_array_equal(np.asarray(row["mask"]), stored)


@pytest.mark.parametrize("streaming", [False, True])
def test_masks_are_loaded_only_on_request(masked: Path, cache: str, streaming: bool) -> None:
    def load(**chosen: Any) -> Any:
        return load_dataset(data_dir=masked, cache_dir=cache, split="test", streaming=streaming, **chosen)

    assert "mask" not in load().column_names
    assert load(columns=["id", "mask"]).column_names == ["id", "mask"]
    names = load(masks=True).column_names
    assert names[names.index("volume") + 1] == "mask"
    row = next(iter(load(columns=["box", "volume"], masks=True)))
    assert list(row) == ["box", "volume", "mask"]
    assert row["mask"].reference.partition("#")[0].startswith(f"{masked}/masks/")


def test_masks_of_a_repository_without_masks(prepared: Path, cache: str) -> None:
    with pytest.raises(RepositoryError, match=r"was prepared without masks.* `reasonknee prepare --masks`"):
        load_dataset(data_dir=prepared, cache_dir=cache, split="test", masks=True)
    with pytest.raises(RepositoryError, match="'balanced' has no volumes, so that masks=True has no meaning"):
        load_dataset(data_dir=prepared, cache_dir=cache, name="balanced", masks=True)
    volumes = load_dataset(data_dir=prepared, cache_dir=cache, split="test", name="volumes")
    assert "mask" not in volumes.column_names
    assert set(volumes["mask_path"]) == {None}


STEPS = [
    ToCanonical(),
    CropToBox(margin_voxels=2),
    CropToBox(size=(20, 40, 40), pad_value=-7.0),
    RandomFlip(p=1.0),
    RandomShift(max_mm=5.0),
    Resize((9, 14, 21)),
    Resample(1.1),
    Compose([ToCanonical(), CropToBox(size=24), RandomFlip(p=1.0), Resample(0.9), Window(0, 400), CropToBox(size=12)]),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: repr(step)[:60])
def test_transforms_move_the_mask_with_the_volume(rows: datasets.Dataset, step: Any) -> None:
    # The mask in place of the volume is moved by the same numbers: where nothing is interpolated both must agree.
    row = rows[40]
    labels = set(np.unique(np.asarray(row["mask"])).tolist())
    moved = step(row)
    assert moved["mask"].shape == moved["volume"].shape
    np.testing.assert_allclose(moved["mask"].affine, moved["volume"].affine, atol=1e-6)
    found = np.asarray(moved["mask"])
    assert found.dtype == np.uint8
    assert set(np.unique(found).tolist()) <= labels | {0}
    assert found.any()
    view = moved["volume"].view
    world = nearest_labels(np.asarray(row["mask"]), view, found.shape)
    np.testing.assert_array_equal(found, world)


def nearest_labels(stored: np.ndarray, view: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Look each voxel's label up by itself: the stored voxel in which its centre lies."""
    expected = np.zeros(shape, stored.dtype)
    for index in np.ndindex(*shape):
        at = [0, 0, 0]
        for axis, start, step, place in zip(view.axes, view.start, view.step, index, strict=True):
            at[axis] = int(np.floor(start + step * (place + 0.5) + 1e-9))
        if all(0 <= place < size for place, size in zip(at, stored.shape, strict=True)):
            expected[index] = stored[tuple(at)]
    return expected


def test_a_mapped_mask_stays_a_label_map(rows: datasets.Dataset, tmp_path: Path) -> None:
    step = Resize((9, 14, 21))
    mapped = rows.select(range(3)).map(step, features=step.output_features(rows.features))
    mapped.save_to_disk(tmp_path / "saved")
    again = datasets.load_from_disk(tmp_path / "saved")
    np.testing.assert_array_equal(np.asarray(again[1]["mask"]), np.asarray(step(rows[1])["mask"]))
    assert np.asarray(again[1]["mask"]).dtype == np.uint8


def test_a_mask_on_another_grid_is_refused(rows: datasets.Dataset) -> None:
    other = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    with pytest.raises(TransformError, match=r"The mask has shape \(2, 3, 4\), and the volume"):
        CropToBox()({**rows[0], "mask": other})


def test_batches_have_segmentations(rows: datasets.Dataset) -> None:
    pytest.importorskip("torch")
    from reasonknee_datasets import make_dataloader

    needed = rows.select_columns(["id", "question_id", "box", "grades", "volume", "mask"]).select(range(30))
    transform = Compose([ToCanonical(), CropToBox(size=(16, 24, 24)), Window(0, 400)])
    with make_dataloader(needed, batch_size=5, num_workers=1, transform=transform, share_volumes=False) as loader:
        count = 0
        for batch in loader:
            assert batch["segmentation"].shape == batch["volume"].shape == (5, 1, 16, 24, 24)
            for place, name in enumerate(batch["id"]):
                row = transform(rows[rows["id"].index(name)])
                np.testing.assert_array_equal(batch["segmentation"][place, 0], np.asarray(row["mask"]))
                count += 1
        assert count == 30


def test_info_names_the_labels(masked: Path, prepared: Path) -> None:
    name, label = next(iter(Manifest.load(masked).labels.items()))
    assert f"{name} {label}" in str(summarise(masked))
    assert "masks: none" in str(summarise(prepared))


def test_mask_path_in_parquet(masked: Path) -> None:
    assert set(pq.read_table(masked / "index", columns=["mask_path"])["mask_path"].to_pylist()) == set(
        Manifest.load(masked).masks
    )
