"""Limits of what reading takes: bytes that environment variables set, threads, and free memory.

Free memory is the smallest of what the machine, the control groups of a container and the limits of a process leave. A
container's limit does not show in ``/proc/meminfo``: a process that believes it is killed.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from reasonknee_datasets.errors import BoxError, VolumeError
from reasonknee_datasets.system import call_in_forked_child

FILE_LIMIT = "REASONKNEE_MAX_FILE_BYTES"
"""Name of the variable that `file_limit` reads."""
T = TypeVar("T")
# Inflating is bound by the core, and a region has a dozen slabs: beyond four threads there is little left to gain.
_MOST = 4

_count: list[int] = []
_pool: list[ThreadPoolExecutor] = []
# Below this size, free memory is not checked.
SURELY_FITS = 1 << 28
_UNLIMITED = 1 << 60  # version 1 writes a huge number where there is no limit
_ESCAPED = re.compile(r"\\([0-7]{3})")  # the kernel writes a blank or backslash in a path like that


def read_whole_number(variable: str, default: int, *, unit: str = "bytes", least: int = 0) -> int:
    """Read a whole number from an environment variable.

    Parameters
    ----------
    variable : str
        Name of the variable.
    default : int
        Returned where it is unset or empty, and suggested where it is wrong.
    unit : str
        Unit of the number, for the message.
    least : int
        Lowest value that is accepted.

    Raises
    ------
    VolumeError
        If it is set to something else.

    Examples
    --------
    >>> read_whole_number("REASONKNEE_CACHE_BYTES", 512_000_000)
    512000000
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        above = f" above {least - 1}" if least else ""
        raise VolumeError(
            f"{variable} must be a whole number of {unit}{above}, but it is {text!r}. Set it to {default}, or unset it."
        )
    return int(text)


def file_limit() -> int:
    """Return the most bytes of one remote file that are read: ``REASONKNEE_MAX_FILE_BYTES``, or 2 GB."""
    return read_whole_number(FILE_LIMIT, 2_000_000_000)


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


class FreeMemory(NamedTuple):
    """Bytes that this process may still take, and what bounds them."""

    size: int
    bound: str


def free_memory(root: Path = Path("/")) -> FreeMemory | None:
    """Find how much memory this process may still take; None where it is not known.

    Parameters
    ----------
    root : Path
        Where ``proc`` and the control groups' mounts are found.
    """
    found = [*_machine(root), *_control_groups(root), *_process_limits(root)]
    return min(found, default=None)


def check_memory(shape: tuple[int, ...], itemsize: int, subject: str = "a crop") -> None:
    """Raise where an array cannot fit into memory, before the kernel kills the process."""
    needed = math.prod(shape) * itemsize
    if needed <= SURELY_FITS:
        return
    free = free_memory()
    if free is not None and needed > free.size:
        size = "x".join(map(str, shape))
        raise BoxError(
            f"{subject[0].upper()}{subject[1:]} of {size} voxels of {itemsize} bytes takes {needed / 1e9:.3g} GB of "
            f"memory, and {free.size / 1e9:.3g} GB are {free.bound}. Ask for fewer voxels (size=, margin_mm=, "
            "batch_size=), or a coarser spacing."
        )


def _machine(root: Path) -> Iterator[FreeMemory]:
    """Return the available bytes on Linux, page cache included; elsewhere all memory of the machine."""
    free = _field(root / "proc/meminfo", "MemAvailable:")
    if free is not None:
        yield FreeMemory(1024 * free, "free on this machine")
        return
    with suppress(AttributeError, OSError, ValueError):
        yield FreeMemory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "on this machine")


def _control_groups(root: Path) -> Iterator[FreeMemory]:
    """Read the limits of this process's control groups and of those above them, versions 1 and 2."""
    own = dict(_own_groups(root))
    for version, mount, start in _mounts(root):
        group = own.get(version)
        if group is None:
            continue
        with suppress(ValueError):  # a group outside of what is mounted here: the mount is the nearest that is seen
            mount = mount / PurePosixPath(group).relative_to(start)
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for folder in (mount, *mount.parents):
            # Version 1 also states the smallest limit of the groups above, which a container cannot see, as a pod's.
            stated = (_number(folder / names[0]), _field(folder / "memory.stat", "hierarchical_memory_limit"))
            limit = min((each for each in stated if each is not None), default=_UNLIMITED)
            if limit < _UNLIMITED:
                # The kernel drops pages of files before it kills; those in use count as used.
                used = (_number(folder / names[1]) or 0) - (_field(folder / "memory.stat", names[2]) or 0)
                yield FreeMemory(max(0, limit - max(0, used)), f"left of the control group's {limit / 1e9:.3g} GB")


def _own_groups(root: Path) -> Iterator[tuple[int, str]]:
    """Read which groups bound this process's memory: one of version 1, one of version 2, or both."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, group = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield 2, group
        elif "memory" in controllers.split(","):
            yield 1, group


def _mounts(root: Path) -> Iterator[tuple[int, Path, str]]:
    """Find where control groups are mounted: version, folder, and which group that folder is."""
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, *_, options = [*rest.split(), "", ""][:3]
        place = [_ESCAPED.sub(lambda match: chr(int(match[1], 8)), word) for word in fields.split()]
        if len(place) > 4 and (kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(","))):
            yield 2 if kind == "cgroup2" else 1, root / place[4].lstrip("/"), place[3]


def _process_limits(root: Path) -> Iterator[FreeMemory]:
    """Read ``ulimit -v`` and ``ulimit -d``, less what is taken."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # not on Windows

        pages = (root / "proc/self/statm").read_text(encoding="ascii").split()
        for kind, flag, taken in ((resource.RLIMIT_AS, "-v", pages[0]), (resource.RLIMIT_DATA, "-d", pages[5])):
            limit = resource.getrlimit(kind)[0]
            if limit != resource.RLIM_INFINITY:
                free = max(0, limit - int(taken) * resource.getpagesize())
                yield FreeMemory(free, f"left of this process's {limit / 1e9:.3g} GB (ulimit {flag})")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)[:1]).strip()
    return int(text) if text.isdecimal() else None


def _field(path: Path, name: str) -> int | None:
    for line in _lines(path):
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None
