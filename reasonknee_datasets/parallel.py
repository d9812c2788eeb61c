"""Parallel execution of many independent tasks: in this process, in local processes, or on a user's executor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor, as_completed, wait
from typing import TypeVar

from tqdm.auto import tqdm

from reasonknee_datasets.errors import WorkerError

_SECONDS = 1.0  # between two looks at the parent

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Count the cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each_done(
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    workers: int,
    label: str,
    progress: bool,
    executor: Executor | None = None,
) -> Iterator[tuple[T, R]]:
    """Run a function over tasks, and iterate over pairs of task and result as they complete, in any order.

    Parameters
    ----------
    function : callable
        A module-level function of one task; it and the tasks are pickled where other processes run them. An executor
        may run a task again after its worker died, so the function must be idempotent.
    tasks : sequence
        The arguments.
    workers : int
        Processes. They are spawned, never forked: a fork of a process that runs threads (Arrow's, tqdm's) can hang.
        Not used with an executor.
    label : str
        Text of the progress bar.
    progress : bool
        Whether a progress bar is shown.
    executor : concurrent.futures.Executor, optional
        Where the tasks run instead, for example `reasonknee_datasets.cluster.cluster_executor`. It is not shut down.
        Its workers must have this package, and the same file system under the same paths.

    Raises
    ------
    WorkerError
        If a process dies, or the executor loses a task.
    """
    with tqdm(total=len(tasks), desc=label, disable=None if progress else True, leave=False) as bar:
        if executor is not None:
            results = _run_on(executor, function, tasks)
        elif min(workers, len(tasks)) <= 1:
            results = ((task, function(task)) for task in tasks)
        else:
            results = _run_processes(function, tasks, min(workers, len(tasks)))
        for done in results:
            yield done
            bar.update()


def _run_processes(function: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[tuple[T, R]]:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield from _run_on(pool, function, tasks)
    finally:
        # Also reached when the caller stops early, by an error or an interrupt: queued tasks are cancelled.
        pool.shutdown(wait=True, cancel_futures=True)


def _run_on(executor: Executor, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
    futures = {executor.submit(function, task): task for task in tasks}
    try:
        for future in as_completed(list(futures)):
            task = futures.pop(future)  # popped, so that results do not pile up here
            yield task, future.result()
    except BrokenExecutor as error:
        raise WorkerError(
            "A worker process died unexpectedly, often because the kernel ended it when memory ran out. Use fewer "
            "workers, then run again; in a script, call this under `if __name__ == '__main__':`."
        ) from error
    except _lost() as error:
        raise WorkerError(
            f"The executor lost a task ({type(error).__name__}: {error}). Check its workers' logs and memory, then run "
            "again: finished volumes are kept."
        ) from error
    finally:
        for future in futures:
            future.cancel()
        # Running tasks cannot be cancelled; they must not write after this call has returned.
        wait([future for future in futures if not future.cancelled()])


def _lost() -> tuple[type[BaseException], ...]:
    """List the errors by which an executor reports a lost task; those of dask only where it has been imported."""
    distributed = sys.modules.get("distributed")
    return (CancelledError,) if distributed is None else (CancelledError, distributed.KilledWorker)


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
        _forget_pool_thread()
        threading.Thread(target=_watch, name="reasonknee-parent", daemon=True).start()
        if self.then is not None:
            self.then(worker)


def _forget_pool_thread() -> None:
    """Remove this thread from the pools of the parent, where the worker was forked in a ThreadPoolExecutor.

    At its end Python joins the threads of all pools, and a worker that joins itself ends with exit status 1, which
    torch reports as an unexpected end.
    """
    pools = sys.modules.get("concurrent.futures.thread")
    getattr(pools, "_threads_queues", {}).pop(threading.current_thread(), None)  # private to Python: no other way in


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
