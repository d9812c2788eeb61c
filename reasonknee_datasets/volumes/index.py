"""The slab index of a seekable ``.nii.gz``: layout, writing, and checks before use.

A seekable file is one gzip member. Its deflate stream is fully flushed after the NIfTI header and after every slab, so
that each of these segments inflates alone. A slab is a run of consecutive bytes of the voxels, in the order of the
file: a part of a plane, or several planes. The gzip header's extra field locates the segments, in a subfield named
``RK``, little-endian:

=======  ==========================================================================
u16      version, 2
u16      0
u32      number of slabs
u64      length of the header segment, inflated: the NIfTI header with its extensions
u64      length of every slab but the last, inflated
u64      length of everything, inflated
u32 x 2  compressed size and CRC-32 of the inflated bytes: of the header segment, then of each slab
u32      CRC-32 of all of the above
=======  ==========================================================================

Version 1 has the same fields; its slabs are whole planes. The first segment begins right behind the gzip header; the
last one is followed by ``03 00`` (an empty final block) and gzip's own CRC-32 and length. One segment or several
consecutive ones, with ``03 00`` appended, are a whole raw deflate stream.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUBFIELD = b"RK"
FINAL_BLOCK = b"\x03\x00"
CUT_OFF = ", which is cut off"
VERSIONS = (1, 2)
_FIXED = struct.Struct("<HHIQQQ")
_PAIR = np.dtype([("size", "<u4"), ("checksum", "<u4")])
_CRC = struct.Struct("<I")
_GZIP = struct.Struct("<2sBBIBBH")  # magic, method, flags, mtime, extra flags, system, length of the extra field
_FEXTRA = 4
_TRAILER = len(FINAL_BLOCK) + 8
MAX_SLABS = (65_535 - 4 - _FIXED.size - _CRC.size) // _PAIR.itemsize - 1


class IndexProblemError(Exception):
    """An index that must not be used. It never leaves this package, because the file can be read without it."""


@dataclass(frozen=True, slots=True, eq=False)
class SlabIndex:
    """Places of the segments of a seekable file; segment 0 is the header, segment n + 1 is slab n.

    Attributes
    ----------
    version : int
        1 (slabs are whole planes) or 2.
    head_bytes, slab_bytes, total_bytes : int
        Inflated lengths of the header segment, of every slab but the last, and of everything.
    start : int
        Where the header segment begins in the file.
    sizes, checksums : (slabs + 1,) uint32 array
        Compressed size of each segment, and CRC-32 of its inflated bytes.
    """

    version: int
    head_bytes: int
    slab_bytes: int
    total_bytes: int
    start: int
    sizes: NDArray[np.uint32]
    checksums: NDArray[np.uint32]

    def hash_start(self, head: bytes) -> str:
        """Return the SHA-256 of the file up to the end of its header segment.

        These bytes hold the NIfTI header and a checksum of every slab, so that the hash covers every voxel and costs no
        read beyond the header.

        Parameters
        ----------
        head : bytes
            First bytes of the file, at least to the end of the header segment.
        """
        return hashlib.sha256(head[: self.start + int(self.sizes[0])]).hexdigest()

    @property
    def slabs(self) -> int:
        """Number of slabs."""
        return len(self.sizes) - 1

    @property
    def voxel_bytes(self) -> int:
        """Inflated length of all slabs."""
        return self.total_bytes - self.head_bytes

    def offsets(self) -> NDArray[np.int64]:
        """Compute where each slab begins in the file, and where the last one ends."""
        return self.start + np.cumsum(self.sizes, dtype=np.int64)


def write_gzip_header(
    head_bytes: int, slab_bytes: int, total_bytes: int, sizes: list[int], checksums: list[int], *, version: int = 2
) -> bytes:
    """Write the gzip header of a seekable file, index included.

    Examples
    --------
    >>> header = write_gzip_header(352, 100, 552, sizes=[50, 40, 41], checksums=[7, 8, 9])
    >>> parse_index(header, file_size=len(header) + 50 + 40 + 41 + 10).slabs
    2
    """
    payload = _FIXED.pack(version, 0, len(sizes) - 1, head_bytes, slab_bytes, total_bytes)
    payload += np.array(list(zip(sizes, checksums, strict=True)), _PAIR).tobytes()
    payload += _CRC.pack(zlib.crc32(payload))
    extra = SUBFIELD + struct.pack("<H", len(payload)) + payload
    # No mtime and system "unknown": the same voxels give the same file everywhere.
    return _GZIP.pack(b"\x1f\x8b", 8, _FEXTRA, 0, 0, 255, len(extra)) + extra


def index_bytes(head: bytes) -> int:
    """Return the length of a file's gzip header with the index in bytes; 0 without an extra field."""
    if len(head) < _GZIP.size:
        return 0
    magic, method, flags, _, _, _, extra = _GZIP.unpack_from(head)
    return _GZIP.size + extra if (magic, method) == (b"\x1f\x8b", 8) and flags & _FEXTRA else 0


def parse_index(head: bytes, file_size: int) -> SlabIndex | None:
    """Read the index out of a file's first bytes; None where there is none.

    Raises
    ------
    IndexProblemError
        If there is one and it is damaged, or does not fit the file.
    """
    payload = _find_subfield(head)
    if payload is None:
        return None
    if len(payload) < _FIXED.size + _PAIR.itemsize + _CRC.size:
        raise IndexProblemError("it is cut")
    if zlib.crc32(payload[: -_CRC.size]) != _CRC.unpack(payload[-_CRC.size :])[0]:
        raise IndexProblemError("its checksum is wrong")
    version, _, slabs, head_bytes, slab_bytes, total = _FIXED.unpack_from(payload)
    if version not in VERSIONS:
        raise IndexProblemError(f"its version is {version}, and this package reads versions 1 and 2")
    if len(payload) != _FIXED.size + (slabs + 1) * _PAIR.itemsize + _CRC.size:
        raise IndexProblemError(f"its length does not fit {slabs} slabs")
    if slab_bytes == 0 or -(-(total - head_bytes) // slab_bytes) != slabs:
        raise IndexProblemError(f"{slabs} slabs of {slab_bytes} bytes do not make {total - head_bytes}")
    pairs = np.frombuffer(payload[_FIXED.size : -_CRC.size], _PAIR)
    start = index_bytes(head)
    length = start + int(pairs["size"].sum(dtype=np.int64)) + _TRAILER
    if length != file_size:
        cut = CUT_OFF if file_size < length else ""
        raise IndexProblemError(f"it describes a file of {length} bytes, and this one has {file_size}{cut}")
    sizes, checksums = pairs["size"].copy(), pairs["checksum"].copy()
    return SlabIndex(version, head_bytes, slab_bytes, total, start, sizes, checksums)


def _find_subfield(head: bytes) -> bytes | None:
    stop = index_bytes(head)
    # Other flags would put a name or comment behind the extra field; nothing that we write has any.
    if not stop or head[3] != _FEXTRA:
        return None
    extra, position = head[_GZIP.size : stop], 0
    while position + 4 <= len(extra):
        length = int.from_bytes(extra[position + 2 : position + 4], "little")
        if extra[position : position + 2] == SUBFIELD:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return None
