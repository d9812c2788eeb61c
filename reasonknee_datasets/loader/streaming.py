"""Rows of a streaming dataset, in its own order.

The order of an epoch is the one in which a single process would iterate over the dataset: its shards in order, or as
``dataset.shuffle(seed=..., buffer_size=...)`` yields them. It does not depend on the number of workers, ranks and
examples a batch, and a state resumes it exactly. For that, the *main* process of every rank iterates over all rows,
which hold no voxels, and takes its own; workers get whole rows and do the rest. To resume, the rows before the place
are read again and dropped, at a fraction of a millisecond a row, since no shortcut of ``datasets`` keeps a shuffle
buffer.

Shuffling by volumes, balancing and a length need all rows beforehand, and are not available. A buffered shuffle mixes
volumes only as far as its buffer reaches. A state is checked against the columns, the split and the first row of the
dataset alone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import datasets

from reasonknee_datasets.errors import LoaderError


class StreamedRows:
    """The rows of an ``IterableDataset``.

    Parameters
    ----------
    dataset : datasets.IterableDataset
        Not split by node: a loader does that.
    """

    def __init__(self, dataset: datasets.IterableDataset) -> None:
        if getattr(dataset, "_distributed", None) is not None:
            raise LoaderError(
                "The streaming dataset was split by split_dataset_by_node. Pass the dataset as it was before: the "
                "loader takes each rank's part itself."
            )
        self.dataset = dataset
        dataset.set_epoch(0)
        self.first: Mapping[str, Any] | None = next(iter(dataset.take(1)), None)
        if self.first is None:
            raise LoaderError("The dataset has no examples. Check split= and the last .filter().")

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
