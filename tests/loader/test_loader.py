"""The loader gives the planned order, resumes it exactly under any topology, and decodes each volume once."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import logging
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from reasonknee_datasets import load_dataset
from reasonknee_datasets.collate import QuintupleCollator
from reasonknee_datasets.errors import BoxError, LoaderError, VolumeNotFoundError
from reasonknee_datasets.loader import ResumableLoader, make_dataloader, prefetch_to_device
from reasonknee_datasets.loader.epoch_order import EpochPlan
from reasonknee_datasets.transforms import Compose, CropToBox
from reasonknee_datasets.transforms.templates import Template
from reasonknee_datasets.transforms.tokenize_reasoning import TokenizeReasoning
from reasonknee_datasets.transforms.tokenizer import NamedTokenizer
from reasonknee_datasets.volumes import pack
from tests.helpers.prepared_repository import list_volumes_again, voxels_of, write_repository

VOLUMES, QUESTIONS = 24, 4


def examples(sizes: list[int]) -> list[dict[str, Any]]:
    """Return rows without voxels, for tests of order alone."""
    return [
        {
            "id": f"{volume + 1:07d}/00M/left/q{question:02d}",
            "volume_path": f"volumes/{volume + 1:07d}/00M_left.nii.gz",
            "question_id": 19,
            "box": [0, 0, 0, 1, 1, 1],
            "category": f"c{question % 3}",
            "grades": [{"attribute": "size", "grade": min(question % 5, 3)}, {"attribute": "depth", "grade": None}],
        }
        for volume, questions in enumerate(sizes)
        for question in range(1, questions + 1)
    ]


def ids(batch: Any) -> list[str]:
    """Name the examples of a batch that are not repeats."""
    return [name for name, valid in zip(batch["id"], batch["valid"].tolist(), strict=True) if valid]


def in_order(rows: list[dict[str, Any]], *, epoch: int = 0, seed: int = 0, volumes_in_flight: int = 3) -> list[str]:
    """Return the planned order of one epoch."""
    volumes = np.unique([row["volume_path"] for row in rows], return_inverse=True)[1]
    return [rows[row]["id"] for row in EpochPlan(volumes, seed, volumes_in_flight).rows(epoch).tolist()]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes with four questions each; half of them seekable."""
    counts = {"train": VOLUMES, "validation": 1, "test": 1}
    root = write_repository(tmp_path_factory.mktemp("loader") / "3dreasonknee", questions=QUESTIONS, volumes=counts)
    for path in sorted((root / "volumes").rglob("*.nii.gz"))[::2]:
        pack(path, path)
    list_volumes_again(root)
    return root


@pytest.fixture(scope="module")
def train(repository: Path) -> datasets.Dataset:
    """Their rows; the grades of this small repository are not its questions' own."""
    rows = load_dataset(split="train", data_dir=repository, cache_dir=str(repository.parent / "cache"))
    return rows.remove_columns("grades")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A shared folder of its own, which must be empty afterwards."""
    folder = tmp_path / "room"
    folder.mkdir()
    yield folder
    gc.collect()
    assert not [path for path in folder.rglob("*") if path.is_file()]


# Order and resumption.


def test_an_epoch_is_the_planned_order() -> None:
    rows = examples([5, 3, 6, 2, 4])
    loader = make_dataloader(rows, batch_size=3, shuffle=True, volumes_in_flight=3)
    assert [name for batch in loader for name in batch["id"]] == in_order(rows)
    assert [name for batch in loader for name in batch["id"]] == in_order(rows, epoch=1)
    assert len(loader) == 7


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int, int, int]]]:
    """Draw a dataset, and segments of a run: (ranks, batch size, steps until it is interrupted, steps lost in it)."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    segment = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(0, 6), st.integers(0, 2))
    return sizes, draw(st.lists(segment, min_size=1, max_size=6))


@given(journey=journeys(), seed=st.integers(0, 3))
def test_load_state_dict_after_any_interruptions(
    journey: tuple[list[int], list[tuple[int, int, int, int]]], seed: int
) -> None:
    sizes, segments = journey
    rows = examples(sizes)
    state, seen = None, []
    for world, batch_size, steps, lost in segments:
        state, part = run(rows, state, seed=seed, world=world, batch_size=batch_size, steps=steps, lost=lost)
        seen += part
    epochs = (place for epoch in range(1000) for place in in_order(rows, epoch=epoch, seed=seed))
    assert seen == [next(epochs) for _ in seen]


