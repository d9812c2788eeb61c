"""`BatchSampler`: from a place in the global order to the batches of one rank."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reasonknee_datasets.loader.epoch_order import EpochPlan
from reasonknee_datasets.loader.ranks import Topology
from reasonknee_datasets.loader.slots import Use
from reasonknee_datasets.loader.state import EpochPosition
from reasonknee_datasets.loader.worker_dataset import Ticket

_log = logging.getLogger(__name__)


class RowSource(Protocol):
    """Where the order of an epoch comes from."""

    def total(self) -> int | None:
        """Count the examples of an epoch; None where that is not known beforehand."""

    def rows(self, epoch: int, start: int) -> Iterator[tuple[Any, int]]:
        """Iterate over row numbers or rows, from a place of the epoch's order on.

        With each comes the last place that reads its volume; its own where that is not known.
        """


class PlannedRows:
    """Rows with a planned order: a dataset of known length."""

    def __init__(self, plan: EpochPlan) -> None:
        self.plan = plan

    def total(self) -> int:
        """Count the examples of an epoch."""
        return len(self.plan.volumes)

    def rows(self, epoch: int, start: int) -> Iterator[tuple[int, int]]:
        """Iterate over row numbers."""
        rows = self.plan.rows(epoch)
        volumes = self.plan.volumes[rows]
        last = np.zeros(volumes.max() + 1, np.int64)
        np.maximum.at(last, volumes, np.arange(len(rows)))
        return zip(rows[start:].tolist(), last[volumes[start:]].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Pass:
    """One iteration over what is left of an epoch.

    torch requests batches ahead, as many as are prefetched, so the last requested batch is not the last returned one:
    `places` contains, in order, the place after each batch, and the loader takes one for each batch that it returns.
    """

    start: EpochPosition
    began: int
    places: deque[EpochPosition]
    batches: Iterator[list[Ticket]]


class BatchSampler:
    """The batches of one rank as lists of tickets, epoch after epoch.

    The loader takes its passes by `begin`. Iterated directly, as accelerate, the Hugging Face ``Trainer`` and torchdata
    do to skip the batches of an interrupted epoch by counting them, it begins at the start of an epoch.

    Parameters
    ----------
    source : RowSource
        Source of the rows.
    topology : Topology
        Which of them belong to this rank.

    Attributes
    ----------
    seen : EpochPosition
        After the last batch that the loader's caller was handed.
    next : EpochPosition
        Where the next pass begins.
    is_taken : bool
        Whether the present epoch is iterated past the loader, so that its position is not known.
    """

    def __init__(self, source: RowSource, topology: Topology) -> None:
        self.source, self.topology = source, topology
        self.seen = self.next = EpochPosition()
        self.is_taken = False

    @property
    def batch_size(self) -> int:
        """Examples in a batch of this rank."""
        return self.topology.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether the last examples of an epoch are left out where they do not fill a step."""
        return self.topology.drop_last

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; an epoch that a loaded state is in the middle of is resumed."""
        self.go_to(self.next if epoch == self.next.epoch else EpochPosition(epoch))

    def go_to(self, place: EpochPosition) -> None:
        """Begin the next pass at a place."""
        self.seen = self.next = place
        self.is_taken = False

    def commit(self, place: EpochPosition) -> None:
        """Note that everything before a place has been handed to the caller."""
        self.seen = place
        self.next = place if place.position == 0 else EpochPosition(place.epoch + 1)

    def begin(self) -> Pass:
        """Begin a pass: the next epoch, or what a loaded state has left of it."""
        start, self.next = self.next, EpochPosition(self.next.epoch + 1)
        self.seen, self.is_taken = start, False
        return self._pass(start)

    def __len__(self) -> int:
        total = self.source.total()
        if total is None:
            raise TypeError("A loader over a streaming dataset has no length.")
        return self.topology.count(total)

    def __iter__(self) -> Iterator[list[Ticket]]:
        # A generator function: torch makes two iterators for one pass where there are workers, and uses the second.
        start, self.next = EpochPosition(self.next.epoch), EpochPosition(self.next.epoch + 1)
        self.is_taken = True
        yield from self._pass(start).batches

    def _pass(self, start: EpochPosition) -> Pass:
        began, places = time.monotonic_ns(), deque[EpochPosition]()
        return Pass(start, began, places, self._batches(start, began, places))

    def _batches(self, start: EpochPosition, began: int, places: deque[EpochPosition]) -> Iterator[list[Ticket]]:
        topology, position = self.topology, start.position
        rows = self.source.rows(start.epoch, position)
        step = list(itertools.islice(rows, topology.step))
        while step:
            following = list(itertools.islice(rows, topology.step))
            if len(step) < topology.step and topology.drop_last:
                _log.info("Epoch %d leaves out its last %d examples (drop_last=True).", start.epoch, len(step))
                return
            position += len(step)
            is_last = not following or (len(following) < topology.step and topology.drop_last)
            places.append(EpochPosition(start.epoch + 1) if is_last else EpochPosition(start.epoch, position))
            batch = [(*step[place], valid) for place, valid in topology.batch(len(step))]
            yield [Ticket(row, valid, Use(began, start.epoch, position, until)) for row, until, valid in batch]
            step = following
