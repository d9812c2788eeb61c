"""Several iterators of one loader are independent, with and without persistent workers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("torch")

from reasonknee_datasets.loader import ResumableLoader, make_dataloader
from tests.loader.test_loader import examples

# (workers, persistent): what may differ in how torch makes iterators.
WORKERS = [(0, False), (2, False), (2, True)]


def new_loader(workers: int, persistent: bool, **options: Any) -> ResumableLoader:
    return make_dataloader(
        examples([4] * 10),
        batch_size=4,
        shuffle=True,
        volumes_in_flight=3,
        num_workers=workers,
        persistent_workers=persistent,
        **options,
    )


def epoch(number: int) -> list[list[str]]:
    loader = new_loader(0, False)
    loader.set_epoch(number)
    return [batch["id"] for batch in loader]


@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_iter_inside_a_loop(workers: int, persistent: bool) -> None:
    first, second = epoch(0), epoch(1)
    with new_loader(workers, persistent) as loader:
        seen, states = [], []
        for step, batch in enumerate(loader):
            if step in (2, 3):
                assert next(iter(loader))["id"] == second[0]
            seen.append(batch["id"])
            states.append(loader.state_dict())
        assert seen == first
        assert [batch["id"] for batch in loader] == second
    for step in (1, 4, 8):  # none of which looked aside
        resumed = new_loader(0, False)
        resumed.load_state_dict(states[step])
        assert [batch["id"] for _ in range(2) for batch in resumed] == [*first[step + 1 :], *second]


@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_zip_of_a_loader_with_itself(workers: int, persistent: bool) -> None:
    with new_loader(workers, persistent) as loader:
        pairs = [(one["id"], other["id"]) for one, other in zip(loader, loader, strict=True)]
        assert pairs == list(zip(epoch(0), epoch(1), strict=True))
        assert loader.epoch == 2


@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_an_iterator_kept_beside_a_loop(workers: int, persistent: bool) -> None:
    with new_loader(workers, persistent) as loader:
        kept = iter(loader)
        assert next(kept)["id"] == epoch(0)[0]
        assert [batch["id"] for batch in loader] == epoch(1)
        assert [batch["id"] for batch in kept] == epoch(0)[1:]


@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_unused_iterator_begins_no_epoch(workers: int, persistent: bool) -> None:
    with new_loader(workers, persistent) as loader:
        unused = iter(loader)
        assert loader.state_dict()["epoch"] == 0
        assert [batch["id"] for batch in loader] == epoch(0)
        assert next(unused)["id"] == epoch(1)[0]


def test_persistent_workers_are_reused_after_break() -> None:
    with new_loader(2, True) as loader:
        for _ in range(3):
            next(iter(loader))
        workers = loader._loader._iterator._workers  # type: ignore[union-attr]
        before = {worker.pid for worker in workers}
        assert [batch["id"] for batch in loader] == epoch(3)
        assert {worker.pid for worker in workers} == before


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_iter_in_two_threads(workers: int, persistent: bool) -> None:
    both = threading.Barrier(2)

    def read(loader: ResumableLoader) -> list[str]:
        both.wait()
        return [row for batch in loader for row in batch["id"]]

    everything = sorted(row for batch in epoch(0) for row in batch)
    with new_loader(workers, persistent) as loader, ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            assert [sorted(rows) for rows in pool.map(read, [loader, loader])] == [everything, everything]


def test_workers_started_in_thread_pool_exit_cleanly() -> None:
    with ThreadPoolExecutor(1) as pool:
        loader = new_loader(2, True)
        assert pool.submit(lambda: [batch["id"] for batch in loader]).result() == epoch(0)
        workers = loader._loader._iterator._workers  # type: ignore[union-attr]
        loader.close()
        for worker in workers:
            worker.join(30)
        assert [worker.exitcode for worker in workers] == [0, 0]
