"""Transforms in every place where `datasets` would run them: by hand, with_transform, map, streaming map."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, List, Value
from datasets.formatting.formatting import LazyBatch, LazyRow

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.transforms import Compose, CropToBox, RandomFlip, RandomShift, ToCanonical, ToFrames, Window
from reasonknee_datasets.volumes import cache_info
from tests.helpers.prepared_repository import write_repository

GRID = Compose(
    [ToCanonical(), CropToBox(margin_voxels=1, jitter_mm=0.5), RandomFlip(), RandomShift(max_mm=0.8, pad_value=-7)]
)
CHAINS = {
    "crop": CropToBox(margin_mm=0.4),
    "fixed": CropToBox(size=(4, 5, 6), pad_value=-1),
    "grid": GRID,
    "window": Compose([GRID, Window()]),
    "frames": Compose([CropToBox(), ToFrames("axial", count=3, size=(4, 6))]),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(
        tmp_path_factory.mktemp("transforms") / "3dreasonknee",
        volumes={"train": 20, "validation": 2, "test": 2},
        questions=50,
        text=900,
    )


@pytest.fixture(scope="module")
def rows(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(data_dir=repository, split="train", cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    from datasets import disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    yield
    enable_progress_bars()


def compared(example: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in example.items():
        if hasattr(value, "dataobj"):
            found[key] = (np.asarray(value.dataobj).tolist(), value.affine.tolist())
        else:
            found[key] = np.asarray(value).tolist() if key in ("voxels", "frames") else value
    return found


chains = pytest.mark.parametrize("name", list(CHAINS))


class TestPlaces:
    @chains
    def test_with_transform(self, rows: Dataset, name: str) -> None:
        by_hand = [compared(CHAINS[name](rows[index])) for index in range(3)]
        shown = rows.with_transform(CHAINS[name])
        assert [compared(shown[index]) for index in range(3)] == by_hand
        batch = shown[:3]
        assert [compared({key: values[i] for key, values in batch.items()}) for i in range(3)] == by_hand
        assert compared(next(iter(shown.select(range(2, 3))))) == by_hand[2]

    @chains
    @pytest.mark.parametrize("batched", [False, True])
    def test_map(self, rows: Dataset, name: str, batched: bool) -> None:
        few = rows.select(range(4))
        by_hand = [compared(CHAINS[name](few[index])) for index in range(4)]
        mapped = few.map(CHAINS[name], batched=batched, batch_size=3)
        assert [compared(mapped[index]) for index in range(4)] == by_hand
        assert mapped.features["volume"] == rows.features["volume"]
        typed = few.map(CHAINS[name], batched=batched, features=CHAINS[name].output_features(rows.features))
        assert [compared(typed[index]) for index in range(4)] == by_hand

    @chains
    @pytest.mark.parametrize("batched", [False, True])
    @pytest.mark.parametrize("typed", [False, True])
    def test_streaming_map(self, repository: Path, name: str, batched: bool, typed: bool) -> None:
        stream = load_dataset(data_dir=repository, split="train", streaming=True)
        by_hand = [compared(CHAINS[name](row)) for row in stream.take(3)]
        features = CHAINS[name].output_features(stream.features) if typed else None
        mapped = stream.map(CHAINS[name], batched=batched, batch_size=2, features=features)
        assert [compared(row) for row in mapped.take(3)] == by_hand
        if typed:
            assert mapped.features["region"] == List(Value("int32"), length=6)

    def test_a_mapped_row_goes_on(self, rows: Dataset) -> None:
        few = rows.select(range(3))
        first, second = CHAINS["crop"], Compose([CropToBox(size=(3, 3, 3)), Window()])
        mapped = few.map(first).with_transform(second)
        by_hand = [compared(second(first(few[index]))) for index in range(3)]
        assert [compared(mapped[index]) for index in range(3)] == by_hand

    def test_map_finds_its_cache_again(self, rows: Dataset) -> None:
        few = rows.select(range(5))
        first = few.map(CropToBox(margin_mm=0.4))
        assert few.map(CropToBox(margin_mm=np.float32(0.5)))._fingerprint != first._fingerprint
        assert few.map(eval(repr(CropToBox(margin_mm=0.4))))._fingerprint == first._fingerprint

    def test_torch_workers_give_the_same(self, rows: Dataset) -> None:
        torch_data = pytest.importorskip("torch.utils.data")
        shown = rows.select(range(8)).with_transform(CHAINS["window"])
        loader = torch_data.DataLoader(shown, batch_size=2, num_workers=2, collate_fn=_as_they_are)
        found = [example for batch in loader for example in batch]
        assert [compared(example) for example in found] == [compared(shown[index]) for index in range(8)]


def _as_they_are(batch: list[Any]) -> list[Any]:
    return batch


class TestLaziness:
    @chains
    def test_unchanged_columns_stay_undecoded(self, rows: Dataset, name: str) -> None:
        seen: dict[str, set[str]] = {}

        def watch(row: LazyRow) -> LazyRow:
            before = set(row.keys_to_format)
            new = CHAINS[name](row)
            assert type(new) is type(row)
            assert row.keys_to_format == before == set(row)  # the old row: as it came
            seen["decoded"] = set(new) - new.keys_to_format
            return new

        rows.select(range(1)).map(watch)
        allowed = {"volume", "box", "region", "box_volume", "side", "mirrored", "voxels"}
        assert seen["decoded"] <= allowed | {"frames", "frame_box", "frame_fps"}
        assert "question" not in seen["decoded"]

    def test_of_a_batch_too(self, rows: Dataset) -> None:
        seen: list[set[str]] = []

        def watch(batch: LazyBatch) -> LazyBatch:
            new = CHAINS["crop"](batch)
            assert batch.keys_to_format == set(batch)
            seen.append(set(new) - new.keys_to_format)
            return new

        rows.select(range(3)).map(watch, batched=True)
        assert seen == [{"volume", "box", "region", "box_volume"}]

    @pytest.mark.slow
    def test_map_of_thousand_rows_reads_nothing(self, repository: Path, tmp_path: Path) -> None:
        chain = CHAINS["crop"]
        elsewhere = tmp_path / "3dreasonknee"
        shutil.copytree(repository, elsewhere)
        shutil.rmtree(elsewhere / "volumes")  # nothing can be read that is not there
        thousand = load_dataset(data_dir=elsewhere, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(thousand) == 1000
        before = cache_info()
        mapped = thousand.map(chain)
        assert cache_info() == before
        assert _written(thousand.select_columns(["id", "volume", "box"]).map(chain)) < 1000 * 1000
        assert _written(mapped) - _written(thousand.map(_touch_nothing)) < 1000 * 300
        # Turning, mirroring and moving are numbers too.
        few = thousand.select(range(100))
        assert _written(few.map(GRID)) - _written(few.map(_touch_nothing)) < 100 * 400
        assert cache_info() == before
        assert mapped[7]["box_volume"] == thousand[7]["box"]
        with pytest.raises(VolumeError, match=r"00M_"):
            np.asarray(mapped[7]["volume"])

    def test_a_column_that_is_needed_and_missing(self, rows: Dataset) -> None:
        with pytest.raises(
            ValueError, match=r"The example has no volume, which is needed for CropToBox\. Load that column"
        ):
            CropToBox()(rows.select_columns(["id", "box"])[0])


def _written(dataset: Dataset) -> int:
    return sum(Path(file["filename"]).stat().st_size for file in dataset.cache_files)


def _touch_nothing(row: Any) -> dict[str, Any]:
    return {"nothing": 0}
