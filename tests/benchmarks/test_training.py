"""The benchmark of training at toy size: all libraries give the same crops and tokens. No time is held to anything."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import deflate
import torch

from reasonknee_datasets.loader.worker_dataset import Work
from tests.benchmarks import feeds, resuming, row_profile, throughput, tokenizing, training
from tests.benchmarks.bound import Bound
from tests.benchmarks.feeds import Crops, Ours, Peer, verify
from tests.benchmarks.knee_rows import Knees, load_knees, truth, windowed
from tests.benchmarks.peers import use_indexed_gzip
from tests.benchmarks.resuming import FirstBatch
from tests.benchmarks.throughput import NIFTI, Rates
from tests.benchmarks.timing import Times

pytestmark = pytest.mark.slow

CROP = (18, 20, 19)
ROWS = range(3, 40, 3)


@pytest.fixture(scope="module")
def knees(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Knees:
    """Three volumes; a copy, since the benchmark touches the files."""
    repository = tmp_path_factory.mktemp("bench") / "3dreasonknee"
    shutil.copytree(prepared, repository)
    return load_knees(repository, crop=CROP, volumes=3)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    use_indexed_gzip(False)


def test_training_rows_and_crop_sizes(knees: Knees) -> None:
    assert len(knees.paths) == 3
    assert len({question.id for question in knees.questions}) == len(knees.dataset) == 3 * 62
    assert {truth(question).shape for question in knees.questions} == {CROP}
    assert len({question.completion for question in knees.questions}) > 100


@pytest.mark.parametrize("workers", [0, 2])
def test_this_package_gives_the_voxels_and_tokens(knees: Knees, workers: int) -> None:
    feed = Ours(knees, workers)
    assert verify(feed, knees, range(len(knees.questions))) == len(knees.questions)
    feed.close()


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("datasets", lambda knees, _: feeds.Nifti(knees)),
        ("monai", lambda knees, _: feeds.Monai()),
        ("monai", feeds.MonaiPersistent),
        ("torchio", lambda knees, _: feeds.TorchIO()),
        ("nibabel", lambda knees, _: feeds.GetFdata()),
        ("PIL", lambda knees, folder: feeds.Pngs(folder)),
    ],
    ids=["datasets", "monai", "persistent", "torchio", "get_fdata", "png"],
)
def test_peers_give_equal_crops_and_tokens(
    package: str, make: Callable[[Knees, Path], Crops], knees: Knees, tmp_path: Path
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    crops = make(knees, tmp_path)
    for workers in (0, 2):
        feed = Peer(package, crops, knees, workers)
        assert verify(feed, knees, ROWS, window=isinstance(crops, feeds.Pngs)) == len(ROWS)
        feed.close()


def test_feed_with_other_values_is_found(knees: Knees) -> None:
    right = feeds.GetFdata()

    def shifted(question: Any) -> torch.Tensor:
        return right(question).roll(1, 0)

    with pytest.raises(AssertionError, match="shifted must give the voxels of "):
        verify(Peer("shifted", shifted, knees, 0), knees, ROWS)

    class Silent(Peer):
        def run(self, rows: Any) -> Any:
            return ({**batch, "labels": batch["input_ids"]} for batch in super().run(rows))

    with pytest.raises(AssertionError, match="silent must give the labels of "):
        verify(Silent("silent", right, knees, 0), knees, ROWS)

    class Short(Peer):
        def run(self, rows: Any) -> Any:
            return super().run(rows[:-1])

    with pytest.raises(AssertionError, match="short must give every row once, got 12 rows, 1 missing"):
        verify(Short("short", right, knees, 0), knees, ROWS)


def test_pngs_are_written_once(knees: Knees, tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="PIL is not installed")
    pngs, question = feeds.Pngs(tmp_path), knees.questions[0]
    assert (pngs(question).numpy() == windowed(truth(question))).all()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(written) == nib.load(question.path).shape[0]
    pngs(knees.questions[1])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == written
    assert windowed(np.array([-5, 0, 100, 400, 900])).tolist() == [0, 0, 64, 255, 255]


def test_bound_inflates_and_copies_all_crops(knees: Knees) -> None:
    bound = Bound(knees)
    assert bound.rows == len(knees.questions)
    assert sum(is_first for _, is_first, _ in bound._items) == len(bound._segments) == len(knees.paths)
    wanted = sorted((knees.paths.index(question.path), str(question.region)) for question in knees.questions)
    assert sorted((volume, str(region)) for volume, _, region in bound._items) == wanted
    for segments, voxels in zip(bound._segments, bound._voxels, strict=True):
        stored = voxels.tobytes(order="F")
        for packed, length in segments:
            assert bytes(deflate.deflate_decompress(packed, length)) in stored
        assert sum(length for _, length in segments) > math.prod(CROP) * 2
    assert bound.seconds(0) > 0
    assert bound.seconds(2) > 0


def test_epoch_decodes_every_volume_once(knees: Knees) -> None:
    rates = throughput.measure_ours(knees, 2, rounds=2, bound=Bound(knees))
    assert rates.decodes == 1.0
    assert len(rates.ours) == len(rates.bound) == len(rates.shares) == 2
    assert 1_000_000 < rates.uss < 1_000_000_000
    assert rates.cache_bytes > 0


def test_tokens_are_raced_over_all_rows(knees: Knees) -> None:
    times = tokenizing.measure(knees)
    assert set(times) == {tokenizing.OURS, tokenizing.BARE, tokenizing.TEMPLATE}
    assert {len(found.walls) for found in times.values()} == {3}
    assert all(0 < found.wall < 1 for found in times.values())


def test_resumed_start_gives_the_next_batch(knees: Knees) -> None:
    first = resuming.measure(knees, workers=0, rounds=1)
    assert first.fresh > 0
    assert first.resumed > 0


def test_stage_clock_takes_off_the_stages_within(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0, 10, 30, 40, 45, 100])
    monkeypatch.setattr(row_profile.time, "thread_time_ns", lambda: next(times))
    clock = row_profile.StageClock()
    inner = clock.wrap("inner", lambda: 1)
    outer = clock.wrap("outer", lambda: inner() + inner())
    assert outer() == 2
    assert clock.spent == {"inner": 20 + 5, "outer": 100 - 25}


def test_row_profile_times_every_stage(knees: Knees) -> None:
    rows = Work._rows
    (spent,) = row_profile.profile(knees, rounds=1)
    stages = {stage for *_, stage in row_profile._STAGES} | {row_profile.CHECKSUM, row_profile.REST}
    assert set(spent) == stages
    assert min(spent.values()) > 0
    assert Work._rows is rows


def test_promises_are_held_to_what_was_measured() -> None:
    slow = Rates(ours=[600.0, 500.0, 700.0], bound=[1000.0, 1000.0, 1000.0], decodes=1.0)
    slow.peers = {NIFTI: 6.0, "MONAI": 5.0, "cached": 400.0}
    wide = Rates(ours=[900.0], bound=[1000.0], decodes=1.1, uss=500_000_000, cache_bytes=300_000_000)
    tokens = {tokenizing.OURS: Times([1e-5], [1e-5]), tokenizing.BARE: Times([3e-4], [3e-4])}
    measured = training.Measured({0: slow, 2: wide}, {0: 1.0, 2: 1.1}, tokens, FirstBatch(0.2, 0.5))
    table = training.summarise(measured)
    assert [(row[0], row[3], row[4], row[5]) for row in table.rows] == [
        ("quintuples a second, 0 workers", "100", "at least 60", "yes"),
        ("quintuples a second, 0 workers", "1.5", "at least 2", "**no**"),
        ("share of the bound, 0 workers", "0.6", "at least 0.75", "**no**"),
        ("share of the bound, 2 workers", "0.9", "at least 0.65", "yes"),
        ("tokenization", "30", "at least 20", "yes"),
        ("decodes per volume and epoch, 0 workers", "1", "at most 1.05", "yes"),
        ("decodes per volume and epoch, 2 workers", "1.1", "at most 1.05", "**no**"),
        ("private memory of a worker, 2 workers", "500 MB", "at most 450 MB", "**no**"),
        ("first batch after resuming at 90 %", "2.5", "at most 2", "**no**"),
    ]


def test_the_tables_of_training_come_out(tmp_path: Path) -> None:
    plan = training.Plan(
        size="tiny", patients=3, crop=CROP, decoding=(0,), rounds=1, cold_rows=4, cached_volumes=1, resumes=1
    )
    report = training.measure(tmp_path, plan=plan, missing_ok=True)
    aims, speeds, tokens = report.tables
    assert len(aims.rows) == 11
    names = [row[0] for row in speeds.rows]
    assert names[:2] == ["reasonknee_datasets", NIFTI]
    assert "the authors' way, `get_fdata`" in names
    assert len(tokens.rows) == 3
    assert "| decodes per volume and epoch, 0 workers |  | 1.0 is the least | 1 | at most 1.05 | yes |" in str(report)
