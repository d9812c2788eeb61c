"""The order of a loader as samplers: batches of one rank for ours, rows for a stock ``torch.utils.data.DataLoader``."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Sampler

from reasonknee_datasets.collate.argument_checks import check_count, check_names
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader.epoch_order import EpochPlan
from reasonknee_datasets.loader.ranks import RankCheck, Topology, find_rank
from reasonknee_datasets.loader.rows import check_dataset, read_rows
from reasonknee_datasets.loader.slots import Use
from reasonknee_datasets.loader.state import EpochPosition, Identity, read_state, write_state
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


class VolumeGroupedSampler(Sampler[int]):
    """Row numbers in random order, in which consecutive rows share few volumes.

    Volumes come in random order, and the rows of each are spread at random over the time of `volumes_in_flight`
    volumes. A decode cache for that many volumes therefore decodes each of them once an epoch, where a uniform
    shuffle would decode a volume for nearly every row. The order is that of `make_dataloader` with the same arguments.

    Its state resumes an epoch exactly, also with other ranks, and is the same as that of `make_dataloader`. torchdata's
    ``StatefulDataLoader(dataset, sampler=sampler, ...)`` saves and loads it by itself.

    Parameters
    ----------
    dataset : datasets.Dataset or sequence of mappings
        With the columns ``id`` and ``volume_path``; only these few are read.
    seed : int
        Seed of the order.
    volumes_in_flight : int
        How many volumes have some of their rows drawn and some not, at any time.
    balance : str or sequence of str
        Draw with replacement so that every class is equally likely; see `make_dataloader`.
    rank, world_size : int, optional
        By default those of ``torch.distributed``, else of ``RANK`` and ``WORLD_SIZE``, else one rank. Ranks take rows
        in turn.
    drop_last : bool
        Leave out the last rows where they do not go round all ranks. By default the first of them are repeated, as by
        ``torch.utils.data.DistributedSampler``.

    Examples
    --------
    >>> rows = [{"id": f"{n}", "volume_path": f"{n // 3}"} for n in range(12)]
    >>> sampler = VolumeGroupedSampler(rows, seed=1, volumes_in_flight=2)
    >>> list(sampler)
    [3, 10, 9, 11, 4, 5, 8, 0, 1, 6, 2, 7]
    >>> sampler.set_epoch(1)
    >>> list(sampler)[:4]
    [11, 6, 7, 10]
    """

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int = 0,
        volumes_in_flight: int = 16,
        balance: str | Sequence[str] = (),
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        check_dataset(dataset)
        check_count("seed", seed, least=0)
        check_count("volumes_in_flight", volumes_in_flight, least=1)
        balanced = check_names("balance", balance)
        rows = read_rows(dataset, balanced)
        self._plan = EpochPlan(rows.volumes, seed, volumes_in_flight, True, rows.classes)
        self._topology = Topology(1, *find_rank(rank, world_size), drop_last)
        self._identity = Identity(rows.fingerprint, seed, volumes_in_flight, True, "+".join(balanced))
        self._check = RankCheck(self._identity, len(rows.volumes), self._topology.world_size)
        self._check(is_last_chance=False)
        self._start = self._place = EpochPosition()

    def __len__(self) -> int:
        """Count the rows of this rank in a whole epoch."""
        return self._topology.count(len(self._plan.volumes))

    def __iter__(self) -> Iterator[int]:
        self._check()
        start, self._start = self._start, EpochPosition(self._start.epoch)
        rows, width = self._plan.rows(start.epoch)[start.position :], self._topology.step
        self._place = start
        for first in range(0, width * self._topology.count(len(rows)), width):
            present = min(width, len(rows) - first)
            ((place, _),) = self._topology.batch(present)
            self._place = EpochPosition(start.epoch, start.position + first + present)
            yield int(rows[first + place])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, as with ``DistributedSampler``; without it, it is the same again."""
        check_count("epoch", epoch, least=0)
        if epoch != self._start.epoch:
            self._start = self._place = EpochPosition(epoch)

    def state_dict(self, seen: int | None = None) -> dict[str, Any]:
        """Return the state, by default after the rows that were drawn from the sampler.

        torchdata's ``StatefulDataLoader`` calls this at the right moments. A ``torch.utils.data.DataLoader`` with
        workers draws rows ahead, so the number of rows that were trained on has to be passed.

        Parameters
        ----------
        seen : int, optional
            Rows of this rank that were trained on since the epoch began: batches times batch size.
        """
        if seen is None:
            return write_state(self._identity, self._place)
        check_count("seen", seen, least=0)
        if seen > len(self):
            raise LoaderError(f"An epoch of this rank has {len(self):,} rows, so that {seen:,} cannot have been seen.")
        position = min(seen * self._topology.step, len(self._plan.volumes))
        return write_state(self._identity, EpochPosition(self._start.epoch, position))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next iteration where a state was taken; the ones after it are whole.

        Raises
        ------
        LoaderError
            If it belongs to other rows, another seed, balancing or number of volumes in flight.
        """
        self._start = self._place = read_state(state, self._identity, len(self._plan.volumes))
