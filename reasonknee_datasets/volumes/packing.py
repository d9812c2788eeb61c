"""Writing seekable ``.nii.gz`` files, one or many by name (see `reasonknee_datasets.volumes.header` for the format)."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import deflate
from isal import isal_zlib

from reasonknee_datasets.atomic_files import part_path, remove_stale_parts
from reasonknee_datasets.errors import VolumeError, os_remedy
from reasonknee_datasets.volumes.byte_source import find_source, read_whole
from reasonknee_datasets.volumes.header import FINAL_BLOCK, MAX_SLABS, read_header, write_gzip_header
from reasonknee_datasets.volumes.limits import for_each
from reasonknee_datasets.volumes.slab_reader import inflate_file

# Slabs are parts of a plane, since a box has a few tenths of each plane's rows. Measured on a synthetic DESS knee of
# 160x384x384 (planes of 123 kB; size against an ordinary .nii.gz of the same level, bytes inflated for a box of
# 60x80x75 around a question's region, part of the file with a central box):
#   4 planes      +0.1 %  9.5 MB  22 %        a third    +2.7 %  4.3 MB   7 %
#   1 plane       +0.6 %  9.2 MB  21 %        a quarter  +3.1 %  4.5 MB  11 %
#   half a plane  +2.0 %  7.5 MB  21 %        a sixth    +3.7 %  3.3 MB   7 %
# and of 384x384x160 (planes of 295 kB): 1 plane +0.4 % 17.7 MB, a quarter +2.3 % 7.9 MB, a sixth +3.5 % 6.4 MB.
# At most 60 kB makes thirds and sixths of these, within 3.5 %.
SLAB_BYTES = 60_000
# A slab is inflated as a whole.
_MAX_SLAB_BYTES = 1 << 30
# zlib 6 packs 16 MB/s; ISA-L 3 packs 275 MB/s, but its output inflates at 510 MB/s where zlib's inflates at 650, and
# a file is packed once and read for years.
LEVEL = 6
# Measured together with its levels 1 and 3 on a DESS-like volume of 47 MB: 24.5, 23.9 and 24.2 MB, 0.15 to 0.16 s each.
_ISAL_LEVEL = 2


@dataclass(frozen=True, slots=True)
class PackReport:
    """Result of packing a file.

    Attributes
    ----------
    path : str
        The seekable file.
    bytes_before, bytes_after : int
        Size of the file that was read and of the one that was written.
    slabs, slab_bytes : int
        Number of slabs, and inflated length of each but the last.
    """

    path: str
    bytes_before: int
    bytes_after: int
    slabs: int
    slab_bytes: int


def pack(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    *,
    level: int = LEVEL,
    planes: float | None = None,
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
        Level of zlib, 0 to 9.
    planes : float, optional
        Planes of the array in a slab: a whole number, or a fraction (0.25 makes four slabs of each plane). By default
        slabs have at most 60 kB: a part of a plane, or several small planes. Slabs grow until the index fits.

    Returns
    -------
    PackReport

    Raises
    ------
    VolumeError
        If the input is damaged, or the output cannot be written.
    """
    if level not in range(10):
        raise VolumeError(f"The compression level {level} does not exist. Pass one of 0 to 9; the default is {LEVEL}.")
    source = find_source(path_in)
    header = read_header(source)
    plain: memoryview
    if header.compression == "gzip":
        plain = inflate_file(source, header.identity, header.decoded_size).data
    else:
        plain = memoryview(read_whole(source, header.identity))[: header.decoded_size]
    out = Path(path_out)
    slab_bytes = _slab_bytes(header.plane_bytes, header.decoded_size - header.offset, planes, source.label)
    size, slabs = _write_or_explain(out, plain, header.offset, slab_bytes, level)
    return PackReport(str(out), header.identity.size, size, slabs, slab_bytes)


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
        Zlib level, 0 to 9. By default ISA-L compresses, 26 times as fast as zlib's level 6: 0.16 s a DESS volume, for
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
    slab_bytes = _slab_bytes(plane, len(plain) - head_bytes, None, str(out))
    return _write_or_explain(out, memoryview(plain), head_bytes, slab_bytes, level)[0]


def _write_or_explain(
    out: Path, plain: memoryview, head_bytes: int, slab_bytes: int, level: int | None
) -> tuple[int, int]:
    try:
        return _write_whole(out, plain, head_bytes, slab_bytes, level)
    except OSError as error:
        remedy = os_remedy(error, "Check that the folder exists")
        raise VolumeError(
            f"The packed volume {out} cannot be written ({type(error).__name__}: {error}). {remedy}. Nothing was left "
            "behind."
        ) from error


