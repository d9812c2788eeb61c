"""Quintuples per second, from file to collated batch: this package, the bound, and other libraries in one run."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.bound import Bound
from tests.benchmarks.feeds import (
    Crops,
    Feed,
    GetFdata,
    Monai,
    MonaiPersistent,
    Nifti,
    Ours,
    Peer,
    Pngs,
    TorchIO,
    verify,
)
from tests.benchmarks.knee_rows import Knees

NIFTI = "datasets.Nifti"


@dataclass(slots=True)
class Rates:
    """Measurements with one number of workers.

    Attributes
    ----------
    ours, bound, shares : list of float
        Rows a second in each round, of this package and of the bound, and their ratio.
    decodes : float
        Volumes decoded, by epochs and volumes.
    uss : int
        Bytes that the largest worker has for itself; 0 without workers.
    cache_bytes : int
        Bound on the shared folder.
    peers : dict
        Rows a second.
    """

    ours: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    decodes: float = 0.0
    uss: int = 0
    cache_bytes: int = 0
    peers: dict[str, float] = field(default_factory=dict)

    @property
    def shares(self) -> list[float]:
        return [ours / bound for ours, bound in zip(self.ours, self.bound, strict=True)]

    @property
    def rate(self) -> float:
        return median(self.ours)


def measure_ours(knees: Knees, workers: int, *, rounds: int, bound: Bound | None) -> Rates:
    """Run whole epochs, each of files that are new to the package, in turn with the bound."""
    rates, feed, decodes = Rates(), Ours(knees, workers), 0
    try:
        verify(feed, knees, range(0, len(knees.questions), 41))  # workers start, pages are there, nothing is timed
        for _ in range(rounds):
            if bound is not None:
                rates.bound.append(bound.rows / bound.seconds(workers))
            knees.renew()
            before = _decodes(feed)
            rates.ours.append(_rate(feed, range(len(knees.questions))))
            decodes += _decodes(feed) - before
        rates.decodes = decodes / (rounds * len(knees.paths))
        rates.uss = max((private_bytes(child.pid or 0) for child in multiprocessing.active_children()), default=0)
        info = feed.loader.shared_info()
        rates.cache_bytes = 0 if info is None else info.max_bytes
    finally:
        feed.close()
    return rates


def measure_peers(
    knees: Knees, workers: int, folder: Path, *, cold_rows: int, cached_volumes: int, missing_ok: bool
) -> dict[str, float]:
    """Run the other libraries over some of the rows, in random order.

    Those that read a whole file for each row need few rows for a figure. Those that convert or cache a volume first
    are given all rows of a few volumes, so that the conversion is shared by as many rows as it would be.
    """
    found: dict[str, float] = {}
    random = np.random.default_rng(workers)
    few = random.permutation(len(knees.questions))[:cold_rows].tolist()
    whole = random.permutation(knees.of(knees.paths[:cached_volumes])).tolist()
    warm = knees.of(knees.paths[-1:])[: 8 * max(1, workers)]
    with _memory_folder() as memory:
        for name, make, rows in (*_cold(knees, few), *_cached(knees, whole, folder / f"png{workers}", memory)):
            try:
                crops = make()
            except ImportError:
                if not missing_ok:
                    raise
                continue
            feed = Peer(name, crops, knees, workers)
            try:
                verify(feed, knees, warm, window=isinstance(crops, Pngs))
                found[name] = _rate(feed, rows)
            finally:
                feed.close()
    return found


Entry = tuple[str, Callable[[], Crops], Sequence[int]]


def _cold(knees: Knees, rows: Sequence[int]) -> list[Entry]:
    return [
        (NIFTI, lambda: Nifti(knees), rows),
        ("MONAI", Monai, rows),
        ("TorchIO", TorchIO, rows),
        ("the authors' way, `get_fdata`", GetFdata, rows),
    ]


def _cached(knees: Knees, rows: Sequence[int], pngs: Path, memory: Path) -> list[Entry]:
    return [
        ("MONAI, `PersistentDataset` in memory", lambda: MonaiPersistent(knees, memory), rows),
        ("the authors' way, PNG files", lambda: Pngs(pngs), rows),
    ]


def private_bytes(process: int) -> int:
    """Count what a process has for itself (USS); Linux only."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def _rate(feed: Feed, rows: Sequence[int]) -> float:
    started = time.perf_counter()
    count = sum(len(batch["id"]) for batch in feed.run(rows))
    seconds = time.perf_counter() - started
    if count != len(rows):
        raise AssertionError(f"{feed.name} must give {len(rows)} rows, got {count}")
    return count / seconds


def _decodes(feed: Ours) -> int:
    info = feed.loader.shared_info()
    return 0 if info is None else info.decodes


@contextmanager
def _memory_folder() -> Iterator[Path]:
    """Return a folder in memory where there is one, as our own shared folder does."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="reasonknee-bench-", dir=shared if shared.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
