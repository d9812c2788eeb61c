"""Damaged and hostile files fail with one error that names the file, before memory is taken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import open_volume
from tests.helpers.volumes_files import knee, nifti_bytes, save


def patched(data: bytes, offset: int, layout: str, *values: float) -> bytes:
    """Overwrite header fields."""
    raw = bytearray(data)
    struct.pack_into(layout, raw, offset, *values)
    return bytes(raw)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("offset", "layout", "values", "message"),
    [
        (40, "<8h", (3, 32767, 32767, 32767, 1, 1, 1, 1), "more than the file"),
        (40, "<8h", (3, -5, 5, 5, 1, 1, 1, 1), "with a size below 0"),
        (70, "<h", (1,), "data code 1 not supported"),
        (70, "<h", (9999,), "data code 9999 not recognized"),
        (108, "<f", (1e12,), "vox_offset"),
        (108, "<f", (float("nan"),), "cannot convert float NaN"),
        (108, "<f", (float("inf"),), "cannot convert float infinity"),
        (108, "<f", (100.0,), "vox offset"),
        (112, "<ff", (1.0, float("nan")), "Valid slope but invalid intercept"),
        (252, "<hhf", (1, 0, float("inf")), "w2 should be positive"),
        (344, "4s", (b"nope",), "is not a NIfTI-1 or NIfTI-2 file"),
    ],
)
def test_bad_headers(tmp_path: Path, suffix: str, offset: int, layout: str, values: Any, message: str) -> None:
    path = write(tmp_path / f"bad{suffix}", patched(nifti_bytes(knee()), offset, layout, *values))
    with pytest.raises(VolumeError, match=f"(?s)bad.*{message}"):
        _ = open_volume(path).shape


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_files_that_are_no_nifti(tmp_path: Path, suffix: str) -> None:
    for data in (b"", b"x", b"not an image at all" * 100, b"\x1f\x8b\x08" + b"\0" * 30):
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(data)
        with pytest.raises(VolumeError, match=r"bad\.nii(\.gz)? is (not|damaged)"):
            _ = open_volume(path).affine


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    whole = save(tmp_path / f"knee{suffix}", knee()).read_bytes()
    for kept in (len(whole) - 1, len(whole) - 9, len(whole) // 2, 200, 10):
        path = tmp_path / f"cut{kept}{suffix}"
        path.write_bytes(whole[:kept])
        with pytest.raises(VolumeError, match=rf"cut{kept}\.nii.*(Copy|copy)"):
            open_volume(path).dataobj[1]


def test_read_finds_every_flipped_bit(tmp_path: Path) -> None:
    array = knee((6, 7, 8))
    whole = save(tmp_path / "knee.nii.gz", array).read_bytes()
    for position in range(60, len(whole), 7):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path = tmp_path / f"{position}-flipped.nii.gz"  # a name of its own: the clock of mtime is coarse
        path.write_bytes(data)
        with pytest.raises(VolumeError, match=r"flipped\.nii.*(Copy|copy)"):
            open_volume(path).dataobj[1]


def test_gzip_longer_than_its_header_states(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    packer = zlib.compressobj(9, wbits=31)
    zeros = b"\0" * 1_000_000
    path.write_bytes(
        packer.compress(nifti_bytes(np.zeros((10, 10, 10), "<i2")))
        + b"".join(packer.compress(zeros) for _ in range(200))
        + packer.flush()
    )
    tracemalloc.start()
    with pytest.raises(VolumeError, match=r"inflates to more than the 2352 bytes that its NIfTI header states"):
        open_volume(path).dataobj[1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_gzip_shorter_than_its_header_states(tmp_path: Path) -> None:
    path = tmp_path / "short.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes(knee())[:-100]))
    with pytest.raises(VolumeError, match=r"inflates to 3612 bytes, but its NIfTI header states 3712"):
        np.asarray(open_volume(path))


def test_nii_shorter_than_its_header_states(tmp_path: Path) -> None:
    path = tmp_path / "short.nii"
    path.write_bytes(nifti_bytes(knee())[:-100])
    with pytest.raises(VolumeError, match=r"more than the file has \(3612 bytes\)"):
        np.asarray(open_volume(path))


def test_a_volume_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    monkeypatch.setenv("REASONKNEE_MAX_VOLUME_BYTES", "1000")
    with pytest.raises(VolumeError, match=r"3712 bytes, more than the 1000 .*REASONKNEE_MAX_VOLUME_BYTES to 3712"):
        _ = open_volume(path).shape
    monkeypatch.setenv("REASONKNEE_MAX_VOLUME_BYTES", "16GB")
    with pytest.raises(
        VolumeError, match=r"MAX_VOLUME_BYTES must be a whole number of bytes, but it is '16GB'\. Set it to 8589934592,"
    ):
        _ = open_volume(path).shape


def test_gzip_of_several_members(tmp_path: Path) -> None:
    """As bgzip writes: members, empty ones among them, and zero padding behind."""
    data, array = nifti_bytes(knee()), knee()
    for step in (100, 777):
        pieces = [gzip.compress(data[start : start + step]) for start in range(0, len(data), step)]
        path = tmp_path / f"members{step}.nii.gz"
        path.write_bytes(gzip.compress(b"").join(pieces) + gzip.compress(b"") + b"\0" * 100)
        np.testing.assert_array_equal(np.asarray(open_volume(path)), array)
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), array)


def test_large_extensions_are_read(tmp_path: Path) -> None:
    text = np.random.default_rng(0).integers(65, 90, 300_000, dtype=np.uint8).tobytes()
    for suffix in (".nii", ".nii.gz"):
        path = save(tmp_path / f"knee{suffix}", knee(), extension=text)
        header = open_volume(path).header
        assert header == nib.load(path).header
        assert header.extensions[0].get_content() == text


def test_no_permission(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"cannot be read \(IsADirectoryError"):
        _ = open_volume(tmp_path).shape
