"""Batches are moved ahead in order, errors come where they belong, and only what was handed out counts as seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from reasonknee_datasets.collate import Batch
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import make_dataloader, prefetch_to_device
from reasonknee_datasets.loader.prefetch import run_ahead

ROWS: list[dict[str, Any]] = [
    {"id": f"{number:07d}/00M/left/q19", "voxels": torch.full((2, 2, 2), number, dtype=torch.int16)}
    for number in range(20)
]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def counting(log: list[int], count: int = 10) -> Iterator[int]:
    for number in range(count):
        log.append(number)
        yield number


def test_run_ahead_is_bounded_by_depth() -> None:
    asked: list[int] = []
    results = run_ahead(counting(asked), lambda number: -number, depth=3)
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(asked) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert asked == [0, 1, 2, 3]
    assert list(results) == [-number for number in range(1, 10)]


def test_it_works_while_its_caller_does() -> None:
    begun = [threading.Event() for _ in range(5)]

    def work(number: int) -> int:
        begun[number].set()
        return number

    for number in run_ahead(iter(range(5)), work, depth=1):
        assert number == 4 or begun[number + 1].wait(10)  # while this result is still in use


def test_run_ahead_raises_in_order() -> None:
    results = run_ahead(iter([2, 1, 0, 5]), lambda number: 2 // number, depth=2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ZeroDivisionError, match="division"):
        next(results)
    assert list(results) == []


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    results = run_ahead(counting([], 10**6), lambda number: number, depth=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_on_a_cpu_batches_pass_through() -> None:
    loader = make_dataloader(ROWS, batch_size=3, shuffle=True)
    expected = [batch["id"] for batch in make_dataloader(ROWS, batch_size=3, shuffle=True)]
    moved = prefetch_to_device(loader, "cpu")
    assert len(moved) == 7
    assert [batch["id"] for batch in moved] == expected


def test_state_is_what_was_handed_out_here() -> None:
    loader = make_dataloader(ROWS, batch_size=3, shuffle=True)
    moved = prefetch_to_device(loader, "cpu")
    stream = iter(moved)
    next(stream)
    assert moved.state_dict() == loader.state_dict()
    assert moved.state_dict()["position"] == 3
    resumed = prefetch_to_device(make_dataloader(ROWS, batch_size=3, shuffle=True), "cpu")
    resumed.load_state_dict(moved.state_dict())
    assert next(iter(resumed))["id"] == next(stream)["id"]
    resumed.set_epoch(4)
    assert resumed.state_dict()["epoch"] == 4


def test_something_is_done_to_each_batch_there() -> None:
    moved = prefetch_to_device(
        make_dataloader(ROWS, batch_size=2), "cpu", transform=lambda batch: batch.cast(torch.float32, window=(0, 20))
    )
    assert [batch["volume"].mean().item() for batch in moved][:2] == pytest.approx([0.025, 0.125])


def test_batches_of_any_kind() -> None:
    batches = [torch.ones(1), {"a": torch.ones(1), "b": "text"}, [torch.ones(1), ("x", torch.ones(1))]]
    assert list(prefetch_to_device(batches, "cpu")) == [
        torch.ones(1),
        batches[1],
        [torch.ones(1), ["x", torch.ones(1)]],
    ]
    with pytest.raises(LoaderError, match="A list has no state and no epoch to set"):
        prefetch_to_device(batches, "cpu").state_dict()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_prefetch_on_gpu_keeps_batches_and_state(workers: int) -> None:
    options: dict[str, Any] = {"batch_size": 3, "shuffle": True}
    expected = list(make_dataloader(ROWS, **options))
    with make_dataloader(ROWS, num_workers=workers, pin_memory=True, **options) as loader:
        moved = prefetch_to_device(loader, "cuda", depth=3)
        for step, (batch, plain) in enumerate(zip(moved, expected, strict=True), 1):
            assert isinstance(batch, Batch)
            assert batch["volume"].is_cuda
            assert torch.equal(batch["volume"].cpu(), plain["volume"])
            assert batch["id"] == plain["id"]
            state = loader.state_dict()
            assert (state["epoch"], state["position"]) == ((0, 3 * step) if step < len(expected) else (1, 0))


@pytest.mark.gpu
@needs_gpu
def test_a_batch_in_use_is_not_overwritten() -> None:
    """The copying stream's memory must not be given out again while the model's stream still reads it."""
    big = [{"id": str(number), "voxels": torch.full((64, 64, 64), number, dtype=torch.int16)} for number in range(30)]
    loader = make_dataloader(big, batch_size=2, pin_memory=True)
    sums = []
    for batch in prefetch_to_device(loader, "cuda", depth=2, transform=lambda batch: batch.cast(torch.float32)):
        volume = batch["volume"]
        for _ in range(50):  # keeps the stream busy while the next batches arrive
            volume = volume * 1.0
        sums.append(volume.mean())
        del batch, volume
    assert [value.item() for value in sums] == [2 * number + 0.5 for number in range(15)]
