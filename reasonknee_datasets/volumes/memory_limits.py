"""Free memory: the smallest of what the machine, the control groups of a container and the limits of a process leave.

A container's limit does not show in ``/proc/meminfo``: a process that believes it is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_UNLIMITED = 1 << 60  # version 1 writes a huge number where there is no limit


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
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None and limit < _UNLIMITED:
                # The kernel drops pages of files before it kills; those in use count as used.
                used -= _field(folder / "memory.stat", names[2]) or 0
                yield FreeMemory(max(0, limit - used), f"left of the control group's {limit / 1e9:.3g} GB")


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
        place = fields.split()
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
