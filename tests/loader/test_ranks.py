"""All ranks of a job load the same rows: real gloo processes."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.distributed import split_dataset_by_node

pytest.importorskip("torch")

import torch.distributed as dist

from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import make_dataloader
from tests.loader.test_loader import examples

Cut = Callable[[datasets.Dataset, int], Any]


def by_node(rows: datasets.Dataset, rank: int) -> Any:
    return split_dataset_by_node(rows, rank, 2)


def sharded(rows: datasets.Dataset, rank: int) -> Any:
    return rows.shard(2, rank)


def sharded_stream(rows: datasets.Dataset, rank: int) -> Any:
    return rows.to_iterable_dataset(2).shard(2, rank)


def filtered_on_one(rows: datasets.Dataset, rank: int) -> Any:
    return rows.select(range(12)) if rank else rows


def whole(rows: datasets.Dataset, rank: int) -> Any:
    return rows


def whole_stream(rows: datasets.Dataset, rank: int) -> Any:
    return rows.to_iterable_dataset(2)


def run(rank: int, folder: Path, cut: Cut, late: bool, seed_of: int, results: Any) -> None:
    """Load on one rank, in a process group that is there before the loader or comes after it."""

    def join() -> None:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    try:
        if not late:
            join()
        rows = datasets.Dataset.from_list(examples([4] * 4))
        options: dict[str, Any] = {"rank": rank, "world_size": 2} if late else {}
        if cut not in (sharded_stream, whole_stream):
            options |= {"shuffle": True, "seed": seed_of * rank}
        loader = make_dataloader(cut(rows, rank), batch_size=3, **options)
        if late:
            join()
        results.put((rank, [name for batch in loader for name in batch["id"]]))
    except LoaderError as error:
        results.put((rank, str(error)))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def both(folder: Path, cut: Cut, *, late: bool = False, seed_of: int = 0) -> list[Any]:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=run, args=(rank, folder, cut, late, seed_of, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = sorted(results.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join()
    return [one for _, one in found]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("cut", [by_node, sharded, sharded_stream, filtered_on_one])
def test_compare_ranks_refuses_split_rows(tmp_path: Path, cut: Cut, late: bool) -> None:
    for message in both(tmp_path, cut, late=late):
        assert message.startswith("The ranks load different rows")
        assert "split_dataset_by_node or Dataset.shard would be cut twice" in message
    if cut is filtered_on_one:
        assert "rank 0 has 16 and rank 1 has 12" in message


@pytest.mark.parametrize("cut", [whole, whole_stream])
def test_ranks_of_one_dataset_share_it_out(tmp_path: Path, cut: Cut) -> None:
    first, second = both(tmp_path, cut)
    assert len(first) == len(second) == 9
    assert {*first, *second} == {row["id"] for row in examples([4] * 4)}


def test_ranks_that_shuffle_differently_are_an_error(tmp_path: Path) -> None:
    for message in both(tmp_path, whole, seed_of=7):
        assert message.startswith("The ranks shuffle differently: rank 0 has seed=0")
        assert "rank 1 has seed=7" in message


def test_compare_ranks_logs_once_without_process_group(caplog: pytest.LogCaptureFixture) -> None:
    loader = make_dataloader(examples([4, 4]), batch_size=2, rank=0, world_size=2)
    assert not caplog.records
    for _ in range(2):
        list(loader)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "2 ranks share out the rows of this loader, and without a process group" in caplog.text


def test_environment_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(LoaderError, match="The environment variable WORLD_SIZE must be a whole number, not 'two'"):
        make_dataloader(examples([4]), batch_size=2)
