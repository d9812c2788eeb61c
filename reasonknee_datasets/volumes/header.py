"""First bytes of a volume's file: the NIfTI header with its affine, and the slab index of a seekable ``.nii.gz``.

They are read once for each file and process. A seekable file is one gzip member. Its deflate stream is fully flushed
after the NIfTI header and after every slab, so that each of these segments inflates alone. A slab is a run of
consecutive bytes of the voxels, in the order of the file: a part of a plane, or several planes. The gzip header's extra
field locates the segments, in a subfield named ``RK``, little-endian:

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
import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes.byte_source import ByteSource, FileIdentity
from reasonknee_datasets.volumes.cache import Once
from reasonknee_datasets.volumes.limits import read_whole_number
from reasonknee_datasets.volumes.slab_reader import GZIP_MAGIC, MAX_RATIO, SegmentError, inflate_head, inflate_segment

if TYPE_CHECKING:
    from reasonknee_datasets.volumes.reference import ExpectedFile

# One small read covers header, extensions and slab index of every file that this package writes.
HEAD_BYTES = 32 * 1024
# NIfTI extensions precede the voxels; a header that claims more than this is damage, not metadata.
_NIFTI1_BYTES, _NIFTI2_BYTES = 352, 544
_MAX_OFFSET = 64 * 1024 * 1024
# An OAI knee is 47 MB; a header that states 100 times that is refused before memory is taken, unless this is set.
_MAX_VOLUME_BYTES = 8 * 1024**3
_VARIABLE = "REASONKNEE_MAX_VOLUME_BYTES"
_REMEDY = "Copy or convert the file again"
_COPY_AGAIN = "Copy the file again, since its voxels cannot be read"
_PACK_AGAIN = "The file is read as an ordinary .nii.gz; pack it again to read regions fast"
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
        read beyond the header; `head` must contain them.
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


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """Contents of a file's first bytes; shared between images, so never changed and never handed out.

    Attributes
    ----------
    identity : FileIdentity
        The state of the file that these facts belong to.
    compression : {"gzip", "none"}
        By content, not by name.
    image_class : type
        `nibabel.Nifti1Image` or `nibabel.Nifti2Image`.
    header : nibabel.Nifti1Header or nibabel.Nifti2Header
        As read; take a copy.
    shape, dtype, offset, slope, inter
        Fields of the header that nibabel's array proxy takes.
    affine : (4, 4) float array
        Voxel-centre to world (RAS+, mm), as nibabel chooses it; take a copy.
    index : SlabIndex or None
        Index of a seekable file, if it can be believed.
    index_sha256 : str or None
        Hash of the header segment and the index (`SlabIndex.hash_start`); None for any other file.
    """

    identity: FileIdentity
    compression: Literal["gzip", "none"]
    image_class: Any  # nibabel's methods are untyped
    header: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: NDArray[np.float64]
    index: SlabIndex | None = None
    index_sha256: str | None = None

    @property
    def decoded_size(self) -> int:
        """Length of the (inflated) NIfTI file."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    @property
    def plane_bytes(self) -> int:
        """Length of a plane, the unit that slabs are made of: the first two axes, or one less than there are."""
        return math.prod(self.shape[: min(2, len(self.shape) - 1)]) * self.dtype.itemsize

    def same_layout(self, other: VolumeHeader) -> bool:
        """Check whether another state of the file has the same header and NIfTI version."""
        return bool(self.header == other.header) and self.image_class is other.image_class

    def check_expected(self, expected: ExpectedFile | None, label: str) -> None:
        """Raise a `VolumeError` where size or hash of the file differ from those that the manifest states."""
        if expected is None:
            return
        remedy = "Put back the file that was prepared, or prepare the repository again."
        if self.identity.size != expected.bytes:
            raise VolumeError(
                f"The volume file {label} has {self.identity.size} bytes, but the manifest says {expected.bytes}: it "
                f"is another file. {remedy}"
            )
        if expected.index_sha256 not in (None, self.index_sha256):
            raise VolumeError(
                f"The volume file {label} has the size that the manifest says, but other voxels or another header: "
                f"index_sha256 is {self.index_sha256}, but should be {expected.index_sha256}. {remedy}"
            )


