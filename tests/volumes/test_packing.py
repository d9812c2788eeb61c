"""A packed file is a plain .nii.gz for other readers, and seekable for this package."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import deflate
import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import fingerprint, open_volume, pack
from reasonknee_datasets.volumes.header import parse_index
from tests.helpers.paths import ROOT
from tests.helpers.volumes_files import knee, nifti_bytes, save

READERS = ROOT / "tests" / "readers"


def smooth(shape: tuple[int, ...] = (60, 64, 50), seed: int = 0) -> np.ndarray:
    """Draw voxels that compress about as a knee does."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.add.outer(np.arange(shape[0]), np.arange(shape[1])), np.arange(shape[2]))
    return (ramp + rng.normal(0, 4, shape)).clip(0).astype("<i2")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(save(folder / "plain.nii.gz", smooth()), folder / "knee.nii.gz")
    return folder / "knee.nii.gz"


def test_every_reader_of_python_reads_it(packed: Path) -> None:
    data, plain = packed.read_bytes(), nifti_bytes(smooth())
    assert gzip.decompress(data) == plain
    assert zlib.decompress(data, wbits=31) == plain
    assert deflate.gzip_decompress(data, len(plain)) == plain
    inflater = zlib.decompressobj(wbits=31)  # one member, nothing behind it
    assert inflater.decompress(data) == plain
    assert inflater.eof
    assert not inflater.unused_data
    isal = pytest.importorskip("isal.isal_zlib")
    assert isal.decompress(data, wbits=31) == plain
    np.testing.assert_array_equal(np.asarray(nib.load(packed).dataobj), smooth())


@pytest.mark.skipif(shutil.which("gzip") is None, reason="needs the gzip command")
def test_the_gzip_command_reads_it(packed: Path) -> None:
    assert subprocess.run(["gzip", "-dc", packed], capture_output=True, check=True).stdout == nifti_bytes(smooth())
    subprocess.run(["gzip", "-t", packed], check=True)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_browser_viewers_readers_read_it(packed: Path) -> None:
    if not (READERS / "node_modules" / "fflate").is_dir():
        pytest.skip("needs fflate and pako: npm install --prefix tests/readers")
    run = subprocess.run(["node", READERS / "read.mjs", packed], capture_output=True, text=True, check=True)
    expected = hashlib.sha256(nifti_bytes(smooth())).hexdigest()
    told = json.loads(run.stdout)
    assert len(told) == 5
    assert set(told.values()) == {expected}, told


def test_the_index_says_where_everything_is(packed: Path) -> None:
    data = packed.read_bytes()
    index = parse_index(data[:70_000], len(data))
    assert index is not None
    cuts = [index.start, *index.offsets().tolist()]
    lengths = [index.head_bytes, *[index.slab_bytes] * index.slabs]
    lengths[-1] = index.voxel_bytes - (index.slabs - 1) * index.slab_bytes
    whole = b""
    for (start, stop), length, checksum in zip(itertools.pairwise(cuts), lengths, index.checksums, strict=True):
        part = deflate.deflate_decompress(data[start:stop] + b"\3\0", length)
        assert zlib.crc32(part) == checksum
        whole += part
    assert whole == nifti_bytes(smooth())
    run = deflate.deflate_decompress(data[cuts[2] : cuts[5]] + b"\3\0", 3 * index.slab_bytes)
    assert run == whole[352 + index.slab_bytes : 352 + 4 * index.slab_bytes]


def test_it_is_hardly_larger_than_ordinary_gzip(tmp_path: Path) -> None:
    array = smooth((160, 192, 40))
    for level in (1, 6):
        report = pack(save(tmp_path / "plain.nii", array), tmp_path / "knee.nii.gz", level=level)
        ordinary = len(gzip.compress(nifti_bytes(array), level))
        assert report.bytes_after == (tmp_path / "knee.nii.gz").stat().st_size < 1.05 * ordinary


