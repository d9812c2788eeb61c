"""The counts of ``reasonknee info``, against plain counting over the rows that were written."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest, Shard, VolumeRecord
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.schema import arrow_schema, quintuple_id, volume_id, volume_path
from reasonknee_datasets.summary import Summary, VolumeGrid, summarise
from reasonknee_datasets.summary.counts import _survey
from tests.helpers.prepared_repository import list_again

# Volumes of each shard: patient, visit, side.
SHARDS = {
    "train": [
        [("0000001", "00M", "right"), ("0000001", "12M", "right"), ("0000002", "00M", "left")],
        [("0000003", "48M", "left")],
        [],
    ],
    "validation": [[("0000004", "00M", "right")]],
    "test": [[("0000005", "24M", "left"), ("0000006", "00M", "right")]],
}
ASKED = (1, 19, 30, 44, 48, 54, 60, 62)


def rows_of(split: str) -> list[list[dict[str, Any]]]:
    """Make every shard's rows, with every legal grade and some missing."""
    generator = random.Random(split)
    return [
        [quintuple(volume, number, generator) for volume in volumes for number in ASKED] for volumes in SHARDS[split]
    ]


def quintuple(volume: tuple[str, str, str], number: int, generator: random.Random) -> dict[str, Any]:
    question, name = QUESTIONS[number], volume_id(*volume)
    patient, visit, side = volume
    return {
        "id": quintuple_id(name, number), "volume_path": volume_path(name), "patient": patient, "visit": visit,
        "side": side, "study": "20040915", "series": "10243212", "question_id": number,
        "category": question.category, "finding": question.finding, "subregion": question.subregion,
        "question": "What is seen? " * 40, "box": [0, 0, 0, 4, 5, 6], "reasoning": ["One step. " * 30],
        "grades": [
            {"attribute": slot.attribute, "grade": generator.choice([*slot.legal, None]), "scale": slot.scale}
            for slot in question.slots
        ],
        "answer": "{}", "synthetic": True, "record": "{}",
    }  # fmt: skip


def volume_row(volume: tuple[str, str, str]) -> dict[str, Any]:
    name = volume_id(*volume)
    known = {"id": name, "volume_path": volume_path(name), "patient": volume[0], "visit": volume[1], "side": volume[2]}
    return dict.fromkeys(arrow_schema("volumes").names) | known | {"synthetic": True}


def write_shard(root: Path, name: str, config: str, rows: list[dict[str, Any]]) -> Shard:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(config)), path)
    data = path.read_bytes()
    return Shard(name, len(rows), len(data), hashlib.sha256(data).hexdigest())


def records(images: bool) -> Mapping[str, VolumeRecord]:
    """Describe volumes that are on no disk: `info` may not open one."""
    names = [volume_id(*volume) for shards in SHARDS.values() for shard in shards for volume in shard]
    found = {volume_path(name): VolumeRecord() for name in names}
    angle = np.radians(10)
    for name in names[:-1] if images else ():
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        first = name.startswith("0000001")
        affine, shape = np.eye(4), (160, 384, 384)
        affine[:3, :3] = turn @ np.diag([0.7, 0.36458, 0.36458]) if first else np.diag([0.7, 0.36458, 0.36458])
        if not first:
            affine[:3, :3], shape = affine[:3, [1, 2, 0]] * [-1, -1, 1], (384, 384, 160)
        matrix = tuple(tuple(map(float, row)) for row in affine)
        found[volume_path(name)] = VolumeRecord(shape, matrix, "int16", 1000, "0" * 64, "0" * 64)  # type: ignore[arg-type]
    return found


