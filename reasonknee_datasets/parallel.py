"""Many small jobs over processes, or in this process for one worker, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm.auto import tqdm

from reasonknee_datasets.errors import WorkerError

_SECONDS = 1.0

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Count the cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each_done(
    function: Callable[[T], R], tasks: Sequence[T], *, workers: int, label: str, progress: bool
) -> Iterator[tuple[T, R]]:
    """Run a function over tasks; yield each task with its result as soon as it is done, in any order.

    Parameters
    ----------
    function : callable
        A module-level function of one task; it and the tasks are pickled where ``workers`` is above 1.
    workers : int
        Processes. They are spawned, never forked: a fork of a process that runs threads (Arrow's, tqdm's) can hang.
    label : str
        Of the progress bar.
    progress : bool
        Whether to show one.

    Raises
    ------
    WorkerError
        If a process dies.
    """
    with tqdm(total=len(tasks), desc=label, disable=None if progress else True, leave=False) as bar:
        for done in _run(function, tasks, min(workers, len(tasks))):
            yield done
            bar.update()


def _run(function: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[tuple[T, R]]:
    if workers <= 1:
        for task in tasks:
            yield task, function(task)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        futures = {pool.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            task = futures.pop(future)  # popped, so that results do not pile up here
            yield task, future.result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "A worker process died unexpectedly, often killed by the kernel when memory is used up. Use fewer workers, "
            "and in a script call this under `if __name__ == '__main__':`."
        ) from error
    finally:
        # Also reached when the caller stops early, by an error or an interrupt: what has not begun never does.
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Set up a worker: it ignores interrupts, which its parent handles, and ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    EndWithParent()(0)


class EndWithParent:
    """A ``worker_init_fn`` that ends the worker when the process that started it is gone.

    torch's workers look for their parent too, but then wait for what they still have to send: a batch that is larger
    than a pipe's buffer is never read, and a worker whose parent was killed by SIGKILL stays for ever.

    Parameters
    ----------
    then : callable, optional
        The caller's own ``worker_init_fn``.
    """

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Start watching; torch calls it in each worker."""
        threading.Thread(target=_watch, name="reasonknee-parent", daemon=True).start()
        if self.then is not None:
            self.then(worker)


def _watch() -> None:
    parent, first = multiprocessing.parent_process(), os.getppid()
    if parent is None or parent.pid is None:
        return
    while parent.is_alive() and os.getppid() == first and _exists(parent.pid):
        time.sleep(_SECONDS)
    os._exit(1)


def _exists(process: int) -> bool:
    """Check for a process; one that is killed and not yet waited for still counts."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True
