"""Time of the deflate library alone: the roofline under every figure for a ``.nii.gz``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import deflate

from reasonknee_datasets.volumes.byte_source import find_source
from reasonknee_datasets.volumes.header import FINAL_BLOCK, SlabIndex, VolumeHeader, read_header
from tests.benchmarks.knees import Slices

Segments = list[tuple[bytes, int]]
"""Compressed streams, and their inflated lengths."""

_RUN_BYTES = 512 * 1024


def index_of(path: Path) -> SlabIndex:
    """Read the index of a seekable file."""
    index = read_header(find_source(path)).index
    assert index is not None, f"{path} is not seekable"
    return index


def runs_of(path: Path, box: Slices | None) -> Segments:
    """Read the slabs that hold a box, or all of them."""
    index = index_of(path)
    if box is None:
        return read_runs(path, range(index.slabs))
    return read_runs(path, touched(box, read_header(find_source(path)), index.slab_bytes))


def read_runs(path: Path, slabs: Iterable[int]) -> Segments:
    """Read slabs; consecutive ones are a stream of up to half a megabyte, inflated."""
    index, runs = index_of(path), list[list[int]]()
    for slab in sorted(slabs):
        if runs and slab == runs[-1][-1] + 1 and (len(runs[-1]) + 1) * index.slab_bytes <= _RUN_BYTES:
            runs[-1].append(slab)
        else:
            runs.append([slab])
    data, offsets = path.read_bytes(), index.offsets().tolist()
    ends = [min(number * index.slab_bytes, index.voxel_bytes) for number in range(index.slabs + 1)]
    spans = [(run[0], run[-1] + 1) for run in runs]
    return [(data[offsets[a] : offsets[b]] + FINAL_BLOCK, ends[b] - ends[a]) for a, b in spans]


def touched(box: Slices, header: VolumeHeader, slab_bytes: int) -> set[int]:
    """Find the slabs that a box has voxels in: in each plane it takes bytes from a first to a last."""
    i, j, k = box
    columns, rows, _ = header.shape
    touched: set[int] = set()
    for plane in range(k.start, k.stop):
        first = (plane * rows + j.start) * columns + i.start
        last = (plane * rows + j.stop - 1) * columns + i.stop
        size = header.dtype.itemsize
        touched.update(range(first * size // slab_bytes, (last * size - 1) // slab_bytes + 1))
    return touched


class Segmented:
    """Inflates what a read needs, out of compressed bytes that are read before the clock starts, and keeps nothing."""

    name = "deflate alone"

    def __init__(self) -> None:
        self._segments: Segments = []

    def read_slabs(self, path: Path, box: Slices | None) -> None:
        """Take the slabs that a box touches, or all of them."""
        self._segments = runs_of(path, box)

    def read_member(self, path: Path) -> None:
        """Take an ordinary file."""
        self._segments = [(path.read_bytes(), read_header(find_source(path)).decoded_size)]

    def inflate(self) -> None:
        """Inflate the runs of slabs, one after the other."""
        for packed, length in self._segments:
            deflate.deflate_decompress(packed, length)

    def inflate_member(self) -> None:
        """Inflate the ordinary file."""
        for packed, length in self._segments:
            deflate.gzip_decompress(packed, length)