def write_repository(root: Path, *, images: bool = True, **changes: Any) -> Path:
    configs: dict[str, dict[str, tuple[Shard, ...]]] = {"quintuples": {}, "volumes": {}, "balanced": {}}
    for split, shards in SHARDS.items():
        configs["quintuples"][split] = tuple(
            write_shard(root, f"data/{split}-{number:05d}-of-{len(shards):05d}.parquet", "quintuples", rows)
            for number, rows in enumerate(rows_of(split))
        )
        index = [volume_row(volume) for shard in shards for volume in shard]
        configs["volumes"][split] = (write_shard(root, f"index/{split}-00000-of-00001.parquet", "volumes", index),)
    facts: dict[str, Any] = {
        "synthetic": True,
        "source": {"revision": "7a611f92", "files": {}},
        "versions": {},
        "box_convention": {"name": "slice-x-y", "agreement": 0.9987, "by_question": {}, "checked": 1234,
                           "source": "established"},
        "report": {"allowed": {"bad-grade": 3}, "rows_dropped": 62, "grades_nulled": [], "grades_nulled_count": 3,
                   "violations": {"size_zero_depth_above": 4}, "notes": ["labels were established " + "x " * 99]},
    }  # fmt: skip
    manifest = Manifest(**(facts | changes), configs=configs, volumes=records(images))
    (root / MANIFEST).write_bytes(manifest.to_bytes())
    return root


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def summary(repository: Path) -> Summary:
    return summarise(repository)


@pytest.mark.parametrize("split", list(SHARDS))
def test_summarise_counts_match_rows(summary: Summary, split: str) -> None:
    rows = [row for shard in rows_of(split) for row in shard]
    volumes = [volume for shard in SHARDS[split] for volume in shard]
    counted = summary.splits[split]
    assert counted.rows == len(rows)
    assert counted.volumes == len(volumes)
    assert counted.patients == {patient for patient, _, _ in volumes}
    assert counted.visits == Counter(visit for _, visit, _ in volumes)
    assert counted.sides == Counter(side for _, _, side in volumes)
    assert counted.questions == Counter(row["question_id"] for row in rows)
    assert counted.categories == Counter(row["category"] for row in rows)
    assert counted.grades == Counter(
        (row["category"], grade["attribute"], grade["grade"]) for row in rows for grade in row["grades"]
    )


def test_patients_of_all_splits_are_counted_once(summary: Summary) -> None:
    assert len(summary.patients) == 6


def test_summarise_rounds_nearly_equal_grids() -> None:
    records = {}
    for noise in (-1e-7, 1e-7):
        matrix = tuple(map(tuple, np.diag([1.75, 1.09375 + noise, 0.364583 + noise, 1.0]).tolist()))
        records[str(noise)] = VolumeRecord(shape=(64, 128, 128), affine=matrix)
    assert _survey(records).grids == {VolumeGrid((64, 128, 128), (1.75, 1.094, 0.3646), "RAS", "unknown"): 2}


def test_geometry_comes_from_the_manifest(summary: Summary) -> None:
    spacing = (0.7, 0.3646, 0.3646)
    assert summary.geometry.grids == {
        VolumeGrid((160, 384, 384), spacing, "RAS", "int16"): 2,
        VolumeGrid((384, 384, 160), (*spacing[1:], spacing[0]), "PIR", "int16"): 4,
    }
    assert summary.geometry.unknown == 1
    assert summary.geometry.bytes == 6000
    assert summary.geometry.tilts == (pytest.approx(0.0, abs=1e-6), pytest.approx(10.0))


def lines_of(summary: Summary) -> dict[str, list[str]]:
    """Take the text apart: the cells after each line's name."""
    lines = [line.split("  ") for line in str(summary).splitlines()]
    return {cells[0]: [cell.strip() for cell in cells[1:] if cell.strip()] for cells in lines if cells}


