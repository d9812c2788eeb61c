"""The optional cache on disk: volumes as compressed chunks, for random access that memory cannot hold.

The folder and its entries are this user's alone (0700, 0600). An entry is a header with the digest of the source and a
checksum, then a blosc2 frame; it is mapped into memory, so that processes share its pages, and verified when it is
opened. Chunks and codec are chosen by measurement: boxes of 60x80x75 voxels at random out of a volume of 47 MB came at
2,260 a second from LZ4 level 1 in chunks of 64x64x64 with a mapped file, at 870 from ZSTD level 1, and at 60 to 110
from zarr 3 with the same codecs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import secrets
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import deflate
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError, missing_extra, os_remedy
from reasonknee_datasets.safe_paths import create_private, make_private_folder, open_private
from reasonknee_datasets.system import call_in_forked_child, fcntl
from reasonknee_datasets.volumes.byte_source import FileIdentity
from reasonknee_datasets.volumes.cache import Once
from reasonknee_datasets.volumes.limits import read_whole_number, thread_count
from reasonknee_datasets.volumes.slab_reader import Selection

_DEFAULT_BYTES = 50_000_000_000
_SUFFIX = ".rkv"
_CHUNK, _BLOCK = (64, 64, 64), (16, 16, 32)
_STALE_SECONDS = 3600
_RETRY_SECONDS = 60
_HEAD = struct.Struct("<8s32sIQ")  # magic, digest of the source, checksum and length of the frame
_MAGIC = b"RKVOXEL2"


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """Number and size of the entries of a cache on disk."""

    folder: str
    entries: int
    bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Volumes on disk in chunks; shared by all processes that name the same folder.

    Parameters
    ----------
    folder : str
        Created with mode 0700 where it is missing; an existing one must belong to this user and admit no other. It may
        be deleted at any time.
    max_bytes : int
        Bound on its size; the volumes that no process has opened for longest go first. By default
        ``REASONKNEE_CACHE_DIR_BYTES``, or 50 GB.
    codec : {"lz4", "zstd"}
        LZ4 reads about 2.5 times as fast, ZSTD takes a tenth less room.
    level : int
        Level of the codec, 1 to 9.

    Raises
    ------
    VolumeError
        If the folder cannot be created, or other users can enter it.
    """

    folder: str
    max_bytes: int = -1
    codec: Literal["lz4", "zstd"] = "lz4"
    level: int = 1

    def __post_init__(self) -> None:
        find_blosc2()
        if self.codec not in ("lz4", "zstd") or self.level not in range(1, 10):
            raise VolumeError(
                f"The cache in cache_dir cannot be compressed with codec={self.codec!r} and level={self.level!r}. Use "
                "'lz4' or 'zstd' at level 1 to 9, or leave both out."
            )
        if self.max_bytes < 0:
            object.__setattr__(self, "max_bytes", read_whole_number("REASONKNEE_CACHE_DIR_BYTES", _DEFAULT_BYTES))
        remedy = f"Run chmod 700 {self.folder} if it is yours, or pass another folder."
        try:
            make_private_folder(Path(self.folder), VolumeError, remedy, setting="cache_dir", parents=True)
        except VolumeError:
            raise
        except OSError as error:
            remedy = os_remedy(error, "Pass a folder that can be written, or cache_dir=None")
            raise VolumeError(
                f"The folder {self.folder} cannot be used as cache_dir ({type(error).__name__}: {error}). {remedy}."
            ) from error

    def read(
        self,
        identity: FileIdentity,
        selection: Selection,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        decode: Callable[[], NDArray[Any]],
    ) -> NDArray[Any] | None:
        """Read a region of a volume out of its entry, which is made where it is missing or damaged.

        None where that cannot be done: the voxel type is an uncommon one, or the folder is full. `selection`, `shape`
        and `dtype` are those of the stored array, all of which `decode` decodes.
        """
        kind = _plain(dtype)
        if kind is None or time.monotonic() < _trouble.get(self.folder, 0.0):
            return None
        key = (self.folder, identity, shape, kind.str)
        try:
            entry = _entries.get(key, lambda: self._make(self._target(identity, shape, kind), decode))
        except _UnusableError:  # the voxels are returned even if the disk is full or the bound too small
            _trouble[self.folder] = time.monotonic() + _RETRY_SECONDS
            return None
        return entry.read(selection[::-1]).view(dtype).T

    def _target(self, identity: FileIdentity, shape: tuple[int, ...], kind: np.dtype[Any]) -> Target:
        digest = hashlib.sha256(repr((identity, shape, kind.str)).encode())
        return Target(Path(self.folder) / (digest.hexdigest()[:40] + _SUFFIX), digest.digest(), shape[::-1], kind)

    def _make(self, target: Target, decode: Callable[[], NDArray[Any]]) -> Entry:
        """Open the entry that is there, or write it: one process at a time, as far as the file system can lock."""
        if (entry := open_entry(target)) is not None:
            return entry
        with _alone(target.path.with_suffix(".lock")):
            if (entry := open_entry(target)) is None:
                self._write(target, decode().view(target.dtype))
                entry = open_entry(target)
        if entry is None:
            raise _UnusableError
        return entry

    def info(self) -> DiskInfo:
        """Count the entries and their bytes."""
        sizes = [size for _, size, _ in self._list()]
        return DiskInfo(self.folder, len(sizes), sum(sizes), self.max_bytes)

    def _write(self, target: Target, array: NDArray[Any]) -> None:
        """Write an entry under a temporary name, and rename it when it is complete."""
        passing = target.path.with_suffix(f".{secrets.token_hex(6)}.part")
        try:
            frame = self._compress(array.T)
            if len(frame) + _HEAD.size > self.max_bytes:
                return
            with os.fdopen(create_private(passing), "wb") as file:
                file.write(pack_head(target, frame))
                file.write(frame)
            passing.replace(target.path)
        except OSError as error:
            remedy = os_remedy(error, "Check the folder")
            warnings.warn(f"The cache in {self.folder} was not written: {error}. {remedy}.", stacklevel=2)
        finally:
            with contextlib.suppress(OSError):
                passing.unlink(missing_ok=True)
        self._trim()

    def _compress(self, array: NDArray[Any]) -> bytes:
        blosc2 = find_blosc2()
        codec = {"lz4": blosc2.Codec.LZ4, "zstd": blosc2.Codec.ZSTD}[self.codec]
        parameters = {
            "codec": codec,
            "clevel": self.level,
            "filters": [blosc2.Filter.SHUFFLE],
            "nthreads": thread_count(),
        }
        chunks, blocks = (_fit(edges, array.shape) for edges in (_CHUNK, _BLOCK))
        frame: bytes = blosc2.asarray(
            np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=parameters
        ).to_cframe()
        return frame

    def _trim(self) -> None:
        """Remove the least recently opened entries, and files that killed processes left behind."""
        entries = sorted(self._list())
        held = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if held <= self.max_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            held -= size
        for path in (*Path(self.folder).glob("*.part"), *Path(self.folder).glob("*.lock")):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()

    def _list(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in Path(self.folder).glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another process may have let it go
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found


class _UnusableError(Exception):
    """There is no entry to read from."""


# An entry is verified when it is opened, so it stays open: 64 mapped files cost address space and no memory. The key is
# folder, file, shape and voxel type: to hash them for a file name at each read took a tenth of reading a box.
_entries: Once[tuple[str, FileIdentity, tuple[int, ...], str], Entry] = Once(limit=64)
_caches: Once[str, DiskCache] = Once(limit=64)
# Folders that could not be written, and until when they are left alone.
_trouble: dict[str, float] = {}
call_in_forked_child(_entries.clear)  # a thread that the fork did not copy may hold an entry's lock


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock between processes; where the file system has none, two of them do the same work."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            if fcntl is None:
                raise OSError("this system has no file locks")
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            file = held.enter_context(os.fdopen(os.open(path, flags, 0o600), "wb"))
            fcntl.flock(file, fcntl.LOCK_EX)
            held.callback(path.unlink, missing_ok=True)
        yield


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the native integer type of the same size as a voxel type; None where there is none."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.itemsize in (1, 2, 4, 8) and dtype.fields is None else None


def _fit(edges: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Fit a chunk to an array of any number of axes; the last three are the spatial ones, slowest first."""
    whole = (1,) * max(0, len(shape) - 3) + edges[max(0, 3 - len(shape)) :]
    return tuple(min(edge, size) for edge, size in zip(whole, shape, strict=True))


def find_disk_cache(folder: str | os.PathLike[str]) -> DiskCache:
    """Return the cache in a folder, one for all that name it."""
    whole = str(Path(folder).absolute())
    return _caches.get(whole, lambda: DiskCache(whole))


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
