"""Inflating .nii.gz: fast where all is well, bounded and talkative where it is not.

libdeflate inflated a DESS-like volume in 23 ms where ISA-L took 27 to 33 and zlib 52, releases the GIL, and checks CRC
and length; but it only says "failed". So whatever it refuses is read again by Python's gzip module, which also knows
files of several members and tells what is wrong.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib

import deflate

from reasonknee_datasets.errors import VolumeError, explain

# Deflate's densest code spends one bit on 258 bytes behind a one-bit distance: 1032 to 1 (zlib's technical note).
MAX_RATIO = 1032
GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED = "The file is damaged: copy or convert it again"


def inflate_head(data: bytes, count: int) -> bytes:
    """Inflate the first `count` bytes out of the beginning of a gzip file; fewer where `data` holds no more.

    Raises
    ------
    zlib.error
        If it is no gzip data.
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


def gunzip(data: bytes, promised: int, label: str) -> bytearray:
    """Inflate a whole gzip file to exactly the length that its NIfTI header promises.

    Parameters
    ----------
    data : bytes
        The file.
    promised : int
        Length of the NIfTI file inside, from its header.
    label : str
        Name of the file, for messages.

    Returns
    -------
    bytearray
        Its length is `promised`. Never more than that is inflated.

    Raises
    ------
    VolumeError
        If the data are damaged or cut, or inflate to less or more.
    """
    try:
        inflated: bytearray = deflate.gzip_decompress(data, promised)
    except deflate.DeflateError:
        return _gunzip_slowly(data, promised, label)
    if len(inflated) != promised:
        return _gunzip_slowly(data, promised, label)
    return inflated


def _gunzip_slowly(data: bytes, promised: int, label: str) -> bytearray:
    inflated = bytearray(promised)
    view, filled = memoryview(inflated), 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while filled < promised and (count := file.readinto(view[filled:])):
                filled += count
            more = file.read(1)  # also makes the module check CRC and length of the last member
    except (EOFError, OSError, zlib.error) as error:
        got = f"{filled} sound bytes, then {error}"
        message = explain("gzip volume", "inflate without error", got, _DAMAGED, where=f"in {label}")
        raise VolumeError(message) from error
    if filled < promised:
        got, rule = f"{filled} bytes", f"hold the {promised} bytes that its header promises"
        raise VolumeError(explain("gzip volume", rule, got, _DAMAGED, where=f"in {label}"))
    if more:
        rule = f"end after the {promised} bytes that its header promises"
        raise VolumeError(explain("gzip volume", rule, "more", _DAMAGED, where=f"in {label}"))
    return inflated
