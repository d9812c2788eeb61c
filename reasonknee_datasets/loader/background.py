"""Running ahead of a consumer in a thread, by a few items and no more."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END = object()


def run_ahead(items: Iterator[T], work: Callable[[T], R], depth: int) -> Iterator[R]:
    """Do work on items in a thread, `depth` of them ahead of who takes the results, in order.

    An error comes where its result would have come. Once the results are no longer wanted, the thread ends with the
    item that it is at.

    Examples
    --------
    >>> list(run_ahead(iter([1, 2, 3]), lambda number: number * number, depth=2))
    [1, 4, 9]
    """
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    unwanted = threading.Event()

    def run() -> None:
        try:
            while room.acquire() and not unwanted.is_set():
                try:
                    item = next(items)
                except StopIteration:
                    break
                done.put((work(item), None))
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is raised where results are taken)
            done.put((None, error))
        done.put(_END)

    thread = threading.Thread(target=run, name="reasonknee-ahead", daemon=True)
    thread.start()
    try:
        while (found := done.get()) is not _END:
            result, error = found
            if error is not None:
                raise error
            room.release()
            yield result
    finally:
        unwanted.set()
        room.release()
        thread.join()
