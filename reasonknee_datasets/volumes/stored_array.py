"""Reading voxels in storage order: the whole array, or the region that a selection touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError, os_remedy
from reasonknee_datasets.volumes.byte_source import ByteSource, read_whole
from reasonknee_datasets.volumes.cache import DecodeCache
from reasonknee_datasets.volumes.header import VolumeHeader, forget_index, read_header
from reasonknee_datasets.volumes.inflate import inflate_file
from reasonknee_datasets.volumes.settings import Settings
from reasonknee_datasets.volumes.slab_reader import DamagedSlabError, Selection, Slabs


class StoredVoxels:
    """The stored array of one file, unscaled, before any reorientation.

    Parameters
    ----------
    source : ByteSource
        Where the bytes are.
    header : VolumeHeader
        Header of the file when the image was first touched.
    settings : Settings
        Caches are looked up in them at every read: a volume may outlive the loader whose cache it was first read
        through.
    """

    def __init__(self, source: ByteSource, header: VolumeHeader, settings: Settings) -> None:
        self.source = source
        self.header = header
        self.settings = settings

    def whole(self) -> NDArray[Any]:
        """Return the whole array: the caller's own, writable, Fortran-ordered."""
        self._refresh()
        if self._mappable:
            # Not the mapping itself: saving over the file would change or destroy the caller's array.
            return np.array(self._map(), order="F")
        everything = tuple(slice(0, size, 1) for size in self.header.shape)
        if (found := self._from_disk(everything)) is not None:
            return found
        if self.header.index is not None:
            return self._by_slabs(everything, self.settings.find_cache())
        cache = self.settings.find_cache()
        return self._decode() if cache is None else self._cached(cache).copy(order="F")

    def region(self, selection: Selection) -> NDArray[Any]:
        """Return a region that is not empty: the caller's own, writable."""
        self._refresh()
        if self._mappable:
            return np.asarray(self._map())[selection].copy(order="F")
        if (found := self._from_disk(selection)) is not None:
            return found
        if self.header.index is not None:
            return self._by_slabs(selection, self.settings.find_cache())
        cache = self.settings.find_cache()
        array = self._decode() if cache is None else self._cached(cache)
        return array[selection].copy(order="F")

    def lend(self, selections: Sequence[Selection]) -> NDArray[Any] | None:
        """Return the whole array, read-only, in which these regions are there; None without a cache entry.

        It is the cache's own memory, or the file's: what it shows may be another volume as soon as the cache lets go.
        """
        self._refresh()
        header = self.header
        if self._mappable:
            return np.asarray(self._map())
        cache = self.settings.find_cache()
        if cache is None or self.settings.find_disk() is not None:
            return None
        if header.index is None:
            return self._cached(cache)
        size = header.decoded_size - header.offset
        if not cache.can_hold(size):
            return None
        slabs = Slabs(self.source, header, header.index)
        try:
            held = cache.get_slabs(
                header.identity, slabs.touched(selections), size, header.index.slab_bytes, slabs.fill
            )
        except DamagedSlabError:  # a separate read raises the error that says what is wrong
            return None
        array: NDArray[Any] = np.ndarray(header.shape, header.dtype, buffer=held.data, order="F")
        array.flags.writeable = False
        return array

    @property
    def _mappable(self) -> bool:
        return self.header.compression == "none" and self.source.is_local

    def _refresh(self) -> None:
        """Check for a file that changed since its header was read; one with the same header replaces it."""
        if self.source.identify() == self.header.identity:
            return
        header = read_header(self.source)
        if not header.same_layout(self.header):
            raise VolumeError(
                f"The volume file {self.source.label} was replaced by one with another header while it was in use. "
                "Open it again with open_volume."
            )
        if self.settings.expected is not None:
            self.settings.expected.check(header, self.source.label)
        self.header = header

    def _map(self) -> np.memmap[Any, Any]:
        header = self.header
        try:
            return np.memmap(
                self.source.path, header.dtype, mode="r", offset=header.offset, shape=header.shape, order="F"
            )
        except (OSError, ValueError) as error:
            remedy = os_remedy(error, "Check that the file is whole and readable")
            raise VolumeError(f"{self.source.label} cannot be mapped into memory ({error}). {remedy}.") from error

    def _from_disk(self, selection: Selection) -> NDArray[Any] | None:
        disk = self.settings.find_disk()
        if disk is None:
            return None
        header = self.header
        return disk.read(header.identity, selection, header.shape, header.dtype, self._decode)

    def _by_slabs(self, selection: Selection, cache: DecodeCache | None) -> NDArray[Any]:
        header = self.header
        assert header.index is not None
        slabs = Slabs(self.source, header, header.index)
        try:
            size = header.decoded_size - header.offset
            if cache is None or not cache.can_hold(size):
                return slabs.copy_region(selection)
            wanted = slabs.touched([selection])
            held = cache.get_slabs(header.identity, wanted, size, header.index.slab_bytes, slabs.fill)
            array: NDArray[Any] = np.ndarray(header.shape, header.dtype, buffer=held.data, order="F")
            return array[selection].copy(order="F")
        except DamagedSlabError as damage:
            # Either the index is wrong or the voxels are damaged: gzip's own checksum decides.
            whole = self._inflate()[selection]
            self.header = forget_index(header, str(damage), self.source.label)
            return whole.copy(order="F")

    def _cached(self, cache: DecodeCache) -> NDArray[Any]:
        return cache.get(self.header.identity, self._decode)

    def _decode(self) -> NDArray[Any]:
        """Decode the whole array by whichever way is fastest, past all caches."""
        if self.header.index is not None:
            return self._by_slabs(tuple(slice(0, size, 1) for size in self.header.shape), None)
        return self._inflate()

    def _inflate(self) -> NDArray[Any]:
        """Decode the whole array the ordinary way."""
        header = self.header
        data: Any
        if header.compression == "gzip":
            data = inflate_file(self.source, header.identity, header.decoded_size)
        else:
            data = bytearray(read_whole(self.source, header.identity))
        return np.ndarray(header.shape, header.dtype, buffer=data, offset=header.offset, order="F")
