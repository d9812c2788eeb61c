"""The decode cache of a process: decoded volumes within a bound in bytes, evicted least recently used first.

A volume's 62 questions read one array. The first reader decodes a slab of it, others wait for it or have a cache hit.
`DecodeCache._insert` evicts. `Once` is the memo for small values: headers, file states, open files.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.system import call_in_forked_child
from reasonknee_datasets.volumes.limits import read_whole_number

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FillSlabs = Callable[[NDArray[np.int64], NDArray[np.uint8]], object]

_DEFAULT_BYTES = 512_000_000


class Once(Generic[K, V]):
    """Memo of the most recent `limit` values: one thread makes a value while others that want it wait; safe for forks.

    Examples
    --------
    >>> squares = Once(limit=2)
    >>> squares.get(3, lambda: 9), squares.get(3, lambda: 1 / 0)
    (9, 9)
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self.renew_after_fork()
        _all.add(self)

    def renew_after_fork(self) -> None:
        """Replace every lock: after a fork, the threads that held them are gone."""
        self.lock = threading.Lock()
        self._making: dict[K, threading.Lock] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, which is never None, made by this thread or by the one that came first.

        An error of `make` reaches this caller, and the next one tries again.
        """
        with self.lock:
            if (found := self._find(key)) is not None:
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self.lock:
                if (found := self._find(key)) is not None:
                    return found
            try:
                value = make()
            except BaseException:
                with self.lock:
                    self._making.pop(key, None)
                raise
            with self.lock:
                self._making.pop(key, None)
                self._keep(key, value)
            return value

    def put(self, key: K, value: V) -> None:
        """Set a value that is known already, or replace one."""
        with self.lock:
            self._keep(key, value)

    def discard(self, key: K) -> None:
        """Remove a value, if it is there."""
        with self.lock:
            self._values.pop(key, None)

    def clear(self) -> None:
        """Remove every value."""
        with self.lock:
            self._values.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def _find(self, key: K) -> V | None:
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def _keep(self, key: K, value: V) -> None:
        self._values[key] = value
        while len(self._values) > self._limit:
            self._values.popitem(last=False)


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Counts and sizes of a cache since it was made, or since this process was forked.

    Attributes
    ----------
    hits, misses : int
        Reads that found their voxels, and reads that did not.
    decodes : int
        Volumes that were decoded, or begun to be decoded slab by slab; below `misses` where threads waited for one
        decode, or where other slabs of a volume were wanted.
    inflated : int
        Bytes of voxels that were decoded.
    entries, bytes : int
        Bytes in the cache now.
    max_bytes : int
        Most bytes that it may keep.
    """

    hits: int
    misses: int
    decodes: int
    inflated: int
    entries: int
    bytes: int
    max_bytes: int


