"""Slots: files that hold decoded volumes for all processes of a machine, one volume at a time.

Slots are reused, not made anew: filling fresh pages of shared memory costs about as much as decoding (50 ms for 47 MB,
measured; 10 ms once the pages are there). What makes that safe are locks that the kernel releases when a process dies:

- Whoever reads a slot holds its ``.voxels`` *shared* until its batch is done; a slot is given to another volume only by
  who holds it *alone*, so no voxel changes under a reader.
- Whoever inflates slabs holds the ``.record`` alone: one decoder a volume. Slabs count as there once they are, so a
  decoder that dies leaves nothing that could be taken for voxels.
- Finding or assigning a slot happens under the folder's ``assign`` lock; nothing is decoded meanwhile.

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
NOBODY = bytes(_DIGEST)
_HEAD = struct.Struct(f"<{_DIGEST}s8s")  # volume, a token of this assignment
_STAMP = struct.Struct("<QQQ")  # when it was last used; the epoch, and the place in it, until which it is wanted
_LAYOUT = _HEAD.size + _STAMP.size
_LAYOUT_BYTES = 960
_FLAGS = 1024
MOST_SLABS = 8192
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14: touch all pages at once


class Use(NamedTuple):
    """What the order of an epoch says of a volume that is about to be read.

    Attributes
    ----------
    began : int
        When this pass over the data began, in ns of the machine's monotonic clock.
    epoch : int
        Which epoch it is.
    stop : int
        Where the step that it is read for ends in the epoch's order.
    until : int
        The last place in that order that looks at the volume.
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
        """Give what slots are sorted by: the first one is the next to be given away.

        What nobody has used since this pass began is left over from others.
        """
        return (0, self.time) if self.time < began else (1, self.epoch, self.until, self.time)

    def wanted_after(self, use: Use) -> bool:
        """Tell whether its volume will surely be looked at again in this pass."""
        return self.time >= use.began > 0 and (self.epoch, self.until) >= (use.epoch, use.stop)


class Slot:
    """One slot as one process sees it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        flags = os.O_RDWR | os.O_CREAT
        self.voxels = os.open(folder / f"{number:04d}.voxels", flags, 0o600)
        self.record = os.open(folder / f"{number:04d}.record", flags, 0o600)
        self.pinned = False
        self.assigned = NOBODY, b""
        self.known: set[int] = set()
        self.filling = threading.Lock()
        self._map: mmap.mmap | None = None
        self._populated = False

    @property
    def capacity(self) -> int:
        """Bytes of voxels that it has room for."""
        return os.fstat(self.voxels).st_size

    def head(self) -> tuple[bytes, bytes]:
        """Read which volume it holds, and the token of that assignment."""
        data = os.pread(self.record, _HEAD.size, 0)
        volume, token = _HEAD.unpack(data) if len(data) == _HEAD.size else (NOBODY, b"")
        return volume, token

    def stamp(self) -> Stamp:
        """Read when it was last used, and until when its volume is wanted."""
        data = os.pread(self.record, _STAMP.size, _HEAD.size)
        return Stamp(*_STAMP.unpack(data)) if len(data) == _STAMP.size else Stamp()

    def pin(self) -> None:
        """Keep its volume from being replaced."""
        if not self.pinned:
            fcntl.flock(self.voxels, fcntl.LOCK_SH)
            self.pinned = True

    def unpin(self) -> None:
        """Let its volume go."""
        if self.pinned:
            fcntl.flock(self.voxels, fcntl.LOCK_UN)
            self.pinned = False

    def take(self) -> bool:
        """Hold it alone, if nobody reads it."""
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
        """Forget its volume, and have room for so many bytes; the caller holds it alone."""
        self.assigned, self.known = (NOBODY, b""), set()
        os.ftruncate(self.record, 0)
        if capacity > self.capacity:
            reserve = getattr(os, "posix_fallocate", None)  # else a full disk would kill whoever touches the page
            reserve(self.voxels, 0, capacity) if reserve else os.ftruncate(self.voxels, capacity)
        elif capacity == 0:
            os.ftruncate(self.voxels, 0)

    def give(self, volume: bytes, use: Use) -> None:
        """Make it a volume's; the caller holds it alone, and reads it from now on."""
        token = secrets.token_bytes(8)
        os.pwrite(self.record, _HEAD.pack(volume, token), 0)
        self.note(use)
        self.assigned, self.known = (volume, token), set()
        fcntl.flock(self.voxels, fcntl.LOCK_SH)
        self.pinned = True

    def flags(self, slabs: int) -> bytearray:
        """Read which slabs are there; the caller holds the record, or only looks."""
        return bytearray(os.pread(self.record, slabs, _FLAGS).ljust(slabs, b"\0"))

    def set_flags(self, flags: bytes | bytearray, layout: bytes = b"") -> None:
        """Write which slabs are there, and what array they make where that is not known otherwise."""
        if layout:
            os.pwrite(self.record, layout.ljust(_LAYOUT_BYTES, b"\0"), _LAYOUT)
        os.pwrite(self.record, flags, _FLAGS)

    def layout(self) -> bytes:
        """Read what array the bytes make."""
        return os.pread(self.record, _LAYOUT_BYTES, _LAYOUT).rstrip(b"\0")

    def note(self, use: Use) -> None:
        """Note that it is used now, and until when."""
        os.pwrite(self.record, _STAMP.pack(time.monotonic_ns(), use.epoch, use.until), _HEAD.size)

    def bytes(self, size: int, *, writing: bool = False) -> NDArray[np.uint8]:
        """Give its bytes, mapped into memory once for as long as the process lives."""
        if self._map is None or len(self._map) < size:
            self._map, self._populated = mmap.mmap(self.voxels, self.capacity), False
        if writing and not self._populated:
            with contextlib.suppress(OSError):  # an older kernel faults page by page
                self._map.madvise(_POPULATE_WRITE)
            self._populated = True
        return np.frombuffer(self._map, np.uint8, size)

    def let_go(self) -> None:
        """Undo `take` without giving it to anybody."""
        fcntl.flock(self.voxels, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close its files; voxels that somebody still looks at stay mapped."""
        os.close(self.voxels)
        os.close(self.record)


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold an open file alone."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[int]:
    """Hold a file of the folder alone, opened for this once, so that threads exclude each other too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with locked(descriptor):
            yield descriptor
    finally:
        os.close(descriptor)
