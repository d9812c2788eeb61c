"""Size of compressed pixels, read from the compressed data itself.

A decoder allocates what the compressed data claims, whatever Rows and Columns say: some bytes of JPEG 2000 can claim
60,000 x 60,000 pixels. The two are compared before anything is decoded.
"""

from __future__ import annotations

import struct

_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"
# Start of frame of every JPEG process, that of JPEG-LS (F7) included; C4, C8 and CC are other markers.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def read_coded_size(frame: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) of one compressed frame; None where it is neither JPEG, JPEG-LS nor JPEG 2000.

    Examples
    --------
    >>> read_coded_size(bytes.fromhex("ff4fff51002f0000 00000180 00000160"))
    (352, 384)
    >>> read_coded_size(bytes.fromhex("ffd8 ffe00003aa ffc0000b08 0160 0180 01"))
    (352, 384)
    """
    start = frame.find(_J2K_START, 0, 4096)  # behind the boxes of a JP2 file, where there are some
    if start >= 0 and len(frame) >= start + 16:
        columns, rows = struct.unpack_from(">II", frame, start + 8)
        return rows, columns
    if not frame.startswith(_JPEG_START):
        return None
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            return rows, columns
        place += 1 if marker == 0xFF else 2 + length
    return None
