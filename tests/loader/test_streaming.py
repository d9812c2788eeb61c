"""Streaming datasets in the loader: their own order, divided and resumed exactly under any topology."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.distributed import split_dataset_by_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import make_dataloader
from reasonknee_datasets.transforms import CropToBox
from tests.helpers.prepared_repository import write_repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("streaming") / "3dreasonknee")


def stream(repository: Path, split: str = "train") -> datasets.IterableDataset:
    """Six volumes of four questions, in three shards."""
    return load_dataset(split=split, streaming=True, data_dir=repository).remove_columns("grades")


def shuffled(repository: Path) -> datasets.IterableDataset:
    return stream(repository).shuffle(seed=7, buffer_size=9)


def ids(batch: Any) -> list[str]:
    return [name for name, valid in zip(batch["id"], batch["valid"].tolist(), strict=True) if valid]


def epoch_of(dataset: datasets.IterableDataset, epoch: int) -> list[str]:
    """Iterate it as one process would."""
    dataset.set_epoch(epoch)
    return [row["id"] for row in dataset]


@pytest.mark.parametrize("make", [stream, shuffled])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_is_that_of_one_process(repository: Path, make: Any, workers: int) -> None:
    with make_dataloader(make(repository), batch_size=5, num_workers=workers) as loader:
        for epoch in range(2):
            assert [name for batch in loader for name in batch["id"]] == epoch_of(make(repository), epoch)
            assert loader.state_dict()["epoch"] == epoch + 1


def test_a_shuffle_differs_from_epoch_to_epoch(repository: Path) -> None:
    loader = make_dataloader(shuffled(repository), batch_size=24)
    first, second = ([name for batch in loader for name in batch["id"]] for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    segments=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=4),
    make=st.sampled_from([stream, shuffled]),
)
def test_streaming_resumes_after_any_interruptions(
    repository: Path, segments: list[tuple[int, int, int]], make: Any
) -> None:
    state, seen = None, []
    for world, batch_size, steps in segments:
        loaders = [
            make_dataloader(make(repository), batch_size=batch_size, rank=rank, world_size=world, share_volumes=False)
            for rank in range(world)
        ]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        streams = [endless(loader) for loader in loaders]
        seen += [name for _ in range(steps) for one in streams for name in ids(next(one))]
        states = [loader.state_dict() for loader in loaders]
        assert all(one == states[0] for one in states)
        state = states[0]
    expected = [name for epoch in range(len(seen) // 24 + 1) for name in epoch_of(make(repository), epoch)]
    assert seen == expected[: len(seen)]


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def test_workers_share_what_they_decode(repository: Path, tmp_path: Path) -> None:
    crop = CropToBox(margin_voxels=20)
    with make_dataloader(
        stream(repository), batch_size=3, num_workers=2, transform=crop, share_volumes=tmp_path
    ) as loader:
        batches = list(loader)
        info = loader.shared_info()
    assert info is not None
    assert info.decodes == 6
    plain = make_dataloader(stream(repository), batch_size=3, transform=crop, share_volumes=False)
    assert all(torch.equal(a["volume"], b["volume"]) for a, b in zip(batches, plain, strict=True))


def test_a_prefetched_batch_is_not_yet_seen(repository: Path) -> None:
    with make_dataloader(stream(repository), batch_size=3, num_workers=2) as loader:
        batches = iter(loader)
        for step in range(1, 4):
            next(batches)
            assert loader.state_dict()["position"] == 3 * step
        del batches


def test_what_is_not_promised_is_said(repository: Path) -> None:
    with pytest.raises(
        LoaderError,
        match=r"keeps its own order, so shuffle= and balance= cannot be used. Shuffle it with dataset.shuffle",
    ):
        make_dataloader(stream(repository), batch_size=2, shuffle=True)
    with pytest.raises(LoaderError, match="keeps its own order"):
        make_dataloader(stream(repository), batch_size=2, balance="category")
    with pytest.raises(LoaderError, match=r"was split by split_dataset_by_node. Pass the dataset as it was"):
        make_dataloader(split_dataset_by_node(stream(repository), rank=0, world_size=2), batch_size=2)
    with pytest.raises(TypeError, match="no length"):
        len(make_dataloader(stream(repository), batch_size=2))


def test_an_empty_stream(repository: Path) -> None:
    with pytest.raises(LoaderError, match="The dataset has no examples"):
        make_dataloader(stream(repository).filter(lambda row: False), batch_size=2)


def test_a_state_of_another_stream(repository: Path) -> None:
    state = make_dataloader(stream(repository), batch_size=2).state_dict()
    for other in (stream(repository, "test"), shuffled(repository), stream(repository).remove_columns("box")):
        with pytest.raises(LoaderError, match="The state has fingerprint="):
            make_dataloader(other, batch_size=2).load_state_dict(state)