def _slab_bytes(plane: int, voxels: int, planes: float | None, label: str) -> int:
    """Choose the inflated length of a slab for planes of a given length."""
    if planes is not None and not planes > 0:
        raise VolumeError(f"A slab cannot hold {planes} planes. Pass a number above 0, or leave planes out.")
    if voxels == 0:
        return 1
    if planes is None:
        length = _part(plane) if plane > SLAB_BYTES else SLAB_BYTES // plane * plane
    else:
        length = -(-plane // round(1 / planes)) if planes < 1 else round(planes) * plane
    if -(-voxels // length) > MAX_SLABS:  # as few whole planes as fit
        length = -(-(voxels // plane) // MAX_SLABS) * plane
    if length > _MAX_SLAB_BYTES:
        raise VolumeError(
            f"{label} cannot be packed: a slab would have {length} bytes, more than {_MAX_SLAB_BYTES}. Leave the file "
            "as it is, since packing would not make it faster to read."
        )
    return min(length, voxels)


def _part(plane: int) -> int:
    """Divide a plane into slabs of at most `SLAB_BYTES`, equal ones if possible: they do not straddle two planes."""
    fewest = -(-plane // SLAB_BYTES)
    equal = (parts for parts in range(fewest, 2 * fewest) if plane % parts == 0)
    return -(-plane // next(equal, fewest))


def _write_whole(out: Path, plain: memoryview, head_bytes: int, slab_bytes: int, level: int | None) -> tuple[int, int]:
    """Write under a temporary name, read back, and only then rename to the requested name."""
    passing = part_path(out)
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


def pack_files(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None, *, level: int = LEVEL
) -> Iterator[PackReport]:
    """Write files as seekable ``.nii.gz``, into a folder or in place, and yield a report of each.

    Each result appears whole, after it has been read back. All names are checked before the first file is written; an
    error in a file stops there, and leaves that file alone and those before it packed.

    Parameters
    ----------
    paths : sequence of str or path
        Files that end in ``.nii`` or ``.nii.gz``.
    out : str or path, or None
        A folder, made where it is missing: ``knee.nii`` and ``knee.nii.gz`` become ``knee.nii.gz`` in it, and nothing
        existing is replaced. None replaces each file, which must be a ``.nii.gz``, by its seekable form.
    level : int
        Level of zlib, 0 to 9.

    Yields
    ------
    PackReport

    Raises
    ------
    VolumeError
        If a name does not fit, would be written twice or exists already; if a file would be replaced in a prepared
        repository; if a file is damaged or cannot be written.
    """
    targets = [_target(os.fspath(path), None if out is None else Path(out)) for path in paths]
    twice = [str(target) for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise VolumeError(
            f"Two of the files would be packed as {twice[0]}. Pack them into different folders, one command for each."
        )
    made = None
    if out is None:
        for target in targets:
            _refuse_in_repository(target)
    else:
        _refuse_replacing(targets)
        made = None if Path(out).exists() else Path(out)
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = os_remedy(error, "Choose another folder")
            raise VolumeError(
                f"Cannot write into the folder {out} ({type(error).__name__}: {error}). {remedy}."
            ) from error
    for folder in {target.parent for target in targets}:
        remove_stale_parts(folder)
    try:
        for path, target in zip(paths, targets, strict=True):
            yield pack(path, target, level=level)
    finally:
        if made is not None:
            with suppress(OSError):  # not empty, as it should be
                made.rmdir()


def _target(path: str, out: Path | None) -> Path:
    name = Path(path).name
    if out is None and not name.endswith(".nii.gz"):
        raise VolumeError(
            f"{path} cannot be packed in place: only a .nii.gz can be replaced by its seekable form. Name a folder for "
            "the packed files with --out."
        )
    if not name.endswith((".nii", ".nii.gz")):
        raise VolumeError(
            f"{path} cannot be packed: its name does not end in .nii or .nii.gz. Name the volume files themselves, as "
            "in FOLDER/*.nii.gz."
        )
    return Path(path) if out is None else out / f"{name.removesuffix('.gz').removesuffix('.nii')}.nii.gz"


def _refuse_in_repository(path: Path) -> None:
    """Raise if a file is a volume of a prepared repository: the manifest states its size and hash."""
    for place in {path.absolute(), path.parent.resolve() / path.name}:
        for root in place.parents:
            if (root / "manifest.json").is_file() and place.relative_to(root).parts[0] == "volumes":
                raise VolumeError(
                    f"{path} is a volume of the prepared repository {root}, whose manifest.json states its size and "
                    "hash: packed in place, it would no longer load. Nothing was changed. Prepare the repository again "
                    "with `reasonknee prepare --volumes pack`, or pack copies with --out DIR."
                )


def _refuse_replacing(targets: Sequence[Path]) -> None:
    there = [str(target) for target in targets if target.exists()]
    if there:
        more = "" if len(there) == 1 else f" (and {len(there) - 1} more)"
        raise VolumeError(
            f"{there[0]} exists already{more}, and packing into a folder replaces nothing. Choose another folder, "
            "remove what is there, or replace the files themselves with --in-place."
        )
