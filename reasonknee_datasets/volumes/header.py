"""Header and affine of a volume, read once for each file and process."""

from __future__ import annotations

import io
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes.byte_source import ByteSource, FileIdentity
from reasonknee_datasets.volumes.environment import read_whole_number
from reasonknee_datasets.volumes.index import CUT_OFF, IndexProblemError, SlabIndex, index_bytes, parse_index
from reasonknee_datasets.volumes.inflate import GZIP_MAGIC, MAX_RATIO, SegmentError, inflate_head, inflate_segment
from reasonknee_datasets.volumes.single_flight import Once

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

    def same_layout(self, other: VolumeHeader) -> bool:
        """Check whether another state of the file has the same header and NIfTI version."""
        return bool(self.header == other.header) and self.image_class is other.image_class


def plane_bytes(header: VolumeHeader) -> int:
    """Return the length of a plane, the unit of slabs: the first two axes, or all but the last."""
    return math.prod(header.shape[: min(2, len(header.shape) - 1)]) * header.dtype.itemsize


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
    if index.version == 1 and index.slabs and index.slab_bytes % plane_bytes(parsed):
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
