"""Writing seekable ``.nii.gz`` files (see `reasonknee_datasets.volumes.index` for the format)."""

from __future__ import annotations

import os
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import deflate
from isal import isal_zlib

from reasonknee_datasets.errors import VolumeError, explain, os_remedy
from reasonknee_datasets.volumes.byte_source import read_whole
from reasonknee_datasets.volumes.header import plane_bytes, read_header
from reasonknee_datasets.volumes.index import FINAL_BLOCK, MAX_SLABS, write_gzip_header
from reasonknee_datasets.volumes.inflate import inflate_file
from reasonknee_datasets.volumes.open_source import find_source
from reasonknee_datasets.volumes.threads import for_each

# Measured on DESS-like voxels of 160x384 planes: slabs of 1, 2, 4, 8 planes cost 1.3, 0.7, 0.3 and 0.15 % over one
# stream, and a box of 75 planes then inflates 0, 1, 3, 7 planes too many. Four is the smallest below 0.5 %.
PLANES = 4
# Each slab pays about 150 bytes for its own Huffman tables: small planes are grouped until that is under 0.5 %.
_MIN_SLAB_BYTES = 64 * 1024
_MAX_SLAB_BYTES = 1 << 30
# zlib 6 packs 16 MB/s; ISA-L 3 packs 275 MB/s, but its output inflates at 510 MB/s where zlib's inflates at 650, and
# a file is packed once and read for years.
LEVEL = 6
# Measured beside its levels 1 and 3 on a DESS-like volume of 47 MB: 24.5, 23.9 and 24.2 MB, 0.15 to 0.16 s each.
_ISAL_LEVEL = 2


@dataclass(frozen=True, slots=True)
class PackReport:
    """What packing made of a file.

    Attributes
    ----------
    path : str
        The seekable file.
    bytes_before, bytes_after : int
        Size of the file that was read and of the one that was written.
    slabs, planes : int
        How many slabs there are, and how many planes of the array each holds.
    """

    path: str
    bytes_before: int
    bytes_after: int
    slabs: int
    planes: int


def pack(
    path_in: str | os.PathLike[str], path_out: str | os.PathLike[str], *, level: int = LEVEL, planes: int = PLANES
) -> PackReport:
    """Write a NIfTI file again as a seekable ``.nii.gz``, with the same NIfTI bytes inside.

    The result appears under its name only when it is whole and has been read back; it may replace the file that was
    read. Packing a seekable file again gives the same bytes.

    Parameters
    ----------
    path_in : str or path
        A ``.nii`` or ``.nii.gz``.
    path_out : str or path
        Where to write; its folder must exist.
    level : int
        Of zlib, 0 to 9.
    planes : int
        Planes of the array in a slab, at least; small planes are grouped, and slabs grow until the index fits.

    Returns
    -------
    PackReport

    Raises
    ------
    VolumeError
        If the input is damaged, or the output cannot be written.
    """
    if level not in range(10):
        raise VolumeError(explain("level", "be 0 to 9", level, f"Leave it at {LEVEL}"))
    source = find_source(path_in)
    header = read_header(source)
    plain: memoryview
    if header.compression == "gzip":
        plain = inflate_file(source, header.identity, header.promised).data
    else:
        plain = memoryview(read_whole(source, header.identity))[: header.promised]
    out = Path(path_out)
    height = _height(plane_bytes(header), header.promised - header.offset, planes, source.label)
    size, slabs = _write_or_explain(out, plain, header.offset, max(1, height * plane_bytes(header)), level)
    return PackReport(str(out), header.identity.size, size, slabs, height)


