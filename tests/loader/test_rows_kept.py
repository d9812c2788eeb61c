"""Rows that outlive a loader read through no cache or folder of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from reasonknee_datasets import load_dataset, make_dataloader
from reasonknee_datasets.volumes import open_volume
from tests.helpers.prepared_repository import write_repository


@pytest.fixture(params=[0, 1, 2])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """Make eight rows of a stream; some of them were touched before."""
    root = write_repository(tmp_path / "3dreasonknee")
    stream = load_dataset(data_dir=root, split="train", streaming=True, cache_dir=str(tmp_path / "cache"))
    rows = list(stream.take(8))
    for row in rows[: 4 * request.param]:
        np.asarray(row["volume"])
    return rows


def read(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "sum": int(row["volume"].dataobj[1:, 1:].astype(np.int64).sum())}


def expected(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["id"]: read({"id": 0, "volume": open_volume(row["volume"].path, cache=None)})["sum"] for row in rows}


def sums(loader: Any) -> dict[str, int]:
    return {row["id"]: row["sum"] for batch in loader for row in batch}


def loader_of(rows: list[dict[str, Any]]) -> Any:
    return make_dataloader(rows, batch_size=2, transform=read, num_workers=0, collate_fn=list)


def test_two_loaders_in_turn_and_reading_afterwards(rows: list[dict[str, Any]]) -> None:
    right = expected(rows)
    for _ in range(2):
        loader = loader_of(rows)
        assert sums(loader) == right
        loader.close()
    assert {row["id"]: read(row)["sum"] for row in rows} == right


def test_two_loaders_at_once(rows: list[dict[str, Any]]) -> None:
    right, loaders = expected(rows), [loader_of(rows) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(sums, loaders)) == [right, right]
    first, second = map(iter, loaders)
    next(first), next(second)
    loaders[0].close()
    assert {row["id"] for batch in second for row in batch} <= {*right}
    assert {row["id"]: read(row)["sum"] for row in rows} == right
