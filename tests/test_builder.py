"""The builder in every use that `datasets` offers, and the traps that earlier designs fell into."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets.distributed import split_dataset_by_node

from reasonknee_datasets import load_dataset
from reasonknee_datasets.builder import ReasonKnee
from reasonknee_datasets.errors import (
    GeometryError,
    RepositoryError,
    RepositoryNotFoundError,
    VolumeError,
    VolumeNotFoundError,
)
from reasonknee_datasets.feature import VolumeFeature
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.schema import volume_path
from reasonknee_datasets.sources.synthetic import SyntheticDataWarning
from reasonknee_datasets.volumes import LazyVolume
from reasonknee_datasets.volumes.grid_view import View
from tests.helpers.prepared_repository import AFFINE, SHAPE, Plan, list_again, quintuples, voxels_of, write_repository

FIRST = "0000001/00M/left"
Load = Callable[..., Any]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("prepared") / "3dreasonknee")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(repository: Path, cache: Path) -> Load:
    def load_it(**kwargs: Any) -> Any:
        return load_dataset(**{"data_dir": repository, "cache_dir": str(cache), **kwargs})

    return load_it


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Write the volume of an example as what it is and where it points, so that rows compare."""
    return {key: repr(value) if isinstance(value, LazyVolume) else value for key, value in row.items()}


def expected_rows(split: str = "train") -> list[dict[str, Any]]:
    visits = ("00M", "12M", "24M", "48M")
    first, count = {"train": (1, 6), "validation": (7, 2), "test": (9, 3)}[split]
    ids = [f"{first + at:07d}/{visits[at % 4]}/{'right' if at % 2 else 'left'}" for at in range(count)]
    return [row for volume in ids for row in quintuples(volume, Plan())]


class TestRows:
    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_they_are_what_was_prepared(self, load: Load, split: str, streaming: bool) -> None:
        rows = [dict(row) for row in load(split=split, streaming=streaming)]
        for row in rows:
            assert isinstance(row.pop("volume"), LazyVolume)
        assert rows == expected_rows(split)

    def test_streamed_and_loaded_rows_are_the_same(self, load: Load) -> None:
        loaded, streamed = load(), load(streaming=True)
        assert isinstance(loaded, datasets.DatasetDict)
        assert isinstance(streamed, datasets.IterableDatasetDict)
        assert list(loaded) == list(streamed) == ["train", "validation", "test"]
        for split in loaded:
            assert [plain(row) for row in loaded[split]] == [plain(row) for row in streamed[split]]
            assert loaded[split].features == streamed[split].features

    def test_missing_grades_are_null(self, load: Load) -> None:
        assert load(split="train")[0]["grades"][1] == {"attribute": "depth", "grade": None, "scale": "ordinal"}

    def test_the_volume_is_the_file(self, load: Load) -> None:
        for streaming in (False, True):
            example = next(iter(load(split="train", streaming=streaming)))
            assert isinstance(example["volume"], nib.Nifti1Image)
            np.testing.assert_array_equal(np.asarray(example["volume"].dataobj), voxels_of(FIRST))
            np.testing.assert_allclose(example["volume"].affine, AFFINE, atol=1e-6)

    @pytest.mark.parametrize("streaming", [False, True])
    def test_one_row_a_volume(self, load: Load, streaming: bool) -> None:
        rows = list(load(name="volumes", split="validation", streaming=streaming))
        assert [row["id"] for row in rows] == ["0000007/00M/left", "0000008/12M/right"]
        assert rows[0]["shape"] == list(SHAPE)
        assert rows[0]["volume"].shape == SHAPE

    @pytest.mark.parametrize("streaming", [False, True])
    def test_balanced_is_ids_with_multiplicity(self, load: Load, streaming: bool) -> None:
        loaded = load(name="balanced", streaming=streaming)
        assert list(loaded) == ["train", "test"]
        assert next(iter(loaded["test"])) == {"id": "0000009/00M/left/q01", "multiplicity": 2}

    def test_synthetic_data_say_so(self, load: Load, tmp_path: Path) -> None:
        assert load(split="train").info.description.startswith("SYNTHETIC")
        assert load(split="train", streaming=True).info.description.startswith("SYNTHETIC")
        real = write_repository(tmp_path / "real", synthetic=False, images=False)
        assert "SYNTHETIC" not in load(split="train", streaming=True, data_dir=real).info.description


