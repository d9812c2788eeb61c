"""Reading voxels, next to other libraries: first touch, whole volumes, volume by volume, at random, memory.

All files are in the page cache. The voxels of every reader are compared with the drawn ones before it is timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np

from reasonknee_datasets.phantom.scan_grids import Size
from reasonknee_datasets.volumes import pack, set_threads
from tests.benchmarks import at_random, file_size, from_server, memory, reads, slab_fineness
from tests.benchmarks.knees import Knee, make_knees, make_sagittal
from tests.benchmarks.peers import Blosc2, Ours, find_peers, verify
from tests.benchmarks.segments import index_of
from tests.benchmarks.tables import Table
from tests.benchmarks.works import Work, summarise


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    size, box
        Of the volumes, and of what is read out of them.
    drawn, touched, by_volume, at_random : int
        How many knees are drawn; how many serve for the first touch and for whole volumes, for volume by volume, and
        for random order.
    rounds : int
        How often each whole volume is read.
    boxes : int
        Out of each volume.
    every : int
        Readers that inflate the whole file for each box are asked for every so many-th box only.
    processes : int
        How many read one box for the sake of its memory, for each reader.
    memory_bytes : int
        What the decode cache may hold in random order.
    fineness : int
        Boxes that are read from files of each fineness of slabs.
    """

    size: Size = "oai"
    box: tuple[int, int, int] = (60, 80, 75)
    drawn: int = 3
    touched: int = 2
    by_volume: int = 8
    at_random: int = 24
    rounds: int = 9
    boxes: int = 62
    every: int = 4
    processes: int = 3
    memory_bytes: int = 400_000_000
    fineness: int = 16


@dataclass(frozen=True, slots=True)
class Report:
    """The aims first, then every work by all libraries."""

    tables: tuple[Table, ...]

    def __str__(self) -> str:
        return "\n\n".join(str(table) for table in self.tables)


def measure(folder: Path, *, plan: Plan | None = None, missing_ok: bool = False) -> Report:
    """Measure everything in `plan`; a peer that is not installed is an error, or else left out."""
    plan = plan or Plan()
    knees = make_knees(folder / "knees", size=plan.size, box=plan.box, count=plan.at_random, drawn=plan.drawn)
    knees = [replace(knee, boxes=knee.boxes[: plan.boxes]) for knee in knees]
    sagittal = make_sagittal(folder / "knees", size=plan.size, box=plan.box)
    sagittal = replace(sagittal, boxes=sagittal.boxes[: plan.boxes])
    warm = _warm_file(folder)
    try:
        works = _works(folder, knees, sagittal, warm, plan, missing_ok=missing_ok)
    finally:
        set_threads(None)
    piece_bytes = max(index_of(knees[0].seekable).slab_bytes, 512 * 1024)
    peak = memory.measure(knees[0], warm, piece_bytes=piece_bytes, missing_ok=missing_ok, rounds=plan.processes)
    sizes = file_size.measure([knees[0], sagittal], folder)
    remote = from_server.measure(knees[0], plan.box)
    fineness = slab_fineness.measure(knees[0], folder, warm, plan.box, boxes=plan.fineness)
    return Report((summarise(works), peak, sizes, remote, fineness, *(work.table() for work in works)))


def _works(folder: Path, knees: list[Knee], sagittal: Knee, warm: Path, plan: Plan, *, missing_ok: bool) -> list[Work]:
    touched = knees[: plan.touched]
    peers = find_peers([*knees, sagittal], missing_ok=missing_ok)
    for peer in peers:
        if isinstance(peer, Blosc2):
            for knee in (*touched, sagittal):
                peer.convert(knee.seekable, knee.truth())
    verify([Ours(), Ours(cache=False), Ours(2), *peers], [*touched, sagittal])
    other = f"the same, array order {sagittal.truth().shape}"
    works = [
        reads.first_touch("first touch of one box", touched, warm, peers, every=plan.every, goals=(15, 22)),
        reads.first_touch(other, [sagittal], warm, peers, every=plan.every, goals=(10, 15)),
        reads.whole_volume(touched * plan.rounds, warm, peers, seekable=True),
        reads.whole_volume(touched * plan.rounds, warm, peers, seekable=False),
        reads.volume_by_volume(knees[: plan.by_volume], warm, peers, every=plan.every),
    ]
    if not missing_ok or find_spec("blosc2") is not None:
        works.append(at_random.measure(knees, warm, folder / "chunks", plan.memory_bytes))
    return works


def _warm_file(folder: Path) -> Path:
    """Write a small volume of several slabs, by which readers start their threads unmeasured."""
    plain, path = folder / "warm.nii", folder / "warm.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 200, (160, 384, 16), np.int16)
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(plain)
    pack(plain, path)
    return path
