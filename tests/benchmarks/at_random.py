"""Boxes of many volumes in random order, more than fit decoded into memory, from chunks on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reasonknee_datasets.volumes import DecodeCache, DiskCache, open_volume
from tests.benchmarks.knees import Knee, Slices
from tests.benchmarks.peers import Blosc2, Ours
from tests.benchmarks.timing import Contender, race
from tests.benchmarks.works import Goal, Work

Batch = list[tuple[Knee, Slices]]
_BATCH = 124  # reads that are timed as one
_CODECS = (("lz4", 1), ("zstd", 8))


def measure(knees: Sequence[Knee], warm: Path, folder: Path, memory_bytes: int) -> Work:
    """Read all boxes of all knees in one random order for all libraries."""
    reads = [(knee, box) for knee in knees for box in knee.boxes]
    order = np.random.default_rng(0).permutation(len(reads))
    size = min(_BATCH, len(reads))
    batches = [[reads[number] for number in order[start : start + size]] for start in range(0, len(reads), size)]
    batches = [batch for batch in batches if len(batch) == size]
    Ours().prepare(warm)
    contenders, goals = [], []
    for codec, level in _CODECS:
        disk = DiskCache(str(folder / codec), codec=codec, level=level)
        ours = _Cached(DecodeCache(memory_bytes), disk)
        theirs = Blosc2(codec, level)
        for knee in knees:
            theirs.convert(knee.seekable, knee.truth())
        _verify(reads, (ours.read, lambda knee, box, theirs=theirs: theirs.box(knee.seekable, box)))
        kept = {knee.seekable: theirs.open(knee.seekable) for knee in knees}
        name = f"{codec.upper()} {level}"
        rows = {
            f"reasonknee_datasets, cache_dir with {name}": ours.read,
            f"blosc2 {name}, opened for each box": lambda knee, box, theirs=theirs: theirs.box(knee.seekable, box),
            f"blosc2 {name}, kept open": lambda knee, box, kept=kept: kept[knee.seekable][box],
        }
        contenders += [Contender(row, _batched(read), share=size) for row, read in rows.items()]
        ours_row, *rivals = rows
        goals += [Goal(ours_row, (rival,), 0.9) for rival in rivals]
    caption = (
        f"{len(knees[0].boxes)} boxes of each of {len(knees)} volumes in random order; {memory_bytes / 1e6:.0f} MB of "
        f"memory for decoded voxels; cache_dir is warm; one thread. The median over {len(batches)} batches of {size} "
        "reads. blosc2 has the chunks and blocks of nnU-Net."
    )
    return Work("all boxes, at random", "a box", caption, race(contenders, batches), tuple(goals))


class _Cached:
    """Ours, with chunks on disk; a box is a row, and opens the volume by its path."""

    def __init__(self, cache: DecodeCache, disk: DiskCache) -> None:
        self._cache, self._disk = cache, disk

    def read(self, knee: Knee, box: Slices) -> np.ndarray:
        return open_volume(knee.seekable, cache=self._cache, cache_dir=self._disk).dataobj[box]


def _batched(read: Callable[[Knee, Slices], object]) -> Callable[[Batch], None]:
    def work(batch: Batch) -> None:
        for knee, box in batch:
            read(knee, box)

    return work


def _verify(reads: Batch, ways: Sequence[Callable[[Knee, Slices], np.ndarray]]) -> None:
    for knee, box in reads:
        expected = knee.truth()[box]
        for way in ways:
            np.testing.assert_array_equal(way(knee, box), expected, strict=True)
