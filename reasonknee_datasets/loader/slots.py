"""Slots: files with decoded volumes for all processes of a machine, one volume at a time.

Slots are reused, not recreated: filling fresh pages of shared memory costs about as much as decoding (50 ms for 47 MB,
measured; 10 ms once the pages are there). What makes that safe are locks that the kernel releases when a process dies:

- A reader locks a slot's ``.voxels`` *shared* until its batch is done; a slot is given to another volume only by
  a process with the *exclusive* lock, so no voxel changes under a reader.
- A process that inflates slabs locks the slot's ``.fill`` file: one decoder a volume. Slabs count as there once they
  are, so a decoder that dies leaves nothing that could be taken for voxels.
- Finding or assigning a slot happens under the folder's ``assign`` lock; nothing is decoded meanwhile.

A slot takes two descriptors of a process, its file's and that of Python's map of it, and only from when the process
reads it until `SharedSlot.rest`; the records of all slots are in one file, the `SlotRecords`.

Which slot goes to the next volume follows from the order of the epoch, which is known: the one whose volume is done
with first (`Use`). The least recently used one would be wrong, since workers drift apart: a volume that the fast ones
have left behind is still to be looked at by the slow one.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.system import fcntl

_DIGEST = 32
UNASSIGNED = bytes(_DIGEST)
NOTHING_KNOWN: NDArray[np.bool_] = np.zeros(0, np.bool_)
_HEAD = struct.Struct(f"<{_DIGEST}s8s")  # volume, a token of this assignment
_STAMP = struct.Struct("<QQQ")  # when it was last used; the epoch, and the place in it, until which it is wanted
_FLAGS = _HEAD.size + _STAMP.size
MOST_SLABS = 8192
_RECORD = _FLAGS + MOST_SLABS
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14: touch all pages at once


class Use(NamedTuple):
    """When the order of an epoch reads a volume, and for how long.

    Attributes
    ----------
    began : int
        When this pass over the data began, in ns of the machine's monotonic clock.
    epoch : int
        Which epoch it is.
    stop : int
        Where the step that it is read for ends in the epoch's order.
    until : int
        The last place in that order that reads the volume.
    """

    began: int = 0
    epoch: int = 0
    stop: int = 0
    until: int = 0


class Stamp(NamedTuple):
    """When a slot was last used, and until when its volume is wanted."""

    time: int = 0
    epoch: int = 0
    until: int = 0

    def turn(self, began: int) -> tuple[int, ...]:
        """Return the sort key of slots: the first one is reassigned next.

        Slots that were not used since this pass began are left over from others.
        """
        return (0, self.time) if self.time < began else (1, self.epoch, self.until, self.time)

    def wanted_after(self, use: Use) -> bool:
        """Check whether its volume will be read again in this pass."""
        return self.time >= use.began > 0 and (self.epoch, self.until) >= (use.epoch, use.stop)


class SlotRecords:
    """The record of each slot, in one file."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "records", os.O_RDWR | os.O_CREAT, 0o600)

    def count(self) -> int:
        """Count the slots that there are."""
        return -(-os.fstat(self._descriptor).st_size // _RECORD)

    def read(self, number: int, size: int, start: int) -> bytes:
        """Read a part of a slot's record; zeros where nothing was written."""
        return os.pread(self._descriptor, size, number * _RECORD + start).ljust(size, b"\0")

    def write(self, number: int, data: bytes | bytearray, start: int) -> None:
        """Write a part of a slot's record."""
        os.pwrite(self._descriptor, data, number * _RECORD + start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class SharedSlot:
    """One slot in one process."""

    def __init__(self, folder: Path, number: int, records: SlotRecords) -> None:
        self.number = number
        self.fill = folder / f"{number:04d}.fill"
        self.used = 0
        self.pinned = False
        self._path = folder / f"{number:04d}.voxels"
        self._records = records
        self._descriptor = -1
        self.assigned = UNASSIGNED, b""
        self.known = NOTHING_KNOWN
        self.filling = threading.Lock()
        self._map: mmap.mmap | None = None
        self._populated = False

    @property
    def voxels(self) -> int:
        """The descriptor of its file, opened when it is needed."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        return self._descriptor

    @property
    def is_open(self) -> bool:
        """Whether it takes descriptors of this process."""
        return self._descriptor >= 0

    @property
    def capacity(self) -> int:
        """Bytes of voxels that it has room for."""
        try:
            return os.fstat(self._descriptor).st_size if self.is_open else self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def head(self) -> tuple[bytes, bytes]:
        """Read which volume it contains, and the token of that assignment."""
        volume, token = _HEAD.unpack(self._records.read(self.number, _HEAD.size, 0))
        return volume, token

    def stamp(self) -> Stamp:
        """Read when it was last used, and until when its volume is wanted."""
        return Stamp(*_STAMP.unpack(self._records.read(self.number, _STAMP.size, _HEAD.size)))

    def pin(self) -> None:
        """Keep its volume from being replaced."""
        self.used = time.monotonic_ns()
        if not self.pinned:
            fcntl.flock(self.voxels, fcntl.LOCK_SH)
            self.pinned = True

    def unpin(self) -> None:
        """Release its volume."""
        if self.pinned:
            fcntl.flock(self.voxels, fcntl.LOCK_UN)
            self.pinned = False

    def take(self) -> bool:
        """Take the exclusive lock, unless the slot has a reader."""
        if self.pinned:
            return False
        try:
            fcntl.flock(self.voxels, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        return True

    def empty(self, capacity: int) -> None:
        """Forget its volume, and resize it to `size` bytes; the caller has the exclusive lock."""
        self.assigned, self.known = (UNASSIGNED, b""), NOTHING_KNOWN
        self._records.write(self.number, bytes(_RECORD), 0)
        if capacity > self.capacity:
            reserve = getattr(os, "posix_fallocate", None)  # else a full disk kills the process that touches the page
            reserve(self.voxels, 0, capacity) if reserve else os.ftruncate(self.voxels, capacity)
        elif capacity == 0:
            os.ftruncate(self.voxels, 0)

    def give(self, volume: bytes, use: Use) -> None:
        """Assign it to a volume; the caller has the exclusive lock, and reads it from now on."""
        token = secrets.token_bytes(8)
        self._records.write(self.number, _HEAD.pack(volume, token), 0)
        self.note(use)
        self.assigned, self.known = (volume, token), NOTHING_KNOWN
        fcntl.flock(self.voxels, fcntl.LOCK_SH)
        self.pinned = True

    def flags(self, slabs: int) -> bytearray:
        """Read which slabs are there; for a consistent answer the caller locks the fill file."""
        return bytearray(self._records.read(self.number, slabs, _FLAGS))

    def set_flags(self, flags: bytes | bytearray) -> None:
        """Write which slabs are there."""
        self._records.write(self.number, flags, _FLAGS)

    def note(self, use: Use) -> None:
        """Note that it is used now, and until when."""
        self._records.write(self.number, _STAMP.pack(time.monotonic_ns(), use.epoch, use.until), _HEAD.size)

    def bytes(self, size: int, *, writing: bool = False) -> NDArray[np.uint8]:
        """Return its bytes, mapped into memory once for as long as the process lives."""
        if self._map is None or len(self._map) < size:
            self._map, self._populated = mmap.mmap(self.voxels, self.capacity), False
        if writing and not self._populated:
            with contextlib.suppress(OSError):  # an older kernel faults page by page
                self._map.madvise(_POPULATE_WRITE)
            self._populated = True
        return np.frombuffer(self._map, np.uint8, size)

    def let_go(self) -> None:
        """Undo `take`, and leave the slot unassigned."""
        fcntl.flock(self.voxels, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close its file; voxels that are still in use stay mapped."""
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1

    def rest(self) -> None:
        """Close its descriptors until it is read again, unless it is pinned."""
        if not self.pinned:
            self.close()
            self._map = None


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Lock an open file exclusively."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[int]:
    """Lock a file of the folder exclusively, through a new descriptor, so that threads exclude each other too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with locked(descriptor):
            yield descriptor
    finally:
        os.close(descriptor)
