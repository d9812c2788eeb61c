"""Functions that some systems lack: fork hooks, file locks and reads at an offset (Windows has none of the three)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

fcntl: Any = import_module("fcntl") if find_spec("fcntl") is not None else None
"""The module, or None where the system has no such locks."""

_reading = threading.Lock()


def call_in_forked_child(function: Callable[[], object]) -> None:
    """Register a function that a forked process calls first: a thread that held a lock is not copied by a fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def can_share_files() -> bool:
    """Check whether processes can share files safely here: locks, reads at an offset, and owners of files."""
    return fcntl is not None and all(hasattr(os, name) for name in ("pread", "pwrite", "getuid", "statvfs"))


def _read_at(descriptor: int, count: int, offset: int) -> bytes:
    with _reading:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _read_at)
"""Reads up to so many bytes of an open file at an offset; several threads may use one descriptor."""


def _renew_lock() -> None:
    global _reading
    _reading = threading.Lock()


call_in_forked_child(_renew_lock)
