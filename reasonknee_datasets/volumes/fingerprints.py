"""Hashes of a volume file: of its bytes, and of its voxels however they are stored."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.volumes.byte_source import ByteSource, HeldSource, find_source, read_whole
from reasonknee_datasets.volumes.header import read_header, spatial_shape
from reasonknee_datasets.volumes.stored_array import Settings, StoredVoxels, VolumeProxy

_PIECE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class VolumeFingerprint:
    """Geometry and hashes of one volume file.

    Attributes
    ----------
    shape : tuple of int
        Shape of the stored array, without axes of length 1 behind the third.
    affine : (4, 4) tuple of tuples of float
        Voxel-centre to world (RAS+, mm).
    dtype : str
        Stored voxel type, whatever its byte order: ``"int16"``.
    bytes : int
        Size of the file.
    sha256 : str
        SHA-256 of the file.
    voxels_sha256 : str
        SHA-256 of the voxel values in canonical order (see `hash_voxels`).
    index_sha256 : str or None
        SHA-256 of the NIfTI header and the slab index (see `index_hash`); None where the file is not seekable.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    dtype: str
    bytes: int
    sha256: str
    voxels_sha256: str
    index_sha256: str | None = None


def index_hash(path_or_source: str | os.PathLike[str] | ByteSource) -> str | None:
    """Return the hash of a seekable file's NIfTI header and slab index.

    The index has a checksum of every slab, so that this hash covers every voxel; only the first bytes of the file are
    read. `open_volume` compares it on first touch (see its parameter `expected`).

    Parameters
    ----------
    path_or_source : str, path or ByteSource
        A volume file or URL.

    Returns
    -------
    str or None
        SHA-256 in hexadecimal; None for an ordinary ``.nii.gz`` or ``.nii``, and where the index cannot be believed.

    Raises
    ------
    VolumeError
        If the file is not a NIfTI file.
    """
    source = find_source(path_or_source) if isinstance(path_or_source, str | os.PathLike) else path_or_source
    return read_header(source).index_sha256


def fingerprint(path: str | os.PathLike[str]) -> VolumeFingerprint:
    """Read a volume file once, and compute its geometry and hashes.

    Parameters
    ----------
    path : str or path
        A NIfTI file.

    Raises
    ------
    VolumeError
        If the file is damaged; the whole of it is read and its checksums are verified.
    """
    return read_with_fingerprint(path)[0]


def read_with_fingerprint(path: str | os.PathLike[str]) -> tuple[VolumeFingerprint, NDArray[Any]]:
    """Read a volume file once, and return its `fingerprint` together with its values."""
    source = find_source(path)
    header = read_header(source)
    data = read_whole(source, header.identity)
    voxels = StoredVoxels(HeldSource(source.path, header.identity, data), header, Settings(cache=None, cache_dir=None))
    values = np.asarray(VolumeProxy(voxels).reshape(spatial_shape(header.shape)))
    found = VolumeFingerprint(
        spatial_shape(header.shape),
        tuple(tuple(row) for row in header.affine.tolist()),
        header.dtype.name if header.dtype.fields is None else str(header.dtype),
        header.identity.size,
        hashlib.sha256(data).hexdigest(),
        hash_voxels(values, header.affine),
        header.index_sha256,
    )
    return found, values


def verify_sha256(path_or_url: str | os.PathLike[str], expected: str) -> None:
    """Compare a volume file with its hash in the manifest.

    Reading a ``.nii.gz`` checks its checksums anyway; an uncompressed ``.nii`` has none, and this is how to be sure.

    Parameters
    ----------
    path_or_url : str or path
        The file.
    expected : str
        SHA-256 in hexadecimal.

    Raises
    ------
    VolumeError
        If the file has another hash.
    """
    source = find_source(path_or_url)
    identity, digest = source.identify(), hashlib.sha256()
    with source.open(identity) as fetch:
        for start in range(0, identity.size, _PIECE):
            digest.update(fetch([(start, min(start + _PIECE, identity.size))])[0])
    if digest.hexdigest() != expected.lower():
        raise VolumeError(
            f"The volume file {source.label} has the sha256 {digest.hexdigest()}, but should have {expected}. Copy the "
            "file again, or prepare the repository again if it was meant to change."
        )


def hash_voxels(dataobj: ArrayProxy | NDArray[Any], affine: NDArray[np.floating]) -> str:
    """Hash a volume's values in the array order closest to RAS+, first axis fastest.

    Two conversions of one scan agree where the values agree: however their axes run, whatever their byte order,
    integer width, compression and scaling factors. Values that are all whole numbers are hashed as the narrowest
    signed integers that hold them all, anything else as 64-bit floats; shape and type go into the hash first.

    Examples
    --------
    >>> values, affine = np.arange(24).reshape(2, 3, 4), np.eye(4)
    >>> flipped = np.diag([-1.0, 1, 1, 1])
    >>> hash_voxels(values, affine) == hash_voxels(values[::-1].astype(np.float32), flipped)
    True
    """
    array = np.asanyarray(dataobj)
    turned = to_canonical(affine).apply_array(array) if array.ndim >= 3 else array
    values = _plain(turned)
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    digest.update(np.asfortranarray(values).ravel(order="K").view(np.uint8).data)
    return digest.hexdigest()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Convert values to the one type that is hashed for all types that can hold them."""
    if array.dtype.fields is not None or array.dtype.kind == "c" or array.size == 0:
        return array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.kind == "f" and not _whole(array):
        return array.astype("<f8")
    low, high = int(array.min()), int(array.max())
    for dtype in ("<i1", "<i2", "<i4", "<i8"):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return array.astype(dtype, copy=False)
    return array.astype("<u8")


def _whole(array: NDArray[Any]) -> bool:
    """Check whether floating values are all integers that 64 bits hold."""
    return bool(np.isfinite(array).all() and (np.abs(array) < 2.0**63).all() and (array == np.rint(array)).all())