class TestSplits:
    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize(
        ("split", "ids"),
        [
            ("val", range(24, 32)),
            ("val[:3]", range(24, 27)),
            ("train[:3]", range(3)),
            ("train[20:]", range(20, 24)),
            ("train[-2:]", range(22, 24)),
            ("train[25%:50%]", range(6, 12)),
            ("train[5:5]", range(0)),
            ("train[:100]", range(24)),
            ("train[:2]+val[:2]", [0, 1, 24, 25]),
            ("train + validation", range(32)),
            ("all", range(44)),
            (datasets.Split.VALIDATION, range(24, 32)),
            (datasets.ReadInstruction("train", from_=10, to=12, unit="abs"), range(10, 12)),
            (datasets.ReadInstruction("val", to=50, unit="%"), range(24, 28)),
        ],
        ids=str,
    )
    def test_slices_and_sums(self, load: Load, split: Any, ids: Any, streaming: bool) -> None:
        everything = [row["id"] for name in ("train", "validation", "test") for row in expected_rows(name)]
        loaded = load(split=split, streaming=streaming)
        assert [row["id"] for row in loaded] == [everything[at] for at in ids]
        assert loaded.features["volume"] == VolumeFeature()

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_list_gives_a_list(self, load: Load, streaming: bool) -> None:
        first, second = load(split=["train[:1]", "val"], streaming=streaming)
        assert [row["id"] for row in first] == ["0000001/00M/left/q01"]
        assert len(list(second)) == 8

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize(
        ("split", "message"),
        [
            ("tran", r"Unknown split 'tran'\. Did you mean 'train'\?"),
            ("train[:10", r"The split 'train\[:10' cannot be read\. Write a name"),
            ("train+tets", r"Unknown split 'tets'\. Did you mean 'test'\?"),
            (["train", "vali"], r"Unknown split 'vali'\. Did you mean 'validation'\?"),
            ("", r"The split '' cannot be read\. Write a name"),
            ("train[:110%]", r"The slice train\[:110%\] has a bound outside -100% to 100%"),
        ],
        ids=str,
    )
    def test_a_typo_is_one_clear_error(self, load: Load, split: Any, message: str, streaming: bool) -> None:
        with pytest.raises(RepositoryError, match=message):
            load(split=split, streaming=streaming)

    def test_slice_of_filtered_stream_counts_from_front(self, load: Load) -> None:
        filters = [("question_id", "==", 2)]
        ids = [row["id"] for row in load(split="train[1:3]", streaming=True, filters=filters)]
        assert ids == load(split="train[1:3]", filters=filters)["id"]
        with pytest.raises(
            RepositoryError, match=r"The slice train\[-1:\] of filtered or paired rows cannot be streamed"
        ):
            load(split="train[-1:]", streaming=True, filters=filters)


