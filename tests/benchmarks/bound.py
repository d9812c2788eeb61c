"""Lower bound on the time of an epoch: inflate the slabs that it needs with libdeflate alone, and copy its crops."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deflate
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.loader.epoch_order import EpochPlan
from reasonknee_datasets.volumes.byte_source import find_source
from reasonknee_datasets.volumes.header import read_header
from tests.benchmarks.knee_rows import Knees, Question, Region
from tests.benchmarks.segments import Segments, index_of, read_runs, touched


class Bound:
    """Work that a loader cannot avoid, and nothing else; its time is the bound that the loader is compared with.

    Timed, for all rows in the order of an epoch:

    1. Inflating, once an epoch, the slabs of each volume that any of its crops touches, by libdeflate, from compressed
       bytes in memory. The output is dropped: it is neither checked nor written to a volume.
    2. Copying each crop from a decoded volume, which is in memory before the clock starts, into a batch whose memory
       order is that of the volume. One batch is overwritten again and again.

    Not timed, and what a loader spends beyond the bound: reading and decoding rows, checksums, finding files and cache
    entries, transforms, tokens, padding, and sending batches from worker to main process. With workers, the batches are
    dealt to as many processes in turn; the one that meets a volume first inflates it, and nothing is shared or sent.
    """

    def __init__(self, knees: Knees, *, batch_size: int = 8, volumes_in_flight: int = 4) -> None:
        self._batch_size = batch_size
        self._segments, self._voxels = [], []
        for path in knees.paths:
            self._segments.append(_segments(path, [question for question in knees.questions if question.path == path]))
            self._voxels.append(np.asarray(nib.load(path).dataobj))
        volumes = np.array([knees.paths.index(question.path) for question in knees.questions])
        order = EpochPlan(volumes, volumes_in_flight=volumes_in_flight).rows(0).tolist()
        met: set[int] = set()
        self._items: list[tuple[int, bool, Region]] = []  # volume, whether it is met here first, and the crop
        for row in order:
            volume = int(volumes[row])
            self._items.append((volume, volume not in met, knees.questions[row].region))
            met.add(volume)
        self.rows = len(order)

    def seconds(self, workers: int) -> float:
        """Do all of it once, in this process or in as many others, and return the seconds that it took by the clock."""
        if not workers:
            started = time.perf_counter()
            self._work(0, 1)
            return time.perf_counter() - started
        context = multiprocessing.get_context("fork")
        barrier, spans = context.Barrier(workers), context.SimpleQueue()

        def work(worker: int) -> None:
            barrier.wait()
            started = time.monotonic()
            self._work(worker, workers)
            spans.put((started, time.monotonic()))

        processes = [context.Process(target=work, args=(worker,)) for worker in range(workers)]
        for process in processes:
            process.start()
        found = [spans.get() for _ in processes]
        for process in processes:
            process.join()
        return max(stop for _, stop in found) - min(start for start, _ in found)

    def _work(self, worker: int, workers: int) -> None:
        size = self._batch_size
        volume, _, region = self._items[0]
        room = _room(size, self._voxels[volume][region])
        for start in range(worker * size, len(self._items), workers * size):
            for at, (volume, is_first, region) in enumerate(self._items[start : start + size]):
                for packed, length in self._segments[volume] if is_first else ():
                    deflate.deflate_decompress(packed, length)
                np.copyto(room[at], self._voxels[volume][region])


def _room(batch_size: int, crop: NDArray[Any]) -> NDArray[Any]:
    """Return memory for a batch whose crops have the memory order of the volume, since no other copy is cheaper."""
    room = np.zeros((batch_size, *crop.shape[::-1]), crop.dtype)
    return room.transpose(0, 3, 2, 1)


def _segments(path: Path, questions: Sequence[Question]) -> Segments:
    """Read the slabs that any of a volume's crops touches."""
    header, index = read_header(find_source(path)), index_of(path)
    return read_runs(path, set().union(*(touched(question.region, header, index.slab_bytes) for question in questions)))
