"""Rows of a streaming dataset, whose order is its own.

What is promised: the order of an epoch is the order in which one process would iterate the dataset (its shards as they
stand, or as ``dataset.shuffle(seed=..., buffer_size=...)`` gives them), whatever the number of workers, ranks and
examples a batch; and a state continues it exactly. For that the *main* process of every rank iterates all rows, which
hold no voxels, and takes its own; workers get whole rows and do the rest. Resuming reads the rows before the place
again and drops them, which costs a fraction of a millisecond a row, since no shortcut of ``datasets`` keeps a shuffle
buffer.

What is not: shuffling by volumes, balancing and a length, which need all rows beforehand. A buffered shuffle mixes
volumes only as far as its buffer reaches. And a state is told from another dataset's by columns, split and first row
alone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import datasets

from reasonknee_datasets.errors import LoaderError, explain


class StreamedRows:
    """The rows of an ``IterableDataset``.

    Parameters
    ----------
    dataset : datasets.IterableDataset
        Not split by node: a loader does that.
    """

    def __init__(self, dataset: datasets.IterableDataset) -> None:
        if getattr(dataset, "_distributed", None) is not None:
            remedy = "Give the dataset as it was before: the loader gives every rank its part"
            raise LoaderError(explain("a streaming dataset", "not be split by node", "split_dataset_by_node", remedy))
        self.dataset = dataset
        dataset.set_epoch(0)
        self.first: Mapping[str, Any] | None = next(iter(dataset.take(1)), None)
        if self.first is None:
            remedy = "Check split= and the last .filter()"
            raise LoaderError(explain("the dataset", "hold at least one example", "none", remedy))

    @property
    def fingerprint(self) -> str:
        """Columns, split and first row, as far as they can be written."""
        first = self.first or {}
        words = {name: value for name, value in first.items() if isinstance(value, str | int | float | list)}
        parts = (sorted(first), str(self.dataset.split), sorted(map(repr, words.items())))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def total(self) -> None:
        """Raise TypeError, since the length of an epoch is not known."""

    def rows(self, epoch: int, start: int) -> Iterator[tuple[Any, int]]:
        """Return whole rows, with their places."""
        self.dataset.set_epoch(epoch)
        # Not dataset.skip(start): behind a shuffle buffer it gives another order in every epoch but the first.
        return zip(itertools.islice(iter(self.dataset), start, None), itertools.count(start), strict=False)
