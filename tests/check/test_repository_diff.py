"""The comparison of two repositories: each planted difference is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.check.repository_diff import compare_repositories
from reasonknee_datasets.cli.main import main
from reasonknee_datasets.schema import arrow_schema
from tests.helpers.prepared_repository import AFFINE, SHAPE, list_again, write_repository

SHARD = "data/train-00000-of-00003.parquet"
FIRST = "0000001/00M/left"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("diff") / "a")


def change_rows(root: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = pq.read_table(root / SHARD).to_pylist()
    change(rows)
    table = pa.Table.from_pylist(rows, schema=arrow_schema())
    pq.write_table(table, root / SHARD, write_page_checksum=True)

    def count(tree: dict[str, Any]) -> None:
        split = tree["configs"]["quintuples"]["splits"]["train"]
        split["shards"][0]["rows"] = len(rows)
        split["rows"] = sum(shard["rows"] for shard in split["shards"])

    list_again(root, count)


def other_box(rows: list[dict[str, Any]]) -> None:
    rows[0]["box"] = [0, 1, 2, 3, 4, 6]


def other_grade(rows: list[dict[str, Any]]) -> None:
    rows[1]["grades"][1]["grade"] = 0


def other_text(rows: list[dict[str, Any]]) -> None:
    rows[2]["reasoning"] = ["another step"]


def other_series(rows: list[dict[str, Any]]) -> None:
    rows[3]["series"] = "10000002"


def other_side(rows: list[dict[str, Any]]) -> None:
    rows[1]["side"] = "left" if rows[1]["side"] == "right" else "right"


def other_patient(rows: list[dict[str, Any]]) -> None:
    rows[2]["patient"] = "9999999"


def fewer_rows(rows: list[dict[str, Any]]) -> None:
    del rows[:2]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (other_box, [("rows with other boxes", 1, f"{FIRST}/q01")]),
        (other_grade, [("rows with other grades", 1, f"{FIRST}/q02")]),
        (other_text, [("rows with other texts", 1, f"{FIRST}/q03")]),
        (other_series, [("rows with other provenance", 1, f"{FIRST}/q04")]),
        (other_side, [("rows with other knees", 1, f"{FIRST}/q02")]),
        (other_patient, [("rows with other knees", 1, f"{FIRST}/q03")]),
        (fewer_rows, [("rows only in A", 2, f"{FIRST}/q01")]),
    ],
)
def test_changed_rows(
    repository: Path,
    tmp_path: Path,
    change: Callable[[list[dict[str, Any]]], None],
    expected: list[tuple[str, int, str]],
) -> None:
    other = shutil.copytree(repository, tmp_path / "b")
    change_rows(other, change)
    found = compare_repositories(repository, other)
    assert [(each.what, each.count, each.examples[0]) for each in found.changes] == expected
    assert found.made == ()


def test_rows_only_in_b(repository: Path, tmp_path: Path) -> None:
    other = shutil.copytree(repository, tmp_path / "b")
    change_rows(other, fewer_rows)
    (change,) = compare_repositories(other, repository).changes
    assert str(change) == f"rows only in B: 2 ({FIRST}/q01, {FIRST}/q02)"


def test_changed_volumes(repository: Path, tmp_path: Path) -> None:
    other = shutil.copytree(repository, tmp_path / "b")
    first, second, third = sorted(path.relative_to(other).as_posix() for path in (other / "volumes").rglob("*.gz"))[:3]
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), AFFINE), other / first)

    def change(tree: dict[str, Any]) -> None:
        tree["volumes"][first]["voxels_sha256"] = "1" * 64
        tree["volumes"][second]["affine"][0][3] += 1
        tree["volumes"][third]["sha256"] = "2" * 64
        tree["versions"]["zlib"] = "2"

    list_again(other, change)
    found = compare_repositories(repository, other)
    assert [(each.what, each.examples) for each in found.changes] == [
        ("volumes with other voxels", (first,)),
        ("volumes on another grid", (second,)),
        ("volumes with the same voxels in another file", (third,)),
    ]
    assert found.made == (("version of zlib", None, "2"),)


def test_no_difference(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(repository, tmp_path / "b")
    assert main(["diff", str(repository), str(other)]) == 0
    assert capsys.readouterr().out.endswith("no difference\n")


def test_command_prints_differences_as_text_and_json(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(repository, tmp_path / "b")
    change_rows(other, other_box)
    assert main(["diff", str(repository), str(other)]) == 1
    assert f"rows with other boxes: 1 ({FIRST}/q01)" in capsys.readouterr().out.splitlines()
    assert main(["diff", str(repository), str(other), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["changes"] == [{"what": "rows with other boxes", "count": 1, "examples": [f"{FIRST}/q01"]}]


def test_command_returns_2_on_trouble(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(repository), str(tmp_path / "absent")]) == 2
    assert "absent does not exist" in capsys.readouterr().err