class TestSelection:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_filters_choose_rows(self, load: Load, streaming: bool) -> None:
        wanted = [row["id"] for row in expected_rows() if row["question_id"] == 3 and row["side"] == "left"]
        as_tuples = [("question_id", "==", 3), ("side", "==", "left")]
        as_expression = (pc.field("question_id") == 3) & (pc.field("side") == "left")
        for filters in (as_tuples, as_expression, [as_tuples]):
            assert [row["id"] for row in load(split="train", streaming=streaming, filters=filters)] == wanted

    @pytest.mark.parametrize("streaming", [False, True])
    def test_filters_by_grade(self, load: Load, streaming: bool) -> None:
        # `question_id % 4` is the size of every row, and the depth is missing.
        wanted = [row["id"] for row in expected_rows() if row["question_id"] % 4 >= 2]
        filters = [("grade_size", ">=", 2)]
        rows = list(load(split="train", streaming=streaming, filters=filters, columns=["id", "grades"]))
        assert [row["id"] for row in rows] == wanted
        assert all(row["grades"][0]["grade"] >= 2 for row in rows)
        assert not list(load(split="train", streaming=streaming, filters=[("grade_depth", ">=", 0)]))

    def test_filters_that_choose_nothing(self, load: Load) -> None:
        filters = [("patient", "==", "9999999")]
        assert len(load(split="train", filters=filters)) == 0
        assert list(load(split="train", streaming=True, filters=filters)) == []

    def test_different_filters_have_different_caches(self, load: Load) -> None:
        # Long lists differ in their middle, which the text of an expression leaves out.
        ids = [row["id"] for row in expected_rows()]
        for at in (10, 11):
            kept = ids[:at] + ids[at + 1 :]
            assert load(split="train", filters=[("id", "in", kept)])["id"] == kept

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize(
        ("columns", "given"),
        [
            (["id", "grades"], ["id", "grades"]),
            (["box", "id"], ["box", "id"]),
            (["id", "volume"], ["id", "volume"]),
            (["id", "volume_path", "box"], ["id", "volume_path", "volume", "box"]),
        ],
    )
    def test_columns_choose_columns(self, load: Load, columns: list[str], given: list[str], streaming: bool) -> None:
        loaded = load(split="train[:3]", columns=columns, streaming=streaming, filters=[("question_id", ">", 1)])
        assert loaded.column_names == given
        for row, expected in zip(loaded, (row for row in expected_rows() if row["question_id"] > 1), strict=False):
            assert list(row) == given
            assert all(row[name] == expected[name] for name in given if name != "volume")

    @pytest.mark.parametrize(
        ("chosen", "message"),
        [
            (
                {"columns": ["id", "grade"]},
                r"Unknown column 'grade' of 'quintuples' in columns=\. Did you mean 'grade_grade'\?",
            ),
            ({"columns": "id"}, r"columns must be a list of different names.*not 'id' \(str\)"),
            ({"columns": []}, r"columns must be a list of different names.*not \[\]"),
            ({"columns": ["id", "id"]}, r"columns must be a list of different names.*not \['id', 'id'\]"),
            ({"columns": ["volume"], "name": "balanced"}, r"Unknown column 'volume' of 'balanced'"),
            ({"filters": [("question", "==", 1)]}, r"The filters .* do not fit the columns of 'quintuples': "),
            ({"filters": [("questionid", "==", 1)]}, r"does not have: questionid\. Did you mean 'question_id'\?"),
            ({"filters": [[("sied", "==", "left")]]}, r"does not have: sied\. Did you mean 'side'\?"),
            ({"filters": [("side", "~", "left")]}, r"The filters .* \"(~|side)\" is not a valid operator"),
            (
                {"filters": [("size", ">=", 2)]},
                r"does not have: size\. Did you mean 'grade_size'\? Every attribute has",
            ),
            (
                {"filters": [("grade", ">=", 2)]},
                r"Did you mean 'grade_grade'\?.* the others are grade_size, grade_number",
            ),
            ({"columns": ["grade_sise"]}, r"Unknown column 'grade_sise'.* Did you mean 'grade_size'\?"),
            ({"filters": [("grade_size", "==", 4)]}, r"ask for grade_size '4', .* Available: 0, 1, 2, 3\."),
            ({"filters": pc.field("questionid") == 1}, r"does not have: questionid\. Did you mean 'question_id'\?"),
            ({"filters": [("volume", "==", "x")]}, r"a column that 'quintuples' does not have: volume\. Did"),
            ({"name": "quintuple"}, r"Unknown config 'quintuple' in name=\. Did you mean 'quintuples'\?"),
            ({"name": 3}, r"Unknown config 3 in name=\. Available: quintuples"),
            ({"name": "val"}, r"Unknown config 'val' in name=\. Did you mean split='val'\?"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_a_typo_is_one_clear_error(self, load: Load, chosen: dict[str, Any], message: str) -> None:
        with pytest.raises(RepositoryError, match=message):
            load(split="train", streaming=True, **chosen)

    def test_filters_skip_row_groups(self, tmp_path: Path, load: Load) -> None:
        damaged = write_repository(tmp_path / "damaged", shards=1)
        spoil(damaged, group=3)
        list_again(damaged)
        kept = [("patient", "in", ["0000001", "0000003"])]
        rows = list(load(data_dir=damaged, split="train", streaming=True, filters=kept))
        assert {row["patient"] for row in rows} == {"0000001", "0000003"}
        with pytest.raises(RepositoryError, match=r"train-00000-of-00001\.parquet is not readable Parquet"):
            list(load(data_dir=damaged, split="train", streaming=True, filters=[("patient", "==", "0000004")]))

    def test_columns_skip_other_columns(self, tmp_path: Path, load: Load) -> None:
        damaged = write_repository(tmp_path / "damaged", shards=1)
        for group in range(6):
            spoil(damaged, group=group, column="question")
        list_again(damaged)
        assert len(list(load(data_dir=damaged, split="train", streaming=True, columns=["id", "volume"]))) == 24
        with pytest.raises(RepositoryError, match=r"is not readable Parquet"):
            list(load(data_dir=damaged, split="train", streaming=True, columns=["id", "question"]))


def spoil(repository: Path, group: int, column: str | None = None) -> None:
    """Overwrite the pages of one row group with noise, so that only who reads them notices."""
    path = repository / "data/train-00000-of-00001.parquet"
    metadata = pq.read_metadata(path).row_group(group)
    with path.open("r+b") as file:
        for at in range(metadata.num_columns):
            chunk = metadata.column(at)
            if column in (None, chunk.path_in_schema):
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                file.seek(start)
                file.write(b"\xff" * chunk.total_compressed_size)


class TestTraps:
    """Volumes and credentials that earlier designs lost, leaked or served stale."""

    def test_the_feature_survives_the_second_cached_load(self, repository: Path, tmp_path: Path) -> None:
        for _ in range(3):
            loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train")
            assert loaded.features["volume"] == VolumeFeature()
            assert isinstance(loaded[0]["volume"], LazyVolume)

    def test_a_repository_prepared_again_is_served_fresh(self, tmp_path: Path) -> None:
        root, cache = tmp_path / "3dreasonknee", str(tmp_path / "cache")
        for marker in ("first", "second", "third"):
            write_repository(root, marker=marker, images=False)
            for _ in range(2):
                row = load_dataset(data_dir=root, cache_dir=cache, split="train")[0]
                assert row["question"].startswith(marker)

    def test_another_volumes_dir_is_another_cache(self, load: Load, repository: Path, tmp_path: Path) -> None:
        shutil.copytree(repository / "volumes", tmp_path / "elsewhere" / "volumes")
        assert str(tmp_path / "elsewhere") in repr(load(split="train", volumes_dir=tmp_path / "elsewhere")[0]["volume"])
        assert str(repository) in repr(load(split="train")[0]["volume"])

    def test_a_list_is_shards(self, load: Load, repository: Path, cache: Path) -> None:
        (generator, *_) = ReasonKnee(str(cache), data_dir=repository)._split_generators(None)
        assert all(isinstance(value, list) for value in generator.gen_kwargs.values())
        assert load(split="train", streaming=True).num_shards == 3

    def test_written_files_have_no_voxels(self, repository: Path, tmp_path: Path) -> None:
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path / "cache"), split="train")
        loaded[0]["volume"].get_fdata()  # a volume that was read is still one
        mapped = loaded.map(lambda example: {"steps": len(example["reasoning"]), "shape": example["volume"].shape})
        mapped.filter(lambda example: example["volume"].shape == SHAPE).save_to_disk(tmp_path / "saved")
        mapped.to_parquet(tmp_path / "written.parquet")
        mapped.to_json(tmp_path / "written.json")
        mapped.to_csv(tmp_path / "written.csv")
        assert pq.read_schema(tmp_path / "written.parquet").field("volume").type == pa.string()
        assert pq.read_table(tmp_path / "written.parquet")["volume"][0].as_py().startswith(str(repository))
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert sum(path.suffix == ".arrow" for path in written) >= 3
        assert not [path for path in written if holds_voxels(path)]
        # Saved rows come back with lazy volumes.
        back = datasets.load_from_disk(tmp_path / "saved")
        np.testing.assert_array_equal(np.asarray(back[0]["volume"].dataobj), voxels_of(FIRST))

    def test_cached_maps_keep_their_volumes(self, repository: Path, tmp_path: Path) -> None:
        for _ in range(2):  # the second is read back from the cache
            loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train")
            mapped = loaded.map(add_step_count)
            assert isinstance(mapped[5]["volume"], LazyVolume)
            assert mapped[5]["steps"] == 2

    @pytest.mark.parametrize("batched", [False, True])
    def test_returning_the_whole_example_writes_no_voxel(self, repository: Path, tmp_path: Path, batched: bool) -> None:
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train")

        def hand_back(example: dict[str, Any]) -> dict[str, Any]:
            return {**example}

        mapped = loaded.map(hand_back, batched=batched)
        assert [plain(row) for row in mapped] == [plain(row) for row in loaded]
        assert mapped.features == loaded.features
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and holds_voxels(path)]

    def test_map_volume_under_another_name(self, repository: Path, tmp_path: Path) -> None:
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train")
        mapped = loaded.map(lambda example: {"mri": example["volume"]})
        assert mapped[0]["mri"]["bytes"].startswith(b"Reference to a volume, written in place of its voxels")
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and holds_voxels(path)]

    def test_the_search_for_voxels_finds_some(self, repository: Path, tmp_path: Path) -> None:
        # An ordinary nibabel image is embedded, which is what all this is about.
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train[:3]")
        loaded.map(lambda example: {"mri": nib.load(repository / example["volume_path"])})
        assert [path for path in tmp_path.rglob("*") if path.is_file() and holds_voxels(path)]

    def test_voxels_do_not_pass_for_a_volume(self, repository: Path, tmp_path: Path) -> None:
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train[:3]")
        for replace in (lambda row: nib.load(repository / row["volume_path"]), lambda row: voxels_of(FIRST)):
            with pytest.raises(VolumeError, match=r"The volume column takes references, never voxels"):
                loaded.map(lambda example, replace=replace: {"volume": replace(example)}, load_from_cache_file=False)

    def test_map_of_mixed_volume_column(self, repository: Path, tmp_path: Path) -> None:
        # Documented in load_dataset: `datasets` cannot write a column that was decoded in some rows of a batch.
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train")

        def touch(row: Any) -> dict[str, Any]:
            return {"rows": row["volume"].shape[0] if row["question_id"] % 2 else -1}

        with pytest.raises(pa.ArrowException, match=r"LazyVolume|mix struct"):
            loaded.map(touch)
        mapped = loaded.map(lambda example: touch(copy.copy(example)))
        assert mapped["rows"][:2] == [SHAPE[0], -1]
        assert mapped.features["volume"] == VolumeFeature()

    def test_cast_of_stream_keeps_volumes(self, load: Load) -> None:
        streamed = load(split="train", streaming=True)
        typed = streamed.map(lambda example: {**example}, features=streamed.features)
        assert [plain(row) for row in typed] == [plain(row) for row in streamed]

    def test_to_nifti_returns_file_bytes(self, load: Load) -> None:
        volume = load(split="train")[0]["volume"]
        again = nib.Nifti1Image.from_bytes(volume.to_nifti().to_bytes())
        np.testing.assert_array_equal(np.asarray(again.dataobj), voxels_of(FIRST))

    @pytest.mark.parametrize(
        "make",
        [
            lambda volume: volume,
            lambda volume: volume.slicer[1:3, 2:, ::-1],
            lambda volume: volume.slicer[1:3].slicer[:, 1:],
            lambda volume: nib.as_closest_canonical(volume),
            lambda volume: volume.through(View.whole(volume.shape).mirror(0)),
        ],
    )
    def test_map_returns_crop_as_volume(self, repository: Path, tmp_path: Path, make: Any) -> None:
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train[:3]")
        expected = make(loaded[0]["volume"])
        mapped = loaded.map(lambda example: {"crop": make(example["volume"])})
        typed = mapped.cast_column("crop", VolumeFeature())
        declared = loaded.map(
            lambda example: {"crop": make(example["volume"])},
            features=datasets.Features({**loaded.features, "crop": VolumeFeature()}),
        )
        for crop in (typed[0]["crop"], declared[0]["crop"]):
            assert isinstance(crop, LazyVolume)
            np.testing.assert_array_equal(np.asarray(crop), np.asarray(expected))
            np.testing.assert_allclose(crop.affine, expected.affine)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and holds_voxels(path)]

    def test_a_saved_set_whose_repository_was_moved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = write_repository(tmp_path / "3dreasonknee")
        loaded = load_dataset(data_dir=root, cache_dir=str(tmp_path / "cache"), split="train")
        loaded.save_to_disk(tmp_path / "saved")
        root.rename(tmp_path / "moved")
        back = datasets.load_from_disk(tmp_path / "saved")
        with pytest.raises(VolumeNotFoundError, match="REASONKNEE_VOLUMES"):
            _ = back[0]["volume"].shape
        monkeypatch.setenv("REASONKNEE_VOLUMES", str(tmp_path / "elsewhere"))
        with pytest.raises(VolumeNotFoundError, match="REASONKNEE_VOLUMES"):
            _ = back[0]["volume"].shape
        monkeypatch.setenv("REASONKNEE_VOLUMES", str(tmp_path / "moved"))
        volume = back[0]["volume"]
        np.testing.assert_array_equal(np.asarray(volume), voxels_of(FIRST))
        np.testing.assert_array_equal(np.asarray(volume.slicer[1:]), voxels_of(FIRST)[1:])
        np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(volume))), voxels_of(FIRST))
        assert volume.path == str(tmp_path / "moved" / volume_path(FIRST))

    def test_iterating_opens_no_volume(self, load: Load, opened: list[str]) -> None:
        for streaming in (False, True):
            for row in load(split="train", streaming=streaming):
                assert isinstance(row["volume"], LazyVolume)
        load(split="train").filter(lambda example: example["question_id"] > 2, load_from_cache_file=False)
        assert opened == []

    def test_volume_opens_on_touch(self, load: Load, opened: list[str], tmp_path: Path) -> None:
        root = write_repository(tmp_path / "3dreasonknee")
        opened.clear()
        streamed = load(data_dir=root, split="train", streaming=True)
        rows = [row for row in streamed if row["id"].startswith("0000005")]
        assert opened == []
        assert {row["volume"].shape for row in rows} == {SHAPE}
        assert {row["volume"].affine.tobytes() for row in rows} != set()
        assert opened == [str(root / volume_path("0000005/00M/left"))]  # once for its four questions


