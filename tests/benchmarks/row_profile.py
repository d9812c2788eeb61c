"""Processor time of one loader row, by stage; the stages add up to the whole.

Each stage's function is wrapped by one that reads the thread's processor clock; the time of the stages that it calls is
taken off. A call adds about 0.5 us to the stage that makes it. No workers and one thread, as in the training benchmark.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import deflate

from tests.benchmarks.feeds import Ours
from tests.benchmarks.knee_rows import Knees, make_knees
from tests.benchmarks.tables import Table
from tests.benchmarks.training import Plan

REST = "sampler, loader, and torch's loop"
INFLATE, COPY_CROP, CHECKSUM = "inflate (ISA-L)", "copy crops into the batch", "checksums"
# Module, function and stage; what a function does besides the stages that it calls counts as its own.
_STAGES = (
    ("loader.worker_dataset", "Work._rows", "table rows"),
    ("loader.worker_dataset", "Work.__getitems__", "worker: examples of a batch"),
    ("loader.worker_dataset", "Work._made", "worker: examples of a batch"),
    ("loader.shared", "SharedVolumes.expect", "cache lookup, locks and flags of slots"),
    ("loader.shared", "SharedVolumes.get_slabs", "cache lookup, locks and flags of slots"),
    ("loader.shared", "SharedVolumes.release", "cache lookup, locks and flags of slots"),
    ("volumes.byte_source", "LocalSource.identify", "open and stat the file"),
    ("volumes.byte_source", "LocalSource._opened", "open and stat the file"),
    ("volumes.byte_source", "_read_fully", "read compressed bytes"),
    ("volumes.slab_reader", "inflate_segment", INFLATE),
    ("volumes.slab_reader", "Slabs._verified", "Python per piece of slabs"),
    ("volumes.slab_reader", "Slabs._inflate", "copy slabs to their place"),
    ("volumes.slab_reader", "Slabs.fill", "plan slabs and pieces"),
    ("volumes.slab_reader", "Slabs.touched", "plan slabs and pieces"),
    ("volumes.stored_array", "StoredVoxels.lend", "slice the crops"),
    ("volumes.lending", "LentVolume.lend", "slice the crops"),
    ("collate.voxel_stacking", "lent_volume", "slice the crops"),
    ("collate.voxel_stacking", "_copy", COPY_CROP),
    ("collate.voxel_stacking", "_empty", "collate: voxels"),
    ("collate.collator", "stack", "collate: voxels"),
    ("collate.collator", "pad_tokens", "collate: tokens"),
    ("collate.collator", "QuintupleCollator.__call__", "collate: other columns"),
    ("transforms.crop", "CropToBox.__call__", "transform: CropToBox"),
    ("transforms.tokenize_reasoning", "TokenizeReasoning.__call__", "transform: tokens"),
)


class StageClock:
    """Nanoseconds of processor time that each stage took by itself."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._inner: list[int] = []  # time of the stages within each one that is running

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same, and counts its time as that of a stage."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0)
            started = time.thread_time_ns()
            try:
                return function(*arguments, **options)
            finally:
                took = time.thread_time_ns() - started
                self.spent[stage] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return timed

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Time all stages within the block."""
        with ExitStack() as patches:
            for name, path, stage in _STAGES:
                target = import_module(f"reasonknee_datasets.{name}")
                *kind, function = path.split(".")
                target = getattr(target, kind[0]) if kind else target
                patches.enter_context(patch.object(target, function, self.wrap(stage, getattr(target, function))))
            reader = import_module("reasonknee_datasets.volumes.slab_reader")
            crc32 = self.wrap(CHECKSUM, deflate.crc32)
            patches.enter_context(patch.object(reader, "deflate", SimpleNamespace(crc32=crc32)))
            yield


def measure(folder: Path, *, plan: Plan | None = None) -> Table:
    """Measure epochs of files that are new to the package, and take the median of each stage."""
    plan = plan or Plan()
    knees = make_knees(folder, size=plan.size, patients=plan.patients, crop=plan.crop)
    rounds = profile(knees, plan.rounds)
    caption = f"Microseconds of processor time a row, {len(knees.questions)} rows, median of {plan.rounds} epochs."
    table = Table("One row of the loader, 0 workers", ("stage", "us", "share"), caption)
    total = median(sum(spent.values()) for spent in rounds)
    stages = {stage: median(spent[stage] for spent in rounds) for stage in rounds[0]}
    for stage, spent in sorted(stages.items(), key=lambda pair: -pair[1]):
        table.add(stage, f"{spent:,.0f}", f"{spent / total:.1%}")
    table.add("whole row", f"{total:,.0f}", "")
    return table


def profile(knees: Knees, rounds: int) -> list[dict[str, float]]:
    """Return the microseconds a row of each stage in each round; the first epoch, which warms up, is left out."""
    clock, found = StageClock(), list[dict[str, float]]()
    with clock.installed():
        feed = Ours(knees, 0)
        epoch = clock.wrap(REST, lambda: sum(len(batch["id"]) for batch in feed.run()))
        try:
            for _ in range(rounds + 1):
                knees.renew()
                clock.spent.clear()
                rows = epoch()
                found.append({stage: spent / 1e3 / rows for stage, spent in clock.spent.items()})
        finally:
            feed.close()
    return found[1:]
