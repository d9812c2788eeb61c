"""Masks: prepared on the grids of their images, loaded with the volume, and moved with it by every transform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets import CropToBox, ToCanonical, Window, load_dataset, transforms
from reasonknee_datasets.check import check_files
from reasonknee_datasets.errors import PrepareError, RepositoryError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.release import open_release
from reasonknee_datasets.summary import summarise
from reasonknee_datasets.transforms import (
    Compose,
    RandomFlip,
    RandomIntensity,
    RandomShift,
    Resample,
    Resize,
    ToConversation,
    ToFrames,
    TokenizeReasoning,
    Transform,
    TransformError,
)
from reasonknee_datasets.transforms.regrid import current_view
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


@pytest.mark.slow
def test_prepare_writes_masks_on_image_grids(masked: Path, phantom_release: Path) -> None:
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


@pytest.mark.slow
def test_prepare_again_with_masks_is_current(masked: Path, phantom_release: Path) -> None:
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
    with pytest.raises(RepositoryError, match=r"'balanced' has no volumes and therefore no masks. Leave out masks"):
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


def tiny_tokenizer() -> Any:
    pytest.importorskip("transformers")
    from tests.helpers import tiny_tokenizers

    return tiny_tokenizers.wrapped("qwen")


FRAME_SETTINGS = (
    {},
    {"count": 6, "size": 26, "span": (0.2, 0.9)},
    {"plane": "coronal", "count": 90, "size": (19, 70)},
    {"plane": "axis0", "count": 4, "span": (0.3, 0.8)},
)
# An instance or more of each public transform; one that can be made without arguments needs no entry.
INSTANCES: dict[str, Callable[[], list[Transform]]] = {
    "Resample": lambda: [Resample(1.1)],
    "Resize": lambda: [Resize((9, 14, 21))],
    "Compose": lambda: [step for step in STEPS if isinstance(step, Compose)],
    "ToFrames": lambda: [ToFrames(**settings) for settings in FRAME_SETTINGS],
    "ToConversation": lambda: [ToConversation(media="images", frames=3), ToConversation(media="none")],
    "TokenizeReasoning": lambda: [TokenizeReasoning(tiny_tokenizer())],
    "RandomIntensity": lambda: [Compose([Window(0, 400), RandomIntensity()])],
    "RandomFlip": lambda: [RandomFlip(p=1.0)],
}


def public_transforms() -> list[str]:
    """Name every transform that the package exports, found by class."""
    exported = {name: getattr(transforms, name) for name in transforms.__all__}
    return [
        name
        for name, kind in exported.items()
        if isinstance(kind, type) and issubclass(kind, Transform) and kind is not Transform
    ]


def test_public_transforms_are_found() -> None:
    assert {"CropToBox", "RandomIntensity", "ToFrames", "ToConversation", "TokenizeReasoning"} <= set(
        public_transforms()
    )
    assert set(INSTANCES) <= set(public_transforms())


@pytest.mark.parametrize("before", [None, CropToBox(size=(20, 40, 40))], ids=["whole", "crop"])
@pytest.mark.parametrize("name", public_transforms())
def test_mask_follows_volume_under_every_transform(name: str, before: Any, rows: datasets.Dataset) -> None:
    row = dict(rows[40]) if before is None else before(dict(rows[40]))
    stored = np.asarray(rows[40]["mask"])
    for step in INSTANCES.get(name, lambda: [getattr(transforms, name)()])():
        moved = step(row)
        if name == "ToConversation":  # a row of pictures and texts alone
            assert not {"volume", "mask", "frame_mask"} & set(moved)
            continue
        mask = np.asarray(moved["mask"])
        assert mask.dtype == np.uint8
        assert mask.any()
        assert mask.shape == moved["volume"].shape == np.shape(moved.get("voxels", mask))
        np.testing.assert_array_equal(moved["mask"].affine, moved["volume"].affine)
        np.testing.assert_array_equal(mask, nearest_labels(stored, current_view(moved["volume"]), mask.shape))
        if name == "ToFrames":
            frames = moved["frame_mask"]
            assert (frames.dtype, frames.shape) == (np.dtype(np.uint8), moved["frames"].shape)
            assert isinstance(step, ToFrames)
            view = step.view(row["volume"])
            untied = ~ties(view, frames.shape)
            assert untied.mean() > 0.5
            expected = nearest_labels(stored, view, frames.shape)
            np.testing.assert_array_equal(frames[untied], expected[untied])
            assert frames.any()


def test_frame_mask_in_mapped_rows_and_batches(rows: datasets.Dataset, tmp_path: Path) -> None:
    step = ToFrames(count=3, size=16)
    mapped = rows.select(range(2)).map(step, features=step.output_features(rows.features))
    for place in range(2):
        np.testing.assert_array_equal(np.asarray(mapped[place]["frame_mask"]), step(rows[place])["frame_mask"])
    pytest.importorskip("torch")
    from reasonknee_datasets import make_dataloader

    columns = ["id", "question_id", "box", "grades", "volume", "mask"]
    with make_dataloader(rows.select_columns(columns), batch_size=4, transform=step) as loader:
        batch = next(iter(loader))
    assert batch["frame_mask"].shape == batch["frames"].shape
    assert "volume" not in batch


def test_frames_refuse_mask_on_another_grid(rows: datasets.Dataset) -> None:
    other = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    with pytest.raises(TransformError, match=r"The mask has shape \(2, 3, 4\), but the volume"):
        ToFrames(count=2)({**rows[0], "mask": other})


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
    """Look each voxel's label up by itself: the stored voxel that contains its centre."""
    places: list[np.ndarray] = [np.zeros(0)] * 3
    for grid_axis, (axis, start, step) in enumerate(zip(view.axes, view.start, view.step, strict=True)):
        along = np.floor(start + step * (np.arange(shape[grid_axis]) + 0.5) + 1e-9).astype(int)
        places[axis] = along.reshape([-1 if other == grid_axis else 1 for other in range(3)])
    inside = np.ones(shape, bool)
    for place, size in zip(places, stored.shape, strict=True):
        inside &= (place >= 0) & (place < size)
    clipped = [np.clip(place, 0, size - 1) for place, size in zip(places, stored.shape, strict=True)]
    expected = np.where(inside, stored[tuple(clipped)], 0)
    return expected


def ties(view: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Find the pixels with a centre on the border of two voxels, either of which is nearest."""
    found = np.zeros(shape, bool)
    for axis, (start, step) in enumerate(zip(view.start, view.step, strict=True)):
        along = start + step * (np.arange(shape[axis]) + 0.5)
        tied = np.abs(along - np.rint(along)) < 1e-6
        found |= tied.reshape([-1 if other == axis else 1 for other in range(3)])
    return found


def test_a_mapped_mask_stays_a_label_map(rows: datasets.Dataset, tmp_path: Path) -> None:
    step = Resize((9, 14, 21))
    mapped = rows.select(range(3)).map(step, features=step.output_features(rows.features))
    mapped.save_to_disk(tmp_path / "saved")
    again = datasets.load_from_disk(tmp_path / "saved")
    np.testing.assert_array_equal(np.asarray(again[1]["mask"]), np.asarray(step(rows[1])["mask"]))
    assert np.asarray(again[1]["mask"]).dtype == np.uint8


def test_a_mask_on_another_grid_is_refused(rows: datasets.Dataset) -> None:
    other = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    with pytest.raises(TransformError, match=r"The mask has shape \(2, 3, 4\), but the volume"):
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