def pack_bytes(
    plain: bytes | memoryview,
    path_out: str | os.PathLike[str],
    *,
    head_bytes: int,
    plane: int,
    level: int | None = None,
) -> int:
    """Write a NIfTI file that is in memory as a seekable ``.nii.gz``; see `pack`.

    Parameters
    ----------
    plain : bytes
        The whole NIfTI file.
    path_out : str or path
        Where to write; its folder must exist.
    head_bytes : int
        Where the voxels begin.
    plane : int
        Length of a plane in bytes, the first two axes of the array.
    level : int, optional
        Of zlib, 0 to 9. By default ISA-L compresses, 26 times as fast as zlib's level 6: 0.16 s for a DESS volume, for
        2 % more bytes that inflate no slower.

    Returns
    -------
    int
        Size of the written file.

    Raises
    ------
    VolumeError
        If it cannot be written.
    """
    out = Path(path_out)
    height = _height(plane, len(plain) - head_bytes, PLANES, str(out))
    return _write_or_explain(out, memoryview(plain), head_bytes, max(1, height * plane), level)[0]


def _write_or_explain(
    out: Path, plain: memoryview, head_bytes: int, slab_bytes: int, level: int | None
) -> tuple[int, int]:
    try:
        return _write_whole(out, plain, head_bytes, slab_bytes, level)
    except OSError as error:
        got = f"{type(error).__name__}: {error}"
        remedy = os_remedy(error, "Check that the folder exists") + ". Nothing was left behind"
        raise VolumeError(explain("packed volume", "be written", got, remedy, where=f"at {out}")) from error


def _height(plane: int, voxels: int, planes: int, label: str) -> int:
    """Choose how many planes a slab holds."""
    if planes < 1:
        raise VolumeError(explain("planes", "be at least 1", planes, f"Leave it at {PLANES}"))
    if voxels == 0:
        return planes
    count = voxels // plane
    height = max(planes, -(-_MIN_SLAB_BYTES // plane), -(-count // MAX_SLABS))
    if height * plane > _MAX_SLAB_BYTES:
        remedy = "Such a volume gains nothing from packing: leave it as it is"
        got = f"{height} planes of {plane} bytes"
        raise VolumeError(explain("slab", f"hold at most {_MAX_SLAB_BYTES} bytes", got, remedy, where=f"in {label}"))
    return min(height, count)


def _write_whole(out: Path, plain: memoryview, head_bytes: int, slab_bytes: int, level: int | None) -> tuple[int, int]:
    """Write under a passing name, read back, and only then take the name that was asked for."""
    passing = out.with_name(f".{out.name}.{secrets.token_hex(6)}.part")
    try:
        with passing.open("x+b") as file:
            slabs = _write(file, plain, head_bytes, slab_bytes, level)
            size = file.tell()
            file.flush()
            file.seek(0)
            if memoryview(deflate.gzip_decompress(file.read(), len(plain))) != plain:
                raise OSError("what was written does not read back")
            os.fsync(file.fileno())
        passing.replace(out)
    except BaseException:
        passing.unlink(missing_ok=True)
        raise
    return size, slabs


def _write(file: BinaryIO, view: memoryview, head_bytes: int, slab_bytes: int, level: int | None) -> int:
    pieces = [view[:head_bytes]]
    pieces += [view[start : start + slab_bytes] for start in range(head_bytes, len(view), slab_bytes)]
    segments: list[bytes] = [b""] * len(pieces)

    def compress(number: int) -> None:
        packer: Any
        if level is None:
            packer = isal_zlib.compressobj(_ISAL_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        else:
            packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        segments[number] = packer.compress(pieces[number]) + packer.flush(zlib.Z_FULL_FLUSH)

    for_each(compress, range(len(pieces)))
    sizes = [len(segment) for segment in segments]
    checksums = [deflate.crc32(piece) for piece in pieces]
    file.write(write_gzip_header(head_bytes, slab_bytes, len(view), sizes, checksums))
    file.writelines(segments)
    file.write(FINAL_BLOCK)
    file.write(deflate.crc32(view).to_bytes(4, "little") + (len(view) & 0xFFFFFFFF).to_bytes(4, "little"))
    return len(pieces) - 1
