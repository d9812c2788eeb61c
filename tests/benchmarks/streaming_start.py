"""From a fresh process to the first crop, against stock `datasets` to its first row of the same folder."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from tests.benchmarks.scale import run
from tests.benchmarks.tables import Table

# Each ends with os._exit: stock `datasets` now and then aborts while its threads are ended.
_OURS = """
import os, sys
import numpy
from reasonknee_datasets import Box, load_dataset
rows = load_dataset("3dreasonknee", split="train", streaming=True, data_dir=sys.argv[1])
row = next(iter(rows))
crop = numpy.asarray(row["volume"].slicer[Box(row["box"]).slices].dataobj)
assert crop.ndim == 3 and crop.size
os._exit(0)
"""
_STOCK = """
import os, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], split="train", streaming=True)
assert next(iter(rows))["question"]
os._exit(0)
"""
_WAYS = (
    ("reasonknee_datasets, to the first crop", _OURS),
    ("stock `datasets`, to the first row", _STOCK),
    ("`import datasets` alone", "import datasets, os; os._exit(0)"),
)


def measure(folder: Path, *, rounds: int = 21, size: str = "oai") -> Table:
    """Start each way in a process of its own, in turn, ``rounds`` times; the first round warms the files."""
    release, repository = str(folder / "release"), str(folder / "3dreasonknee")
    reasonknee = (sys.executable, "-m", "reasonknee_datasets")
    run(*reasonknee, "phantom", "--out", release, "--patients", "2", "--size", size)
    run(*reasonknee, "prepare", "--release", release, "--out", repository)
    taken: dict[str, list[float]] = {name: [] for name, _ in _WAYS}
    for number in range(rounds + 1):
        for name, program in _WAYS:
            seconds = run(sys.executable, "-c", program, repository).seconds
            if number:
                taken[name].append(seconds)
    stock = median(taken[_WAYS[1][0]])
    table = Table(
        "Streaming: from a fresh process to the first crop",
        ("way", "seconds", "times stock `datasets`", "at most"),
        f"Whole processes by the clock, in turn, the median of {rounds}; a local repository of size {size}.",
    )
    for name, _ in _WAYS:
        seconds = median(taken[name])
        table.add(name, f"{seconds:.2f}", f"{seconds / stock:.2f}", "1.1" if name == _WAYS[0][0] else "")
    return table
