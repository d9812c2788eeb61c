"""Where a loader stands: what its order follows from, and how much of an epoch its caller has been handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reasonknee_datasets.errors import LoaderError, explain

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
    """What the order of every epoch follows from; a state goes with this and with nothing else.

    Attributes
    ----------
    fingerprint : str
        Of the dataset's rows (see `reasonknee_datasets.loader.rows`).
    seed, volumes_in_flight, shuffle, balance
        As given to `make_dataloader`.
    """

    fingerprint: str
    seed: int
    volumes_in_flight: int
    shuffle: bool
    balance: str


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the global order: an epoch, and how many of its examples have been handed out before it."""

    epoch: int = 0
    position: int = 0


def write_state(identity: Identity, place: Place) -> dict[str, Any]:
    """Write a state: plain numbers and words, for ``torch.save``, JSON or anything else.

    Examples
    --------
    >>> write_state(Identity("4f0c", 0, 16, True, ""), Place(2, 640))
    {'version': 2, 'fingerprint': '4f0c', 'seed': 0, 'volumes_in_flight': 16, 'shuffle': True, 'balance': '', \
'epoch': 2, 'position': 640}
    """
    return {"version": VERSION, **asdict(identity), **asdict(place)}


def read_state(state: Mapping[str, Any], identity: Identity, total: int | None) -> Place:
    """Find the place of a state that belongs to this loader.

    Parameters
    ----------
    state : mapping
        What `write_state` gave.
    identity : Identity
        Of the loader that is to go on from it.
    total : int or None
        How many examples an epoch has, if that is known.

    Raises
    ------
    LoaderError
        If it is no state, or one of another dataset, seed, number of volumes in flight, shuffling or balancing.
    """
    names = {"version", *(field.name for kind in (Identity, Place) for field in fields(kind))}
    if not isinstance(state, Mapping) or not names <= set(state) or state["version"] != VERSION:
        got = str(sorted(state) if isinstance(state, Mapping) else type(state).__name__)
        remedy = "Give load_state_dict what state_dict() gave"
        raise LoaderError(explain("a loader's state", f"be of version {VERSION} and whole", got, remedy))
    for name, own in asdict(identity).items():
        if state[name] != own:
            remedy = f"Resume with {_MEANINGS[name]}, or start anew without load_state_dict"
            got = f"{state[name]!r} in a loader whose {name} is {own!r}"
            raise LoaderError(explain(f"the state's {name}", "be the loader's own", got, remedy))
    epoch, position = state["epoch"], state["position"]
    sound = isinstance(epoch, int) and isinstance(position, int) and epoch >= 0 and position >= 0
    if not sound or (total is not None and position > total):
        got = f"epoch {epoch!r} and position {position!r} of {total} examples"
        raise LoaderError(explain("the state's place", "lie in an epoch", got, "The state was changed: take another"))
    return Place(epoch, position)