def spatial_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Drop axes of length 1 behind the third, which converters write and no voxel depends on.

    Examples
    --------
    >>> spatial_shape((160, 384, 384, 1)), spatial_shape((160, 384, 384, 2)), spatial_shape((160, 384))
    ((160, 384, 384), (160, 384, 384, 2), (160, 384))
    """
    sizes = tuple(int(size) for size in shape)
    return sizes[:3] if set(sizes[3:]) == {1} else sizes


_headers: Once[FileIdentity, VolumeHeader] = Once(limit=10_000)


def read_header(source: ByteSource) -> VolumeHeader:
    """Read a volume's header; once for each state of a file and process, whatever the number of threads.

    Raises
    ------
    VolumeNotFoundError
        If the file is not there.
    VolumeError
        If it is not a NIfTI-1 or NIfTI-2 file, or its header states more than the file can contain.
    """
    return _headers.get(source.identify(), lambda: _parse(source))


def forget_index(header: VolumeHeader, reason: str, label: str) -> VolumeHeader:
    """Read a file the ordinary way from now on, and warn once."""
    remedy = _COPY_AGAIN if reason.endswith(CUT_OFF) else _PACK_AGAIN
    warnings.warn(f"the slab index of {label} is not used: {reason}. {remedy}.", RuntimeWarning, stacklevel=2)
    plain = replace(header, index=None)
    _headers.put(header.identity, plain)
    return plain


def _parse(source: ByteSource) -> VolumeHeader:
    identity, head = source.read_head(HEAD_BYTES)
    zipped = head[:2] == GZIP_MAGIC
    found, problem = None, ""
    try:
        found = _find_index(source, identity, head) if zipped else None
    except IndexProblemError as error:
        problem = str(error)
    if found is not None:
        # The NIfTI header is a separate segment: no byte after it is needed.
        index, segment, digest = found
        parsed = _interpret(source, identity, zipped, lambda count: segment[:count])
        problem = _index_problem(parsed, index)
        parsed = replace(parsed, index=index, index_sha256=digest)
    else:
        parsed = _interpret(source, identity, zipped, lambda count: _opened(source, identity, head, zipped, count))
    _check_promise(parsed, source.label)
    return forget_index(parsed, problem, source.label) if problem else parsed


def _interpret(source: ByteSource, identity: FileIdentity, zipped: bool, first: Callable[[int], bytes]) -> VolumeHeader:
    """Read the NIfTI header; `first` gives that many first bytes of the NIfTI file."""
    start = first(_NIFTI1_BYTES)
    if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        start = first(_NIFTI2_BYTES)
    image_class = _image_class(start, source.label)
    try:
        count = max(_offset(start, image_class), len(start))
        header = image_class.header_class.from_fileobj(io.BytesIO(first(count)[:count]))
        slope, inter = header.get_slope_inter()
        return VolumeHeader(
            identity,
            "gzip" if zipped else "none",
            image_class,
            header,
            tuple(int(size) for size in header.get_data_shape()),
            header.get_data_dtype(),
            header.get_data_offset(),
            1.0 if slope is None else slope,
            0.0 if inter is None else inter,
            header.get_best_affine(),
        )
    except (HeaderDataError, ImageFileError, ValueError, OverflowError, KeyError) as error:
        raise VolumeError(f"The NIfTI header of {source.label} is damaged ({error}). {_REMEDY}.") from error


def _find_index(source: ByteSource, identity: FileIdentity, head: bytes) -> tuple[SlabIndex, bytes, str] | None:
    """Find the index of a seekable file, its header segment (inflated and verified) and the hash of both."""
    if len(head) < min(index_bytes(head), identity.size):
        head = _read_start(source, identity, index_bytes(head))
    index = parse_index(head, identity.size)
    if index is None:
        return None
    start, stop = index.start, index.start + int(index.sizes[0])
    if len(head) < stop:
        head = _read_start(source, identity, stop)
    if index.head_bytes > _MAX_OFFSET:
        raise IndexProblemError(f"its header segment has {index.head_bytes} bytes")
    try:
        segment = inflate_segment(head[start:stop], index.head_bytes)
    except SegmentError as error:
        raise IndexProblemError(f"its header segment {error}") from error
    if zlib.crc32(segment) != index.checksums[0]:
        raise IndexProblemError("the header's checksum is wrong")
    return index, segment, index.hash_start(head)


def _index_problem(parsed: VolumeHeader, index: SlabIndex) -> str:
    """Describe how an index contradicts its NIfTI header; None if it does not."""
    if (index.head_bytes, index.total_bytes) != (parsed.offset, parsed.decoded_size):
        got = f"{index.head_bytes} and {index.total_bytes}"
        return f"its lengths are {got} where the header has {parsed.offset} and {parsed.decoded_size}"
    if index.version == 1 and index.slabs and index.slab_bytes % parsed.plane_bytes:
        return f"its slabs of {index.slab_bytes} bytes are not whole planes"
    return ""


def _opened(source: ByteSource, identity: FileIdentity, head: bytes, zipped: bool, count: int) -> bytes:
    """Return the first `count` bytes of the NIfTI file, reading on where the head does not contain them."""
    if not zipped:
        return head if len(head) >= count else _read_start(source, identity, count)
    try:
        block, have = inflate_head(head, count), len(head)
        while len(block) < count and have < identity.size:
            have = min(max(4 * have, count), identity.size)
            block = inflate_head(_read_start(source, identity, have), count)
    except zlib.error as error:
        raise VolumeError(f"The gzip file {source.label} is damaged at its beginning ({error}). {_REMEDY}.") from error
    return block


def _read_start(source: ByteSource, identity: FileIdentity, count: int) -> bytes:
    with source.open(identity) as fetch:
        return fetch([(0, min(count, identity.size))])[0]


def _image_class(start: bytes, label: str) -> Any:
    """Choose NIfTI-1 or NIfTI-2 as `nibabel.load` does."""
    image_class: Any
    for image_class in (nib.Nifti1Image, nib.Nifti2Image):
        if image_class.header_class.may_contain_header(start):
            return image_class
    raise VolumeError(
        f"{label} is not a NIfTI-1 or NIfTI-2 file: its {len(start)} first bytes begin with {start[:8]!r}. {_REMEDY}."
    )


def _offset(start: bytes, image_class: Any) -> int:
    """Find where the voxels begin, which is as far as extensions can reach."""
    raw = image_class.header_class(start[: image_class.header_class.sizeof_hdr], check=False)
    offset = int(raw.get_data_offset())
    if not 0 <= offset <= _MAX_OFFSET:
        raise ValueError(f"vox_offset {offset} is beyond {_MAX_OFFSET} bytes of extensions")
    return offset


def _check_promise(parsed: VolumeHeader, label: str) -> None:
    """Raise for a header that states more than its file can hold, before anything of that size is allocated."""
    size, decoded_size = parsed.identity.size, parsed.decoded_size
    if any(extent < 0 for extent in parsed.shape):
        raise VolumeError(
            f"The NIfTI header of {label} states the shape {parsed.shape}, with a size below 0. {_REMEDY}."
        )
    if parsed.dtype.itemsize == 0:
        raise VolumeError(f"The NIfTI header of {label} states no voxel type ({parsed.dtype}). {_REMEDY}.")
    holds = size * MAX_RATIO if parsed.compression == "gzip" else size
    if decoded_size > holds:
        can = "can inflate to" if parsed.compression == "gzip" else "has"
        raise VolumeError(
            f"The NIfTI header of {label} states the shape {parsed.shape} of {parsed.dtype} at byte {parsed.offset}, "
            f"which makes {decoded_size} bytes, more than the file {can} ({holds} bytes). {_REMEDY}."
        )
    if size > (most := decoded_size + decoded_size // 10 + _MAX_OFFSET):  # gzip adds less, and padding is short
        raise VolumeError(
            f"The file {label} has {size} bytes, but its NIfTI header accounts for {decoded_size} at most ({most} with "
            f"padding). {_REMEDY}."
        )
    if parsed.compression == "gzip" and decoded_size > (limit := read_whole_number(_VARIABLE, _MAX_VOLUME_BYTES)):
        raise VolumeError(
            f"The NIfTI header of {label} states a volume of {decoded_size} bytes, more than the {limit} that are "
            f"read. If the volume is really that large, set {_VARIABLE} to {decoded_size}."
        )


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
