"""Dataset of a worker: reads rows, applies the transform and collates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import datasets
import torch

from reasonknee_datasets.collate.memory import use_pool
from reasonknee_datasets.errors import LoaderError, add_note
from reasonknee_datasets.loader.shared import SharedVolumes
from reasonknee_datasets.loader.slots import Use
from reasonknee_datasets.volumes import LazyVolume, use_cache


class Ticket(NamedTuple):
    """One example that a worker is to make.

    The epoch is part of it, because workers may live for several epochs. ``row`` is its number in the
    dataset, or the row itself where it was streamed.
    """

    row: Any
    valid: bool
    use: Use

    @property
    def epoch(self) -> int:
        """The epoch that it belongs to."""
        return self.use.epoch


class Work:
    """Dataset for torch's ``DataLoader``: from a batch of tickets to a batch; without a dataset tickets bring rows."""

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any] | None,
        collate: Callable[[list[Any]], Any],
        shared: SharedVolumes | None,
    ) -> None:
        self.dataset, self._batch_transform = _unwrap(dataset)
        self.transform = transform
        self.collate = collate
        self.shared = shared

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return self.dataset[row]

    def __getitems__(self, tickets: Sequence[Ticket]) -> Any:
        """Make a batch; torch calls it once for each."""
        if self.shared is not None and torch.utils.data.get_worker_info() is not None:
            use_pool(self.shared.folder)
        with nullcontext() if self.shared is None else _reading(self.shared):
            examples = [
                {**row, "epoch": ticket.epoch} for row, ticket in zip(self._rows(tickets), tickets, strict=True)
            ]
            if self.shared is not None:
                self.shared.expect(tickets[0].use, _uses(examples, tickets))
            if self._batch_transform is not None:
                examples = _by_column(self._batch_transform, examples)
            return self.collate([self._made(*pair) for pair in zip(examples, tickets, strict=True)])

    def _rows(self, tickets: Sequence[Ticket]) -> Sequence[Mapping[str, Any]]:
        if self.dataset is None:
            return [ticket.row for ticket in tickets]
        if isinstance(self.dataset, datasets.Dataset):
            rows: list[Mapping[str, Any]] = self.dataset.__getitems__([ticket.row for ticket in tickets])
            return rows
        return [self.dataset[ticket.row] for ticket in tickets]

    def _made(self, example: Mapping[str, Any], ticket: Ticket) -> Any:
        made: Any = example
        if self.transform is not None:
            try:
                made = self.transform(example)
            except Exception as error:
                where = f"while making {example.get('id', 'an example without an id')} in epoch {ticket.epoch}"
                if isinstance(error, StopIteration):  # which would end the epoch here without an error
                    raise LoaderError(
                        f"The transform raised StopIteration {where}. Pass next() a default there, or catch it."
                    ) from error
                add_note(error, where)
                raise
            if made is None:
                raise LoaderError(
                    f"The transform returned None for {example.get('id', 'an example without an id')}. Return the "
                    "example at its end."
                )
        if isinstance(made, Mapping):
            return {**made, "valid": ticket.valid}
        if not ticket.valid:
            raise LoaderError(
                f"The last step of several ranks is filled with repeats marked valid=False, but the transform returned "
                f"a {type(made).__name__}, which cannot be marked. Return a mapping, or choose drop_last=True."
            )
        return made


def _uses(examples: Sequence[Mapping[str, Any]], tickets: Sequence[Ticket]) -> dict[str, Use]:
    """Return the volumes of a batch by their files, each with its use."""
    pairs = ((example.get("volume"), ticket.use) for example, ticket in zip(examples, tickets, strict=True))
    return {volume.path or "": use for volume, use in pairs if isinstance(volume, LazyVolume)}


def as_it_is(batch: Any) -> Any:
    """Collate what `Work` has collated already."""
    return batch


@contextmanager
def _reading(shared: SharedVolumes) -> Any:
    """Read volumes through the shared slots, and release them when the batch is made."""
    try:
        with use_cache(shared):
            yield
    finally:
        shared.release()


def _unwrap(dataset: Any) -> tuple[Any, Callable[[dict[str, Any]], dict[str, Any]] | None]:
    """Take the function of ``Dataset.with_transform`` off a dataset, so that it can be called with the epoch."""
    form = getattr(dataset, "format", {})
    if form.get("type") != "custom":
        return dataset, None
    bare, transform = dataset.with_format(None), form["format_kwargs"]["transform"]
    if set(form["columns"]) == set(bare.column_names):
        return bare, transform
    if form["output_all_columns"]:
        return bare, partial(_of_some, transform, tuple(form["columns"]))
    return bare.select_columns(form["columns"]), transform


def _of_some(
    transform: Callable[[dict[str, Any]], dict[str, Any]], names: Sequence[str], columns: dict[str, Any]
) -> dict[str, Any]:
    """Apply a function to some columns and the epoch, and keep the other columns."""
    made = transform({name: columns[name] for name in (*names, "epoch")})
    return {**{name: values for name, values in columns.items() if name not in names}, **made}


def _by_column(transform: Callable[[dict[str, Any]], dict[str, Any]], examples: list[dict[str, Any]]) -> list[Any]:
    """Apply a function from a dict of lists to a dict of lists."""
    columns = transform({name: [example[name] for example in examples] for name in examples[0]})
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
