"""Workers that outlive the training process: they end as soon as it is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

_SECONDS = 1.0


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