def add_step_count(example: dict[str, Any]) -> dict[str, Any]:
    return {"steps": len(example["reasoning"])}


def holds_voxels(path: Path) -> bool:
    """Search a file for a run of raw voxels of any volume, and for a gzip member (the file as it is)."""
    data = path.read_bytes()
    runs = (voxels_of(row["id"][:-4]).ravel(order="F")[:24].tobytes() for row in expected_rows()[::4])
    return any(run in data for run in runs) or b"\x1f\x8b\x08" in data


_listening: list[list[str]] = []


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _listening and str(arguments[0]).endswith(".nii.gz"):
        _listening[-1].append(str(arguments[0]))


sys.addaudithook(_note_open)  # what Python itself opens; a hook cannot be removed, only left idle


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """List the volume files that are opened."""
    _listening.append([])
    yield _listening[-1]
    _listening.pop()


class TestVolumes:
    def test_absent_volumes_load_and_filter(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "3dreasonknee")
        shutil.rmtree(root / "volumes")
        for streaming in (False, True):
            loaded = load(data_dir=root, split="train", streaming=streaming)
            rows = list(loaded.filter(lambda example: example["question_id"] == 1))
            assert len(rows) == 6
            with pytest.raises(
                VolumeNotFoundError, match=rf"{root}/volumes/0000001/00M_left\.nii\.gz.*volumes_dir= or"
            ):
                rows[0]["volume"].get_fdata()
            with pytest.raises(FileNotFoundError, match=r"REASONKNEE_VOLUMES"):
                rows[0]["volume"].affine  # noqa: B018

    def test_annotations_only(self, load: Load, tmp_path: Path, repository: Path) -> None:
        bare = write_repository(tmp_path / "bare", images=False)
        row = load(data_dir=bare, split="train")[0]
        with pytest.raises(VolumeNotFoundError, match=r"volumes_dir= or REASONKNEE_VOLUMES"):
            row["volume"].shape  # noqa: B018
        # Without a stated geometry, a volume from elsewhere is taken as it is.
        assert load(data_dir=bare, split="train", volumes_dir=repository)[0]["volume"].shape == SHAPE
        assert load(data_dir=bare, name="volumes", split="train")[0]["shape"] is None

    @pytest.mark.parametrize("by_setting", [False, True])
    def test_volumes_elsewhere(
        self, load: Load, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_setting: bool
    ) -> None:
        annotations = tmp_path / "3dreasonknee"
        shutil.copytree(repository, annotations, ignore=shutil.ignore_patterns("volumes"))
        if by_setting:
            monkeypatch.setenv("REASONKNEE_VOLUMES", str(repository))
        chosen = {} if by_setting else {"volumes_dir": repository}
        for streaming in (False, True):
            row = next(iter(load(data_dir=annotations, split="train", streaming=streaming, **chosen)))
            np.testing.assert_array_equal(np.asarray(row["volume"].dataobj), voxels_of(FIRST))

    def test_a_turned_volume_is_put_right(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "3dreasonknee")
        path = root / volume_path(FIRST)
        stated = nib.load(path)
        turned = stated.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        assert turned.shape != stated.shape
        nib.save(turned, path)
        with pytest.raises(VolumeError, match=r"has \d+ bytes, but the manifest says \d+: it is another file"):
            load(data_dir=root, split="train")[0]["volume"].get_fdata()
        list_again(root, lambda tree: tree["volumes"][volume_path(FIRST)].update(bytes=None))
        volume = load(data_dir=root, split="train")[0]["volume"]
        assert volume.shape == SHAPE
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(volume.dataobj), voxels_of(FIRST))

    def test_another_volume_in_its_place_is_refused(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "3dreasonknee")
        moved = AFFINE.copy()
        moved[0, 3] += 5
        nib.save(nib.Nifti1Image(voxels_of(FIRST), moved), root / volume_path(FIRST))
        row = load(data_dir=root, split="train")[0]
        with pytest.raises(GeometryError, match=r"(?s)00M_left\.nii\.gz and its manifest"):
            row["volume"].shape  # noqa: B018