def run(
    rows: list[dict[str, Any]], state: Any, *, seed: int, world: int, batch_size: int, steps: int, lost: int
) -> tuple[Any, list[str]]:
    """Take steps on all ranks from a state, save, and take some more, which are lost."""
    loaders = [
        make_dataloader(
            rows, batch_size=batch_size, shuffle=True, seed=seed, volumes_in_flight=3, rank=rank, world_size=world
        )
        for rank in range(world)
    ]
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
    streams = [endless(loader) for loader in loaders]
    seen = [name for _ in range(steps) for stream in streams for name in ids(next(stream))]
    states = [loader.state_dict() for loader in loaders]
    assert all(one == states[0] for one in states)
    for _ in range(lost):
        for stream in streams:
            next(stream)
    return states[0], seen


def endless(loader: ResumableLoader) -> Iterator[Any]:
    while True:
        yield from loader


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_prefetched_batch_is_not_yet_seen(workers: int) -> None:
    rows = examples([6] * 6)
    with make_dataloader(rows, batch_size=4, shuffle=True, num_workers=workers) as loader:
        stream = iter(loader)
        assert loader.state_dict()["position"] == 0
        for step in range(1, 4):
            next(stream)
            assert loader.state_dict()["position"] == 4 * step
        del stream


def test_state_at_epoch_end_starts_next_epoch() -> None:
    rows = examples([4, 4])
    for drop_last, batch_size in ((True, 3), (False, 3), (True, 4)):
        loader = make_dataloader(rows, batch_size=batch_size, shuffle=True, drop_last=drop_last)
        states = [loader.state_dict() for _ in loader]
        assert (states[-1]["epoch"], states[-1]["position"]) == (1, 0), drop_last
        assert states[-1] == loader.state_dict()
        again = make_dataloader(rows, batch_size=2, shuffle=True)
        again.load_state_dict(states[-1])
        assert [name for batch in again for name in batch["id"]] == in_order(rows, epoch=1, volumes_in_flight=16)


def test_resume_with_larger_step_drops_short_tail() -> None:
    rows = examples([5, 5])
    loader = make_dataloader(rows, batch_size=4, shuffle=True)
    next(iter(loader))
    state = loader.state_dict()
    wide = make_dataloader(rows, batch_size=8, shuffle=True, drop_last=True)
    wide.load_state_dict(state)
    assert list(wide) == []
    assert wide.state_dict()["epoch"] == 1
    assert len(next(iter(wide))["id"]) == 8


def test_iter_begins_next_epoch() -> None:
    rows = examples([4] * 4)
    loader = make_dataloader(rows, batch_size=4, shuffle=True, volumes_in_flight=3)
    for expected in (0, 1, 2):
        batch = next(iter(loader))
        assert batch["id"] == in_order(rows, epoch=expected)[:4]
        assert loader.state_dict()["epoch"] == expected
    loader.set_epoch(7)
    assert next(iter(loader))["id"] == in_order(rows, epoch=7)[:4]


def test_set_epoch_of_loaded_state_keeps_position() -> None:
    rows = examples([4] * 4)
    loader = make_dataloader(rows, batch_size=4, shuffle=True, volumes_in_flight=3)
    loader.set_epoch(2)
    next(iter(loader))
    resumed = make_dataloader(rows, batch_size=4, shuffle=True, volumes_in_flight=3)
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(2)
    assert next(iter(resumed))["id"] == in_order(rows, epoch=2)[4:8]


# Ranks and tails.


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_loader_is_neither_copied_nor_pickled(make: Callable[[Any], Any]) -> None:
    loader = make_dataloader(examples([3]), batch_size=1, collate_fn=ids)
    for held in (loader, prefetch_to_device(loader, "cpu")):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled.*other\.load_state_dict"):
            make(held)


