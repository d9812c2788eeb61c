"""Ranks: which one this process is, and whether all of them load the same rows."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader.state import Identity

_distributed: Any = torch.distributed  # torch leaves these functions untyped

_log = logging.getLogger(__name__)


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
        Of this rank's loader.
    total : int or None
        How many rows it has, where that is known.
    world_size : int
        Of the loader; a process group of another size is none of its.
    """

    def __init__(self, identity: Identity, total: int | None, world_size: int) -> None:
        self._own = (identity, total)
        self._world_size = world_size
        self._is_done = world_size == 1

    def __call__(self, *, is_last_chance: bool = True) -> None:
        """Compare the ranks where there is a process group; else say that they were not compared."""
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
