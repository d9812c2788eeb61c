"""Time of ``convert``, ``prepare``, ``check`` and ``previews`` at one and two workers, compared with dcm2niix."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.tables import Table

_PATIENTS, _GIGABIT = 14, 0.11  # GB/s of 1 Gbit/s
_SIZES = (8_000, 46_000)  # the release's volumes, OAI's DESS volumes
_ARCHIVE_MB, _IMAGE_MB = 23.0, 24.0
_STEPS = ("convert", "prepare", "check", "previews")


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds of one command, Python's start included."""

    wall: float
    cpu: float


def measure(folder: Path, *, size: str = "oai", patients: int = _PATIENTS) -> str:
    """Run every command on synthetic series at one and two workers, by the clock."""
    release, nda, volumes = _write_input(folder, size, patients)
    found = {
        (step, workers): seconds
        for workers in (1, 2)
        for step, seconds in _run_steps(folder / str(workers), release, nda, workers).items()
    }
    tables = [_worker_table(found, volumes), _scale_table(found, volumes)]
    rival = find_spec("dcm2niix")  # of PyPI
    if rival is not None:
        tables.insert(1, _converter_table(folder, nda, import_module("dcm2niix").bin))
    return "\n\n".join(map(str, tables))


def _write_input(folder: Path, size: str, patients: int) -> tuple[Path, Path, int]:
    from reasonknee_datasets.phantom import write_download

    release, nda = folder / "release", folder / "nda"
    arguments = ["phantom", "--out", str(release), "--patients", str(patients), "--size", size]
    _timed([sys.executable, "-m", "reasonknee_datasets", *arguments])  # in a process of its own: it uses all cores
    write_download(release, nda, form="nda", defects=False)
    shutil.rmtree(release / "data/images")
    return release, nda, len(list(nda.rglob("*.tar.gz")))


def _run_steps(out: Path, release: Path, nda: Path, workers: int) -> dict[str, Seconds]:
    images, repository, many = str(out / "images"), str(out / "3dreasonknee"), ["--workers", str(workers)]
    commands = {
        "convert": ["--oai", str(nda), "--release", str(release), "--out", images],
        "prepare": ["--release", str(release), "--images", images, "--out", repository, "--volumes", "link"],
        "check": [repository],
        "previews": [repository],
    }
    base = [sys.executable, "-m", "reasonknee_datasets"]
    return {step: _timed([*base, step, *commands[step], *many]) for step in _STEPS}


def _timed(command: list[str]) -> Seconds:
    """Run a command to its end; its processor time is that of its process and of all that it started."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _worker_table(found: dict[tuple[str, int], Seconds], volumes: int) -> Table:
    columns = ("command", "1 worker, s", "2 workers, s", "times as fast", "1 worker, CPU s", "2 workers, CPU s")
    table = Table(f"{volumes} volumes at one and two workers", columns, "By the clock, the start of Python included.")
    for step in _STEPS:
        one, two = found[step, 1], found[step, 2]
        ratio = f"{one.wall / two.wall:.2f}"
        table.add(step, f"{one.wall:.1f}", f"{two.wall:.1f}", ratio, f"{one.cpu:.1f}", f"{two.cpu:.1f}")
    return table


def _converter_table(folder: Path, nda: Path, rival: str) -> Table:
    """Convert the same series, one after the other, by turns."""
    series = sorted(nda.rglob("*.tar.gz"), key=lambda path: path.stat().st_size)[-3:]
    ours, theirs = [], []
    for number, archive in enumerate(series):
        files = folder / f"series{number}"
        with tarfile.open(archive) as opened:
            opened.extractall(files, filter="data")
        base = [sys.executable, "-m", "reasonknee_datasets", "convert", "--series", str(files)]
        ours.append(_timed([*base, "--out", str(folder / f"ours{number}.nii.gz")]).cpu)
        theirs.append(_timed([rival, "-z", "i", "-f", f"theirs{number}", "-o", str(folder), str(files)]).cpu)
    table = Table("One series from a folder of files", ("converter", "CPU s", "series an hour and core"), "Medians.")
    for name, seconds in (("reasonknee convert --series", sorted(ours)[1]), ("dcm2niix -z i", sorted(theirs)[1])):
        table.add(name, f"{seconds:.2f}", f"{3600 / seconds:,.0f}")
    return table


def _scale_table(found: dict[tuple[str, int], Seconds], volumes: int) -> Table:
    """Work out large numbers of volumes: rows of docs/howto/cluster.md."""
    table = Table("Worked out", ("", *(f"{size:,} volumes" for size in _SIZES)), "For docs/howto/cluster.md.")
    each = {step: found[step, 1].wall / volumes for step in _STEPS}
    for step, seconds in each.items():
        table.add(f"`{step}`, one core", *(_hours(seconds * size) for size in _SIZES))
    table.add("all four, 16 cores", *(_hours(sum(each.values()) * size / 16) for size in _SIZES))
    table.add("`.tar.gz` to store (23 MB each)", *(_terabytes(_ARCHIVE_MB * size) for size in _SIZES))
    table.add("images to store (24 MB each)", *(_terabytes(_IMAGE_MB * size) for size in _SIZES))
    moved = _ARCHIVE_MB + _IMAGE_MB * 4  # read by convert; written by it, then read by prepare, check and previews
    table.add("bytes read and written by all four", *(_terabytes(moved * size) for size in _SIZES))
    for name, speed in (("1 Gbit/s (0.11 GB/s)", _GIGABIT), ("10 Gbit/s (1.1 GB/s)", 10 * _GIGABIT)):
        table.add(f"the same over {name}", *(_hours(moved * size / 1000 / speed) for size in _SIZES))
    return table


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _terabytes(megabytes: float) -> str:
    return f"{megabytes / 1000:,.0f} GB" if megabytes < 1e6 else f"{megabytes / 1e6:.2f} TB"