def test_batch_names_are_completed() -> None:
    batch = QuintupleCollator()([{"id": "a"}])
    assert "id" in batch._ipython_key_completions_()
    assert batch._ipython_key_completions_() == list(batch)


def test_ranks_share_each_step() -> None:
    rows = examples([5, 5, 5])
    loaders = [
        make_dataloader(rows, batch_size=2, shuffle=True, volumes_in_flight=3, rank=rank, world_size=3)
        for rank in range(3)
    ]
    assert {len(loader) for loader in loaders} == {3}
    steps = list(zip(*loaders, strict=True))
    assert [name for step in steps for batch in step for name in ids(batch)] == in_order(rows)
    valid = [batch["valid"].tolist() for batch in steps[-1]]
    assert valid == [[True, True], [True, False], [False, False]]
    assert all(len(batch["id"]) == 2 for step in steps for batch in step)


def test_dropping_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    loader = make_dataloader(examples([5, 5]), batch_size=4, drop_last=True)
    with caplog.at_level(logging.INFO, logger="reasonknee_datasets"):
        assert sum(len(batch["id"]) for batch in loader) == 8
    assert "Epoch 0 leaves out its last 2 examples (drop_last=True)." in caplog.text


def test_ranks_are_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = examples([4, 4])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert next(iter(make_dataloader(rows, batch_size=3)))["id"] == [row["id"] for row in rows[3:6]]
    assert next(iter(make_dataloader(rows, batch_size=3, rank=0, world_size=1)))["id"][0] == rows[0]["id"]


# Pixels.


def crops(loader: Any) -> dict[tuple[int, str], tuple[bytes, list[int]]]:
    """Return the voxels and box of every example that was handed out, by epoch and id."""
    return {
        (int(batch["epoch"][at]), name): (batch["volume"][at].numpy().tobytes(), batch["boxes"][at].tolist())
        for batch in loader
        for at, name in enumerate(batch["id"])
    }


CROP = CropToBox(size=(4, 5, 6), jitter_mm=1.0, seed=3)


def load(train: Any, room: Path, **changes: Any) -> ResumableLoader:
    options: dict[str, Any] = {
        "batch_size": 4,
        "shuffle": True,
        "volumes_in_flight": 2,
        "transform": CROP,
        "share_volumes": room,
    }
    return make_dataloader(train, **(options | changes))


@pytest.mark.slow
def test_voxels_are_those_of_the_files(train: Any, room: Path) -> None:
    crop = CropToBox()
    with load(train, room, transform=crop, batch_size=3) as loader:
        for batch in loader:
            for at, name in enumerate(batch["id"]):
                expected = voxels_of(name.rpartition("/")[0])[0:3, 1:4, 2:5]
                assert (batch["volume"][at, 0].numpy() == expected).all()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"num_workers": 2}, {"share_volumes": False}, {"batch_size": 3, "num_workers": 1}])
def test_no_topology_changes_a_pixel(train: Any, room: Path, changes: dict[str, Any]) -> None:
    with load(train, room) as plain:
        expected = crops(plain) | crops(plain)
    with load(train, room, **changes) as other:
        assert crops(other) | crops(other) == expected


@pytest.mark.slow
def test_another_epoch_is_cropped_elsewhere(train: Any, room: Path) -> None:
    with load(train, room) as loader:
        first, second = crops(loader), crops(loader)
    moved = [name for epoch, name in first if first[epoch, name] != second[epoch + 1, name]]
    assert len(moved) > len(first) / 2


@pytest.mark.slow
def test_after_an_interruption_come_the_same_pixels(train: Any, room: Path) -> None:
    with load(train, room) as plain:
        expected = crops(plain) | crops(plain)
    with load(train, room, num_workers=2) as loader:
        stream = iter(loader)
        seen = crops(next(stream) for _ in range(3))
        state = loader.state_dict()
        lost = crops(next(stream) for _ in range(2))
        del stream
    with load(train, room, batch_size=5) as resumed:
        resumed.load_state_dict(state)
        rest = crops(resumed)
        assert not set(seen) & set(rest)
        assert lost.items() <= rest.items()
        assert seen | rest | crops(resumed) == expected