class SlabStore:
    """An entry of the decode cache: the bytes of one volume, as far as they were decoded.

    The array takes address space for the whole volume and memory for what is written to it. One large array is twice as
    fast to fill as many small ones, because numpy asks the kernel for large pages.
    """

    def __init__(self, size: int, slab_bytes: int) -> None:
        self.voxels = np.empty(size, np.uint8)
        self.have = np.zeros(-(-size // slab_bytes), np.bool_)
        self.nbytes = 0
        self.lock = threading.Lock()


class DecodeCache:
    """Decoded volumes in storage order, least recently used out first; safe for threads and forks.

    Parameters
    ----------
    max_bytes : int, optional
        Bound on the decoded bytes held; a volume larger than the bound is decoded and not kept. By default
        ``REASONKNEE_CACHE_BYTES``, or 512 MB.

    Examples
    --------
    >>> cache = DecodeCache(max_bytes=1000)
    >>> slabs = cache.get_slabs("knee", np.array([0, 2]), 300, 100, lambda missing, voxels: voxels.fill(7))
    >>> slabs[[0, 250]].tolist()
    [7, 7]
    >>> cache.info()
    CacheInfo(hits=0, misses=1, decodes=1, inflated=200, entries=1, bytes=200, max_bytes=1000)
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = read_whole_number("REASONKNEE_CACHE_BYTES", _DEFAULT_BYTES) if max_bytes is None else max_bytes
        self._entries: OrderedDict[Hashable, SlabStore] = OrderedDict()
        self.renew_after_fork()
        _all.add(self)

    def __reduce__(self) -> tuple[type[DecodeCache], tuple[int]]:
        """Pickle the bound and no voxels."""
        return DecodeCache, (self.max_bytes,)

    def renew_after_fork(self) -> None:
        """Renew locks (their holders are gone) and counters; voxels decoded before the fork stay, shared."""
        self.lock = threading.Lock()
        self._hits = self._misses = self._decodes = self._inflated = 0
        for entry in self._entries.values():
            entry.lock = threading.Lock()

    def get_slabs(
        self, key: Hashable, wanted: NDArray[np.int64], size: int, slab_bytes: int, fill: FillSlabs
    ) -> NDArray[np.uint8]:
        """Return a volume's bytes in which some slabs are there; decode those of them that were missing.

        A file that is not seekable has one slab, of all its bytes.

        Parameters
        ----------
        key : hashable
            Identity of the file's state.
        wanted : (n,) int array
            Numbers of the slabs, ascending.
        size, slab_bytes : int
            Length of all slabs, and of each but the last.
        fill : callable
            Decodes the slabs that it is given into their places in the array that it is given; once for all threads
            that wait for them. Its error reaches this caller, and the next one tries again.

        Returns
        -------
        (size,) uint8 array
            Not to be written to, and not to be read beyond the wanted slabs.
        """
        name = (key, size, slab_bytes)
        with self.lock:
            store = self._entries.get(name)
            if store is None:
                store = self._entries[name] = SlabStore(size, slab_bytes)
            self._entries.move_to_end(name)
            if store.nbytes == size or store.have[wanted].all():
                self._hits += 1
                return store.voxels
            self._misses += 1
        with store.lock:
            missing = wanted[~store.have[wanted]]
            if len(missing):
                before = store.nbytes
                fill(missing, store.voxels)
                with self.lock:
                    store.have[missing] = True
                    store.nbytes = min(int(store.have.sum()) * slab_bytes, size)
                    self._decodes += not before
                    self._inflated += store.nbytes - before
                    self._insert(name, store)
        return store.voxels

    def can_hold(self, nbytes: int) -> bool:
        """Check whether that many bytes fit into the bound."""
        return nbytes <= self.max_bytes

    def info(self) -> CacheInfo:
        """Return hits, misses and size of the cache."""
        with self.lock:
            held = sum(entry.nbytes for entry in self._entries.values())
            done = (self._hits, self._misses, self._decodes, self._inflated)
            return CacheInfo(*done, len(self._entries), held, self.max_bytes)

    def clear(self) -> None:
        """Remove everything and set the counters to zero."""
        with self.lock:
            self._entries.clear()
            self._hits = self._misses = self._decodes = self._inflated = 0

    def _insert(self, name: Hashable, entry: SlabStore) -> None:
        """Keep an entry as the most recently used one, and evict others until the size is within the bound."""
        self._entries[name] = entry
        self._entries.move_to_end(name)
        if entry.nbytes > self.max_bytes:
            del self._entries[name]
        held = sum(kept.nbytes for kept in self._entries.values())
        while held > self.max_bytes:
            held -= self._entries.popitem(last=False)[1].nbytes


_all: weakref.WeakSet[Once[Any, Any] | DecodeCache] = weakref.WeakSet()
_shared_lock = threading.Lock()
_shared: list[DecodeCache] = []
_used: ContextVar[DecodeCache | None] = ContextVar("reasonknee_cache", default=None)


@contextmanager
def use_cache(cache: DecodeCache | None) -> Iterator[None]:
    """Read volumes through this cache within the block; None changes nothing.

    Volumes that were opened with a cache of their own keep it. Other threads are not affected.

    Examples
    --------
    >>> with use_cache(DecodeCache(max_bytes=0)):
    ...     shared_cache().max_bytes
    0
    """
    token = _used.set(_used.get() if cache is None else cache)
    try:
        yield
    finally:
        _used.reset(token)


def shared_cache() -> DecodeCache:
    """Return the cache that `use_cache` named, or the one of this process, made on first use."""
    if (used := _used.get()) is not None:
        return used
    with _shared_lock:
        if not _shared:
            _shared.append(DecodeCache())
        return _shared[0]


def cache_info() -> CacheInfo:
    """Return hits, misses and size of this process's shared decode cache.

    Examples
    --------
    >>> cache_info().max_bytes
    512000000
    """
    return shared_cache().info()


def _renew_after_fork() -> None:
    global _shared_lock  # a lock held by a thread that the fork did not copy can only be replaced
    _shared_lock = threading.Lock()
    for each in list(_all):
        each.renew_after_fork()


call_in_forked_child(_renew_after_fork)
