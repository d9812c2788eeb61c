"""Reused shared memory through which a worker sends its batches.

torch moves every tensor of every batch into separate shared memory. Fresh pages cost more than what is in them: per
crop of 64x96x96 voxels 1.7 ms of the kernel's time, where decoding its share of the volume takes 1.1 (measured with two
workers). So a worker keeps a few *buffers*, files that both processes map once. It writes a batch into a free one and
sends its name; when the loader's process has dropped the last tensor on it, the buffer is free again. Where all are in
use, as with a caller that keeps its batches, torch's own way is used. A loader without workers uses its memory again
in the same way, without files (`Spare`).
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reasonknee_datasets.system import call_in_forked_child

# Values of a buffer's first byte.
_FREE, _FILLING, _SENT = range(3)
_HEAD = mmap.PAGESIZE
_STEP = 1 << 20
_MOST = 12
_SPARE = 2
# Below this a tensor travels inside the message.
_SMALL = 1 << 16


class Buffer:
    """A file that two processes map: one page that names its user, then a tensor's bytes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._map: mmap.mmap | None = None

    @property
    def state(self) -> int:
        """Its present user."""
        return self._mapped(_HEAD)[0]

    @state.setter
    def state(self, state: int) -> None:
        self._mapped(_HEAD)[0] = state

    def reserve(self, nbytes: int) -> None:
        """Reserve `size` bytes, or raise an OSError: a full disk would kill the process that touches a page."""
        size = _HEAD + -(-nbytes // _STEP) * _STEP
        if size > os.fstat(self._descriptor).st_size:
            getattr(os, "posix_fallocate", _truncate)(self._descriptor, 0, size)

    def bytes(self, nbytes: int) -> NDArray[np.uint8]:
        """Return its bytes, as an object that supports a weak reference."""
        return np.frombuffer(self._mapped(_HEAD + nbytes), np.uint8, nbytes, _HEAD)

    def close(self) -> None:
        """Close the file; what is mapped stays so while a tensor needs it."""
        os.close(self._descriptor)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return self._map


def _truncate(descriptor: int, start: int, size: int) -> None:
    """Replace ``posix_fallocate`` on systems that lack it."""
    os.ftruncate(descriptor, start + size)


class BufferPool:
    """The buffers of one worker, files in a folder that the session removes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._buffers: list[Buffer] = []
        self._by_address: dict[int, Buffer] = {}

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor | None:
        """Return a tensor in a free buffer; None where there is none."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        try:
            buffer = self._take()
            if buffer is None:
                return None
            buffer.reserve(nbytes)
        except OSError:  # no room: torch may still find some elsewhere
            return None
        buffer.state = _FILLING
        data = buffer.bytes(nbytes)
        weakref.finalize(data, _unless_sent, buffer).atexit = False
        tensor = torch.from_numpy(data).view(dtype).reshape(list(shape))
        self._by_address[tensor.data_ptr()] = buffer
        return tensor

    def send(self, tensor: torch.Tensor) -> tuple[Any, ...] | None:
        """Describe how another process finds a tensor that is in a buffer; None if it is not."""
        start = tensor.untyped_storage().data_ptr()
        buffer = self._by_address.get(start)
        if buffer is None or buffer.state != _FILLING:
            return None
        buffer.state = _SENT
        nbytes = tensor.untyped_storage().nbytes()
        return buffer.path, nbytes, tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset()

    def _take(self) -> Buffer | None:
        for buffer in self._buffers:
            if buffer.state == _FREE:
                return buffer
        if len(self._buffers) == _MOST:
            return None
        buffer = Buffer(str(Path(self._folder) / f"batch-{os.getpid()}-{len(self._buffers)}"))
        buffer.reserve(1)
        self._buffers.append(buffer)
        return buffer


def _unless_sent(buffer: Buffer) -> None:
    """Free a buffer after its tensor was dropped in the worker; the receiver frees a buffer that was sent."""
    if buffer.state == _FILLING:
        buffer.state = _FREE


class Spare:
    """Reused memory of batches in a process without workers.

    No lock is held, for a batch may go at any moment, in the middle of another call too.
    """

    def __init__(self) -> None:
        self._free: dict[int, NDArray[np.uint8]] = {}

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor on memory that is not in use."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = None
        for key, free in list(self._free.items()):
            if nbytes <= len(free) <= 2 * nbytes and (memory := self._free.pop(key, None)) is not None:
                break
        if memory is None:
            self._free.clear()  # memory that did not fit would stay unused
            memory = np.empty(nbytes, np.uint8)
        data = memory[:nbytes]
        weakref.finalize(data, self._take_back, memory).atexit = False
        return torch.from_numpy(data).view(dtype).reshape(list(shape))

    def clear(self) -> None:
        """Return the memory to the system."""
        self._free.clear()

    def _take_back(self, memory: NDArray[np.uint8]) -> None:
        if len(self._free) < _SPARE:
            self._free[id(memory)] = memory


_spare = Spare()
_pool: list[BufferPool] = []
_received: dict[str, Buffer] = {}
_receiving = threading.Lock()


def use_pool(folder: str) -> None:
    """Allocate this worker's tensors in buffers of a folder."""
    if not _pool:
        _pool.append(BufferPool(folder))


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Allocate a tensor; in a worker, in memory that it shares with the loader's process."""
    if torch.utils.data.get_worker_info() is None:
        large = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize >= _STEP
        return _spare.empty(shape, dtype) if large else torch.empty(list(shape), dtype=dtype)
    found = _pool[0].empty(shape, dtype) if _pool and 0 not in shape else None
    if found is not None:
        return found
    count = int(np.prod(shape, dtype=np.int64))
    new_shared: Any = torch.UntypedStorage._new_shared  # as torch's own collate does it
    room = torch.empty(0, dtype=dtype)
    room.set_(new_shared(max(count, 1) * dtype.itemsize), 0, list(shape))  # type: ignore[call-overload]
    return room


def pack_tensor(value: Any) -> Any:
    """Make a value ready for another process: tensors by their buffer, or inside the message if they are small."""
    if not isinstance(value, torch.Tensor) or value.device.type != "cpu" or value.requires_grad:
        return value
    sent = _pool[0].send(value) if _pool else None
    if sent is not None:
        return _Lent(*sent)
    if value.nbytes <= _SMALL and value.dtype != torch.bfloat16 and value.is_contiguous():
        return _Small(value.numpy())
    return value


def unpack_tensor(value: Any) -> Any:
    """Undo `pack_tensor` on the other side."""
    if isinstance(value, _Small):
        return torch.from_numpy(value.array)
    return value.receive() if isinstance(value, _Lent) else value


class _Small:
    """A tensor inside a message."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array


class _Lent:
    """A tensor in another process's buffer."""

    def __init__(self, path: str, nbytes: int, dtype: torch.dtype, shape: Any, stride: Any, offset: int) -> None:
        self.path, self.nbytes, self.dtype = path, nbytes, dtype
        self.shape, self.stride, self.offset = shape, stride, offset

    def receive(self) -> torch.Tensor:
        """Map it here; the buffer is free again once every tensor on it is gone."""
        with _receiving:
            buffer = _received.get(self.path)
            if buffer is None:
                buffer = _received[self.path] = Buffer(self.path)
        data = buffer.bytes(self.nbytes)
        weakref.finalize(data, setattr, buffer, "state", _FREE).atexit = False
        return torch.from_numpy(data).view(self.dtype).as_strided(self.shape, self.stride, self.offset)


def forget(folder: str) -> None:
    """Forget the buffers of a folder after its worker ended, and those kept for batches; tensors on them stay."""
    _spare.clear()
    with _receiving:
        for path in [path for path in _received if Path(path).parent == Path(folder)]:
            _received.pop(path).close()


def _renew_after_fork() -> None:
    """Start a child without its parent's buffers, which the parent frees."""
    global _receiving
    _receiving = threading.Lock()
    _pool.clear()
    _received.clear()


call_in_forked_child(_renew_after_fork)