@pytest.mark.slow
def test_persistent_workers_get_the_epoch(train: Any, room: Path) -> None:
    with load(train, room, num_workers=2) as loader:
        for expected in range(3):
            assert {epoch for batch in loader for epoch in batch["epoch"]} == {expected}


@pytest.mark.slow
def test_with_transform_gets_the_epoch(train: Any, room: Path) -> None:
    with load(train, room) as plain:
        expected = crops(plain) | crops(plain)
    with load(train.with_transform(CROP), room, transform=None) as loader:
        assert crops(loader) | crops(loader) == expected


@pytest.mark.slow
@pytest.mark.parametrize("others", [False, True])
def test_with_transform_of_columns_gets_epoch(train: Any, room: Path, others: bool) -> None:
    with load(train, room) as plain:
        expected = crops(plain) | crops(plain)
    some = train.with_transform(CROP, columns=["id", "volume", "box"], output_all_columns=others)
    with load(some, room, transform=None, num_workers=1, multiprocessing_context="spawn") as loader:
        assert crops(loader) | crops(loader) == expected
        assert ("answer" in next(iter(loader))) == others


@pytest.mark.slow
def test_loader_leaves_random_generators_alone(train: Any, room: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with load(train, room, num_workers=1) as loader:
        list(loader)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_spawned_workers_do_the_same(train: Any, room: Path) -> None:
    with load(train, room) as plain:
        expected = crops(plain)
    with load(train, room, num_workers=1, multiprocessing_context="spawn") as loader:
        assert crops(loader) == expected


@pytest.mark.slow
@pytest.mark.parametrize("where", ["transform", "deep in it", "dataset"])
def test_tokens_are_padded_as_their_tokenizer_pads(train: Any, room: Path, where: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "step": 1, "<pad>": 5}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenize = TokenizeReasoning(NamedTokenizer.of(words, pad_token="<pad>"), Template("{question} ", "{reasoning}"))

    def longer(row: dict[str, Any]) -> dict[str, Any]:
        return {"question": "q " * row["question_id"]}

    rows, transform = train.map(longer), Compose([CROP, tokenize])
    if where == "deep in it":
        transform = Compose([Compose([CROP]), Compose([tokenize])])
    elif where == "dataset":
        rows, transform = rows.with_transform(transform), None
    with load(rows, room, transform=transform, num_workers=1) as loader:
        for batch in loader:
            lengths = batch["attention_mask"].sum(dim=1)
            padding = torch.arange(batch["input_ids"].shape[1]) >= lengths[:, None]
            assert (batch["input_ids"][padding] == 5).all()
            assert (batch["labels"][padding] == -100).all()
            assert lengths.tolist() == [number + 4 for number in batch["question_id"]]


@pytest.mark.slow
@pytest.mark.parametrize("given", [None, QuintupleCollator(keep=("question_id",))])
@pytest.mark.parametrize(
    ("side", "for_generation", "expected"),
    [("left", True, "left"), ("right", True, "left"), ("left", False, "left"), ("right", False, "right")],
)
def test_tokens_are_padded_on_the_tokenizers_side(
    train: Any, room: Path, side: str, for_generation: bool, expected: str, given: Any
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "step": 1, "<pad>": 5}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.enable_padding(direction=side, pad_id=5, pad_token="<pad>", pad_to_multiple_of=4)
    tokenize = TokenizeReasoning(words, Template("{question} ", "{reasoning}"), for_generation=for_generation)

    def longer(row: dict[str, Any]) -> dict[str, Any]:
        return {"question": "q " * row["question_id"]}

    with load(train.map(longer), room, transform=Compose([CROP, tokenize]), collate_fn=given) as loader:
        padded = 0
        for batch in loader:
            mask = batch["attention_mask"].bool()
            order = mask.int() if expected == "left" else -mask.int()
            assert (order.diff(dim=1) >= 0).all()
            assert torch.equal(batch["input_ids"] == 5, ~mask)
            assert mask.shape[1] % 4 == 0
            padded += int((~mask).sum())
    assert padded


# Decoding.


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_each_volume_is_decoded_once_an_epoch(train: Any, room: Path, workers: int) -> None:
    with load(train, room, num_workers=workers, transform=CropToBox(margin_voxels=20)) as loader:
        for epoch in (1, 2):
            assert sum(len(batch["id"]) for batch in loader) == VOLUMES * QUESTIONS
            info = loader.shared_info()
            assert info is not None
            # Of one epoch's last volumes some may be there when the next looks at them.
            assert VOLUMES + (epoch - 1) * 2 <= info.decodes <= VOLUMES * epoch
            voxels = 6 * 8 * 10 * 2  # bytes; of an ordinary file its header of 352 is kept too
            assert info.decodes * voxels <= info.inflated <= info.decodes * (voxels + 352)
            assert info.bytes <= info.max_bytes < VOLUMES * 6 * 8 * 10 * 2


def lag(example: dict[str, Any]) -> dict[str, Any]:
    """Crop, the first worker later than all others: they run ahead of it as far as torch lets them."""
    worker = torch.utils.data.get_worker_info()
    if worker is not None and worker.id == 0:
        time.sleep(0.02)
    return CropToBox(margin_voxels=20)(example)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_slow_worker_finds_volumes_of_others(train: Any, room: Path, workers: int) -> None:
    with load(train, room, num_workers=workers, transform=lag) as loader:
        assert sum(len(batch["id"]) for batch in loader) == VOLUMES * QUESTIONS
        info = loader.shared_info()
    assert info is not None
    assert info.decodes == VOLUMES


@pytest.mark.slow
def test_too_small_shared_folder_logs_once(train: Any, room: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"volumes_in_flight": 6, "transform": CropToBox(margin_voxels=20)}
    with load(train, room, **options) as loader:
        list(loader)
    assert not caplog.records
    with load(train, room, shared_memory_bytes=3 * (6 * 8 * 10 * 2 + 352), **options) as loader:  # with headers
        list(loader)
        list(loader)
        info = loader.shared_info()
    assert info is not None
    assert info.decodes > 3 * VOLUMES
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "The shared folder fits 3 volumes (3.94e-06 GB), but more are in use at a time" in caplog.text


@pytest.mark.slow
def test_ranks_of_machine_decode_each_volume_once(train: Any, room: Path) -> None:
    loaders = [load(train, room, rank=rank, world_size=2, transform=CropToBox(margin_voxels=20)) for rank in range(2)]
    for _ in zip(*loaders, strict=True):
        pass
    infos = [loader.shared_info() for loader in loaders]
    assert infos[0] == infos[1]
    assert infos[0] is not None
    assert infos[0].decodes == VOLUMES
    loaders[0].close()
    assert next(iter(loaders[1]))["volume"].shape[0] == 4
    loaders[1].close()


@pytest.mark.slow
def test_without_sharing_nothing_is_shared(train: Any, room: Path) -> None:
    with load(train, room, share_volumes=False, num_workers=2) as loader:
        list(loader)
        assert loader.shared_info() is None


@pytest.mark.slow
def test_a_loader_that_is_forgotten_leaves_nothing(train: Any, room: Path) -> None:
    loader = load(train, room, num_workers=1)
    next(iter(loader))
    folder = Path(loader.dataset.shared.folder)  # type: ignore[union-attr]
    assert folder.is_dir()
    del loader
    gc.collect()
    assert not folder.exists()


@pytest.mark.slow
def test_batch_memory_is_reused(tmp_path: Path) -> None:
    volume = nib.Nifti1Image(np.zeros((96, 96, 96), np.int16), np.eye(4))
    rows = [{"id": str(n), "volume": volume, "box": [0, 0, 0, 1, 1, 1], "number": n} for n in range(12)]

    def numbered(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "voxels": np.full((96, 96, 96), row["number"], np.int16)}

    with make_dataloader(rows, batch_size=2, transform=numbered, share_volumes=False) as loader:
        kept = [batch["volume"] for batch in loader]  # none is gone: each has its own
        assert [int(volume[0].min()) for volume in kept] == [int(volume[0].max()) for volume in kept]
        assert [int(volume[0, 0, 0, 0, 0]) for volume in kept] == list(range(0, 12, 2))
        part = kept[2][1, 0, 5]
        del kept
        gc.collect()
        places = set()
        for batch in loader:
            places.add(batch["volume"].data_ptr())
            del batch
    assert len(places) <= 3
    assert (part == 5).all()


@pytest.mark.slow
def test_a_closed_loader_says_so(train: Any, room: Path) -> None:
    loader = load(train, room)
    loader.close()
    loader.close()
    assert loader.shared_info() is None
    with pytest.raises(LoaderError, match=r"The loader is closed. Make another with make_dataloader"):
        iter(loader)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_iteration_of_closed_loader_is_an_error(train: Any, room: Path, workers: int) -> None:
    loader = load(train, room, num_workers=workers)
    batches = iter(loader)
    next(batches)
    loader.close()
    with pytest.raises(LoaderError, match="The loader was closed while it was iterated"):
        next(batches)


@pytest.mark.slow
def test_close_with_the_last_batch(train: Any, room: Path) -> None:
    loader = load(train, room)
    handed = 0
    for handed, _ in enumerate(loader, 1):
        if handed == len(loader):
            loader.close()
    assert handed == len(loader) > 1


# Balancing.


def test_balance_by_grade_resumes() -> None:
    graded = examples([4] * 100)  # grades 1, 2, 3 and 3
    sound = [{"attribute": "size", "grade": 0}, {"attribute": "depth", "grade": 0}]
    rows = graded + [{**row, "id": row["id"].replace("/00M/", "/12M/"), "grades": sound} for row in graded] * 3
    options: dict[str, Any] = {"batch_size": 10, "shuffle": True, "balance": "grade", "seed": 2}
    loader = make_dataloader(rows, **options)
    highest = torch.cat([batch["grades"].max(dim=1).values for batch in loader])
    assert len(highest) == len(rows)
    assert (torch.bincount(highest) / len(highest)).tolist() == pytest.approx([0.25] * 4, abs=0.05)
    for step, _ in enumerate(loader, 1):
        if step == 30:
            break
    resumed, whole = make_dataloader(rows, **options), make_dataloader(rows, **options)
    resumed.load_state_dict(loader.state_dict())
    whole.set_epoch(1)
    assert [batch["id"] for batch in resumed] == [batch["id"] for batch in whole][30:]


def test_balancing_by_several_columns_of_a_dataset() -> None:
    rows = datasets.Dataset.from_list(examples([1] * 900 + [3] * 30))
    loader = make_dataloader(rows, batch_size=90, shuffle=True, balance=["category", "grade"])
    seen = [(c, int(g.max())) for batch in loader for c, g in zip(batch["category"], batch["grades"], strict=True)]
    counts = {label: seen.count(label) for label in set(seen)}
    assert set(counts) == {("c1", 1), ("c2", 2), ("c0", 3)}
    assert min(counts.values()) > len(seen) / 4


# Bad input.


def test_an_empty_dataset() -> None:
    with pytest.raises(LoaderError, match=r"The dataset has no examples. Check split="):
        make_dataloader([], batch_size=1)
    nothing = datasets.Dataset.from_list(examples([2])).select([])
    with pytest.raises(LoaderError, match=r"The dataset has no examples. Check split="):
        make_dataloader(nothing, batch_size=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "The state has seed=0, and this loader 1. Resume with the seed"),
        (
            {"volumes_in_flight": 4},
            "The state has volumes_in_flight=3, and this loader 4",
        ),
        ({"shuffle": False}, "The state has shuffle=True, and this loader False"),
        ({"balance": "category"}, "The state has balance='', and this loader 'category'"),
        ({"rows": examples([3, 3, 1])}, "The state has fingerprint=.*Resume with the same rows"),
        ({"rows": examples([3, 3])[::-1]}, "The state has fingerprint="),
    ],
)
def test_a_state_from_elsewhere(changes: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"batch_size": 2, "shuffle": True, "volumes_in_flight": 3, "seed": 0}
    state = make_dataloader(examples([3, 3]), **options).state_dict()
    changes = dict(changes)
    other = make_dataloader(changes.pop("rows", examples([3, 3])), **(options | changes))
    with pytest.raises(LoaderError, match=message):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("seed"), "Not the state of a loader: a dict with the keys version"),
        (lambda state: state.update(version=1), "state is of version 1, and this loader reads version 2"),
        (
            lambda state: state.update(position=7),
            "state is at epoch 0, position 7 of 6 examples, which does not exist",
        ),
        (lambda state: state.update(epoch=-1), "state is at epoch -1"),
    ],
)
def test_a_state_that_was_changed(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    loader = make_dataloader(examples([3, 3]), batch_size=2)
    state = loader.state_dict()
    change(state)
    with pytest.raises(LoaderError, match=message):
        loader.load_state_dict(state)
    with pytest.raises(LoaderError, match="Not the state of a loader: None"):
        loader.load_state_dict(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be a whole number of at least 1, not 0 \(int\)"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number of at least 1, not 2.5 \(float\)"),
        ({"batch_size": "8"}, r"batch_size must be a whole number of at least 1, not '8' \(str\)"),
        ({"batch_size": True}, "batch_size must be a whole number of at least 1, not True"),
        ({"batch_size": 7, "drop_last": True}, "the 6 examples make no batch, since a step takes 7. Choose a smaller"),
        ({"drop_last": "pad"}, r"drop_last must be True or False, not 'pad' \(str\)"),
        ({"rank": 2, "world_size": 2}, "Rank 2 does not exist among 2 ranks, which are numbered from 0"),
        ({"rank": "0", "world_size": "2"}, r"rank must be a whole number of at least 0, not '0' \(str\)"),
        ({"rank": 1}, "Got rank=1 and world_size=None. Pass both, or leave both out"),
        ({"seed": -1}, r"seed must be a whole number of at least 0, not -1 \(int\)"),
        ({"seed": None}, "seed must be a whole number of at least 0, not None"),
        ({"volumes_in_flight": 0}, "volumes_in_flight must be a whole number of at least 1, not 0"),
        ({"num_workers": 1.5}, r"num_workers must be a whole number of at least 0, not 1.5 \(float\)"),
        ({"shared_memory_bytes": "1GB"}, r"shared_memory_bytes must be a whole number of at least 1, not '1GB'"),
        ({"share_volumes": 8}, r"share_volumes must be True, False or the path of a folder, not 8 \(int\)"),
        ({"transform": CropToBox}, r"transform must be an instance, not the class CropToBox. Write CropToBox\(...\)"),
        ({"collate_fn": QuintupleCollator}, "collate_fn must be an instance, not the class QuintupleCollator"),
        ({"transform": [CropToBox()]}, "transform must be a function or another callable, not a value of type list"),
        ({"balance": "category"}, "balance= draws rows at random, so it needs shuffle=True"),
        ({"balance": "grad", "shuffle": True}, "no column to balance by 'grad'. Did you mean 'grade'"),
        ({"balance": "box", "shuffle": True}, "Cannot balance by the column box of type list"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        make_dataloader(examples([3, 3]), **({"batch_size": 2} | options))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("train", r"The dataset must be loaded first, not 'train' \(str\). Write load_dataset"),
        ({"train": examples([1])}, "The dataset must be one split, not a dict of train. Choose one by name"),
        (
            iter(examples([1])),
            "The dataset must be a dataset or a sequence of examples, not a value of type list_iterator",
        ),
        (7, "The dataset must be a dataset or a sequence of examples, not 7"),
    ],
)
def test_make_dataloader_refuses_what_is_no_dataset(dataset: Any, message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        make_dataloader(dataset, batch_size=1)


def test_make_dataloader_accepts_class_as_dataset() -> None:
    loader = make_dataloader(examples([3]), batch_size=2, transform=dict)
    assert [len(batch["id"]) for batch in loader] == [2, 1]


def test_make_dataloader_arguments_are_keyword_only() -> None:
    kinds = [parameter.kind for parameter in inspect.signature(make_dataloader).parameters.values()]
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_messages_never_print_whole_rows() -> None:
    rows = examples([2, 1])
    rows[0]["question"] = "What grade is it? " * 50
    with pytest.raises(LoaderError, match="list_iterator") as caught:
        make_dataloader(iter(rows), batch_size=rows[0])  # type: ignore[arg-type]
    assert "What grade" not in str(caught.value)
    with pytest.raises(
        LoaderError, match="batch_size must be a whole number of at least 1, not a dict with the keys id, "
    ) as caught:
        make_dataloader(rows, batch_size=rows[0])  # type: ignore[arg-type]
    with pytest.raises(LoaderError, match="The examples of a batch must have the same keys") as caught:
        list(make_dataloader(rows, batch_size=2))
    assert "What grade" not in str(caught.value)


def test_rows_that_nothing_tells_apart() -> None:
    rows = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])
    with pytest.raises(LoaderError, match=r"needs a column that identifies its rows \(id, .*\), and has only text"):
        make_dataloader(rows, batch_size=1)