class TestUses:
    """Every use of a dataset that the issue names, on streamed and loaded rows."""

    @pytest.mark.parametrize("world", [2, 3])
    @pytest.mark.parametrize("streaming", [False, True])
    def test_split_by_node(self, load: Load, streaming: bool, world: int) -> None:
        loaded = load(split="train", streaming=streaming)
        parts = [[row["id"] for row in split_dataset_by_node(loaded, rank, world)] for rank in range(world)]
        assert sorted(row_id for part in parts for row_id in part) == [row["id"] for row in expected_rows()]
        assert all(len(part) == 24 // world for part in parts)

    @pytest.mark.slow
    @pytest.mark.parametrize("filters", [None, [("question_id", ">", 1)]], ids=["all", "filtered"])
    def test_resuming_after_every_row(self, load: Load, filters: Any) -> None:
        whole = [plain(row) for row in load(split="train", streaming=True, filters=filters)]
        stopped = load(split="train", streaming=True, filters=filters)
        states = []
        for _ in stopped:
            states.append(copy.deepcopy(stopped.state_dict()))
        assert len(states) == len(whole)
        for count, state in enumerate(states, 1):
            fresh = load(split="train", streaming=True, filters=filters)
            fresh.load_state_dict(pickle.loads(pickle.dumps(state)))
            assert [plain(row) for row in fresh] == whole[count:]

    def test_resuming_a_mapped_stream(self, load: Load) -> None:
        def stream() -> Any:
            return load(split="train", streaming=True).map(add_step_count).filter(lambda row: row["question_id"] < 4)

        whole, stopped = [row["id"] for row in stream()], stream()
        for count, _ in enumerate(stopped, 1):
            fresh = stream()
            fresh.load_state_dict(stopped.state_dict())
            assert [row["id"] for row in fresh] == whole[count:]

    @pytest.mark.parametrize("streaming", [False, True])
    def test_pickling(self, load: Load, streaming: bool) -> None:
        loaded = load(split="train", streaming=streaming)
        next(iter(loaded))["volume"].get_fdata()
        data = pickle.dumps(loaded)
        assert voxels_of(FIRST).ravel(order="F")[:24].tobytes() not in data
        assert [plain(row) for row in pickle.loads(data)] == [plain(row) for row in loaded]

    def test_pickling_the_builder(self, repository: Path, cache: Path) -> None:
        builder = pickle.loads(pickle.dumps(ReasonKnee(str(cache), data_dir=repository)))
        assert len(list(builder.as_streaming_dataset("test"))) == 12

    @pytest.mark.parametrize("streaming", [False, True])
    def test_numpy(self, load: Load, streaming: bool) -> None:
        row = next(iter(load(split="train", streaming=streaming).with_format("numpy")))
        np.testing.assert_array_equal(row["volume"], voxels_of(FIRST))
        np.testing.assert_array_equal(row["box"], [0, 1, 2, 3, 4, 5])
        assert row["id"] == "0000001/00M/left/q01"

    @pytest.mark.parametrize("streaming", [False, True])
    def test_torch(self, load: Load, streaming: bool) -> None:
        torch = pytest.importorskip("torch")
        row = next(iter(load(split="train", streaming=streaming).with_format("torch")))
        assert isinstance(row["volume"], torch.Tensor)
        assert row["volume"].dtype == torch.int64  # the formatter's own cast, which the docstring warns of
        np.testing.assert_array_equal(row["volume"].numpy(), voxels_of(FIRST))
        assert row["box"].tolist() == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize("format", ["pandas", "arrow"])
    def test_tables(self, load: Load, format: str) -> None:
        table = load(split="train").with_format(format)[:2]
        assert str(next(iter(table["id"]))) == "0000001/00M/left/q01"

    # A spawned worker imports torch and datasets afresh, which takes it seconds: one is enough.
    @pytest.mark.parametrize(
        ("start", "workers", "streaming"),
        [("fork", 2, False), ("fork", 2, True), pytest.param("spawn", 1, True, marks=pytest.mark.slow)],
    )
    def test_dataloader_workers(self, load: Load, start: str, workers: int, streaming: bool) -> None:
        data = pytest.importorskip("torch.utils.data")
        loaded = load(split="train", streaming=streaming, columns=["id", "volume"])
        loader = data.DataLoader(loaded, batch_size=None, num_workers=workers, multiprocessing_context=start)
        rows = list(loader)
        assert sorted(row["id"] for row in rows) == [row["id"] for row in expected_rows()]
        # Volumes come out of the workers as references, and are opened here.
        assert all(np.array_equal(row["volume"].dataobj, voxels_of(row["id"][:-4])) for row in rows)

    def test_with_transform(self, load: Load) -> None:
        def crop(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            return {"crop": [np.asarray(volume.dataobj[0:3, 1:4, 2:5]) for volume in batch["volume"]]}

        row = load(split="train").with_transform(crop)[0]
        np.testing.assert_array_equal(row["crop"], voxels_of(FIRST)[0:3, 1:4, 2:5])

    def test_shuffle_select_and_map_stream(self, load: Load) -> None:
        loaded = load(split="train")
        assert isinstance(loaded.shuffle(seed=1).select(range(5))[2]["volume"], LazyVolume)
        streamed = load(split="train", streaming=True).shuffle(seed=1, buffer_size=5)
        assert sorted(row["id"] for row in streamed) == loaded["id"]
        # A streamed map may hand everything back: nothing is written.
        mapped = load(split="train", streaming=True).map(lambda example: {**example, "n": 1})
        assert isinstance(next(iter(mapped))["volume"], LazyVolume)

    @pytest.mark.slow
    def test_breaking_off_does_not_hang_at_exit(self, repository: Path, cache: Path) -> None:
        # Parquet readers of Arrow up to 24.0 did (apache/arrow#45214); against that `datasets` sleeps five seconds at
        # the end of each shuffled stream of its own Parquet builder, and not of this one.
        code = (
            "from reasonknee_datasets import load_dataset\n"
            "for number in range(10):\n"
            f"    rows = load_dataset(data_dir={str(repository)!r}, cache_dir={str(cache)!r}, streaming=True)\n"
            "    iterator = iter(rows['train'].shuffle(seed=1, buffer_size=3))\n"
            "    next(iterator)\n"
            "print('done')\n"
        )
        # tox asks every Python for warnings of files opened without an encoding; others' would stand in stderr here.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNDEFAULTENCODING"}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")

    def test_undecoded_and_removed(self, load: Load) -> None:
        streamed = load(split="train", streaming=True)
        assert next(iter(streamed.decode(False)))["volume"].startswith("/")
        assert "volume" not in next(iter(streamed.remove_columns("volume")))
        assert "volume" not in next(iter(streamed.select_columns(["id"])))

    @pytest.mark.slow
    def test_several_processes_prepare(self, repository: Path, tmp_path: Path) -> None:
        loaded = load_dataset(data_dir=repository, cache_dir=str(tmp_path), split="train", num_proc=2)
        assert loaded["id"] == [row["id"] for row in expected_rows()]

    def test_in_memory(self, load: Load) -> None:
        assert load(split="train", keep_in_memory=True)[0]["volume"].shape == SHAPE


class TestBadRepositories:
    def corrupt(self, tmp_path: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
        root = write_repository(tmp_path / "3dreasonknee", images=False)
        path = root / "data" / name
        path.write_bytes(change(path.read_bytes()))
        return root

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_missing_shard(self, tmp_path: Path, load: Load, streaming: bool) -> None:
        root = write_repository(tmp_path / "3dreasonknee", images=False)
        (root / "data/train-00001-of-00003.parquet").unlink()
        with pytest.raises(RepositoryNotFoundError, match=r"The shard .*train-00001-of-00003\.parquet does not exist"):
            list(load(data_dir=root, split="train", streaming=streaming))

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_truncated_shard(self, tmp_path: Path, load: Load, streaming: bool) -> None:
        root = self.corrupt(tmp_path, "train-00002-of-00003.parquet", lambda data: data[:-100])
        with pytest.raises(
            RepositoryError, match=r"train-00002.* is not the shard .*: it has [\d,]+ bytes, not [\d,]+\. .* Copy the"
        ):
            list(load(data_dir=root, split="train", streaming=streaming))

    def test_a_shard_of_another_preparation(self, tmp_path: Path, load: Load) -> None:
        root = write_repository(tmp_path / "3dreasonknee", images=False)
        other = write_repository(tmp_path / "other", images=False, questions=5)
        shutil.copy(other / "data/train-00000-of-00003.parquet", root / "data")
        list_again(root)
        with pytest.raises(RepositoryError, match=r"train-00000.*: it has 10 rows, not 8"):
            list(load(data_dir=root, split="train", streaming=True))

    @pytest.mark.slow
    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_shard_of_the_same_size(self, tmp_path: Path, load: Load, streaming: bool) -> None:
        root = write_repository(tmp_path / "3dreasonknee", images=False)
        path = root / "data/train-00000-of-00003.parquet"
        assert list(load(data_dir=root, split="train", streaming=True))
        data = path.read_bytes()
        for place in range(4, len(data), 97):
            path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
            with pytest.raises(RepositoryError, match=r"train-00000.*: its SHA-256 is \w{64}, not \w{64}"):
                list(load(data_dir=root, split="train", streaming=streaming))

    def test_shards_that_changed_places(self, tmp_path: Path, load: Load) -> None:
        root = write_repository(tmp_path / "3dreasonknee", images=False, noise=True)
        shutil.copy(root / "data/train-00001-of-00003.parquet", root / "data/train-00000-of-00003.parquet")
        with pytest.raises(RepositoryError, match=r"train-00000.*: it has [\d,]+ bytes, not [\d,]+"):
            list(load(data_dir=root, split="train", streaming=True))

    def test_wrong_columns(self, tmp_path: Path, load: Load) -> None:
        root = write_repository(tmp_path / "3dreasonknee", images=False)
        path = root / "data/train-00000-of-00003.parquet"
        table = pq.read_table(path)
        pq.write_table(table.drop_columns("answer"), path)
        with pytest.raises(RepositoryError, match=r"it has [\d,]+ bytes, not [\d,]+"):  # not the manifest's
            list(load(data_dir=root, split="train", streaming=True, columns=["id"]))
        list_again(root)
        with pytest.raises(RepositoryError, match=r"its column 'answer' is missing, not string"):
            list(load(data_dir=root, split="train", streaming=True))
        pq.write_table(table.set_column(7, "question_id", table["question_id"].cast(pa.string())), path)
        list_again(root)
        with pytest.raises(RepositoryError, match=r"its column 'question_id' is string, not int32"):
            list(load(data_dir=root, split="train", streaming=True))

    def test_volume_path_not_in_manifest(self, tmp_path: Path, load: Load) -> None:
        root = write_repository(tmp_path / "3dreasonknee", images=False)
        list_again(root, lambda tree: tree["volumes"].pop("volumes/0000001/00M_left.nii.gz"))
        with pytest.raises(RepositoryError, match=r"The manifest does not list the volume_path 'volumes/0000001"):
            list(load(data_dir=root, split="train", streaming=True))

    def test_an_error_leaves_nothing_that_looks_prepared(self, tmp_path: Path) -> None:
        root = self.corrupt(tmp_path, "test-00000-of-00003.parquet", lambda data: data[:-100])
        with pytest.raises(RepositoryError, match=r"it has [\d,]+ bytes, not"):
            load_dataset(data_dir=root, cache_dir=str(tmp_path / "cache"))
        assert not list((tmp_path / "cache").rglob("dataset_info.json"))

    def test_data_files_are_refused(self, repository: Path, cache: Path) -> None:
        with pytest.raises(RepositoryError, match=r"data_files= and features= are not supported"):
            ReasonKnee(str(cache), data_dir=repository, data_files={"train": "x"})


def test_one_row_by_id(repository: Path, cache: Path) -> None:
    builder = ReasonKnee(str(cache), data_dir=repository)
    row = builder.example("0000008/12M/right/q03")
    assert row["question_id"] == 3
    assert row["volume"].shape == SHAPE
    with pytest.raises(RepositoryError, match=r"has no row 0000008/12M/right/q99"):
        builder.example("0000008/12M/right/q99")


def test_builder_reads_manifest_and_lists_nothing(repository: Path, cache: Path, tmp_path: Path) -> None:
    # A shard that the manifest does not list is not there.
    root = tmp_path / "3dreasonknee"
    shutil.copytree(repository, root)
    shutil.copy(root / "data/test-00000-of-00003.parquet", root / "data/test-00003-of-00003.parquet")
    assert len(list(load_dataset(data_dir=root, cache_dir=str(cache), split="test", streaming=True))) == 12
    assert Manifest.load(root).rows("quintuples", "test") == 12


def test_the_phantom_warning_has_its_own_class() -> None:
    assert issubclass(SyntheticDataWarning, UserWarning)
