"""Work on several threads is all done on return, whatever goes wrong."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import set_threads, thread_count
from reasonknee_datasets.volumes.limits import for_each


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    yield
    set_threads(None)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_item_is_done_once(threads: int) -> None:
    set_threads(threads)
    done: list[int] = []
    for_each(done.append, range(1000))
    assert sorted(done) == list(range(1000))
    for_each(done.append, [])


def test_several_threads_are_at_work() -> None:
    set_threads(3)
    barrier = threading.Barrier(3)
    for_each(lambda _: barrier.wait(10), range(3))


@pytest.mark.parametrize("threads", [1, 3])
def test_for_each_raises_after_all_threads(threads: int) -> None:
    set_threads(threads)
    running: list[int] = []

    def work(number: int) -> None:
        running.append(number)
        time.sleep(0.01)
        running.remove(number)
        if number == 2:
            raise ZeroDivisionError("item 2")

    with pytest.raises(ZeroDivisionError, match="item 2"):
        for_each(work, range(100))
    assert not running


def test_many_callers_share_the_pool() -> None:
    set_threads(2)
    totals: list[int] = []

    def caller() -> None:
        done: list[int] = []
        for_each(done.append, range(200))
        totals.append(len(done))

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [200] * 8


def _child(queue: Any) -> None:
    done: list[int] = []
    for_each(done.append, range(10))
    queue.put(sorted(done))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own_threads() -> None:
    set_threads(2)
    for_each(lambda _: None, range(10))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_child, args=(queue,))
    process.start()
    assert queue.get(timeout=30) == list(range(10))
    process.join(30)


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    set_threads(None)
    monkeypatch.setenv("REASONKNEE_THREADS", "3")
    assert thread_count() == 3
    set_threads(None)
    monkeypatch.setenv("REASONKNEE_THREADS", "many")
    with pytest.raises(
        VolumeError, match="REASONKNEE_THREADS must be a whole number of threads above 0, but it is 'many'"
    ):
        thread_count()
    with pytest.raises(VolumeError, match="cannot use 0 threads"):
        set_threads(0)
    monkeypatch.delenv("REASONKNEE_THREADS")
    assert 1 <= thread_count() <= 4


def _count(queue: Any) -> None:
    queue.put(thread_count())


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_thread_count_in_worker_process(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REASONKNEE_THREADS", raising=False)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_count, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == 1
    process.join(30)
