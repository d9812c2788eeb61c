"""State of a loader: the settings of its order, and its place in an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reasonknee_datasets.errors import LoaderError, shown

VERSION = 2

_MEANINGS = {
    "fingerprint": "the same rows in the same order",
    "seed": "the seed of its run",
    "volumes_in_flight": "the volumes_in_flight of its run",
    "shuffle": "the shuffling of its run",
    "balance": "the balancing of its run",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Settings that the order of every epoch follows from; a state can be loaded only where they are the same.

    Attributes
    ----------
    fingerprint : str
        Hash of the dataset's rows (see `reasonknee_datasets.loader.rows`).
    seed, volumes_in_flight, shuffle, balance
        As given to `make_dataloader`.
    """

    fingerprint: str
    seed: int
    volumes_in_flight: int
    shuffle: bool
    balance: str


@dataclass(frozen=True, slots=True, order=True)
class EpochPosition:
    """A place in the global order: an epoch, and how many of its examples have been handed out before it."""

    epoch: int = 0
    position: int = 0


def write_state(identity: Identity, place: EpochPosition) -> dict[str, Any]:
    """Write a state: plain numbers and words, for ``torch.save``, JSON or anything else.

    Examples
    --------
    >>> write_state(Identity("4f0c", 0, 16, True, ""), EpochPosition(2, 640))
    {'version': 2, 'fingerprint': '4f0c', 'seed': 0, 'volumes_in_flight': 16, 'shuffle': True, 'balance': '', \
'epoch': 2, 'position': 640}
    """
    return {"version": VERSION, **asdict(identity), **asdict(place)}


def read_state(state: Mapping[str, Any], identity: Identity, total: int | None) -> EpochPosition:
    """Find the place of a state that belongs to this loader.

    Parameters
    ----------
    state : mapping
        State that `write_state` returned.
    identity : Identity
        Settings of the loader that resumes from it.
    total : int or None
        How many examples an epoch has, if that is known.

    Raises
    ------
    LoaderError
        If it is not a state, or one of another dataset, seed, number of volumes in flight, shuffling or balancing.
    """
    names = {"version", *(field.name for kind in (Identity, EpochPosition) for field in fields(kind))}
    if not isinstance(state, Mapping) or not names <= set(state):
        raise LoaderError(f"Not the state of a loader: {shown(state)}. Pass what state_dict() returned.")
    if state["version"] != VERSION:
        raise LoaderError(
            f"The state is of version {state['version']!r}, and this loader reads version {VERSION}. Resume with the "
            "version of this package that wrote it, or start again without load_state_dict."
        )
    for name, own in asdict(identity).items():
        if state[name] != own:
            raise LoaderError(
                f"The state has {name}={state[name]!r}, and this loader {own!r}. Resume with {_MEANINGS[name]}, or "
                "start again without load_state_dict."
            )
    epoch, position = state["epoch"], state["position"]
    sound = isinstance(epoch, int) and isinstance(position, int) and epoch >= 0 and position >= 0
    if not sound or (total is not None and position > total):
        raise LoaderError(
            f"The state is at epoch {epoch!r}, position {position!r} of {total} examples, which does not exist. It "
            "was changed or damaged: load another state."
        )
    return EpochPosition(epoch, position)
