"""Removal of session folders, in this process and in a small one that outlives it.

A process that is ended by a signal runs nothing more, and a signal handler would only run between two steps of Python:
never, where a step hangs. So a process with session folders starts this file as a script and sends it their names
through a pipe. When the pipe ends, the process is gone, however it ended, and the janitor removes the folders that
no other process uses. It imports only the standard library and takes 10 MB.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

fcntl: Any = import_module("fcntl") if find_spec("fcntl") is not None else None  # Windows has none
ALIVE = "alive"
_MOST_TRIES = 1000
_SECONDS = 5.0


def remove_if_free(folder: Path, descriptor: int) -> bool:
    """Remove a session if its ``alive`` file can be locked alone; return False where another process has a lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    if is_file(folder / ALIVE, descriptor):  # else another process removed it first, and a new one may have replaced it
        remove(folder)
    return True


def remove(folder: Path) -> None:
    """Remove a folder into which workers that are ending may still write.

    It is renamed first: a file that is made in a folder while it is removed would keep the folder.
    """
    gone = folder.with_name(f"gone-{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
        for _ in range(_MOST_TRIES):
            shutil.rmtree(gone, ignore_errors=True)
            if not gone.exists():
                return


def is_file(path: Path, descriptor: int) -> bool:
    """Check whether a descriptor is still the file of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class Janitor:
    """The process that cleans up after this one; started with the first folder."""

    def __init__(self) -> None:
        self._pipe = -1

    def watch(self, folder: Path) -> None:
        """Register a folder for removal when this process ends; without a janitor the next loader removes it."""
        line = os.fsencode(folder).hex().encode() + b"\n"
        for _ in range(2):
            with contextlib.suppress(OSError):  # no descriptors or processes left, or the janitor was killed
                if self._pipe < 0:
                    self._pipe = _start()
                os.write(self._pipe, line)
                return
            self.forget()

    def forget(self) -> None:
        """Close this process's end of the pipe; after a fork it is the parent's janitor."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def _start() -> int:
    """Start this file as a script, in a separate process group; return the end of the pipe to write to."""
    theirs, ours = os.pipe()
    try:
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        files = [(os.POSIX_SPAWN_DUP2, theirs, 0), *null]
        command = [sys.executable, "-I", "-S", __file__]
        os.posix_spawn(sys.executable, command, os.environ, file_actions=files, setpgroup=0)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return ours


def _main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # which a whole job may get; it ends with the pipe
        signal.signal(number, signal.SIG_IGN)
    folders = {Path(os.fsdecode(bytes.fromhex(line.decode()))) for line in sys.stdin.buffer}
    end = time.monotonic() + _SECONDS
    while folders and time.monotonic() < end:
        folders = {folder for folder in folders if not _clean(folder)}
        if folders:  # held by other processes, or by the one that is ending
            time.sleep(0.05)


def _clean(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / ALIVE, os.O_RDWR)
    except OSError:
        return True
    try:
        removed = remove_if_free(folder, descriptor)
    finally:
        os.close(descriptor)
    if removed:
        with contextlib.suppress(OSError):  # others may have sessions there
            folder.parent.rmdir()
    return removed


if __name__ == "__main__":
    _main()