def test_the_text_says_what_was_counted(summary: Summary) -> None:
    text, lines = str(summary), lines_of(summary)
    assert text.startswith("SYNTHETIC")
    assert lines["rows"] == ["32", "8", "16", "56"]
    assert lines["volumes"] == ["4", "1", "2", "7"]
    assert lines["patients"] == ["3", "1", "2", "6"]
    assert lines["volumes at 48M"] == ["1", "·", "·", "1"]
    assert lines["bone_marrow_lesion"] == ["4", "1", "2", "7"]
    grades = [lines["cartilage_lesion size"], lines["meniscal_morphology morphology"]]
    assert all(sum(int(cell) for cell in cells if cell != "·") == 7 for cells in grades)
    assert lines["answers by grade"] == [*map(str, range(9)), "missing"]
    assert "boxes read as slice-x-y (established): 99.9% of 1,234 boxes agree with their masks" in text
    assert "problems allowed: bad-grade 3; rows dropped: 62" in text
    assert "illegal grades made null: 3, listed in the manifest" in text
    assert "rules of MOAKS that records break, uncorrected: size_zero_depth_above 4" in text
    assert "\n  note: labels were established x x" in text
    assert "source revision 7a611f92" in text
    assert "4  384 x 384 x 160 voxels of 0.3646 x 0.3646 x 0.7 mm, axes PIR, int16" in text
    assert "1  without images" in text
    assert max(map(len, text.splitlines())) <= 140


def test_summarise_orders_categories_as_moaks(summary: Summary) -> None:
    names = list(lines_of(summary))
    wanted = [QUESTIONS[number].category for number in ASKED]
    assert [name for name in names if name in wanted] == wanted
    sizes = [name for name in names if name.startswith("bone_marrow_lesion ")]
    assert sizes == [f"bone_marrow_lesion {attribute}" for attribute in ("size", "number", "percent")]


def test_annotations_without_images(tmp_path: Path) -> None:
    convention = {"name": "given", "agreement": None, "by_question": {}, "checked": 0, "source": "given"}
    root = write_repository(
        tmp_path, images=False, synthetic=False, box_convention=convention, report={"allowed": {}, "rows_dropped": 0}
    )
    text = str(summarise(root))
    assert "SYNTHETIC" not in text
    assert "geometry not recorded for 7, prepared without images" in text
    assert "boxes read as given (given): not checked against masks" in text
    assert "problems allowed" not in text


def test_only_the_counted_columns_are_read(tmp_path: Path) -> None:
    root = write_repository(tmp_path)
    counted = ("question_id", "category", "grades")
    for path in sorted((root / "data").glob("*.parquet")):
        data = bytearray(path.read_bytes())
        group = pq.read_metadata(path)
        for chunk in (
            group.row_group(n).column(c) for n in range(group.num_row_groups) for c in range(group.num_columns)
        ):
            if chunk.path_in_schema.split(".")[0] not in counted:
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
        path.write_bytes(data)
    with pytest.raises((OSError, pa.ArrowException)):  # the damage is real
        pq.read_table(next((root / "data").glob("train-00000*")), columns=["question"])
    list_again(root)
    assert summarise(root).splits["train"].rows == 32


def test_a_url_gives_the_same(repository: Path, summary: Summary) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(repository), "/info-test", recursive=True)
    try:
        found = summarise("memory://info-test")
    finally:
        memory.rm("/info-test", recursive=True)
    assert found.splits == summary.splits
    assert found.digest == summary.digest


def test_a_missing_manifest_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(
        RepositoryNotFoundError,
        match=r"absent does not exist",
    ):
        summarise(tmp_path / "absent")


def test_summarise_official_release(tmp_path: Path) -> None:
    (tmp_path / "data/split_files").mkdir(parents=True)
    (tmp_path / "data/split_files/all_studies.csv").write_text("patient_id\n", encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"is the official release, .*\. Run: reasonknee prepare"):
        summarise(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_repository(tmp_path)
    (tmp_path / "data/train-00001-of-00003.parquet").unlink()
    with pytest.raises(RepositoryNotFoundError, match=r"The shard .*train-00001-of-00003\.parquet does not exist"):
        summarise(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "other rows", "other columns"])
def test_summarize_names_changed_shard(tmp_path: Path, damage: str) -> None:
    write_repository(tmp_path)
    path = tmp_path / "data/train-00000-of-00003.parquet"
    table = pq.read_table(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "other rows":
        pq.write_table(table.slice(1), path)
    else:
        pq.write_table(table.drop_columns(["grades"]), path)
    with pytest.raises(RepositoryError, match=r"train-00000-of-00003\.parquet.*: it has [\d,]+ bytes"):
        summarise(tmp_path)
