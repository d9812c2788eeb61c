"""NIfTI files for the tests of volumes, written field by field so that nothing of nibabel's writing is in the way."""

from __future__ import annotations

import gzip
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray

from reasonknee_datasets.volumes.header import parse_index, write_gzip_header

AFFINE = np.array([[0.0, 0.3, 0.05, -40.0], [0.1, 0.0, 0.36, -60.0], [0.7, 0.02, 0.0, 12.0], [0.0, 0.0, 0.0, 1.0]])


def nifti_bytes(
    array: NDArray[Any],
    affine: NDArray[np.float64] = AFFINE,
    *,
    slope: float = np.nan,
    inter: float = np.nan,
    kind: Any = nib.Nifti1Image,
    extension: bytes = b"",
) -> bytes:
    """Lay out a NIfTI file in the array's own byte order, with the scaling in the header and not applied."""
    big = array.dtype.str.startswith(">")
    header = kind.header_class(endianness=">" if big else "<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner", strip_shears=True)
    header["scl_slope"], header["scl_inter"] = slope, inter
    body = b"\0\0\0\0"
    if extension:
        size = -(-(len(extension) + 8) // 16) * 16
        words = np.array([size, 6], ">i4" if big else "<i4").tobytes()
        body = b"\1\0\0\0" + words + extension.ljust(size - 8, b"\0")
    header["vox_offset"], header["magic"] = header.sizeof_hdr + len(body), header.single_magic
    return bytes(header.binaryblock) + body + array.tobytes(order="F")


def save(path: Path, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE, **fields: Any) -> Path:
    """Write a NIfTI file, compressed where its name says so."""
    data = nifti_bytes(array, affine, **fields)
    path.write_bytes(gzip.compress(data, 1, mtime=0) if path.suffix == ".gz" else data)
    return path


def fresh(folder: Path, suffix: str = ".nii.gz") -> Path:
    """Return a name that was never used: within 4 ms, mtime does not tell two files of one name and size apart."""
    return folder / f"knee-{next(_numbers)}{suffix}"


def knee(shape: tuple[int, ...] = (12, 14, 10), dtype: str = "<i2", seed: int = 0) -> NDArray[Any]:
    """Draw voxels that no two of which are likely to be swapped unnoticed."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, shape, dtype=kind.newbyteorder("="), endpoint=True).astype(kind)
    if kind.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(kind)
    return rng.normal(size=shape).astype(kind)


def as_version_1(data: bytes) -> bytes:
    """Write the index of a seekable file whose slabs are whole planes in version 1 of the format."""
    index = parse_index(data, len(data))
    assert index is not None
    lengths = (index.head_bytes, index.slab_bytes, index.total_bytes)
    sizes, checksums = index.sizes.tolist(), index.checksums.tolist()
    return write_gzip_header(*lengths, sizes, checksums, version=1) + data[index.start :]


DTYPES = ["|i1", "|u1", "<i2", ">i2", "<u2", ">u4", "<i8", ">u8", "<f4", ">f4", ">f8", "<c8"]
SCALINGS = [(np.nan, np.nan), (1.0, 0.0), (2.0, 0.0), (0.5, -3.0), (1.0, 7.0), (0.0, 1.0), (1e30, 0.0)]


def same(ours: Any, theirs: Any) -> None:
    """Equal in value, dtype, shape and kind of object."""
    assert isinstance(ours, np.generic) == isinstance(theirs, np.generic)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


@st.composite
def stored_volumes(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, ...], str, int]:
    """Draw header fields, shape, dtype and seed of a small volume."""
    fields: dict[str, Any] = dict(zip(("slope", "inter"), draw(st.sampled_from(SCALINGS)), strict=True))
    fields["kind"] = draw(st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]))
    fields["extension"] = draw(st.sampled_from([b"", b"made for a test"]))
    shape = draw(array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=7))
    return fields, shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99))


_numbers = itertools.count()
_opened: list[str] = []
_hooked: list[bool] = []


@contextmanager
def count_opens(path: Path) -> Iterator[Callable[[], int]]:
    """Count how often this process opens a file, whichever function of Python does it."""
    if not _hooked:  # an audit hook stays for good
        sys.addaudithook(lambda event, args: _opened.append(str(args[0])) if event == "open" else None)
        _hooked.append(True)
    before = _opened.count(str(path))
    yield lambda: _opened.count(str(path)) - before