def test_the_same_voxels_give_the_same_file(tmp_path: Path, packed: Path) -> None:
    again = tmp_path / "again.nii.gz"
    for path in (packed, save(tmp_path / "raw.nii", smooth()), save(tmp_path / "plain.nii.gz", smooth())):
        pack(path, again)
        assert again.read_bytes() == packed.read_bytes()
    pack(again, again)  # in place
    assert again.read_bytes() == packed.read_bytes()
    assert fingerprint(again).voxels_sha256 == fingerprint(tmp_path / "raw.nii").voxels_sha256
    assert again.stat().st_mode & 0o777 == (tmp_path / "raw.nii").stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("shape", "planes", "slabs", "slab_bytes"),
    [
        ((160, 384, 9), 4, 3, 4 * 61_440),
        ((160, 384, 3), 4, 1, 3 * 61_440),
        ((160, 384, 9), 0.25, 36, 15_360),
        ((160, 383, 2), 0.3, 6, 20_427),  # the last slab of a plane holds the first voxels of the next
        ((160, 384, 9), None, 18, 30_720),  # halves are equal, and have at most 60 kB
        ((160, 383, 2), None, 4, 30_640),
        ((251, 251, 2), None, 4, 31_501),  # a prime number has no equal parts
        ((8, 8, 3000), None, 4, 59_968),  # small planes are grouped
        ((256, 256, 5, 6), None, 60, 32_768),  # the last two axes count as one
        ((20_000, 9), None, 3, 60_000),
        ((30_000,), None, 1, 30_000),
        ((4, 0, 3), None, 0, 1),
    ],
)
def test_slabs(tmp_path: Path, shape: tuple[int, ...], planes: float | None, slabs: int, slab_bytes: int) -> None:
    array = np.zeros(shape, "|u1")
    array.flat[:: max(1, array.size // 1000)] = 7
    path = tmp_path / "knee.nii.gz"
    report = pack(save(tmp_path / "plain.nii", array), path, planes=planes, level=1)
    assert (report.slabs, report.slab_bytes) == (slabs, slab_bytes)
    assert gzip.decompress(path.read_bytes()) == nifti_bytes(array)
    volume = open_volume(path, cache=None)
    if array.size:
        np.testing.assert_array_equal(np.asarray(volume), array)
        np.testing.assert_array_equal(volume.dataobj[..., -3:], array[..., -3:])


def test_slabs_grow_until_the_index_fits(tmp_path: Path) -> None:
    array = knee((2, 2, 20_000), "|u1")
    for planes in (1, 0.5):
        report = pack(save(tmp_path / "plain.nii", array), tmp_path / "knee.nii.gz", planes=planes)
        assert (report.slab_bytes, report.slabs) == (3 * 4, 6667)
        assert gzip.decompress((tmp_path / "knee.nii.gz").read_bytes()) == nifti_bytes(array)
    volume = open_volume(tmp_path / "knee.nii.gz", cache=None)
    np.testing.assert_array_equal(volume.dataobj[:, 1, 7:19_000:501], array[:, 1, 7:19_000:501])


def test_headers_with_extensions_and_scaling_stay(tmp_path: Path) -> None:
    text = np.random.default_rng(0).integers(65, 90, 100_000, dtype=np.uint8).tobytes()
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        path = save(tmp_path / "plain.nii.gz", knee(dtype=">i2"), slope=2, inter=1, kind=kind, extension=text)
        pack(path, tmp_path / "knee.nii.gz")
        ours, theirs = open_volume(tmp_path / "knee.nii.gz"), nib.load(path)
        assert ours.header == theirs.header
        np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())


def test_damaged_input_leaves_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "plain.nii.gz", knee())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(VolumeError, match=r"plain\.nii\.gz does not inflate"):
        pack(path, tmp_path / "knee.nii.gz")
    assert names(tmp_path) == ["plain.nii.gz"]


def test_pack_leaves_nothing_after_failed_write(tmp_path: Path) -> None:
    path = save(tmp_path / "plain.nii.gz", knee())
    with pytest.raises(VolumeError, match=r"packed volume .*absent.*cannot be written \(FileNotFoundError"):
        pack(path, tmp_path / "absent" / "knee.nii.gz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(VolumeError, match=r"cannot be written \(IsADirectoryError"):
        pack(path, tmp_path / "folder")
    assert names(tmp_path) == ["folder", "plain.nii.gz"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "plain.nii.gz", smooth())
    original = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = original(self, mode, *args, **kwargs)
        if "x" in mode:  # the name is taken, and every byte then meets a device that is really full
            os.dup2(os.open("/dev/full", os.O_RDWR), file.fileno())
        return file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(VolumeError, match=r"cannot be written \(OSError: .*No space left.*Nothing was left behind"):
        pack(path, tmp_path / "knee.nii.gz")
    assert names(tmp_path) == ["plain.nii.gz"]


def test_settings_are_checked(tmp_path: Path) -> None:
    path = save(tmp_path / "plain.nii.gz", knee())
    with pytest.raises(VolumeError, match="cannot hold 0 planes"):
        pack(path, tmp_path / "knee.nii.gz", planes=0)
    with pytest.raises(VolumeError, match="level 10 does not exist"):
        pack(path, tmp_path / "knee.nii.gz", level=10)
