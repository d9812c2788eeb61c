"""Fineness of slabs against the size of the file, the time of a first read and the bytes that it needs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib

from reasonknee_datasets.volumes import pack
from tests.benchmarks.file_size import percent
from tests.benchmarks.from_server import central
from tests.benchmarks.knees import Knee, Slices
from tests.benchmarks.peers import Ours, use_indexed_gzip
from tests.benchmarks.segments import index_of, runs_of
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import Contender, race

PLANES = {"4 planes": 4, "1 plane": 1, "a half": 1 / 2, "a third": 1 / 3, "a quarter": 1 / 4, "a sixth": 1 / 6}
Item = Slices


def measure(knee: Knee, folder: Path, warm: Path, size: tuple[int, int, int], *, boxes: int) -> Table:
    """Pack one knee with slabs of several lengths, and read the same boxes from each."""
    paths = {name: folder / f"fineness{number}.nii.gz" for number, name in enumerate(PLANES)}
    sizes = {name: pack(knee.plain, path, planes=PLANES[name]).bytes_after for name, path in paths.items()}
    ours, ordinary = Ours(), knee.ordinary.stat().st_size
    contenders = [_cold(ours, name, path, warm) for name, path in paths.items()]
    contenders.append(Contender("nibabel", lambda box: _by_nibabel(knee.seekable, box), every=2))
    times = race(contenders, knee.boxes[:: max(1, len(knee.boxes) // boxes)])
    columns = ("slab", "size", "first touch, ms", "times as fast as nibabel", "bytes of a central box")
    table = Table("Fineness of slabs", columns, f"Median over {boxes} boxes, one thread; size against gzip of level 6.")
    for name, path in paths.items():
        needed = sum(len(packed) for packed, _ in runs_of(path, central(knee.truth().shape, size)))
        row = times[name]
        speed = f"{times['nibabel'].wall / row.wall:.1f} (CPU {times['nibabel'].cpu / row.cpu:.1f})"
        table.add(name, percent(sizes[name], ordinary), f"{row.wall * 1e3:.1f}", speed, f"{needed / sizes[name]:.1%}")
        assert index_of(path).version == 2
    return table


def _cold(ours: Ours, name: str, path: Path, warm: Path) -> Contender:
    def before(_: Item) -> None:
        ours.prepare(warm)
        ours.forget(path)

    return Contender(name, lambda box: ours.box(path, box), before)


def _by_nibabel(path: Path, box: Slices) -> object:
    use_indexed_gzip(False)
    return nib.load(path).dataobj[box]
