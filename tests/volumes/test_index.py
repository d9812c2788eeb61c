"""The slab index round-trips, and is told apart from other extra fields and from damage."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.volumes.header import (
    MAX_SLABS,
    IndexProblemError,
    index_bytes,
    parse_index,
    write_gzip_header,
)

segments = st.lists(st.tuples(st.integers(7, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=40)


@given(segments, st.integers(1, 10**6), st.integers(348, 10**5), st.sampled_from([1, 2]), st.data())
def test_round_trip(pairs: list[tuple[int, int]], slab: int, head: int, version: int, data: st.DataObject) -> None:
    slabs = len(pairs) - 1
    total = head + (data.draw(st.integers((slabs - 1) * slab + 1, slabs * slab)) if slabs else 0)
    sizes, checksums = [size for size, _ in pairs], [crc for _, crc in pairs]
    written = write_gzip_header(head, slab, total, sizes, checksums, version=version)
    assert index_bytes(written) == len(written)
    index = parse_index(written, len(written) + sum(sizes) + 10)
    assert index is not None
    assert (index.version, index.slabs) == (version, slabs)
    assert (index.head_bytes, index.slab_bytes, index.total_bytes) == (head, slab, total)
    assert index.voxel_bytes == total - head
    assert np.diff(index.offsets()).tolist() == sizes[1:]
    assert index.offsets()[0] == len(written) + sizes[0]
    assert index.checksums.tolist() == checksums


def test_the_most_slabs_fit_and_no_more() -> None:
    sizes = [7] * (MAX_SLABS + 1)
    written = write_gzip_header(352, 1, 352 + MAX_SLABS, sizes, sizes)
    index = parse_index(written, len(written) + sum(sizes) + 10)
    assert index is not None
    assert index.slabs == MAX_SLABS
    with pytest.raises(struct.error, match=r"ushort|'H' format"):
        write_gzip_header(352, 1, 353 + MAX_SLABS, [*sizes, 7], [*sizes, 7])


def with_extra(extra: bytes, flags: int = 4) -> bytes:
    return b"\x1f\x8b\x08" + bytes([flags]) + b"\0" * 5 + b"\xff" + struct.pack("<H", len(extra)) + extra


def test_other_files_have_none() -> None:
    written = write_gzip_header(352, 100, 552, [50, 40, 41], [7, 8, 9])
    ours = written[12:]
    assert parse_index(gzip.compress(b"plain"), 25) is None
    assert parse_index(b"", 0) is None
    assert parse_index(with_extra(b"BC\x02\x00\x10\x00"), 100) is None  # bgzip's
    assert parse_index(with_extra(b"BC\x02"), 100) is None
    assert parse_index(with_extra(ours, flags=4 | 8) + b"name\0", 1000) is None
    extended = with_extra(b"BC\x02\x00\x10\x00" + ours)
    assert parse_index(extended, len(extended) + 141) is not None


def test_damage_is_told() -> None:
    written = write_gzip_header(352, 100, 552, [50, 40, 41], [7, 8, 9])
    size = len(written) + 141
    assert parse_index(written, size) is not None
    for position in range(16, len(written)):
        damaged = bytearray(written)
        damaged[position] ^= 1
        with pytest.raises(IndexProblemError, match="checksum is wrong"):
            parse_index(bytes(damaged), size)
    with pytest.raises(IndexProblemError, match=rf"a file of {size} bytes, and this one has 1000$"):
        parse_index(written, 1000)
    with pytest.raises(IndexProblemError, match=rf"has {size - 1}, which is cut off$"):
        parse_index(written, size - 1)
    with pytest.raises(IndexProblemError, match="cut"):
        parse_index(with_extra(b"RK\x05\x00abcde"), 100)
