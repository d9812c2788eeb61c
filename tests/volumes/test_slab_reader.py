"""A region read inflates what it touches, verifies it, and gives nibabel's answer."""

from __future__ import annotations

import base64
import gzip
import itertools
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes import DecodeCache, Geometry, fingerprint, index_hash, open_volume, pack, set_threads
from reasonknee_datasets.volumes.byte_source import find_source
from reasonknee_datasets.volumes.header import parse_index, write_gzip_header
from reasonknee_datasets.volumes.slab_reader import inflate_segment
from tests.helpers.paths import ROOT
from tests.helpers.volumes_files import (
    AFFINE,
    as_version_1,
    count_opens,
    fresh,
    knee,
    nifti_bytes,
    same,
    save,
    stored_volumes,
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    set_threads(None)


def packed(path: Path, array: np.ndarray, planes: float = 2, **fields: Any) -> Path:
    plain = save(path.with_suffix(".plain.nii"), array, **fields)
    pack(plain, path, planes=planes, level=1)
    plain.unlink()
    return path


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@settings(
    max_examples=3 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stored_volumes(), st.sampled_from([0.15, 0.25, 0.4, 0.5, 1, 2, 4]), st.integers(1, 2), st.booleans(), st.data())
def test_every_answer_is_nibabels(
    tmp_path: Path, layout: Any, planes: float, threads: int, cached: bool, data: st.DataObject
) -> None:
    fields, shape, dtype, seed = layout
    set_threads(threads)
    path = packed(fresh(tmp_path), knee(shape, dtype, seed), planes, **fields)
    theirs, ours = nib.load(path), open_volume(path, cache=DecodeCache(10**6) if cached else None)
    for _ in range(2):
        index = data.draw(basic_indices(shape, min_dims=0, max_dims=6, allow_newaxis=True, allow_ellipsis=True))
        expected = np.asarray(theirs.dataobj)[index]
        if expected.size:
            same(ours.dataobj[index], theirs.dataobj[index])
        else:
            assert ours.dataobj[index].shape == expected.shape
    same(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
    assert ours.header == theirs.header


@pytest.mark.parametrize("turn", list(Reorientation.all())[::7], ids=str)
def test_a_turned_file_is_put_right(tmp_path: Path, turn: Reorientation) -> None:
    array = knee((5, 6, 7))
    affine = turn.apply_affine(AFFINE, array.shape)
    plain = save(tmp_path / "plain.nii", turn.apply_array(array), affine)
    pack(plain, tmp_path / "knee.nii.gz", planes=2)
    volume = open_volume(tmp_path / "knee.nii.gz", geometry=Geometry(array.shape, AFFINE))
    for index in (np.s_[1:4, ::-2, 2], np.s_[::-1, 3, None, 1:7:3], np.s_[...]):
        np.testing.assert_array_equal(volume.dataobj[index], array[index])


def test_only_the_touched_slabs_are_inflated(tmp_path: Path) -> None:
    array = knee((10, 12, 40))
    slab = 10 * 12 * 2 * 4
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    cache = DecodeCache()
    volume = open_volume(path, cache=cache)
    assert volume.shape == array.shape
    assert cache.info().inflated == 0
    for index, slabs in (
        (np.s_[2, 3, 9], 1),
        (np.s_[:, :, 8:12], 0),
        (np.s_[1:, 3:5, 15:17], 2),
        (np.s_[..., ::20], 2),
    ):
        before = cache.info().inflated
        same(volume.dataobj[index], array[index])
        assert cache.info().inflated - before == slabs * slab
    np.asarray(volume)
    info = cache.info()
    assert info.inflated == info.bytes == array.nbytes  # no slab twice
    assert info.decodes == 1
    np.asarray(volume)
    assert cache.info().inflated == array.nbytes


# Written by the code of version 1: int16 of shape (6, 7, 8) in slabs of three planes.
VERSION_1 = (
    "H4sIBAAAAAAA/0gAUktEAAEAAAADAAAAYAEAAAAAAAD8AAAAAAAAAAAEAAAAAAAAfQAAACZEYw5NAAAAQOdUvk0AAAAJtzd/RQAAAA63MvUdgkuK"
    "imFkIAowM7AxsDNwMDBCISpgYRAA0w32n1lM7R99mGl3W2yXHYiPijc4MzAcqIfggQcgfwgvZtvPnM60f5MC034GBoVDDAwFQOzgCJKfNXOm3dkz"
    "PrYg8bNnztiCxN4E7rADqTE2Nrbnur7YBmISRD0yyNM2BNMAAAAA//+UzkkOgCAQRNHvyKACKnD/oxpMJ/SW9a9KHngyhpsVy8NGZOYksXDBXycO"
    "ilTHyy61fYLU9qlSR/ddEJSgKoEZ3ndBVAKUwPIBAAD//5TORw7AIBAEwYZ1BCdw+P9TEdZK7JVzz0gl7EDgYSbyspAZObmZuJC/Dhw4rRsfq9b6"
    "SVrrx2vt3TdBMgJvBKF73wTZCMQIIgUAAP//lM7bDsAQFETRrUVL6RX//6kNOQmvntdMsi03KxHwnCgOMjsvBceHbbrxoEUvFoJo/STR+jGis/te"
    "kIYCMxREfgAAAP//AwDJ5kSlAAQAAA=="
)


def test_slabs_of_version_1(tmp_path: Path) -> None:
    array = (np.arange(6 * 7 * 8).reshape(6, 7, 8) % 23).astype("<i2")
    path = tmp_path / "knee.nii.gz"
    path.write_bytes(base64.b64decode(VERSION_1))
    same(np.asarray(nib.load(path).dataobj), array)
    cache = DecodeCache()
    same(open_volume(path, cache=cache).dataobj[1:4, ::2, 3:5], array[1:4, ::2, 3:5])
    assert cache.info().inflated == 3 * 6 * 7 * 2
    same(open_volume(path, cache=None).dataobj[1:4, ::2, 2:7], array[1:4, ::2, 2:7])


def test_slabs_of_both_versions_are_equal(tmp_path: Path) -> None:
    array = knee((12, 13, 24))
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    data = path.read_bytes()
    old = as_version_1(data)
    assert (data[16], old[16]) == (2, 1)
    path.write_bytes(old)
    for part in (np.s_[:, 2:5, 6:18], np.s_[3, ::-1, ::5], np.s_[...]):
        same(open_volume(path, cache=None).dataobj[part], array[part])


def test_index_version_1_with_parts_of_planes(tmp_path: Path) -> None:
    array = knee((12, 12, 8))
    path = packed(tmp_path / "knee.nii.gz", array, planes=0.25)
    path.write_bytes(as_version_1(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="slabs of 72 bytes are not whole planes"):
        same(open_volume(path, cache=None).dataobj[1:3, 1:3, 1:3], array[1:3, 1:3, 1:3])


def test_region_inflates_only_its_slabs(tmp_path: Path) -> None:
    array = knee((10, 12, 40))
    part = 10 * 3 * 2  # a quarter of a plane
    path = packed(tmp_path / "knee.nii.gz", array, planes=0.25)
    cache = DecodeCache()
    volume = open_volume(path, cache=cache)
    for index, parts in (
        (np.s_[2:8, 3:6, 10:20], 10),
        (np.s_[2:8, 4:5, 10:20], 0),
        (np.s_[2:8, 2:4, 10:20], 10),
        (np.s_[2:8, 2:4, 30:40:3], 4 * 2),
        (np.s_[9, 2:3, 20:22], 2),
    ):
        before = cache.info().inflated
        same(volume.dataobj[index], array[index])
        assert cache.info().inflated - before == parts * part
    same(np.asarray(volume), array)
    assert cache.info().inflated == cache.info().bytes == array.nbytes


def test_consecutive_slabs_are_inflated_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def counted(packed: bytes, length: int) -> bytes:
        lengths.append(length)
        return inflate_segment(packed, length)

    array = knee((10, 12, 40))
    path = packed(tmp_path / "knee.nii.gz", array, planes=0.25)
    volume = open_volume(path, cache=None)
    assert volume.shape
    monkeypatch.setattr("reasonknee_datasets.volumes.slab_reader.inflate_segment", counted)
    same(np.asarray(volume), array)
    assert lengths == [array.nbytes]
    lengths.clear()
    same(volume.dataobj[:, 2:4, 5:9], array[:, 2:4, 5:9])
    assert lengths == [2 * 60] * 4
    lengths.clear()
    same(volume.dataobj[:, :, 5:9], array[:, :, 5:9])
    assert lengths == [4 * 240]


def test_region_reads_only_its_bytes(tmp_path: Path) -> None:
    """Everything but the header, the index and the touched slabs is overwritten, which changes no result."""
    array = knee((20, 20, 60))
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    data = bytearray(path.read_bytes())
    index = parse_index(bytes(data), len(data))
    assert index is not None
    for slab, (start, stop) in enumerate(itertools.pairwise(index.offsets().tolist())):
        if slab not in (5, 6):
            data[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(data)
    same(open_volume(path, cache=None).dataobj[3:9, :, 20:28], array[3:9, :, 20:28])
    with pytest.raises(VolumeError, match="does not inflate"):
        open_volume(path, cache=None).dataobj[3:9, :, 20:29]


def test_slabs_are_inflated_once_for_threads(tmp_path: Path) -> None:
    array = knee((32, 32, 64))
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    cache, barrier, wrong = DecodeCache(), threading.Barrier(8), []

    def want(start: int) -> None:
        barrier.wait()
        part = np.s_[:, 3:9, start : start + 30]
        if not np.array_equal(open_volume(path, cache=cache).dataobj[part], array[part]):
            wrong.append(start)

    threads = [threading.Thread(target=want, args=(start,)) for start in range(0, 32, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.info().inflated <= array.nbytes


def test_slabs_in_too_small_cache(tmp_path: Path) -> None:
    arrays = [knee((16, 16, 32), seed=seed) for seed in range(3)]
    paths = [packed(tmp_path / f"{seed}.nii.gz", array) for seed, array in enumerate(arrays)]
    cache = DecodeCache(max_bytes=arrays[0].nbytes + 3000)
    rng = np.random.default_rng(0)
    for _ in range(60):
        which, start = int(rng.integers(3)), int(rng.integers(28))
        part = np.s_[2:9, ::-1, start : start + 5]
        same(open_volume(paths[which], cache=cache).dataobj[part], arrays[which][part])
        assert cache.info().bytes <= cache.max_bytes


def test_file_is_opened_once_a_region(tmp_path: Path) -> None:
    path = packed(tmp_path / "knee.nii.gz", knee((16, 16, 32)))
    with count_opens(path) as opens:
        volumes = [open_volume(path, cache=None) for _ in range(3)]
        for volume in volumes:
            assert volume.shape
        assert opens() == 1
        for volume in volumes:
            volume.dataobj[2:4, 3:5, 6:20]
        assert opens() == 4


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    array = knee((12, 13, 24))
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    whole, part, errors = path.read_bytes(), np.s_[:, 2:5, 6:18], 0
    for position in range(0, len(whole), 11):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path = tmp_path / f"{position}-knee.nii.gz"  # a name of its own: the clock of mtime is coarse
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                found = open_volume(path, cache=None).dataobj[part]
            except VolumeError as error:
                assert "knee.nii.gz" in str(error)  # noqa: PT017 (either outcome is right)
                errors += 1
                continue
        same(found, array[part])
    assert errors > len(whole) // 11 // 3


def lie(path: Path, change: Any) -> None:
    """Rewrite the index, checksum and all."""
    data = path.read_bytes()
    size = int.from_bytes(data[10:12], "little")
    payload = bytearray(data[16 : 12 + size - 4])
    change(payload)
    payload += zlib.crc32(payload).to_bytes(4, "little")
    head = data[:10] + (len(payload) + 4).to_bytes(2, "little") + b"RK" + len(payload).to_bytes(2, "little")
    path.write_bytes(head + payload + data[12 + size :])


def put(start: int, value: int, width: int) -> Any:
    def change(payload: bytearray) -> None:
        payload[start : start + width] = value.to_bytes(width, "little")

    return change


def swap(payload: bytearray) -> None:
    payload[40:48], payload[48:56] = payload[48:56], payload[40:48]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(0, 3, 2), "its version is 3"),
        (put(4, 7, 4), "its length does not fit 7 slabs"),
        (put(8, 351, 8), "slabs of .* bytes do not make|its lengths are 351"),
        (put(16, 0, 8), "slabs of 0 bytes do not make"),
        (put(16, 4 * 12 * 13 * 2 - 1, 8), "are not whole planes|do not make"),
        (put(16, 1 << 60, 8), "do not make"),
        (put(24, 1 << 60, 8), "do not make"),
        (put(32, 1 << 31, 4), "it describes a file of .* bytes"),
        (put(36, 5, 4), "header's checksum is wrong"),
        (put(44, 5, 4), "checksum of slab 0 is wrong"),
        (swap, "slab 0 does not inflate|checksum of slab 0|inflates to"),
        (lambda payload: payload.__delitem__(slice(-8, None)), "does not fit 6 slabs"),
        (lambda payload: payload.clear(), "it is cut"),
    ],
)
def test_an_index_that_lies_is_not_used(tmp_path: Path, change: Any, reason: str) -> None:
    array = knee((12, 13, 24))
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    lie(path, change)
    assert gzip.decompress(path.read_bytes()) == nifti_bytes(array)
    with pytest.warns(RuntimeWarning, match=f"slab index of .*knee.nii.gz is not used: .*({reason})"):
        same(open_volume(path, cache=None).dataobj[:, 2:5, 0:18], array[:, 2:5, 0:18])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and it is said once
        same(open_volume(path, cache=None).dataobj[:, 2:5, 0:18], array[:, 2:5, 0:18])


def test_truncated_seekable_file_remedy_is_not_pack(tmp_path: Path) -> None:
    path = packed(tmp_path / "knee.nii.gz", knee((12, 13, 24)), planes=4)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(RuntimeWarning, match=r"knee\.nii\.gz is not used: .*cut off\. Copy the file again"):
        _ = open_volume(path, cache=None).shape


def two_faces(path: Path, number: int, forge: Callable[[bytes, bytes], bytes]) -> Path:
    """Replace a segment of a seekable file by a forged one, under an index that agrees with it; 0 is the header."""
    data = path.read_bytes()
    index = parse_index(data, len(data))
    assert index is not None
    cuts = [index.start, *index.offsets().tolist()]
    segments = [data[start:stop] for start, stop in itertools.pairwise(cuts)]
    plain = [zlib.decompressobj(-15).decompress(segment) for segment in segments]
    segments[number] = forge(segments[number], plain[number])
    head = write_gzip_header(
        index.head_bytes, index.slab_bytes, index.total_bytes, [*map(len, segments)], [*map(zlib.crc32, plain)]
    )
    path.write_bytes(head + b"".join(segments) + data[cuts[-1] :])
    return path


def end_and_start_again(segment: bytes, plain: bytes) -> bytes:
    """Append the end of the gzip stream and a whole second member: a plain reader sees this, and then other voxels."""
    final = zlib.compressobj(1, zlib.DEFLATED, -15)
    return final.compress(plain) + final.flush() + zlib.crc32(plain).to_bytes(4, "little") + gzip.compress(plain)


def final_block_alone(segment: bytes, plain: bytes) -> bytes:
    final = zlib.compressobj(1, zlib.DEFLATED, -15)
    return final.compress(plain) + final.flush()


def swallow_the_next(segment: bytes, plain: bytes) -> bytes:
    """Leave a stored block open, so that a plain reader takes the next segment's bytes for data."""
    return segment + b"\x00" + struct.pack("<HH", 64, 64 ^ 0xFFFF)


def swallow_what_is_appended(segment: bytes, plain: bytes) -> bytes:
    """Leave a stored block open that ends where a final block, appended to verify the segment, would end."""
    head, tail = plain[:-2], plain[-2:]
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + b"\x00" + struct.pack("<HH", 2 + 2, 4 ^ 0xFFFF) + tail


def end_inside_a_final_block(segment: bytes, plain: bytes) -> bytes:
    """Leave a final block of fixed Huffman codes open within its last code."""
    return segment + b"\x03"


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize(
    "forge",
    [end_and_start_again, final_block_alone, swallow_the_next, swallow_what_is_appended, end_inside_a_final_block],
)
@pytest.mark.parametrize("library", ["isal", "zlib"])
@pytest.mark.parametrize("planes", [4, 0.25])
def test_inflate_segment_refuses_ambiguous_segment(
    tmp_path: Path, number: int, forge: Any, library: str, planes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "zlib":
        monkeypatch.setattr("reasonknee_datasets.volumes.slab_reader._isal", None)
    path = two_faces(packed(tmp_path / "knee.nii.gz", knee((12, 13, 24)), planes=planes), number, forge)
    assert_as_nibabel(path)
    if number and planes == 0.25:
        rows = {1: (0, 4), 3: (7, 10)}[number]  # of the forged slab, which has 3.25 rows
        for first, stop in ((rows[0], rows[0] + 1), rows, (0, 13)):
            assert_as_nibabel(path, np.s_[2:5, first:stop, :4])


def refer_to_the_slab_before(segment: bytes, plain: bytes) -> bytes:
    """Copy the first bytes of a slab from 200 bytes before, where only a plain reader has something."""
    # A block of fixed codes: a match of length 10 (code 264) at distance 193 + 7 (code 15, 6 extra bits), end of block.
    bits = "010" + "0001000" + "01111" + "111000" + "0000000"
    bits += "000" + "0" * (-len(bits) - 3 & 7)  # an empty stored block ends on a whole byte
    match = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8)) + b"\0\0\xff\xff"
    rest = zlib.compressobj(1, zlib.DEFLATED, -15)
    return match + rest.compress(plain[10:]) + rest.flush(zlib.Z_FULL_FLUSH)


def test_slab_with_back_reference_reads_as_nibabel(tmp_path: Path) -> None:
    array = knee((12, 13, 24))
    path = packed(tmp_path / "knee.nii.gz", array, planes=0.25)  # slabs of 78 bytes
    path = two_faces(path, 6, refer_to_the_slab_before)
    forged = path.read_bytes()[:-8]
    seen = zlib.decompressobj(-15).decompress(forged[12 + int.from_bytes(forged[10:12], "little") :])
    path.write_bytes(forged + struct.pack("<II", zlib.crc32(seen), len(seen)))  # a plain reader sees no fault
    theirs = np.asarray(nib.load(path).dataobj)
    assert not np.array_equal(theirs, array)
    for part in (np.s_[...], np.s_[:, :, 1], np.s_[:, 3:6, :3], np.s_[:, 4:5, 1:2], np.s_[:, 1:6, 1:2]):
        assert_as_nibabel(path, part)


def assert_as_nibabel(path: Path, part: Any = np.s_[...]) -> None:
    """Read voxels as nibabel does, or refuse them: nibabel does not always verify the checksum at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            ours = open_volume(path, cache=None).dataobj[part]
        except VolumeError as error:
            assert path.name in str(error)  # noqa: PT017 (either outcome is right)
            return
    same(ours, nib.load(path).dataobj[part])


@pytest.mark.parametrize("number", [0, 2])
def test_gzip_members_as_nibabel_and_simpleitk(tmp_path: Path, number: int) -> None:
    sitk = pytest.importorskip("SimpleITK")
    array, other = knee((12, 13, 24)), knee((12, 13, 24), seed=1)
    path = packed(tmp_path / "knee.nii.gz", array, planes=4)
    data, start = nifti_bytes(other), 352 + (number - 1) * 12 * 13 * 4 * 2 if number else 0

    def forge(segment: bytes, plain: bytes) -> bytes:  # another volume's voxels, with the end of the stream
        assert number or data[: len(plain)] == plain
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        rest = packer.compress(data[start:]) + packer.flush()
        seen = nifti_bytes(array)[:start] + data[start:]
        return rest + struct.pack("<II", zlib.crc32(seen), len(seen))

    two_faces(path, number, forge)
    seen = nifti_bytes(array)[:start] + data[start:]
    expected = np.frombuffer(seen, "<i2", offset=352).reshape(array.shape, order="F")
    same(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for region in (np.s_[...], np.s_[2:5, :, 4:8]):
            try:
                same(open_volume(path, cache=None).dataobj[region], expected[region])
            except VolumeError as error:
                assert "knee.nii.gz" in str(error)  # noqa: PT017 (never the voxels that only the index shows)


def test_index_hash_covers_header_and_voxels(tmp_path: Path) -> None:
    array, other = knee((12, 13, 24)), knee((12, 13, 24))
    other[5, 6, 7] += 1
    first, second = packed(fresh(tmp_path), array), packed(fresh(tmp_path), other)
    third = packed(fresh(tmp_path), array, affine=np.diag([1.0, 1, 1, 1]))
    hashes = [index_hash(path) for path in (first, packed(fresh(tmp_path), array), second, third)]
    assert hashes[0] == hashes[1]
    assert len({*hashes}) == 3
    assert index_hash(find_source(first)) == fingerprint(first).index_sha256 == hashes[0]
    assert index_hash(save(tmp_path / "ordinary.nii.gz", array)) is None
    assert index_hash(save(tmp_path / "plain.nii", array)) is None


@pytest.mark.slow
def test_region_memory_is_two_pieces_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    array = np.zeros((160, 384, 200), "<i2")
    array[40:120, 100:300] = np.random.default_rng(0).integers(0, 300, (80, 200, 200))
    plain = save(tmp_path / "plain.nii", array)
    pack(plain, tmp_path / "knee.nii.gz", level=1)
    piece = 512 * 1024
    box = Box((50, 150, 60), (110, 230, 135))
    for threads in (1, 2):
        set_threads(threads)
        volume = open_volume(tmp_path / "knee.nii.gz", cache=None)
        assert volume.shape
        tracemalloc.start()
        region = volume.read_region(box)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        same(region, array[box.slices])
        assert peak < region.nbytes + 2 * piece + 2_000_000
    code = (
        "import sys; from tests.helpers.peak import peak_bytes; "
        "from reasonknee_datasets.volumes import open_volume, set_threads; "
        "from reasonknee_datasets.boxes import Box; set_threads(2); "
        f"v = open_volume(sys.argv[1], cache=None); v.shape; v.read_region(Box((0, 0, 0), (1, 1, 1))); "
        "before = peak_bytes(); "
        f"v.read_region(Box({box.start}, {box.stop})); "
        "print(peak_bytes() - before)"
    )
    command = [sys.executable, "-c", code, os.fspath(tmp_path / "knee.nii.gz")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert grown < box.size * 2 + 2 * piece + 10_000_000
