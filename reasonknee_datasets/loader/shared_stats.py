"""What the processes of a session have done together, counted in a file of its folder."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.loader.slots import alone

_COUNTS = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class SharedInfo:
    """What the processes of a session have done together, and hold.

    Attributes
    ----------
    decodes : int
        Volumes that were decoded, or begun to be.
    inflated : int
        Bytes of voxels that were decoded.
    entries, bytes : int
        Volumes that are held, and the size of all slots.
    max_bytes : int
        What slots may take.
    """

    decodes: int
    inflated: int
    entries: int
    bytes: int
    max_bytes: int


def add(folder: str, decodes: int, inflated: int) -> None:
    """Add to what a session has done."""
    with alone(Path(folder) / "counts") as descriptor:
        data = os.pread(descriptor, _COUNTS.size, 0)
        before = _COUNTS.unpack(data) if data else (0, 0)
        os.pwrite(descriptor, _COUNTS.pack(before[0] + decodes, before[1] + inflated), 0)


def read(folder: str) -> tuple[int, int]:
    """Read how many volumes were decoded, and how many bytes."""
    try:
        decodes, inflated = _COUNTS.unpack((Path(folder) / "counts").read_bytes())
    except FileNotFoundError:
        return 0, 0
    return decodes, inflated


def is_first(folder: str, what: str) -> bool:
    """Check whether this is the first process of the session to log this."""
    try:
        os.close(os.open(Path(folder) / what, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
