"""The files of a repository: order and types of rows, and refused input."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.errors import PrepareError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.prepare import shard_writer
from reasonknee_datasets.prepare.repository_writer import RepositoryContent
from reasonknee_datasets.prepare.shard_writer import cut, hash_order, write_parquet
from reasonknee_datasets.schema import CONFIGS, GRADE_COLUMNS, arrow_schema, parse_id
from tests.helpers import prepare_content as given


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writer")
    given.write(folder / "3dreasonknee", given.content(given.volumes(folder / "images")))
    return folder / "3dreasonknee"


@pytest.fixture(scope="module")
def manifest(root: Path) -> Manifest:
    return Manifest.load(root)


@pytest.mark.parametrize("count", [0, 1, 5, 16, 63, 64, 65, 640, 5901, 6401, 20_000])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_cut_no_empty_shard(split: str, count: int) -> None:
    volumes = [str(number) for number in range(count)]
    made = cut(volumes, split)
    assert [volume for shard in made for volume in shard] == volumes
    assert all(made)
    assert len(made) >= min(count, 64 if split == "train" else 16)
    assert not made or max(map(len, made)) - min(map(len, made)) <= 1
    assert not made or max(map(len, made)) <= 100


def test_first_shard_is_a_fair_sample() -> None:
    # Ids in order of patient and visit, as in the release: the hash must mix the patients evenly over the shards.
    ids = [
        f"{patient:07d}/{visit}M/{side}"
        for patient in range(1500)
        for visit in ("00", "24")
        for side in ("left", "right")
    ]
    first = cut(hash_order(ids), "train")[0]
    thirds = Counter(int(each.split("/")[0]) // 500 for each in first)
    assert min(thirds.values()) > 20
    assert 30 < sum(each.endswith("left") for each in first) < 64


def test_every_row_comes_back_as_it_was(root: Path, manifest: Manifest) -> None:
    made = given.volumes(root.parent / "images")
    expected = {row["id"]: row for _, row in given.rows(made)}
    found = {}
    for split in manifest.splits():
        for shard in manifest.shards("quintuples", split):
            for row in pq.read_table(root / shard.path).to_pylist():
                found[row["id"]] = row
    assert found == expected


def test_writer_volumes_in_hash_order(root: Path, manifest: Manifest) -> None:
    for split in manifest.splits():
        ids = [
            row_id
            for shard in manifest.shards("quintuples", split)
            for row_id in pq.read_table(root / shard.path, columns=["id"])["id"].to_pylist()
        ]
        volumes = [row_id.rpartition("/")[0] for row_id in ids]
        assert list(dict.fromkeys(volumes)) == hash_order(set(volumes))
        assert volumes == [volume for volume in dict.fromkeys(volumes) for _ in range(3)]
        assert [parse_id(row_id).question_id for row_id in ids] == [1, 19, 40] * (len(ids) // 3)


def test_writer_index_matches_shards(root: Path, manifest: Manifest) -> None:
    for split in manifest.splits():
        pairs = zip(manifest.shards("volumes", split), manifest.shards("quintuples", split), strict=True)
        for index, data in pairs:
            indexed = pq.read_table(root / index.path).to_pylist()
            volumes = dict.fromkeys(pq.read_table(root / data.path)["volume_path"].to_pylist())
            assert [row["volume_path"] for row in indexed] == list(volumes)
            for row in indexed:
                record = manifest.volume(row["volume_path"])
                assert tuple(row["shape"]) == record.shape == given.SHAPE
                np.testing.assert_allclose(np.reshape(row["affine"], (4, 4)), given.AFFINE, atol=1e-6)
                np.testing.assert_allclose(row["spacing"], [np.hypot(0.7, 0.1), 0.375, np.hypot(0.1, 0.375)], atol=1e-6)
                assert (row["dtype"], row["synthetic"], row["sha256"]) == ("int16", True, record.sha256)


def test_balanced_keeps_ids_with_multiplicity(root: Path, manifest: Manifest) -> None:
    expected = given.content(given.volumes(None)).balanced
    assert manifest.splits("balanced") == ("train", "test")
    for split in ("train", "test"):
        (shard,) = manifest.shards("balanced", split)
        rows = pq.read_table(root / shard.path).to_pylist()
        assert {row["id"]: row["multiplicity"] for row in rows} == expected[split]


def test_manifest_counts_and_hashes_every_file(root: Path, manifest: Manifest) -> None:
    listed = {shard.path: shard for shard in manifest.all_shards()}
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.parquet")} == set(listed)
    for path, shard in listed.items():
        data = (root / path).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert shard.rows == pq.read_metadata(root / path).num_rows > 0
    for path, record in manifest.volumes.items():
        data = (root / path).read_bytes()
        assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest.synthetic
    assert len({record.voxels_sha256 for record in manifest.volumes.values()}) == len(manifest.volumes) == 22


@pytest.mark.parametrize("config", sorted(CONFIGS.keys() - {"preview"}))
def test_write_parquet_options_for_hub(root: Path, manifest: Manifest, config: str) -> None:
    for shard in manifest.shards(config, "train"):
        file = pq.ParquetFile(root / shard.path)
        assert file.schema_arrow.remove_metadata() == arrow_schema(config)
        stated = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
        assert datasets.Features.from_dict(stated) == datasets.Features.from_arrow_schema(arrow_schema(config))
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            assert group.total_byte_size < 100_000_000
            assert all(group.column(column).has_offset_index for column in range(group.num_columns))
            assert all(group.column(column).has_column_index for column in range(group.num_columns))


def test_write_parquet_row_groups(tmp_path: Path) -> None:
    made = given.volumes(None, {"train": range(1, 131)})
    table, owners = _table(made)
    write_parquet(tmp_path, "data/x.parquet", table, owners)
    groups = pq.ParquetFile(tmp_path / "data/x.parquet")
    sizes = [groups.metadata.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert sizes == [300, 300, 180]


def test_row_groups_are_cut_by_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = given.volumes(None, {"train": range(1, 11)})
    table, owners = _table(made)
    monkeypatch.setattr(shard_writer, "GROUP_BYTES", table.nbytes // 4)
    write_parquet(tmp_path, "x.parquet", table, owners)
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    assert metadata.num_row_groups >= 4
    assert all(metadata.row_group(number).num_rows % 3 == 0 for number in range(metadata.num_row_groups))


def _table(made: list[given.SourceVolume]) -> tuple[shard_writer.pa.Table, list[str]]:
    found = sorted((row for _, row in given.rows(made)), key=lambda row: row["id"])
    return shard_writer.pa.Table.from_pylist(found, schema=arrow_schema()), [
        row["id"].rpartition("/")[0] for row in found
    ]


@pytest.mark.slow
@pytest.mark.parametrize("config", sorted(CONFIGS.keys() - {"preview"}))
def test_stock_datasets_reads_the_folder(root: Path, manifest: Manifest, config: str, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(root), config, cache_dir=str(tmp_path))
    streamed = datasets.load_dataset(str(root), config, streaming=True)
    features = datasets.Features.from_arrow_schema(arrow_schema(config))
    assert set(loaded) == set(manifest.splits(config))
    for split, dataset in loaded.items():
        assert dataset.features == streamed[split].features == features
        assert dataset.num_rows == manifest.rows(config, split)
        assert list(streamed[split]) == dataset.to_list()


def test_quintuples_is_the_default_config(root: Path) -> None:
    features = next(iter(datasets.load_dataset(str(root), split="train", streaming=True)))
    assert set(features) == set(arrow_schema().names)


@pytest.mark.slow
def test_writer_bytes_are_deterministic(root: Path, tmp_path: Path) -> None:
    made = given.volumes(root.parent / "images")
    backwards = list(reversed(made))
    given.write(tmp_path, given.content(made, volumes=backwards, rows=reversed(list(given.rows(made)))), workers=2)
    for path in (path for path in root.rglob("*") if path.is_file() and ".work" not in path.parts):
        assert path.read_bytes() == (tmp_path / path.relative_to(root)).read_bytes(), path


def test_a_volume_without_rows_is_left_out(tmp_path: Path) -> None:
    made = given.volumes(None)
    silent = made[3].id
    left = [pair for pair in given.rows(made) if not pair[1]["id"].startswith(silent)]
    balanced = {"train": Counter({f"{made[0].id}/q19": 1})}
    given.write(tmp_path, given.content(made, rows=left, balanced=balanced), volumes="none")
    manifest = Manifest.load(tmp_path)
    assert made[3].path not in manifest.volumes
    assert len(manifest.volumes) == 21
    assert len(manifest.shards("quintuples", "train")) == 11
    assert all(shard.rows for shard in manifest.all_shards())


def test_without_images_geometry_is_null(tmp_path: Path) -> None:
    given.write(tmp_path, given.content(given.volumes(None)), volumes="none")
    manifest = Manifest.load(tmp_path)
    row = pq.read_table(tmp_path / manifest.shards("volumes", "test")[0].path).to_pylist()[0]
    assert {key for key, value in row.items() if value is None} == {
        *("shape", "spacing", "affine", "dtype", "bytes", "sha256", "voxels_sha256", "mask_path")
    }
    assert manifest.geometry(row["volume_path"]) is None
    assert not (tmp_path / "volumes").exists()
    assert datasets.load_dataset(str(tmp_path), "volumes", split="test", streaming=True).features is not None


def _spoiled(made: list[given.SourceVolume], **changes: object) -> RepositoryContent:
    found = list(given.rows(made))
    found[7] = (found[7][0], {**found[7][1], **changes})  # type: ignore[typeddict-item]
    return given.content(made, rows=found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, r"columns \['extra'\] that are missing or unknown"),
        ({"box": [1, 2, 3]}, r"do not have the columns and types .* expected 6 but got array of size 3"),
        ({"answer": None}, r"nothing in column answer of row 0000004/00M/left/q01"),
        ({"question_id": "one"}, r"do not have the columns and types"),
        ({"question_id": 2**40}, r"do not have the columns and types"),
        ({"id": "9999999/00M/left/q01"}, r"Row 9999999/00M/left/q01 belongs to no volume of the release"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(PrepareError, match=message):
        given.write(tmp_path, _spoiled(given.volumes(None), **changes), volumes="none")


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    made = given.volumes(None)
    found = list(given.rows(made))
    del found[0][1]["record"]  # type: ignore[misc]
    with pytest.raises(PrepareError, match=r"columns \['record'\] that are missing or unknown"):
        given.write(tmp_path, given.content(made, rows=found), volumes="none")


def test_no_rows_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"No rows of the release are left to write"):
        given.write(tmp_path, given.content(given.volumes(None), rows=[], balanced={}), volumes="none")


def test_writer_flat_grade_columns(prepared: Path) -> None:
    rows = pq.read_table(prepared / "data", columns=["grades", *GRADE_COLUMNS.values()]).to_pylist()
    seen = set()
    for row in rows:
        listed = {GRADE_COLUMNS[each["attribute"]]: each["grade"] for each in row["grades"]}
        assert {column: row[column] for column in GRADE_COLUMNS.values()} == dict.fromkeys(
            GRADE_COLUMNS.values()
        ) | listed
        seen |= {column for column, grade in listed.items() if grade is not None}
    assert seen == set(GRADE_COLUMNS.values())
