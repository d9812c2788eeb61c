"""Shards and other files made to exhaust memory or to block: one named error, within bounds."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.schema import arrow_schema
from reasonknee_datasets.summary import summarise
from tests.helpers.prepared_repository import list_again, write_repository

READ = """
import hashlib, sys
from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.manifest import Shard
from reasonknee_datasets.sources import read_shard, select

def highest():
    return next(int(line.split()[1]) // 1000 for line in open("/proc/self/status") if line.startswith("VmHWM"))

path, rows, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sha256 = hashlib.sha256(open(path, "rb").read()).hexdigest()
before = highest()
try:
    for table in read_shard(path, Shard(path, rows, size, sha256), select("quintuples")):
        pass
except RepositoryError as error:
    print(highest() - before, error)
"""


def write_bomb(path: Path, name: str, column: Any, rows: int) -> None:
    """Write a shard of the right schema with one column that decodes to far more bytes than the file has."""
    schema = arrow_schema("quintuples")
    stored = pa.schema([pa.field(name, column.type) if field.name == name else field for field in schema])
    arrays = [column if field.name == name else pa.nulls(rows, field.type) for field in stored]
    with pq.ParquetWriter(
        path, stored, compression="zstd", store_schema=False, dictionary_pagesize_limit=10_000_000
    ) as writer:
        writer.write_table(pa.table(arrays, schema=stored))
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes()).decode()})


def repeated(text: str, times: int, kind: Any = np.int32) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, kind)), pa.array([text]))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["one text in every row", "one text in every list", "empty texts in one list"])
def test_a_small_shard_that_stands_for_gigabytes(tmp_path: Path, kind: str) -> None:
    path, rows = tmp_path / "train.parquet", 3100
    if kind == "one text in every row":
        write_bomb(path, "question", repeated("x" * 1_000_000, rows), rows)
    elif kind == "one text in every list":
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32))
        write_bomb(path, "reasoning", pa.ListArray.from_arrays(offsets, repeated("x" * 1_000_000, rows)), rows)
    else:
        rows, many = 1, 300_000_000
        offsets = pa.array(np.array([0, many], np.int32))
        write_bomb(path, "reasoning", pa.ListArray.from_arrays(offsets, repeated("", many, np.int8)), rows)
    size = path.stat().st_size
    assert size < 20_000
    command = [sys.executable, "-c", READ, str(path), str(rows), str(size)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    megabytes, told = run.stdout.split(" ", 1)
    assert int(megabytes) < 900
    refusals = (
        "and may take 100,000 for each",
        "rows have at most 10,000 values",
        "Expected all lists to be of size",  # Arrow's own, before 26
    )
    assert any(refusal in told for refusal in refusals)
    assert str(path) in told


def test_honest_rows_of_great_length_are_read(tmp_path: Path) -> None:
    root = write_repository(tmp_path, images=False, text=50_000)
    rows = list(load_dataset(split="train", streaming=True, data_dir=root))
    assert len(rows) == 24
    assert min(len(row["question"]) for row in rows) >= 50_000


@pytest.mark.parametrize(
    "name", ["manifest.json", "data/train-00000-of-00003.parquet", "index/train-00000-of-00001.parquet"]
)
@pytest.mark.parametrize("swap", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_where_a_file_is_expected(tmp_path: Path, name: str, swap: Callable[[Path], None]) -> None:
    root = write_repository(tmp_path, images=False)
    (root / name).unlink()
    swap(root / name)
    config = "volumes" if name.startswith("index") else None
    with pytest.raises(RepositoryError, match=r"named pipe|Is a directory|has no manifest\.json"):
        list(load_dataset(name=config, split="train", streaming=True, data_dir=root))


@pytest.mark.parametrize("grade", [2**31 - 1, 9, -1])
def test_summarise_refuses_grades_that_do_not_exist(tmp_path: Path, grade: int) -> None:
    root = write_repository(tmp_path, images=False)
    path = root / "data/train-00000-of-00003.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[3]["grades"][0]["grade"] = grade
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    list_again(root)
    with pytest.raises(RepositoryError, match=rf"A row has grade {grade} of '\w+', but grades go from 0 to 8"):
        summarise(root)


def test_summarise_shows_no_control_characters(tmp_path: Path) -> None:
    root = write_repository(tmp_path, images=False)
    path = root / "data/train-00000-of-00003.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["category"] = "\x1b[2J\rall is well"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    list_again(root)
    text = str(summarise(root))
    assert "all is well" in text
    assert not {"\x1b", "\r"} & set(text)
    assert (root / MANIFEST).is_file()
