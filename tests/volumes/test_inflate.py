"""Whole files inflate to their promise or say why not, by each of the libraries that may be there."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import slab_reader as inflate
from reasonknee_datasets.volumes.byte_source import FileIdentity, HeldSource, LocalSource
from reasonknee_datasets.volumes.slab_reader import inflate_file, inflate_head
from tests.helpers.volumes_files import fresh

PLAIN = np.random.default_rng(0).integers(0, 50, 700_000, dtype=np.uint8).tobytes()


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "isal":
        pytest.importorskip("isal", reason="needs isal")
    else:
        monkeypatch.setattr(inflate, "_isal", None)


@pytest.fixture(params=["local", "held"])
def how(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param)


def inflated(data: bytes, folder: Path, how: str, promised: int = len(PLAIN)) -> bytes:
    path = fresh(folder)
    path.write_bytes(data)
    local = LocalSource(str(path))
    source = local if how == "local" else HeldSource(str(path), local.identify(), data)
    return inflate_file(source, source.identify(), promised).tobytes()


def test_sound_files(tmp_path: Path, how: str) -> None:
    for level in (0, 1, 6, 9):
        assert inflated(gzip.compress(PLAIN, level), tmp_path, how) == PLAIN
    assert inflated(gzip.compress(PLAIN) + b"\0" * 1000, tmp_path, how) == PLAIN
    for count in (1, 2, 10):
        step = -(-len(PLAIN) // count)
        members = [gzip.compress(PLAIN[start : start + step]) for start in range(0, len(PLAIN), step)]
        assert inflated(gzip.compress(b"").join([b"", *members, b""]), tmp_path, how) == PLAIN


@pytest.mark.parametrize("rest", [b"<html>moved</html>", b"\n", b"\x1f", b"\0" * 600_000 + b"x", b"x" * 300_000])
@pytest.mark.parametrize("members", [1, 3])
def test_inflate_file_warns_of_trailing_bytes(tmp_path: Path, how: str, rest: bytes, members: int) -> None:
    """As ``gzip -d``, which writes the data and warns; zeros behind them are padding."""
    step = -(-len(PLAIN) // members)
    data = b"".join(gzip.compress(PLAIN[start : start + step]) for start in range(0, len(PLAIN), step))
    with pytest.warns(RuntimeWarning, match=r"knee.* has other bytes after the end of its gzip data.*reasonknee pack"):
        assert inflated(data + rest, tmp_path, how) == PLAIN


def test_a_second_member_with_data_is_refused(tmp_path: Path, how: str) -> None:
    whole = gzip.compress(PLAIN)
    with pytest.raises(VolumeError, match="inflates to more than the 700000 bytes"):
        inflated(whole + b"\0" * 7 + gzip.compress(b"x"), tmp_path, how)
    with pytest.raises(VolumeError, match="does not inflate: after 700000 sound bytes, Compressed file ended"):
        inflated(whole + whole[:20], tmp_path, how)


def test_damage(tmp_path: Path, how: str) -> None:
    whole = gzip.compress(PLAIN, 1)
    for kept in (len(whole) - 1, len(whole) - 8, len(whole) // 2, 11):
        with pytest.raises(VolumeError, match=r"knee.* does not inflate: after \d+ sound bytes"):
            inflated(whole[:kept], tmp_path, how)
    for position in (*range(20, len(whole), len(whole) // 20), len(whole) - 6, len(whole) - 2):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        with pytest.raises(VolumeError, match=r"(does not inflate|inflates to)"):
            inflated(bytes(damaged), tmp_path, how)


def test_promises(tmp_path: Path, how: str) -> None:
    whole = gzip.compress(PLAIN, 1)
    for much in (1, 300_000, 699_999):
        with pytest.raises(VolumeError, match=rf"inflates to more than the {len(PLAIN) - much} bytes"):
            inflated(whole, tmp_path, how, len(PLAIN) - much)
        with pytest.raises(
            VolumeError, match=rf"inflates to 700000 bytes, but its NIfTI header states {len(PLAIN) + much}"
        ):
            inflated(whole, tmp_path, how, len(PLAIN) + much)
    with pytest.raises(VolumeError, match="inflates to more than"):
        inflated(gzip.compress(PLAIN[:400_000]) + gzip.compress(PLAIN[400_000:] + b"x"), tmp_path, how)


@pytest.mark.slow
def test_a_bomb_takes_no_memory(tmp_path: Path, how: str) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    tracemalloc.start()
    with pytest.raises(VolumeError, match="inflates to more than the 700000 bytes"):
        inflated(bomb, tmp_path, how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_heads() -> None:
    whole = gzip.compress(PLAIN)
    assert inflate_head(whole[:5000], 352) == PLAIN[:352]
    assert inflate_head(whole[:100], 10**6) == PLAIN[: len(inflate_head(whole[:100], 10**6))]
    members = b"".join(gzip.compress(PLAIN[start : start + 50]) for start in range(0, 5000, 50))
    assert inflate_head(members, 352) == PLAIN[:352]
    assert inflate_head(members[:300], 352) == PLAIN[: len(inflate_head(members[:300], 352))]
    with pytest.raises(zlib.error, match="incorrect header check"):
        inflate_head(b"no gzip data at all", 10)


def test_another_state_of_the_file_is_refused(tmp_path: Path) -> None:
    path = fresh(tmp_path)
    path.write_bytes(gzip.compress(PLAIN))
    with pytest.raises(VolumeError, match=r"changed after it was opened: it has .* bytes, and had 5"):
        inflate_file(LocalSource(str(path)), FileIdentity(str(path), 5, ""), len(PLAIN))


@pytest.mark.parametrize("final", [0, 1])
@pytest.mark.parametrize("header", [0, 5])
def test_inflate_segment_open_stored_block(final: int, header: int) -> None:
    """A stored block left open would take a block that is appended to verify it, header and all, as voxels."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    segment = packer.compress(PLAIN[:1000]) + packer.flush(zlib.Z_FULL_FLUSH)
    assert inflate.inflate_segment(segment, 1000) == PLAIN[:1000]
    length = 5 + len(inflate._NONCE)
    segment += struct.pack("<BHH", final, length, length ^ 0xFFFF)
    with pytest.raises(inflate.SegmentError, match=r"inflates to|ends within a block"):
        inflate.inflate_segment(segment, 1000 + header)