def test_fill_refuses_examples_without_mapping() -> None:
    rows = examples([3])
    options: dict[str, Any] = {"batch_size": 2, "transform": lambda row: row["id"], "collate_fn": list}
    loader = make_dataloader(rows, **options, rank=1, world_size=2)
    with pytest.raises(LoaderError, match="the transform returned a str, which cannot be marked"):
        list(loader)
    kept = make_dataloader(rows, **options)
    assert list(kept) == [[row["id"] for row in rows[:2]], [rows[2]["id"]]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_worker_error_keeps_type_and_example(train: Any, room: Path, workers: int) -> None:
    crop = CropToBox(size=(400, 5, 5), pad_value=None)
    too_large = r"does not fit into the volume of \(6, 8, 10\) without padding"
    with (
        load(train, room, transform=crop, num_workers=workers) as loader,
        pytest.raises(BoxError, match=too_large) as caught,
    ):
        list(loader)
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "while making 000000" in text


def look_up(row: dict[str, Any]) -> dict[str, Any]:
    """Fail as functions of users do."""
    raise KeyError("no such thing")


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers",
    [0, pytest.param(1, marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="torch passes no notes on"))],
)
def test_transform_error_names_the_example(train: Any, room: Path, workers: int) -> None:
    with (
        load(train, room, transform=look_up, num_workers=workers) as loader,
        pytest.raises(KeyError, match="no such thing") as caught,
    ):
        list(loader)
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "while making 000000" in text


