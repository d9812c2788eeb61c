"""Buffers carry batches from workers, and are reused, but never while a tensor still uses them."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from reasonknee_datasets.collate import Batch, memory
from reasonknee_datasets.collate.memory import BufferPool, forget
from reasonknee_datasets.loader import make_dataloader
from reasonknee_datasets.volumes import open_volume
from tests.helpers.prepared_repository import write_repository

SHAPE = (40, 50, 30)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[BufferPool]:
    """Make this process worker and receiver at once."""
    pool = BufferPool(str(tmp_path))
    memory._pool.append(pool)
    yield pool
    memory._pool.clear()
    forget(str(tmp_path))


def filled(pool: BufferPool, value: int, dtype: torch.dtype = torch.int16) -> torch.Tensor:
    tensor = pool.empty(SHAPE, dtype)
    assert tensor is not None
    return tensor.fill_(value)


def sent(tensor: torch.Tensor) -> torch.Tensor:
    """Send a tensor as a worker does: it is dropped there once it is written down."""
    found: torch.Tensor = pickle.loads(pickle.dumps(Batch({"volume": tensor})))["volume"]
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float32])
def test_what_is_sent_arrives(pool: BufferPool, tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = filled(pool, 7, dtype)
    tensor[3, 4, 5] = 9
    found = sent(tensor.permute(2, 0, 1)[1:])
    assert torch.equal(found, tensor.permute(2, 0, 1)[1:])
    assert found.stride() == tensor.permute(2, 0, 1).stride()
    assert len(list(tmp_path.iterdir())) == 1


def test_buffer_is_free_after_last_view(pool: BufferPool, tmp_path: Path) -> None:
    view = sent(filled(pool, 1))[0, 0]
    gc.collect()
    other = sent(filled(pool, 2))
    assert view.unique().tolist() == [1]
    assert len(list(tmp_path.iterdir())) == 2
    del view
    third = sent(filled(pool, 3))
    assert other.unique().tolist() == [2]
    assert third.unique().tolist() == [3]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_never_sent_is_free_again(pool: BufferPool, tmp_path: Path) -> None:
    for value in range(20):
        filled(pool, value)
    assert len(list(tmp_path.iterdir())) == 1


def test_batch_copied_in_worker_keeps_original(pool: BufferPool) -> None:
    batch = Batch({"volume": filled(pool, 5)})
    shallow, deep = copy.copy(batch), copy.deepcopy(batch)
    found = pickle.loads(pickle.dumps(batch))
    again = pickle.loads(pickle.dumps(shallow))
    for one in (shallow, deep, found, again):
        assert one["volume"].unique().tolist() == [5]


def test_buffer_pool_with_all_in_use(pool: BufferPool) -> None:
    held = [filled(pool, value) for value in range(12)]
    assert pool.empty(SHAPE, torch.int16) is None
    assert [int(tensor[0, 0, 0]) for tensor in held] == list(range(12))


def test_a_larger_batch_makes_its_buffer_grow(pool: BufferPool, tmp_path: Path) -> None:
    assert sent(filled(pool, 1)).unique().tolist() == [1]
    large = pool.empty((300, 100, 100), torch.int16)
    assert large is not None
    assert sent(large.fill_(2)).unique().tolist() == [2]
    assert len(list(tmp_path.iterdir())) == 1


def test_buffer_pool_in_full_folder(pool: BufferPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert pool.empty(SHAPE, torch.int16) is None


def test_small_tensors_travel_inside() -> None:
    batch = Batch({"boxes": torch.arange(12).reshape(2, 6), "half": torch.ones(2, dtype=torch.bfloat16), "id": ["a"]})
    found = pickle.loads(pickle.dumps(batch))
    assert torch.equal(found["boxes"], batch["boxes"])
    assert torch.equal(found["half"], batch["half"])
    found["boxes"].add_(1)  # the receiver's own
    assert batch["boxes"][0, 0] == 0


def values(batch: Any) -> list[int]:
    """Return the one value of each volume of a batch."""
    volumes = batch["volume"].flatten(1)
    assert torch.equal(volumes.amin(1), volumes.amax(1))
    found: list[int] = volumes[:, 0].tolist()
    return found


def test_a_caller_may_keep_every_batch(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": str(number), "voxels": torch.full(SHAPE, number)} for number in range(60)]
    root = write_repository(tmp_path / "3dreasonknee")
    volume = open_volume(next((root / "volumes").rglob("*.nii.gz")))
    rows = [row | {"volume": volume} for row in rows]
    with make_dataloader(rows, batch_size=2, num_workers=1, share_volumes=tmp_path) as loader:
        expected = [list(range(at, at + 2)) for at in range(0, 60, 2)]
        kept = list(loader)
        assert len(list(tmp_path.glob("*/*/batch-*"))) == 12
        assert [batch["volume"][:, 0, 0, 0, 0].tolist() for batch in kept] == expected
        assert [values(batch) for batch in loader] == expected
    assert [values(batch) for batch in kept] == expected
