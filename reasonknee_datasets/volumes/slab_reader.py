"""Inflate ``.nii.gz`` files: whole ones, and the slabs that a region touches of a seekable one.

`Slabs` turns a region (a box of voxels) into slabs, and these into byte ranges of a file. Each slab is verified before
a voxel of it is used. Consecutive slabs are read and inflated as one piece: a box that has rows of 75 planes makes 75
pieces, a whole volume makes pieces of 0.5 MB.

Measured on whole files, a DESS-like volume of 47 MB: ISA-L streamed into one array took 93 ms, zlib 201. Both release
the GIL and check CRC and length. Whatever they refuse is read again by Python's gzip module, which reads files of
several members and names the fault.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import math
import secrets
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import deflate
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.volumes.byte_source import ByteSource, DamagedFileError, Fetch, FileIdentity, Range
from reasonknee_datasets.volumes.limits import for_each, thread_count

if TYPE_CHECKING:  # reading a header inflates too
    from reasonknee_datasets.volumes.header import SlabIndex, VolumeHeader

_isal: Any = None
with contextlib.suppress(ImportError):  # a speed-up; zlib is used without it
    _isal = import_module("isal.isal_zlib")

# Deflate's densest code spends one bit on 258 bytes behind a one-bit distance: 1032 to 1 (zlib's technical note).
MAX_RATIO = 1032
GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED = "The file is damaged: copy or convert it again"
Selection = tuple[slice, ...]
"""One slice with explicit start, stop and positive step for every axis of the stored array."""

Piece = tuple[int, int]
"""Half-open range of consecutive slabs, which are read and inflated together."""

# Bytes fetched from a remote file before they are inflated: enough to use the bandwidth, and a bound on memory.
_BATCH_BYTES = 16 * 1024 * 1024
# Inflated length of a piece, unless a single plane is longer; also what a thread takes at a time.
_PIECE_BYTES = 512 * 1024
# Bytes of a whole file that are read at a time.
_READ_BYTES = 256 * 1024


class SegmentError(Exception):
    """A segment of a seekable file that does not inflate by itself. It never leaves this package."""


class DamagedSlabError(Exception):
    """A slab that differs from the index. It never leaves this package, because the file may be readable without it."""


class Slabs:
    """The slabs of one seekable file, whose header has this index."""

    def __init__(self, source: ByteSource, header: VolumeHeader, index: SlabIndex) -> None:
        self.source, self.header, self.index = source, header, index
        shape = header.shape
        self._inner = min(2, len(shape) - 1)  # axes within a plane; the others count planes
        self.count, self.size = index.slabs, index.voxel_bytes  # how many, and their inflated length
        self._plane = header.plane_bytes
        self._strides = (header.dtype.itemsize, header.dtype.itemsize * math.prod(shape[: min(1, self._inner)]))

    def fill(self, wanted: NDArray[np.int64], voxels: NDArray[np.uint8]) -> None:
        """Inflate slabs into their places in an array of all voxels' bytes.

        A slab that differs from its length or checksum in the index raises a `DamagedSlabError`, also in `copy_region`.
        """
        group = wanted // max(1, _PIECE_BYTES // self.index.slab_bytes)
        cuts = _cuts((np.diff(wanted) != 1) | (np.diff(group) != 0))
        pieces = [(int(wanted[a]), int(wanted[b - 1]) + 1) for a, b in itertools.pairwise(cuts)]

        def place(number: int, data: bytes) -> None:
            start = pieces[number][0] * self.index.slab_bytes
            voxels[start : start + len(data)] = np.frombuffer(data, np.uint8)

        self._inflate(pieces, place)

    def copy_region(self, selection: Selection) -> NDArray[Any]:
        """Inflate the slabs of a region that is not empty, piece by piece, and copy the needed part of each piece."""
        planes, first, last = self._spans(selection)
        group = first // max(1, _PIECE_BYTES // self.index.slab_bytes)
        cuts = _cuts((first[1:] > last[:-1] + 1) | (np.diff(group) != 0))
        pieces = [(int(first[a]), int(last[b - 1]) + 1) for a, b in itertools.pairwise(cuts)]
        inner = [*selection[: self._inner], *(slice(0, 1, 1),) * (2 - self._inner)]
        lengths = [_length(part) for part in inner]
        low = sum(part.start * stride for part, stride in zip(inner, self._strides, strict=True))
        steps = [part.step * stride for part, stride in zip(inner, self._strides, strict=True)]
        out = np.empty((*lengths, len(planes)), self.header.dtype, order="F")

        def copy(number: int, data: bytes) -> None:
            a, b = cuts[number : number + 2]
            one = int(planes[a])
            shape = (*lengths, int(planes[b - 1]) - one + 1)
            start = one * self._plane + low - pieces[number][0] * self.index.slab_bytes
            view: NDArray[Any] = np.ndarray(shape, out.dtype, data, start, (*steps, self._plane))
            out[:, :, a:b] = view[:, :, _as_slice((planes[a:b] - one).tolist())]

        self._inflate(pieces, copy)
        return out.reshape(tuple(_length(part) for part in selection), order="F")

    def touched(self, selections: Iterable[Selection]) -> NDArray[np.int64]:
        """Return the numbers of the slabs that any of these regions touches, in ascending order."""
        is_touched = np.zeros(self.count, np.bool_)
        for selection in selections:
            _, first, last = self._spans(selection)
            for after in range(int((last - first).max()) + 1):  # mostly two: a region has a few slabs of each plane
                is_touched[np.minimum(first + after, last)] = True
        return np.flatnonzero(is_touched)

    def _spans(self, selection: Selection) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find the planes of a region, and the first and the last slab that it touches in each of them."""
        inner, outer = selection[: self._inner], selection[self._inner :]
        planes = np.arange(outer[0].start, outer[0].stop, outer[0].step)
        if len(outer) > 1:
            axes = np.meshgrid(*(np.arange(part.start, part.stop, part.step) for part in outer), indexing="ij")
            shape = self.header.shape[self._inner :]
            planes = np.ravel_multi_index([axis.ravel(order="F") for axis in axes], shape, order="F")
        low = sum(part.start * stride for part, stride in zip(inner, self._strides, strict=False))
        high = sum(_last(part) * stride for part, stride in zip(inner, self._strides, strict=False))
        start, size = planes * self._plane, self.index.slab_bytes
        return planes, (start + low) // size, (start + high + self.header.dtype.itemsize - 1) // size

    def _inflate(self, pieces: Sequence[Piece], use: Callable[[int, bytes], None]) -> None:
        """Inflate and verify pieces, on several threads; `use` is called with each on the thread that inflated it."""
        ranges: list[Range] = [(a, b) for a, b in self.index.offsets()[np.asarray(pieces)].tolist()]
        sizes = np.diff(np.asarray(pieces), axis=1).ravel() * self.index.slab_bytes

        def work(fetch: Fetch, numbers: Sequence[int]) -> None:
            for number, packed in zip(numbers, fetch([ranges[number] for number in numbers]), strict=True):
                use(number, self._verified(pieces[number], packed))

        with self.source.open(self.header.identity) as fetch:
            if self.source.is_local:
                # Each thread reads its own share, so that little of the compressed file is in memory.
                _for_each_share(partial(work, fetch), sizes)
                return
            for batch in _shares(np.array([stop - start for start, stop in ranges]), _BATCH_BYTES):
                spans = ranges[batch.start : batch.stop]
                held = dict(zip(spans, fetch(spans), strict=True))
                _for_each_share(partial(work, partial(_take, held)), sizes[batch.start : batch.stop], batch.start)

    def _verified(self, piece: Piece, packed: bytes) -> bytes:
        first, stop = piece
        size = self.index.slab_bytes
        try:
            data = inflate_segment(packed, min(stop * size, self.index.voxel_bytes) - first * size)
        except SegmentError as error:
            raise DamagedSlabError(f"{_name(piece)} {error}") from error
        view, expected = memoryview(data), self.index.checksums[first + 1 : stop + 1].tolist()
        found = [deflate.crc32(view[start : start + size]) for start in range(0, len(data), size)]
        if found != expected:
            wrong = next(number for number, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
            raise DamagedSlabError(f"the checksum of slab {first + wrong} is wrong")
        return data


def _shares(sizes: NDArray[np.int64], size: int) -> list[range]:
    """Split a sequence of pieces into consecutive shares of about `size` bytes."""
    cuts = _cuts(np.diff(np.cumsum(sizes) // size) != 0)
    return [range(a, b) for a, b in itertools.pairwise(cuts)]


def _for_each_share(work: Callable[[Sequence[int]], None], sizes: NDArray[np.int64], first: int = 0) -> None:
    """Call a function with consecutive numbers of pieces, on several threads where the pieces are many."""
    shares = [range(first + share.start, first + share.stop) for share in _shares(sizes, _PIECE_BYTES)]
    if len(shares) > 1 and thread_count() > 1:
        for_each(work, shares)
        return
    for share in shares:
        work(share)


def _take(held: dict[Range, bytes], ranges: Sequence[Range]) -> list[bytes]:
    return [held[span] for span in ranges]


def _name(piece: Piece) -> str:
    first, stop = piece
    return f"slab {first}" if stop == first + 1 else f"the run of slabs {first} to {stop - 1}"


def _cuts(apart: NDArray[np.bool_]) -> list[int]:
    """Return the ends of the runs of a sequence of one more element; `apart` marks neighbours of different runs."""
    cuts: list[int] = [0, *(np.flatnonzero(apart) + 1).tolist(), len(apart) + 1]
    return cuts


def _length(part: slice) -> int:
    return len(range(part.start, part.stop, part.step))


def _last(part: slice) -> int:
    return range(part.start, part.stop, part.step)[-1]


def _as_slice(numbers: list[int]) -> slice | list[int]:
    """Write an even progression as a slice, which numpy copies much faster."""
    if len(numbers) == 1:
        return slice(numbers[0], numbers[0] + 1)
    step = numbers[1] - numbers[0]
    even = range(numbers[0], numbers[-1] + 1, step)
    return slice(even.start, even.stop, step) if list(even) == numbers else numbers


# A stored deflate block with bytes that the author of a file cannot predict: it inflates to them only behind a segment
# that ends at a block boundary, on a whole byte, without a final block.
_NONCE = secrets.token_bytes(16)
_PROBE = struct.pack("<BHH", 0, len(_NONCE), len(_NONCE) ^ 0xFFFF) + _NONCE


def inflate_segment(packed: bytes, length: int) -> bytes:
    """Inflate consecutive segments of a seekable file, and check that sequential readers read the same bytes.

    A plain reader continues behind them only if they have no final block, and continues with the next segment only if
    the last one ends at a block boundary. Within one call a plain reader and this one do the same. libdeflate takes 7 %
    less time than ISA-L (0.8 ms for 0.5 MB; zlib takes 1.7 ms) and reports neither. A final block of random bytes that
    is appended does not help: a segment that leaves a stored block open takes that block's header for voxels.

    Parameters
    ----------
    packed : bytes
        The segments: raw deflate data that were fully flushed.
    length : int
        Inflated length in bytes.

    Raises
    ------
    SegmentError
        If the data are damaged, inflate to another length, hold a final block or end within a block.
    """
    module = zlib if _isal is None else _isal
    inflater = module.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        data: bytes = inflater.decompress(packed, length + 1)
        if len(data) != length:
            raise SegmentError(f"inflates to {'more' if len(data) > length else len(data)} and not to {length} bytes")
        if inflater.eof or inflater.unconsumed_tail or inflater.decompress(_PROBE) != _NONCE or inflater.eof:
            raise SegmentError("contains the end of a gzip stream, or ends within a block")
    except module.error as error:
        raise SegmentError("does not inflate") from error
    return data


def inflate_head(data: bytes, count: int) -> bytes:
    """Inflate the first `count` bytes out of the beginning of a gzip file; fewer where `data` has no more."""
    inflater = zlib.decompressobj(wbits=31)
    head = inflater.decompress(data, count)
    if len(head) == count or not inflater.unused_data:
        return head
    # A first member shorter than a NIfTI header is legal, if rare (BGZF tools write some).
    pieces, missing = [], count
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file, contextlib.suppress(EOFError, OSError):
        while missing and (piece := file.read1(missing)):
            pieces.append(piece)
            missing -= len(piece)
    return b"".join(pieces)


def inflate_file(
    source: ByteSource, identity: FileIdentity, decoded_size: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Inflate a whole gzip file to exactly `decoded_size` bytes, the length that its NIfTI header states.

    They are written to `out`, or to new memory. Data that are damaged or cut, or inflate to less or more, raise a
    `DamagedFileError`.
    """
    inflated = np.empty(decoded_size, np.uint8) if out is None else out
    with source.open(identity) as fetch:
        if _stream(_pieces(source, fetch, identity.size), inflated, source.label):
            return inflated
        data = fetch([(0, identity.size)])[0]
    _inflate_slowly(data, inflated, source.label)
    return inflated


def _pieces(source: ByteSource, fetch: Fetch, size: int) -> Iterator[Any]:
    """Return a file piece by piece: a local one is never in memory as a whole."""
    if not source.is_local:
        view = memoryview(fetch([(0, size)])[0])
        yield from (view[start : start + _READ_BYTES] for start in range(0, size, _READ_BYTES))
        return
    for start in range(0, size, _READ_BYTES):
        yield fetch([(start, min(start + _READ_BYTES, size))])[0]


def _stream(pieces: Iterator[Any], inflated: NDArray[np.uint8], label: str) -> bool:
    """Inflate one member of exactly this length; return False for anything else, which `_inflate_slowly` reports."""
    module = zlib if _isal is None else _isal
    decoded_size, filled = len(inflated), 0
    view, inflater = inflated.data, module.decompressobj(wbits=31)
    for piece in pieces:
        rest = piece
        while len(rest):
            try:
                part = inflater.decompress(rest, min(_READ_BYTES, decoded_size - filled + 1))
            except module.error:
                return False
            if filled + len(part) > decoded_size:
                return False
            view[filled : filled + len(part)] = part
            filled += len(part)
            if inflater.eof:
                follows = b"".join([inflater.unused_data, *pieces]).lstrip(b"\0")
                if filled != decoded_size or follows.startswith(GZIP_MAGIC):
                    return False
                if follows:
                    _warn_of_rest(label)
                return True
            rest = inflater.unconsumed_tail
    return False


def _inflate_slowly(data: bytes, inflated: NDArray[np.uint8], label: str) -> None:
    decoded_size, filled = len(inflated), 0
    view, more = inflated.data, b""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while filled < decoded_size and (count := file.readinto(view[filled:])):
                filled += count
            more = file.read(1)  # also makes the module check CRC and length of the last member
    except (EOFError, OSError, zlib.error) as error:
        if filled < decoded_size or not str(error).startswith("Not a gzipped file"):
            raise DamagedFileError(
                f"{label} does not inflate: after {filled} sound bytes, {error}. {_DAMAGED}."
            ) from error
        _warn_of_rest(label)
    if filled < decoded_size:
        raise DamagedFileError(
            f"{label} inflates to {filled} bytes, but its NIfTI header states {decoded_size}. {_DAMAGED}."
        )
    if more:
        raise DamagedFileError(
            f"{label} inflates to more than the {decoded_size} bytes that its NIfTI header states. {_DAMAGED}."
        )


def _warn_of_rest(label: str) -> None:
    """Warn of bytes that are neither zeros nor gzip data behind a file's gzip data, as ``gzip -d`` does."""
    warnings.warn(
        f"{label} has other bytes after the end of its gzip data, which are ignored: the voxels before them agree with "
        "their checksum. `reasonknee pack` writes the file without them.",
        RuntimeWarning,
        stacklevel=2,
    )
