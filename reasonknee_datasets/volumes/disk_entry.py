"""Entries of the cache on disk: a header with the digest of the source and a checksum, then a blosc2 frame.

An entry is mapped into memory, so that processes share its pages, and verified when it is opened.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.private_files import open_private
from reasonknee_datasets.volumes.slab_reader import Selection

_HEAD = struct.Struct("<8s32sIQ")  # magic, digest of the source, checksum and length of the frame
_MAGIC = b"RKVOXEL2"
HEAD_SIZE = _HEAD.size


@dataclass(frozen=True, slots=True)
class Target:
    """Where the entry of a volume is, and what it must hold: digest of its source, shape and voxel type."""

    path: Path
    digest: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Entry:
    """An open entry; blosc2 decompresses with one context an array, so one thread at a time."""

    def __init__(self, array: Any, frame: memoryview) -> None:
        self._array = array
        self._frame = frame  # blosc2 reads from this mapping and keeps no reference to it
        self._lock = threading.Lock()

    def read(self, selection: Selection) -> NDArray[Any]:
        """Read a region; steps are taken in memory."""
        starts, stops = [part.start for part in selection], [part.stop for part in selection]
        with self._lock:
            # array[...] calls this in the end; a tenth of the time of a small box is spent on the way there.
            if hasattr(self._array, "get_slice_numpy"):
                shape = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
                found: NDArray[Any] = np.empty(shape, self._array.dtype)
                self._array.get_slice_numpy(found, (starts, stops))
            else:
                found = self._array[tuple(map(slice, starts, stops))]
        if all(part.step == 1 for part in selection):
            return found
        return np.ascontiguousarray(found[tuple(slice(None, None, part.step) for part in selection)])


def pack_head(target: Target, frame: bytes) -> bytes:
    """Return the header of an entry."""
    return _HEAD.pack(_MAGIC, target.digest, deflate.crc32(frame), len(frame))


def open_entry(target: Target) -> Entry | None:
    """Open an entry and verify all of it; remove one that is damaged, not private or of another source."""
    try:
        entry = _verify(target)
    except OSError as error:
        # Only these are faults of the entry itself; too many open files, for example, is not.
        if not isinstance(error, PermissionError) and error.errno not in (errno.EIO, errno.ELOOP):
            return None
        entry = None
    except (ValueError, RuntimeError):  # an empty file cannot be mapped; blosc2 refuses with RuntimeError
        entry = None
    if entry is None:
        with contextlib.suppress(OSError):
            target.path.unlink()
    return entry


def _verify(target: Target) -> Entry | None:
    """Map an entry and check source, checksum, metadata, shape and voxel type; None if one of them is wrong."""
    descriptor = open_private(target.path)
    try:
        data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        os.utime(descriptor)
    finally:
        os.close(descriptor)
    if len(data) < _HEAD.size:
        return None
    magic, digest, checksum, length = _HEAD.unpack_from(data)
    frame = memoryview(data)[_HEAD.size :]
    if (magic, digest, length) != (_MAGIC, target.digest, len(frame)) or deflate.crc32(frame) != checksum:
        return None
    # Never blosc2.open: up to 4.14.0 it evaluates the Python code that the metadata of a "lazy array" hold.
    array = find_blosc2().ndarray_from_cframe(frame, copy=False)
    array.schunk.dparams = find_blosc2().DParams(nthreads=1)  # its threads would not survive a fork
    plain = list(array.schunk.meta.keys()) == ["b2nd"] and not len(array.schunk.vlmeta)
    return Entry(array, frame) if plain and (array.shape, array.dtype) == (target.shape, target.dtype) else None


def find_blosc2() -> Any:
    """Import blosc2, or raise the error that names the extra."""
    try:
        return import_module("blosc2")
    except ImportError as error:
        raise missing_extra("blosc2", "cache", "cache_dir") from error
