"""Ranks: which one this process is, which examples of each step it gets, and whether all load the same rows."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch

from reasonknee_datasets.collate.argument_checks import check_count, check_flag
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader.state import Identity

_distributed: Any = torch.distributed  # torch leaves these functions untyped

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Topology:
    """Number of examples in a step, and the part of them that belongs to this rank.

    Each step takes the next ``world_size * batch_size`` examples of the global order; rank 0 gets the first
    ``batch_size`` of them, and so on.

    Attributes
    ----------
    batch_size, rank, world_size : int
    drop_last : bool
        Leave out the examples at the end of an epoch that do not fill a step. Otherwise one rank gets a smaller last
        batch, and several ranks, which need equal steps, get a last step filled with repeats (``valid=False``).
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size, least=1)
        check_count("rank", self.rank, least=0)
        check_count("world_size", self.world_size, least=1)
        if self.rank >= self.world_size:
            raise LoaderError(
                f"Rank {self.rank} does not exist among {self.world_size} ranks, which are numbered from 0. Leave "
                "rank= and world_size= out under torchrun, which sets RANK and WORLD_SIZE."
            )
        check_flag("drop_last", self.drop_last)
        for name in ("batch_size", "rank", "world_size"):  # a number of numpy would end up in states
            object.__setattr__(self, name, int(getattr(self, name)))

    @property
    def step(self) -> int:
        """How many examples of the global order a step takes."""
        return self.batch_size * self.world_size

    @property
    def fills(self) -> bool:
        """Whether the last step is filled with repeats."""
        return self.world_size > 1 and not self.drop_last

    def count(self, total: int) -> int:
        """Count the steps of an epoch of `total` examples.

        Examples
        --------
        >>> Topology(4, world_size=2).count(20), Topology(4, world_size=2, drop_last=True).count(20)
        (3, 2)
        """
        return total // self.step if self.drop_last else -(-total // self.step)

    def batch(self, present: int) -> list[tuple[int, bool]]:
        """List the places of this rank's batch within a step, and which of them are not repeats.

        Parameters
        ----------
        present : int
            How many examples the step has before it is filled: at least 1.

        Examples
        --------
        >>> Topology(2, rank=1, world_size=2).batch(present=3)
        [(2, True), (0, False)]
        >>> Topology(2).batch(present=1)
        [(0, True)]
        """
        first = self.rank * self.batch_size
        last = first + self.batch_size if self.fills else min(first + self.batch_size, present)
        return [(place % present, place < present) for place in range(first, last)]


def find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Find which rank this is of how many: as given, else from ``torch.distributed``, else from the environment."""
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise LoaderError(f"Got rank={rank} and world_size={world_size}. Pass both, or leave both out.")
    if has_process_group():
        return _distributed.get_rank(), _distributed.get_world_size()
    return _number("RANK", 0), _number("WORLD_SIZE", 1)


def has_process_group() -> bool:
    """Check whether ``torch.distributed`` is initialised."""
    return bool(_distributed.is_available() and _distributed.is_initialized())


class RankCheck:
    """Check, once, that all ranks of a job load the same rows: the loader deals them out itself.

    Rows that were cut beforehand, by ``split_dataset_by_node`` or ``Dataset.shard``, would be cut twice in silence.
    Every rank must call it at the same time, since it communicates.

    Parameters
    ----------
    identity : Identity
        Settings of this rank's loader.
    total : int or None
        How many rows it has, where that is known.
    world_size : int
        World size of the loader; a process group of another size is ignored.
    """

    def __init__(self, identity: Identity, total: int | None, world_size: int) -> None:
        self._own = (identity, total)
        self._world_size = world_size
        self._is_done = world_size == 1

    def __call__(self, *, is_last_chance: bool = True) -> None:
        """Compare the ranks where there is a process group; else log that they were not compared."""
        if self._is_done:
            return
        if has_process_group():
            self._is_done = True
            if _distributed.get_world_size() == self._world_size:
                found: list[Any] = [None] * self._world_size
                _distributed.all_gather_object(found, self._own)
                _compare(found)
        elif is_last_chance:
            self._is_done = True
            _log.warning(
                "%d ranks share out the rows of this loader, and without a process group it cannot check that all of "
                "them load the same rows. Call torch.distributed.init_process_group first, and give every rank the "
                "whole dataset, not one cut by split_dataset_by_node or Dataset.shard.",
                self._world_size,
            )


def _compare(found: list[tuple[Identity, int | None]]) -> None:
    first, total = found[0]
    for rank, (other, count) in enumerate(found):
        if other.fingerprint != first.fingerprint or count != total:
            rows = "" if total is None else f": rank 0 has {total:,} and rank {rank} has {count:,}"
            raise LoaderError(
                f"The ranks load different rows{rows}. Give every rank the whole dataset: the loader takes each rank's "
                "part itself, so that rows already cut by split_dataset_by_node or Dataset.shard would be cut twice. "
                "To keep rows that you cut yourself, pass rank=0 and world_size=1."
            )
        if other != first:
            raise LoaderError(
                f"The ranks shuffle differently: rank 0 has {_order(first)}, and rank {rank} has {_order(other)}. "
                "Make the loader with the same seed, shuffle, balance and volumes_in_flight on every rank."
            )


def _order(identity: Identity) -> str:
    return (
        f"seed={identity.seed}, shuffle={identity.shuffle}, balance={identity.balance!r}, "
        f"volumes_in_flight={identity.volumes_in_flight}"
    )


def _number(name: str, usual: int) -> int:
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise LoaderError(
            f"The environment variable {name} must be a whole number, not {text!r}. Unset it, or use torchrun."
        )
    return int(text) if text else usual
