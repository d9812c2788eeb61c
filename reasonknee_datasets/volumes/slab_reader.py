"""Reading the slabs that a region touches out of a seekable file, each verified before a voxel of it is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.volumes.byte_source import Source
from reasonknee_datasets.volumes.header import VolumeHeader, plane_bytes
from reasonknee_datasets.volumes.index import SlabIndex
from reasonknee_datasets.volumes.inflate import SegmentError, inflate_segment
from reasonknee_datasets.volumes.threads import for_each

Selection = tuple[slice, ...]
"""One slice with explicit start, stop and positive step for every axis of the stored array."""

# What is fetched of a remote file before it is inflated: enough to fill the line, and a bound on memory.
_BATCH_BYTES = 16 * 1024 * 1024
# Below this, waking another thread costs more than it gives.
_WORTH_A_THREAD = 512 * 1024


class DamagedSlabError(Exception):
    """A slab that is not what the index says; it never leaves this package, because the file may read without it."""


class Slabs:
    """The slabs of one seekable file.

    Parameters
    ----------
    source : Source
        Where the bytes are.
    header : VolumeHeader
        With an index.
    index : SlabIndex
        That index.
    """

    def __init__(self, source: Source, header: VolumeHeader, index: SlabIndex) -> None:
        self.source, self.header, self.index = source, header, index
        shape = header.shape
        self._planes = len(shape) - min(2, len(shape) - 1)  # how many axes count planes
        inner = shape[: len(shape) - self._planes]
        self._inner = inner + (1,) * (2 - len(inner))
        self._height = max(1, index.slab_bytes // max(1, plane_bytes(header)))

    def inflate(self, wanted: Sequence[int], use: Callable[[int, bytes], None]) -> None:
        """Inflate and verify slabs, on several threads, and hand each to `use` on the thread that made it.

        Raises
        ------
        DamagedSlabError
            If a slab does not inflate to the length and checksum that the index gives.
        """
        with self.source.open(self.header.identity) as fetch:
            if self.source.is_local:
                # Each thread reads its own slabs, so that no more than one compressed slab a thread is in memory.
                self._each(wanted, lambda slab: use(slab, self._verified(slab, fetch([self.index.range_of(slab)])[0])))
                return
            for batch in self._batches(wanted):
                packed = dict(zip(batch, fetch([self.index.range_of(slab) for slab in batch]), strict=True))

                def verify(slab: int, packed: dict[int, bytes] = packed) -> None:
                    use(slab, self._verified(slab, packed[slab]))

                self._each(batch, verify)

    def fill(self, wanted: Sequence[int], voxels: NDArray[np.uint8]) -> None:
        """Inflate slabs into their places in an array of all voxels' bytes."""
        size = self.index.slab_bytes

        def place(slab: int, data: bytes) -> None:
            voxels[slab * size : slab * size + len(data)] = np.frombuffer(data, np.uint8)

        self.inflate(wanted, place)

    def copy_region(self, selection: Selection) -> NDArray[Any]:
        """Inflate the slabs of a region that is not empty one by one, copy what is needed of each, and drop it."""
        out = self._empty(selection)
        where = {slab: (start, stop, planes) for slab, start, stop, planes in self._parts(selection)}
        inner = selection[: len(selection) - self._planes] + (slice(0, 1, 1),) * (2 - (len(selection) - self._planes))

        def copy(slab: int, data: bytes) -> None:
            start, stop, planes = where[slab]
            out[:, :, start:stop] = self._view(data)[(*inner, planes)]

        self.inflate(list(where), copy)
        return out.reshape(tuple(_length(part) for part in selection), order="F")

    def touched(self, selection: Selection) -> list[int]:
        """Name the slabs that a region touches."""
        planes = selection[-1]
        if self._planes == 1 and planes.step <= self._height:  # as of nearly every read: none is skipped
            last = range(planes.start, planes.stop, planes.step)[-1]
            return list(range(planes.start // self._height, last // self._height + 1))
        return [slab for slab, *_ in self._parts(selection)]

    def _parts(self, selection: Selection) -> Iterator[tuple[int, int, int, slice | list[int]]]:
        """Return, for each touched slab, where its planes go in the result and which of its planes they are."""
        axes = [range(part.start, part.stop, part.step) for part in selection[len(selection) - self._planes :]]
        shape = self.header.shape[len(selection) - self._planes :]
        grid = np.meshgrid(*axes, indexing="ij", copy=False)
        planes = np.ravel_multi_index([part.ravel(order="F") for part in grid], shape, order="F").tolist()
        start = 0
        for slab, group in groupby(planes, key=lambda plane: plane // self._height):
            local = [plane - slab * self._height for plane in group]
            yield slab, start, start + len(local), _as_slice(local)
            start += len(local)

    def _empty(self, selection: Selection) -> NDArray[Any]:
        lengths = [_length(part) for part in selection]
        inner = lengths[: len(lengths) - self._planes]
        inner += [1] * (2 - len(inner))
        planes = math.prod(lengths[len(lengths) - self._planes :])
        return np.empty((*inner, planes), self.header.dtype, order="F")

    def _view(self, data: bytes) -> NDArray[Any]:
        return np.frombuffer(data, self.header.dtype).reshape((*self._inner, -1), order="F")

    def _verified(self, slab: int, packed: bytes) -> bytes:
        try:
            data = inflate_segment(packed, self.index.length_of(slab))
        except SegmentError as error:
            raise DamagedSlabError(f"slab {slab} {error}") from error
        if deflate.crc32(data) != self.index.checksums[slab + 1]:
            raise DamagedSlabError(f"the checksum of slab {slab} is wrong")
        return data

    def _each(self, slabs: Sequence[int], function: Callable[[int], None]) -> None:
        if len(slabs) * self.index.slab_bytes < _WORTH_A_THREAD:
            for slab in slabs:
                function(slab)
        else:
            for_each(function, slabs)

    def _batches(self, slabs: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        size = 0
        for slab in slabs:
            start, stop = self.index.range_of(slab)
            if batch and size + stop - start > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(slab)
            size += stop - start
        if batch:
            yield batch


def _length(part: slice) -> int:
    return len(range(part.start, part.stop, part.step))


def _as_slice(numbers: list[int]) -> slice | list[int]:
    """Write an even progression as a slice, which numpy copies much faster."""
    if len(numbers) == 1:
        return slice(numbers[0], numbers[0] + 1)
    step = numbers[1] - numbers[0]
    even = range(numbers[0], numbers[-1] + 1, step)
    return slice(even.start, even.stop, step) if list(even) == numbers else numbers
