"""First touch, whole volumes, and volume by volume: all libraries do the same reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.benchmarks.knees import Knee, Slices
from tests.benchmarks.peers import Blosc2, Ours, Reader, use_indexed_gzip
from tests.benchmarks.segments import Segmented
from tests.benchmarks.timing import Contender, race
from tests.benchmarks.works import Goal, Work

Item = tuple[Path, Slices]
_NIBABEL = ("nibabel", "nibabel with indexed_gzip")
_ALONE = Segmented.name


def first_touch(
    title: str,
    knees: Sequence[Knee],
    warm: Path,
    peers: Sequence[Reader],
    *,
    every: int,
    goals: tuple[float, float] | None,
) -> Work:
    """Read one box of a seekable file with nothing but its path in hand, for all boxes of some volumes."""
    items = [(knee.seekable, box) for knee in knees for box in knee.boxes]
    one, two, alone = Ours(), Ours(2), Segmented()
    contenders = [_cold(reader, _box_of(reader), warm) for reader in (one, Ours(cache=False), two)]
    contenders += [Contender(peer.name, _box_of(peer), every=every if peer.whole_file else 1) for peer in peers]
    contenders.append(Contender(_ALONE, lambda _: alone.inflate(), lambda item: alone.read_slabs(*item)))
    i, j, k = (part.stop - part.start for part in knees[0].boxes[0])
    caption = (
        f"{i}x{j}x{k} voxels out of a seekable .nii.gz: object, header and voxels are cold, the page cache is warm. "
        f"The median over {len(items)} boxes, around the regions of the questions. blosc2 was converted beforehand. "
        f"Readers of whole files are asked for one box in {every}."
    )
    first, second = goals or (None, None)
    wanted = (Goal(one.name, _NIBABEL, first, _ALONE), Goal(two.name, _NIBABEL, second, _ALONE, threads=2))
    return Work(title, "a box", caption, race(contenders, items), wanted)


def whole_volume(knees: Sequence[Knee], warm: Path, peers: Sequence[Reader], *, seekable: bool) -> Work:
    """Read whole volumes as arrays of their stored dtype; every knee as often as it is in the list."""
    one, two, alone = Ours(cache=False), Ours(2, cache=False), Segmented()
    readers = [peer for peer in peers if not isinstance(peer, Blosc2)]
    contenders = [_cold(reader, _whole_of(reader), warm) for reader in (one, Ours(), two, Ours(2))]
    contenders += [Contender(peer.name, _whole_of(peer)) for peer in readers]
    if seekable:
        contenders.append(Contender(_ALONE, lambda _: alone.inflate(), lambda item: alone.read_slabs(item[0], None)))
    else:
        contenders.append(Contender(_ALONE, lambda _: alone.inflate_member(), lambda item: alone.read_member(item[0])))
    items = [(knee.seekable if seekable else knee.ordinary, knee.boxes[0]) for knee in knees]
    caption = (
        "From path to array in the stored dtype, cold but for the page cache. This package verifies every CRC; nibabel "
        f"stops reading before gzip's. The median over {len(items)} reads."
    )
    goals = (Goal(one.name, _NIBABEL[:1], 3 if seekable else 2.5, _ALONE),)
    if seekable:
        goals += (Goal(two.name, _NIBABEL[:1], 5, _ALONE, threads=2),)
    title = f"whole {'seekable' if seekable else 'ordinary'} .nii.gz"
    return Work(title, "a volume", caption, race(contenders, items), goals)


def volume_by_volume(knees: Sequence[Knee], warm: Path, peers: Sequence[Reader], *, every: int) -> Work:
    """Read all boxes of one volume after those of another; each row of the table opens the volume again."""
    one, two, alone = Ours(), Ours(2), Segmented()
    contenders = []
    for reader in (one, two):
        for kind in ("ordinary", "seekable"):
            contenders.append(_all_boxes(reader, kind, warm))
    for peer in peers:
        if isinstance(peer, Blosc2):
            contenders.append(Contender(f"{peer.name}, conversion counted", _converting(peer)))
        else:
            contenders.append(_some_boxes(peer, every, len(knees[0].boxes)))
    contenders.append(Contender("nibabel, decoded once by hand", _by_hand))
    contenders.append(
        Contender(_ALONE, lambda _: alone.inflate_member(), lambda knee: alone.read_member(knee.ordinary))
    )
    caption = (
        f"{len(knees[0].boxes)} boxes of each of {len(knees)} volumes, all boxes of one before the next, from .nii.gz "
        "files not read before. A box is a row: it opens the volume by its path. Readers without a cache of "
        f"their own are asked for one box in {every}, evenly along the volume, and their time is multiplied."
    )
    ours = f"{one.name}, ordinary"
    goals = (
        Goal(ours, ("datasets.Nifti",), 80, _ALONE),
        Goal(ours, ("blosc2 ZSTD 8, conversion counted",), 3, _ALONE),
        Goal(f"{one.name}, seekable", ("datasets.Nifti",), 80, _ALONE),
        Goal(f"{one.name}, seekable", ("blosc2 ZSTD 8, conversion counted",), 3, _ALONE),
        Goal(f"{two.name}, seekable", ("datasets.Nifti",), None, _ALONE, threads=2),
    )
    return Work("all boxes, volume by volume", "a volume", caption, race(contenders, knees), goals)


def _cold(reader: Ours, work: Callable[[Item], object], warm: Path) -> Contender:
    def before(item: Item) -> None:
        reader.prepare(warm)
        reader.forget(item[0])

    return Contender(reader.name, work, before)


def _box_of(reader: Reader) -> Callable[[Item], object]:
    return lambda item: reader.box(*item)


def _whole_of(reader: Reader) -> Callable[[Item], object]:
    return lambda item: reader.whole(item[0])


def _all_boxes(reader: Ours, kind: str, warm: Path) -> Contender:
    def before(knee: Knee) -> None:
        reader.prepare(warm)
        reader.forget(getattr(knee, kind))

    def work(knee: Knee) -> None:
        path = getattr(knee, kind)
        for box in knee.boxes:
            reader.box(path, box)

    return Contender(f"{reader.name}, {kind}", work, before)


def _some_boxes(reader: Reader, every: int, count: int) -> Contender:
    def work(knee: Knee) -> None:
        for box in sorted(knee.boxes, key=lambda box: box[2].start)[every // 2 :: every]:
            reader.box(knee.ordinary, box)

    return Contender(reader.name, work, share=len(range(every // 2, count, every)) / count)


def _converting(reader: Blosc2) -> Callable[[Knee], None]:
    def work(knee: Knee) -> None:
        reader.convert(knee.ordinary, _decode(knee.ordinary))
        for box in knee.boxes:
            reader.box(knee.ordinary, box)

    return work


def _by_hand(knee: Knee) -> None:
    voxels = _decode(knee.ordinary)
    for box in knee.boxes:
        voxels[box].copy(order="F")


def _decode(path: Path) -> np.ndarray:
    use_indexed_gzip(False)
    return np.asanyarray(nib.load(path).dataobj)