@pytest.mark.slow
def test_stop_iteration_in_transform_is_an_error(train: Any, room: Path) -> None:
    def run_out(row: dict[str, Any]) -> Any:
        return next(iter(()))

    message = "The transform raised StopIteration while making 000000"
    with load(train, room, transform=run_out) as loader, pytest.raises(LoaderError, match=message):
        list(loader)


@pytest.mark.slow
def test_a_file_that_is_missing(train: Any, repository: Path, room: Path) -> None:
    path = repository / train[0]["volume_path"]
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        with load(train, room) as loader, pytest.raises(VolumeNotFoundError, match=r"volume file .* does not exist"):
            list(loader)
    finally:
        hidden.rename(path)


@pytest.mark.slow
def test_state_dict_is_same_on_machines(train: Any, repository: Path, tmp_path: Path, room: Path) -> None:
    """The rows of a repository are identified by their content, not by their place."""
    moved = tmp_path / "elsewhere"
    moved.symlink_to(repository)
    there = load_dataset(split="train", data_dir=moved, cache_dir=str(tmp_path / "cache"))
    with load(train, room) as here, load(there, room) as other:
        assert here.state_dict() == other.state_dict()


@pytest.mark.slow
def test_a_dataset_that_was_mapped_and_shuffled(train: Any, room: Path) -> None:
    mapped = train.shuffle(seed=1).select(range(20)).map(CropToBox(size=(4, 4, 4)))
    with load(mapped, room, transform=None, collate_fn=QuintupleCollator(keep=())) as loader:
        batch = next(iter(loader))
    assert set(batch) == {"id", "volume", "orientation", "voxel_mask", "unpadded_box", "boxes", "boxes_volume", "valid"}
    assert batch["volume"].shape == (4, 1, 4, 4, 4)
    assert pickle.loads(pickle.dumps(batch))["id"] == batch["id"]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), [("loader", "make_dataloader"), ("collate", "QuintupleCollator")])
def test_without_torch_the_extra_is_named(module: str, name: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import reasonknee_datasets.{module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"MissingExtraError: torch is needed for {name} and is not installed" in run.stderr
    assert 'pip install "reasonknee_datasets[torch]"' in run.stderr
