"""Arguments of the wrong kind are refused when a loader or collator is made, before any row is read."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
from datasets import Dataset

from reasonknee_datasets.collate import QuintupleCollator
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import VolumeGroupedSampler, make_dataloader, prefetch_to_device
from reasonknee_datasets.transforms import Compose, CropToBox, ToCanonical, TransformError

ROWS = [{"id": f"{n:07d}/00M/left/q01", "volume_path": f"{n}"} for n in range(3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": CropToBox}, r"transform must be an instance, not the class CropToBox. Write CropToBox\(...\)."),
        ({"transform": Compose}, "transform must be an instance, not the class Compose"),
        ({"transform": [ToCanonical()]}, "transform must be a function or another callable"),
        ({"collate_fn": QuintupleCollator}, "collate_fn must be an instance, not the class QuintupleCollator"),
        ({"collate_fn": 3}, r"collate_fn must be a function or another callable, not 3 \(int\)"),
        ({"worker_init_fn": "seed", "num_workers": 1}, "worker_init_fn must be a function .* not 'seed'"),
        ({"shuffle": "no"}, r"shuffle must be True or False, not 'no' \(str\)"),
        ({"drop_last": 1}, "drop_last must be True or False, not 1"),
        ({"pin_memory": "no"}, "pin_memory must be True or False"),
        ({"persistent_workers": "no", "num_workers": 1}, "persistent_workers must be True, False or None"),
        ({"timeout": "x"}, "timeout must be a number of at least 0 and at most .*, not 'x'"),
        ({"prefetch_factor": "2", "num_workers": 1}, "prefetch_factor must be a whole number of at least 1 or None"),
        ({"balance": 5, "shuffle": True}, r"balance must be a name or a list of names, not 5 \(int\)"),
        ({"balance": {"grade": 1}, "shuffle": True}, "balance must be a name or a list of names, not a dict"),
    ],
)
def test_make_dataloader(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        make_dataloader(ROWS, batch_size=2, **options)


def test_with_transform() -> None:
    dataset = Dataset.from_list(ROWS).with_transform(CropToBox)  # type: ignore[arg-type]
    with pytest.raises(
        LoaderError, match="The function of with_transform must be an instance, not the class CropToBox"
    ):
        make_dataloader(dataset, batch_size=2)


def test_transform_that_returns_none() -> None:
    with pytest.raises(LoaderError, match=r"The transform returned None for 0000000/00M/left/q01. Return the example"):
        next(iter(make_dataloader(ROWS, batch_size=2, transform=lambda row: None, collate_fn=list)))
    with pytest.raises(TransformError, match=r"Step 1 of Compose \(<lambda>\) returned None"):
        Compose([lambda row: row, lambda row: None, ToCanonical()])(ROWS[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 3}, r"keep must be a name or a list of names, not 3 \(int\)"),
        ({"buckets": 64}, r"buckets must be a list of lengths such as \(256, 512\), not 64"),
        ({"buckets": "64"}, "buckets must be a list of lengths"),
        ({"buckets": (64.5,)}, "A length in buckets must be a whole number of at least 1, not 64.5"),
        ({"pad_value": "0"}, "pad_value must be a number, not '0'"),
        ({"pad_token_id": "0"}, "pad_token_id must be a whole number of at least 0 or None, not '0'"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be a whole number of at least 1 or None, not 0"),
        ({"contiguous": "no"}, "contiguous must be True or False"),
        ({"orientation": None}, "orientation must be 'same', 'any' or three letters such as 'RAS', not None"),
        ({"dtype": np.float32}, "dtype must be one of uint8, int16, .* not the class float32"),
    ],
)
def test_quintuple_collator(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        QuintupleCollator(**options)


def test_quintuple_collator_keeps_one_name() -> None:
    """A word is one name, not its letters."""
    assert set(QuintupleCollator(keep="side")([{"id": "a", "side": "left", "s": 1}])) == {"id", "side", "valid"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VolumeGroupedSampler("train"), r"The dataset must be loaded first, not 'train' \(str\)"),
        (lambda: VolumeGroupedSampler(ROWS, balance=3), "balance must be a name or a list of names"),  # type: ignore[arg-type]
        (lambda: prefetch_to_device(3, "cpu"), "The loader must be an iterable of batches, not 3"),  # type: ignore[arg-type]
        (lambda: prefetch_to_device([], "gpu"), "The device must be one such as 'cuda' or 'cpu', not 'gpu'"),
        (lambda: prefetch_to_device([], None), "The device must be one such as"),  # type: ignore[arg-type]
        (lambda: prefetch_to_device([], "cpu", depth="2"), "depth must be a whole number of at least 1, not '2'"),  # type: ignore[arg-type]
        (lambda: prefetch_to_device([], "cpu", depth=0), "depth must be a whole number of at least 1, not 0"),
        (lambda: prefetch_to_device([], "cpu", transform=ToCanonical), "transform must be an instance, not the class"),
    ],
)
def test_sampler_and_prefetcher(call: Any, message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        call()
