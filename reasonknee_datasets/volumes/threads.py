"""Run independent pieces of work on a few threads, this one included."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.system import call_in_forked_child
from reasonknee_datasets.volumes.environment import read_whole_number

T = TypeVar("T")
# Inflating is bound by the core, and a region has a dozen slabs: beyond four threads there is little left to gain.
_MOST = 4

_count: list[int] = []
_pool: list[ThreadPoolExecutor] = []


def set_threads(count: int | None) -> None:
    """Set how many threads one read may use, in this process.

    Parameters
    ----------
    count : int or None
        At least 1. None returns to ``REASONKNEE_THREADS``, or to the number of cores that this process may use, four at
        most; in a process that ``multiprocessing`` started, as data loaders do for each core, to 1.
    """
    if count is not None and count < 1:
        raise VolumeError(f"A read cannot use {count} threads. Pass 1 to read on the calling thread alone, or None.")
    _count[:] = [] if count is None else [count]
    _pool.clear()


def thread_count() -> int:
    """Return how many threads one read may use."""
    if not _count:
        return read_whole_number("REASONKNEE_THREADS", _cores(), unit="threads", least=1)
    return _count[0]


def for_each(function: Callable[[T], None], items: Sequence[T]) -> None:
    """Call a function on every item, on several threads where there are several items; all are done on return.

    The first error stops the rest and is raised once no thread is at work any more.

    Examples
    --------
    >>> squares = {}
    >>> for_each(lambda n: squares.__setitem__(n, n * n), range(4))
    >>> sorted(squares.items())
    [(0, 0), (1, 1), (2, 4), (3, 9)]
    """
    todo = deque(items)

    def drain() -> None:
        with suppress(IndexError):
            while True:
                item = todo.popleft()
                try:
                    function(item)
                except BaseException:
                    todo.clear()
                    raise

    helpers = min(thread_count(), len(items)) - 1
    futures = [_executor().submit(drain) for _ in range(helpers)]
    try:
        drain()
    finally:
        running = [future for future in futures if not future.cancel()]
        wait(running)
    for future in running:
        future.result()


def _executor() -> ThreadPoolExecutor:
    if not _pool:
        _pool.append(ThreadPoolExecutor(max(_MOST, thread_count()), thread_name_prefix="reasonknee"))
    return _pool[0]


def _cores() -> int:
    if multiprocessing.parent_process() is not None:
        return 1
    return min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


# A child has none of its parent's threads.
call_in_forked_child(_pool.clear)
