"""From a place in the global order to the batches of one rank: what torch's ``DataLoader`` takes for a sampler."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from reasonknee_datasets.loader.order import Plan
from reasonknee_datasets.loader.slots import Use
from reasonknee_datasets.loader.state import Place
from reasonknee_datasets.loader.steps import Topology
from reasonknee_datasets.loader.work import Ticket

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where the order of an epoch comes from."""

    def total(self) -> int | None:
        """Tell how many examples an epoch has, if that is known beforehand."""

    def rows(self, epoch: int, start: int) -> Iterator[tuple[Any, int]]:
        """Give what tickets name the rows by, from a place of the epoch's order on.

        With each comes the last place that looks at its volume; its own where that is not known.
        """


class PlannedRows:
    """Rows whose order is planned: a dataset that knows its length."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def total(self) -> int:
        """Tell how many examples an epoch has."""
        return len(self.plan.volumes)

    def rows(self, epoch: int, start: int) -> Iterator[tuple[int, int]]:
        """Give row numbers."""
        rows = self.plan.rows(epoch)
        volumes = self.plan.volumes[rows]
        last = np.zeros(volumes.max() + 1, np.int64)
        np.maximum.at(last, volumes, np.arange(len(rows)))
        return zip(rows[start:].tolist(), last[volumes[start:]].tolist(), strict=True)


class BatchSampler:
    """Gives torch the tickets of each batch, and the loader the place behind each.

    torch asks ahead, by as many batches as are prefetched. What the caller has been handed is therefore not what was
    asked for: `places` holds, in order, the place that each batch leads to, and the loader takes one as it hands a
    batch out.

    Parameters
    ----------
    source : Source
        Of the rows.
    topology : Topology
        Which of them are this rank's.
    """

    def __init__(self, source: Source, topology: Topology) -> None:
        self.source, self.topology = source, topology
        self.start, self.began = Place(), 0
        self.places: deque[Place] = deque()

    def begin(self, start: Place) -> deque[Place]:
        """Say where the next iteration starts; what it leads to is in the deque that this gives."""
        self.start, self.places = start, deque()
        self.began = time.monotonic_ns()
        return self.places

    def __len__(self) -> int:
        total = self.source.total()
        if total is None:
            raise TypeError("a streaming dataset has no length")
        return self.topology.count(total)

    def __iter__(self) -> Iterator[list[Ticket]]:
        # Not a generator function: torch may ask for the first batch after the next `begin`.
        return self._batches(self.start, self.began, self.places)

    def _batches(self, start: Place, began: int, places: deque[Place]) -> Iterator[list[Ticket]]:
        topology, position = self.topology, start.position
        rows = self.source.rows(start.epoch, position)
        step = list(itertools.islice(rows, topology.step))
        while step:
            following = list(itertools.islice(rows, topology.step))
            if len(step) < topology.step and topology.tail == "drop":
                _log.info("epoch %d leaves out its last %d examples (tail='drop')", start.epoch, len(step))
                return
            position += len(step)
            is_last = not following or (len(following) < topology.step and topology.tail == "drop")
            places.append(Place(start.epoch + 1) if is_last else Place(start.epoch, position))
            batch = [(*step[place], valid) for place, valid in topology.batch(len(step))]
            yield [Ticket(row, valid, Use(began, start.epoch, position, until)) for row, until, valid in batch]
            step = following
