"""Pairs of visits, against pairs that are found by brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node

from reasonknee_datasets import CropToBox, load_dataset
from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.sources.visit_pairs import check_visits
from reasonknee_datasets.volumes import LazyVolume

COLUMNS = ["id", "box", "grades", "volume"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rows(prepared: Path, cache: str) -> list[dict[str, Any]]:
    return load_dataset(data_dir=prepared, cache_dir=cache, split="train").remove_columns("volume").to_list()


def expected(rows: list[dict[str, Any]], visits: tuple[str, str]) -> set[tuple[str, str]]:
    return {
        (a["id"], b["id"])
        for a in rows
        if a["visit"] == visits[0]
        for b in rows
        if b["visit"] == visits[1] and all(a[key] == b[key] for key in ("patient", "side", "question_id"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("visits", [("00M", "12M"), ("00M", "24M"), ("24M", "48M")])
def test_pairs_are_those_of_brute_force(
    prepared: Path, cache: str, rows: list[dict[str, Any]], visits: tuple[str, str], streaming: bool
) -> None:
    wanted = expected(rows, visits)
    loaded = load_dataset(
        data_dir=prepared, cache_dir=cache, split="train", pairs=visits, columns=COLUMNS, streaming=streaming
    )
    by_id = {row["id"]: row for row in rows}
    found = set()
    for pair in loaded:
        assert list(pair) == ["id", "earlier", "later"]
        assert list(pair["earlier"]) == list(pair["later"]) == COLUMNS
        assert pair["id"] == f"{pair['earlier']['id']} to {pair['later']['id']}"
        for side in ("earlier", "later"):
            row = by_id[pair[side]["id"]]
            assert (pair[side]["box"], pair[side]["grades"]) == (row["box"], row["grades"])
            assert isinstance(pair[side]["volume"], LazyVolume)
            assert pair[side]["volume"].path == str(prepared / row["volume_path"])
        found.add((pair["earlier"]["id"], pair["later"]["id"]))
    assert found == wanted
    if not streaming:
        assert len(loaded) == len(wanted)


def test_some_visits_have_pairs(rows: list[dict[str, Any]]) -> None:
    assert sum(len(expected(rows, visits)) for visits in [("00M", "12M"), ("00M", "24M"), ("24M", "48M")]) > 100


def test_transforms_apply_to_rows_of_pairs(prepared: Path, cache: str, rows: list[dict[str, Any]]) -> None:
    visits = next(each for each in [("00M", "12M"), ("00M", "24M"), ("24M", "48M")] if expected(rows, each))
    pair = load_dataset(data_dir=prepared, cache_dir=cache, split="train", pairs=visits)[0]
    later = CropToBox()(pair["later"])
    start, stop = np.array(pair["later"]["box"]).reshape(2, 3)
    assert later["volume"].shape == tuple(stop - start)


def test_filters_hold_for_both_rows(prepared: Path, cache: str, rows: list[dict[str, Any]]) -> None:
    visits = next(each for each in [("00M", "12M"), ("00M", "24M"), ("24M", "48M")] if expected(rows, each))
    large = [row for row in rows if row["grade_size"] is not None and row["grade_size"] >= 1]
    loaded = load_dataset(
        data_dir=prepared, cache_dir=cache, split="train", pairs=visits, filters=[("grade_size", ">=", 1)]
    )
    assert {(pair["earlier"]["id"], pair["later"]["id"]) for pair in loaded} == expected(large, visits)


def test_streamed_pairs_are_divided_between_nodes(prepared: Path, cache: str, rows: list[dict[str, Any]]) -> None:
    visits = next(each for each in [("00M", "12M"), ("00M", "24M"), ("24M", "48M")] if expected(rows, each))
    whole = load_dataset(
        data_dir=prepared, cache_dir=cache, split="train", pairs=visits, columns=["id"], streaming=True
    )
    parts = [[pair["id"] for pair in split_dataset_by_node(whole, rank, 2)] for rank in range(2)]
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[0]) + len(parts[1]) == len(expected(rows, visits))


def test_saved_pairs_keep_lazy_volumes(prepared: Path, cache: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    visits = next(each for each in [("00M", "12M"), ("00M", "24M"), ("24M", "48M")] if expected(rows, each))
    load_dataset(data_dir=prepared, cache_dir=cache, split="train", pairs=visits, columns=COLUMNS).save_to_disk(
        tmp_path / "saved"
    )
    assert isinstance(datasets.load_from_disk(tmp_path / "saved")[0]["later"]["volume"], LazyVolume)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("00M", r"pairs='00M' is not two visits, such as \(\"00M\", \"24M\"\)"),
        (("00M", "24M", "48M"), r"is not two visits"),
        (("00M", "24"), r"Unknown visit '24' in pairs=\. Did you mean '24M'\?"),
        (("24M", "00M"), r"must have the earlier visit first"),
        (("24M", "24M"), r"must have the earlier visit first, and two different visits"),
    ],
)
def test_check_visits_refuses(pairs: Any, message: str) -> None:
    with pytest.raises(RepositoryError, match=message):
        check_visits(pairs, "quintuples")


def test_pairs_need_questions(prepared: Path, cache: str) -> None:
    with pytest.raises(RepositoryError, match="pairs= needs the config 'quintuples', but name= is 'volumes'"):
        load_dataset(data_dir=prepared, cache_dir=cache, name="volumes", pairs=("00M", "24M"))


def test_slice_of_streamed_pairs(prepared: Path, cache: str) -> None:
    with pytest.raises(RepositoryError, match=r"The slice train\[-1:\] of filtered or paired rows cannot be streamed"):
        load_dataset(data_dir=prepared, cache_dir=cache, split="train[-1:]", pairs=("00M", "24M"), streaming=True)
