"""The benchmarks at toy size: all libraries read the same voxels, and print their tables. No time is tested."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.phantom.scan_grids import SIZES
from reasonknee_datasets.volumes import set_threads, shared_cache
from tests.benchmarks import reads, scale, streaming_start, voxels
from tests.benchmarks.knees import Knee, Slices, make_knees, make_sagittal
from tests.benchmarks.peers import (
    Blosc2,
    DatasetsNifti,
    Monai,
    Nibabel,
    Ours,
    Reader,
    SimpleITK,
    TorchIO,
    opens_with,
    use_indexed_gzip,
    verify,
)
from tests.benchmarks.segments import Segmented, index_of, runs_of
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import Contender, Times, race
from tests.benchmarks.works import Goal, Work, summarise

pytestmark = pytest.mark.slow

BOX = (18, 20, 19)
SHAPE = SIZES["tiny"].counts
PLAN = voxels.Plan(
    size="tiny",
    box=BOX,
    drawn=1,
    touched=1,
    by_volume=2,
    at_random=3,
    rounds=1,
    boxes=4,
    every=2,
    processes=1,
    fineness=2,
)


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> list[Knee]:
    return make_knees(tmp_path_factory.mktemp("knees"), size="tiny", box=BOX, count=2, drawn=1)


@pytest.fixture(autouse=True)
def as_before() -> Any:
    yield
    use_indexed_gzip(False)
    set_threads(None)
    shared_cache().clear()


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("deflate", lambda _: Ours()),
        ("deflate", lambda _: Ours(cache=False)),
        ("deflate", lambda _: Ours(2)),
        ("nibabel", lambda _: Nibabel()),
        ("indexed_gzip", lambda _: Nibabel(indexed=True)),
        ("datasets", lambda knees: DatasetsNifti([path for knee in knees for path in (knee.ordinary, knee.seekable)])),
        ("monai", lambda _: Monai()),
        ("torchio", lambda _: TorchIO()),
        ("SimpleITK", lambda _: SimpleITK()),
    ],
    ids=["ours", "ours uncached", "ours threaded", "nibabel", "igzip", "datasets", "monai", "torchio", "sitk"],
)
def test_readers_give_the_drawn_voxels(package: str, make: Callable[[list[Knee]], Reader], knees: list[Knee]) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    verify([make(knees)], knees)


@pytest.mark.parametrize(("codec", "level"), [("zstd", 8), ("lz4", 1)])
def test_blosc2_gives_the_voxels_that_were_drawn(codec: Any, level: int, knees: list[Knee]) -> None:
    pytest.importorskip("blosc2", reason="blosc2 is not installed")
    reader = Blosc2(codec, level)
    for knee in knees:
        reader.convert(knee.seekable, knee.truth())
    verify([reader], knees)
    assert reader.open(knees[0].seekable).blocks == (16, 32, 16)


def test_reader_of_other_voxels_is_found(knees: list[Knee]) -> None:
    class Shifted(Nibabel):
        def box(self, path: Path, box: Slices) -> Any:
            i, j, k = box
            return super().box(path, (i, j, slice(k.start - 1, k.stop - 1)))

    class Cast(Nibabel):
        def whole(self, path: Path) -> Any:
            return super().whole(path).astype(np.float32)

    verify([Nibabel()], knees)
    with pytest.raises(AssertionError, match=r"nibabel must give the voxels of .*knee00_seekable"):
        verify([Shifted()], knees)
    with pytest.raises(AssertionError, match=r"nibabel must give the voxels of .*knee00_seekable"):
        verify([Cast()], knees)


def test_knees_differ_and_their_boxes_lie_inside(knees: list[Knee]) -> None:
    first, second = (knee.truth() for knee in knees)
    assert first.shape == second.shape == SHAPE
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, first[:, :, ::-1])
    for knee in knees:
        assert len(knee.boxes) == 62
        assert {knee.truth()[box].shape for box in knee.boxes} == {BOX}


def test_the_other_layout_holds_the_same_extents(tmp_path: Path) -> None:
    knee = make_sagittal(tmp_path, size="tiny", box=BOX)
    assert knee.truth().shape == (*SHAPE[1:], SHAPE[0])
    assert {knee.truth()[box].shape for box in knee.boxes} == {(20, 19, 18)}
    verify([Ours(), Nibabel()], [knee])


def test_too_few_drawn_knees_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 drawn knees make at most 8, not 9"):
        make_knees(tmp_path, size="tiny", box=BOX, count=9, drawn=1)


def test_nibabel_inflates_as_its_name_says(knees: list[Knee]) -> None:
    pytest.importorskip("indexed_gzip", reason="indexed_gzip is not installed")
    for indexed, expected in ((True, "IndexedGzipFile"), (False, "DeterministicGzipFile")):
        reader = Nibabel(indexed=indexed)
        reader.whole(knees[0].ordinary)
        assert opens_with(knees[0].ordinary) == expected
        reader.check(knees[0].ordinary)


def test_a_flag_that_does_nothing_is_noticed(knees: list[Knee], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.peers.opens_with", lambda path: "IndexedGzipFile")
    with pytest.raises(RuntimeError, match="nibabel must inflate by DeterministicGzipFile, got IndexedGzipFile"):
        Nibabel().check(knees[0].ordinary)


def test_forgetting_makes_a_file_new(knees: list[Knee]) -> None:
    reader, path = Ours(), knees[0].seekable
    reader.box(path, knees[0].boxes[0])
    known = shared_cache().info()
    reader.box(path, knees[0].boxes[0])
    assert shared_cache().info().hits == known.hits + 1
    assert known.decodes == 1
    reader.forget(path)
    reader.box(path, knees[0].boxes[0])
    assert shared_cache().info().hits == 0
    assert shared_cache().info().decodes == 1


def test_roofline_inflates_only_slabs_of_box(knees: list[Knee]) -> None:
    knee, index = knees[0], index_of(knees[0].seekable)
    box = knee.boxes[0]
    places = np.arange(math.prod(SHAPE)).reshape(SHAPE, order="F")[box] * 2 // index.slab_bytes
    needed = len(np.unique(places))
    assert needed < index.slabs
    assert 0 <= needed * index.slab_bytes - sum(length for _, length in runs_of(knee.seekable, box)) < index.slab_bytes
    everything = runs_of(knee.seekable, None)
    assert len(everything) < index.slabs
    assert sum(length for _, length in everything) == math.prod(SHAPE) * 2
    alone = Segmented()
    alone.read_slabs(knee.seekable, None)
    alone.inflate()
    alone.read_member(knee.ordinary)
    alone.inflate_member()


def test_race_alternates_order_without_setup_time() -> None:
    done: list[tuple[str, int]] = []
    contenders = [
        Contender("a", lambda item: done.append(("a", item)), lambda item: done.append(("before a", item))),
        Contender("b", lambda item: done.append(("b", item)), every=2),
    ]
    times = race(contenders, [0, 1, 2])
    expected = [("before a", 0), ("a", 0), ("b", 0), ("before a", 1), ("a", 1), ("before a", 2), ("a", 2), ("b", 2)]
    assert done == expected
    assert [len(times[name].walls) for name in "ab"] == [3, 2]


def test_a_race_changes_who_begins() -> None:
    done: list[str] = []
    race([Contender(name, lambda _, name=name: done.append(name)) for name in "abc"], range(3))
    assert "".join(done) == "abcbcacab"


def test_share_of_work_is_scaled(knees: list[Knee]) -> None:
    asked: list[Slices] = []

    class Asked(Nibabel):
        def box(self, path: Path, box: Slices) -> Any:
            asked.append(box)
            return None

    contender = reads._some_boxes(Asked(), 4, 62)
    contender.work(knees[0])
    assert len(asked) == 15
    assert contender.share == 15 / 62
    assert asked == sorted(asked, key=lambda box: box[2].start)


def test_goals_are_held_to_the_fastest_rival() -> None:
    times = {
        "ours": Times([0.010], [0.010]),
        "slow": Times([0.300], [0.150]),
        "fast": Times([0.200], [0.190]),
        "deflate alone": Times([0.008], [0.008]),
    }
    goals = (
        Goal("ours", ("slow", "fast", "absent"), 10, "deflate alone"),
        Goal("ours", ("slow",), None, "deflate alone", threads=2),
        Goal("ours", ("absent",), 3),
    )
    work = Work("a work", "a box", "Told.", times, goals)
    assert summarise([work]).rows == [
        ("a work", "ours", "10", "fast", "200", "20.0 (15.0)", "10", "80% (80%)"),
        ("a work", "ours", "10", "slow", "300", "30.0", "", "40%"),
    ]
    assert work.table().rows[1] == ("slow", "300", "150", "30.00 (CPU 15.00)")


def test_the_tables_of_voxels_come_out(tmp_path: Path) -> None:
    report = voxels.measure(tmp_path, plan=PLAN, missing_ok=True)
    titles = [table.title for table in report.tables]
    assert titles[:5] == [
        "Voxels: aims and figures",
        "Peak memory of one region read",
        "Size of a seekable file",
        "A box from a server",
        "Fineness of slabs",
    ]
    assert {
        "first touch of one box",
        "whole seekable .nii.gz",
        "whole ordinary .nii.gz",
        "all boxes, volume by volume",
    } <= set(titles)
    for table in report.tables:
        assert table.rows, f"{table.title} is empty"
    assert "| nibabel |" in str(report)
    assert "| deflate alone |" in str(report)


def test_streaming_start_table(tmp_path: Path) -> None:
    table = streaming_start.measure(tmp_path, rounds=1, size="tiny")
    assert [row[2] for row in table.rows][1] == "1.00"


def test_the_table_of_scale_comes_out(tmp_path: Path) -> None:
    table = scale.measure(tmp_path, patients=3)
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows][:3] == ["`reasonknee phantom`", "`reasonknee prepare`", "`reasonknee info`"]
