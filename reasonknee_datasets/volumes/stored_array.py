"""The stored array of a file: `StoredVoxels` reads regions in storage order, `VolumeProxy` is nibabel's proxy over it.

Index checks, scaling and casting are nibabel's own functions, so that every answer is nibabel's by construction; only
the unscaled voxels of a slice are read here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import RLock
from types import EllipsisType
from typing import Any, cast

import numpy as np
from nibabel import fileslice as _nibabel
from nibabel.arrayproxy import ArrayProxy
from nibabel.volumeutils import array_from_file
from numpy.typing import DTypeLike, NDArray

from reasonknee_datasets.errors import VolumeError, os_remedy
from reasonknee_datasets.volumes.byte_source import ByteSource, DamagedFileError, read_whole
from reasonknee_datasets.volumes.cache import DecodeCache, shared_cache
from reasonknee_datasets.volumes.disk import DiskCache, find_disk_cache
from reasonknee_datasets.volumes.grid_view import View, split_slicers
from reasonknee_datasets.volumes.header import VolumeHeader, forget_index, read_header, spatial_shape
from reasonknee_datasets.volumes.reference import ExpectedFile, Geometry
from reasonknee_datasets.volumes.slab_reader import DamagedSlabError, Selection, Slabs, inflate_file

CachePolicy = DecodeCache | EllipsisType | None
DiskPolicy = DiskCache | str | os.PathLike[str] | EllipsisType | None

# nibabel leaves these untyped.
_canonical: Any = _nibabel.canonical_slicers
_fileslice: Any = _nibabel.fileslice
_ONLY = np.zeros(1, np.int64)  # the slab of an ordinary file


@dataclass(frozen=True, slots=True)
class Settings:
    """How a volume is read: the arguments of `open_volume`, without credentials and without a resource of this process.

    Caches are looked up at every read: a volume may outlive the loader whose cache it was first read through.
    """

    cache: CachePolicy = ...
    geometry: Geometry | None = None
    cache_dir: DiskPolicy = ...
    view: View | None = None
    expected: ExpectedFile | None = None

    def find_cache(self) -> DecodeCache | None:
        """Return the decode cache to use now: `use_cache` may name another one for each read."""
        return shared_cache() if isinstance(self.cache, EllipsisType) else self.cache

    def find_disk(self) -> DiskCache | None:
        """Return the cache on disk to use now."""
        place = os.environ.get("REASONKNEE_CACHE_DIR") if isinstance(self.cache_dir, EllipsisType) else self.cache_dir
        if not place:
            return None
        return place if isinstance(place, DiskCache) else find_disk_cache(place)


class StoredVoxels:
    """The stored array of one file, unscaled, before any reorientation; `header` is that of its first touch."""

    def __init__(self, source: ByteSource, header: VolumeHeader, settings: Settings) -> None:
        self.source, self.settings = source, settings
        self._use(header)

    def _use(self, header: VolumeHeader) -> None:
        self.header, self._decoded_size = header, header.decoded_size
        self._slabs: Slabs | None = None

    def _find_slabs(self) -> Slabs | None:
        if self._slabs is None and (index := self.header.index) is not None:
            self._slabs = Slabs(self.source, self.header, index)
        return self._slabs

    @property
    def everything(self) -> Selection:
        """The region that is the whole array."""
        return tuple(slice(0, size, 1) for size in self.header.shape)

    def region(self, selection: Selection) -> NDArray[Any]:
        """Return a region that is not empty: the caller's own, writable, Fortran-ordered."""
        self._refresh()
        try:
            return self._region(selection)
        except DamagedFileError as error:
            self._follow(error)
        return self._region(selection)

    def lend(self, selections: Sequence[Selection]) -> NDArray[Any] | None:
        """Return the whole array, read-only, in which these regions are there; None without a cache entry.

        It is the cache's own memory, or the file's: what it shows may be another volume as soon as the cache lets go.
        """
        self._refresh()
        try:
            return self._lend(selections)
        except DamagedFileError as error:
            self._follow(error)
        return self._lend(selections)

    def _region(self, selection: Selection) -> NDArray[Any]:
        if self._mappable:
            # Not the mapping itself: saving over the file would change or destroy the caller's array.
            return np.asarray(self._map())[selection].copy(order="F")
        if (found := self._from_disk(selection)) is not None:
            return found
        return self._decode(selection, self.settings.find_cache())

    def _lend(self, selections: Sequence[Selection]) -> NDArray[Any] | None:
        if self._mappable:
            return np.asarray(self._map())
        cache, slabs = self.settings.find_cache(), self._find_slabs()
        if cache is None or self.settings.find_disk() is not None or not (slabs is None or cache.can_hold(slabs.size)):
            return None
        try:
            array = self._held(selections, cache, slabs)
        except DamagedSlabError:  # a separate read raises the error that says what is wrong
            return None
        array.flags.writeable = False
        return array

    @property
    def _mappable(self) -> bool:
        return self.header.compression == "none" and self.source.is_local

    def _follow(self, error: DamagedFileError) -> None:
        """Use the header of a file that was replaced, which is why its bytes contradict the one that was read."""
        if not self._is_replaced():
            raise error
        self._refresh()

    def _is_replaced(self) -> bool:
        """Check whether the file changed since its header was read; a server is asked again."""
        return self.source.identify(again=True) != self.header.identity

    def _refresh(self) -> None:
        """Check for a file that changed since its header was read; one with the same header replaces it."""
        if self.source.identify() == self.header.identity:
            return
        header = read_header(self.source)
        if not header.same_layout(self.header):
            raise VolumeError(
                f"The volume file {self.source.label} changed after it was opened: it was replaced by one with another "
                "header. Open it again with open_volume."
            )
        header.check_expected(self.settings.expected, self.source.label)
        self._use(header)

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
        decode = partial(self._decode, self.everything, None)
        return disk.read(header.identity, selection, header.shape, header.dtype, decode)

    def _decode(self, selection: Selection, cache: DecodeCache | None) -> NDArray[Any]:
        """Decode a region: out of the cache's memory, or only the slabs that it touches, or out of the whole file."""
        slabs = self._find_slabs()
        try:
            # An ordinary file must be decoded whole in any case.
            if cache is not None and (slabs is None or cache.can_hold(slabs.size)):
                return self._held([selection], cache, slabs)[selection].copy(order="F")
            if slabs is not None:
                return slabs.copy_region(selection)
        except DamagedSlabError as damage:
            if self._is_replaced():
                raise DamagedFileError(f"{self.source.label} changed after it was opened: {damage}.") from damage
            # Either the index is wrong or the voxels are damaged: gzip's own checksum decides.
            part = self._inflate()[selection].copy(order="F")
            self._use(forget_index(self.header, str(damage), self.source.label))
            return part
        array = self._inflate()
        part = array[selection]
        return part if part.size == array.size else part.copy(order="F")

    def _held(self, selections: Sequence[Selection], cache: DecodeCache, slabs: Slabs | None) -> NDArray[Any]:
        """Return the whole array in the cache's memory, in which these regions are there."""
        header = self.header
        if slabs is None:
            size = self._decoded_size
            held = cache.get_slabs(header.identity, _ONLY, size, size, lambda _, memory: self._inflate(memory))
            return self._laid(held)
        wanted = slabs.touched(selections)
        held = cache.get_slabs(header.identity, wanted, slabs.size, slabs.index.slab_bytes, slabs.fill)
        return np.ndarray(header.shape, header.dtype, held, order="F")

    def _inflate(self, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Decode the whole file the ordinary way, into new memory by default."""
        header = self.header
        if header.compression == "gzip":
            out = inflate_file(self.source, header.identity, header.decoded_size, out)
        else:
            data = np.frombuffer(read_whole(self.source, header.identity), np.uint8, header.decoded_size)
            out = np.empty(len(data), np.uint8) if out is None else out
            out[:] = data
        block = header.header.binaryblock
        if not self.source.is_local and bytes(out[: len(block)]) != block and self._is_replaced():
            raise DamagedFileError(f"{self.source.label} changed after it was opened: its header is another one.")
        return self._laid(out)

    def _laid(self, decoded: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the voxels of a whole decoded file."""
        header = self.header
        return np.ndarray(header.shape, header.dtype, decoded, header.offset, order="F")


class VolumeProxy(ArrayProxy):
    """An array that is read from its file when it is sliced; `shape` is another one for the same voxels."""

    def __init__(self, voxels: StoredVoxels, shape: tuple[int, ...] | None = None) -> None:
        # ArrayProxy.__init__ would look for a file to keep open; these are the fields that its other methods use.
        self.file_like = voxels.source.path
        self._voxels = voxels
        self._shape = voxels.header.shape if shape is None else shape
        self._dtype = voxels.header.dtype
        self._offset, self._slope, self._inter = voxels.header.offset, voxels.header.slope, voxels.header.inter
        self._mmap, self.order = True, "F"
        self._keep_file_open = self._persist_opener = False
        self._lock = RLock()

    def copy(self) -> VolumeProxy:
        """Return another proxy for the same voxels."""
        return VolumeProxy(self._voxels, self._shape)

    def reshape(self, shape: tuple[int, ...]) -> VolumeProxy:
        """Return a proxy with another shape for the same voxels, without reading them."""
        reshaped = np.broadcast_to(np.int8(0), self._shape).reshape(shape, order="F").shape
        return VolumeProxy(self._voxels, reshaped)

    def __array__(  # type: ignore[override]  # nibabel's lacks the copy= that NumPy 2 passes
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """Read the whole array, scaled; `dtype` as in nibabel."""
        if copy is False:
            raise ValueError("A lazy volume is read into new memory, so copy=False is impossible. Leave it out.")
        read: Any = super().__array__
        return cast("NDArray[Any]", read(dtype))

    def lend(self, selections: Sequence[tuple[slice, ...]]) -> NDArray[Any] | None:
        """Return the whole array, read-only, in which these regions are there; None where it cannot be lent."""
        stored = self._voxels.header.shape
        if (self._slope, self._inter) != (1, 0) or self._shape != spatial_shape(stored):
            return None
        further = (slice(0, 1, 1),) * (len(stored) - len(self._shape))
        whole = [(*(slice(part.start, part.stop, 1) for part in parts), *further) for parts in selections]
        array = self._voxels.lend(whole)
        return None if array is None else array.reshape(self._shape, order="F")

    def _get_unscaled(self, slicer: Any) -> NDArray[Any]:
        canonical = _canonical(slicer, self._shape)
        if 0 in self._shape or not self._shape:
            return self._nothing(slicer)
        stored = self._voxels.header.shape
        if self._shape != stored and self._shape != spatial_shape(stored):
            return cast("NDArray[Any]", self._whole()[canonical])
        if all(part == slice(None) for part in canonical):
            return self._whole()
        return self._region(canonical)

    def _whole(self) -> NDArray[Any]:
        return self._voxels.region(self._voxels.everything).reshape(self._shape, order="F")

    def _nothing(self, slicer: Any) -> NDArray[Any]:
        """Answer for an array without voxels as nibabel does, which is not quite as numpy does."""
        if _canonical(slicer, self._shape) == _canonical((), self._shape):
            return array_from_file(self._shape, self._dtype, io.BytesIO(), mmap=False)
        return cast("NDArray[Any]", _fileslice(io.BytesIO(), slicer, self._shape, self._dtype, 0, order="F"))

    def _region(self, canonical: tuple[Any, ...]) -> NDArray[Any]:
        """Read only the range of each slice, then apply its step."""
        touched, residual = split_slicers(canonical, self._shape)
        if any(part.start == part.stop for part in touched):
            return np.empty(np.broadcast_to(np.int8(0), self._shape)[canonical].shape, self._dtype, order="F")
        further = (slice(0, 1, 1),) * (len(self._voxels.header.shape) - len(touched))  # see `spatial_shape`
        block = self._voxels.region(touched + further)
        return cast("NDArray[Any]", block.reshape(block.shape[: len(touched)], order="F")[residual])
