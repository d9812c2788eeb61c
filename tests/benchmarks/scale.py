"""The whole data set's size without its voxels: does every step keep its memory and its promise of time?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.tables import Table

# 2,666 patients in the official splits; the phantom gives each about three volumes of 62 questions.
FULL_PATIENTS = 2666
_PYTHON = sys.executable

_OPEN = """
import sys, time
from reasonknee_datasets import load_dataset
started = time.perf_counter()
rows = load_dataset("3dreasonknee", split="train", streaming=True, data_dir=sys.argv[1])
opened = time.perf_counter()
next(iter(rows))
print(opened - started, time.perf_counter() - opened)
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """Cost of one process tree: ``peak`` is the largest single process in it."""

    seconds: float
    peak_bytes: int
    output: str


def run(*command: str) -> Finished:
    """Run a command to its end and ask the kernel for the peak memory of its largest process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Finished(time.perf_counter() - started, usage.ru_maxrss * 1024, output)


def measure(folder: Path, *, patients: int = FULL_PATIENTS) -> Table:
    """Write, prepare, describe and open ``patients`` patients' annotations."""
    release, repository = str(folder / "release"), str(folder / "3dreasonknee")
    reasonknee = (_PYTHON, "-m", "reasonknee_datasets")
    phantom = run(*reasonknee, "phantom", "--out", release, "--patients", str(patients), "--annotations-only")
    prepare = run(*reasonknee, "prepare", "--release", release, "--out", repository, *_WITHOUT_VOXELS)
    info = run(*reasonknee, "info", repository)
    first = run(_PYTHON, "-c", _OPEN, repository)
    opened, first_row = (float(number) for number in first.output.split())
    rows = sum(1 for line in info.output.splitlines() if line)
    assert rows, "info must say something"
    table = Table(
        f"Scale: {_records(repository):,} records without voxels",
        ("step", "seconds", "peak memory of the largest process"),
        f"{patients:,} synthetic patients, annotations only, each step its own process.",
    )
    for name, finished in (("phantom", phantom), ("prepare", prepare), ("info", info)):
        table.add(f"`reasonknee {name}`", f"{finished.seconds:.1f}", _megabytes(finished.peak_bytes))
    table.add("`load_dataset(..., streaming=True)`", f"{opened:.2f}", _megabytes(first.peak_bytes))
    table.add("first streamed row after that", f"{first_row:.2f}", "as above")
    return table


# No image and no mask is there, and the reader must be told that this is meant.
_WITHOUT_VOXELS = (
    *("--volumes", "none", "--allow", "missing-mask"),
    *("--box-convention", "slice0-x1-y2-pairs-inclusive-voxel"),
)


def _records(repository: str) -> int:
    from reasonknee_datasets.manifest import Manifest

    manifest = Manifest.load(repository)
    return sum(shard.rows for split in manifest.splits("quintuples") for shard in manifest.shards("quintuples", split))


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.0f} MB"
