"""Inflate whole ``.nii.gz`` files and segments of them: fast for sound files, bounded and with a message for others.

Measured on a DESS-like volume of 47 MB: ISA-L streamed into one array took 93 ms, libdeflate 112 (of which 20 are page
faults of the array that it makes itself), zlib 201. All three release the GIL and check CRC and length. Whatever the
fast one refuses is read again by Python's gzip module, which reads files of several members and names the fault.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import secrets
import struct
import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes.byte_source import ByteSource, Fetch, FileIdentity

_isal: Any = None
with contextlib.suppress(ImportError):  # a speed-up; libdeflate is used without it
    _isal = import_module("isal.isal_zlib")

# Deflate's densest code spends one bit on 258 bytes behind a one-bit distance: 1032 to 1 (zlib's technical note).
MAX_RATIO = 1032
GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED = "The file is damaged: copy or convert it again"
_PIECE = 256 * 1024


class SegmentError(Exception):
    """A segment of a seekable file that does not inflate by itself. It never leaves this package."""


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
    """Inflate the first `count` bytes out of the beginning of a gzip file; fewer where `data` has no more.

    Raises
    ------
    zlib.error
        If it is not gzip data.
    """
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


def inflate_file(source: ByteSource, identity: FileIdentity, decoded_size: int) -> NDArray[np.uint8]:
    """Inflate a whole gzip file to exactly the length that its NIfTI header states.

    Parameters
    ----------
    source : ByteSource
        The file.
    identity : FileIdentity
        The state of the file when its header was read.
    decoded_size : int
        Length of the NIfTI file inside, from its header.

    Returns
    -------
    (decoded_size,) uint8 array
        Never more than that is inflated.

    Raises
    ------
    VolumeError
        If the data are damaged or cut, or inflate to less or more.
    """
    with source.open(identity) as fetch:
        if _isal is not None:
            found = _stream(_pieces(source, fetch, identity.size), decoded_size)
            if found is not None:
                return found
        data = fetch([(0, identity.size)])[0]
    if _isal is None:
        with contextlib.suppress(deflate.DeflateError):
            whole = deflate.gzip_decompress(data, decoded_size)
            if len(whole) == decoded_size:
                return np.frombuffer(whole, np.uint8)
    return _inflate_slowly(data, decoded_size, source.label)


def _pieces(source: ByteSource, fetch: Fetch, size: int) -> Iterator[Any]:
    """Return a file piece by piece: a local one is never in memory as a whole."""
    if not source.is_local:
        view = memoryview(fetch([(0, size)])[0])
        yield from (view[start : start + _PIECE] for start in range(0, size, _PIECE))
        return
    for start in range(0, size, _PIECE):
        yield fetch([(start, min(start + _PIECE, size))])[0]


def _stream(pieces: Iterator[Any], decoded_size: int) -> NDArray[np.uint8] | None:
    """Inflate one member of exactly the stated length; None for anything else, which `_inflate_slowly` reports."""
    inflated, filled = np.empty(decoded_size, np.uint8), 0
    view, inflater = inflated.data, _isal.decompressobj(wbits=31)
    for piece in pieces:
        rest = piece
        while len(rest):
            try:
                part = inflater.decompress(rest, min(_PIECE, decoded_size - filled + 1))
            except _isal.error:
                return None
            if filled + len(part) > decoded_size:
                return None
            view[filled : filled + len(part)] = part
            filled += len(part)
            if inflater.eof:
                return inflated if filled == decoded_size else None
            rest = inflater.unconsumed_tail
    return None


def _inflate_slowly(data: bytes, decoded_size: int, label: str) -> NDArray[np.uint8]:
    inflated, filled = np.empty(decoded_size, np.uint8), 0
    view = inflated.data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while filled < decoded_size and (count := file.readinto(view[filled:])):
                filled += count
            more = file.read(1)  # also makes the module check CRC and length of the last member
    except (EOFError, OSError, zlib.error) as error:
        raise VolumeError(f"{label} does not inflate: after {filled} sound bytes, {error}. {_DAMAGED}.") from error
    if filled < decoded_size:
        raise VolumeError(
            f"{label} inflates to {filled} bytes, but its NIfTI header states {decoded_size}. {_DAMAGED}."
        )
    if more:
        raise VolumeError(
            f"{label} inflates to more than the {decoded_size} bytes that its NIfTI header states. {_DAMAGED}."
        )
    return inflated
