"""`make_dataloader`: everything about a training loader that is decided once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import torch

from reasonknee_datasets.collate import QuintupleCollator
from reasonknee_datasets.collate.tokens import find_padding
from reasonknee_datasets.errors import LoaderError, explain
from reasonknee_datasets.loader.loader import ResumableLoader
from reasonknee_datasets.loader.order import Plan
from reasonknee_datasets.loader.rows import first_volume_bytes, read_rows
from reasonknee_datasets.loader.sampler import BatchSampler, PlannedRows, Source
from reasonknee_datasets.loader.session import Session, open_session
from reasonknee_datasets.loader.shared import SharedVolumes
from reasonknee_datasets.loader.state import Identity
from reasonknee_datasets.loader.steps import Tail, Topology
from reasonknee_datasets.loader.streaming import StreamedRows
from reasonknee_datasets.loader.work import Work, as_it_is
from reasonknee_datasets.system import can_share_files

Where = Literal["auto"] | str | os.PathLike[str] | None

GROUP_SIZE = 16
_STREAMED_VOLUMES = 4
_STREAMED_ROWS_PER_VOLUME = 8.0
_USUAL_PREFETCH = 2  # torch's own
# No more volumes than that are held for workers that are far apart, unless a group has more.
_MOST_AHEAD = 16


def make_dataloader(
    dataset: Any,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    transform: Callable[[Any], Any] | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    tail: Tail = "drop",
    group_size: int = GROUP_SIZE,
    balance: str | Sequence[str] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
    prefetch_factor: int | None = None,
    persistent_workers: bool | None = None,
    multiprocessing_context: Any = None,
    worker_init_fn: Callable[[int], None] | None = None,
    timeout: float = 0,
    shared: Where = "auto",
    shared_bytes: int | None = None,
) -> ResumableLoader:
    """Make a loader that decodes each volume once and resumes exactly.

    The order of an epoch follows from the dataset's rows, ``seed``, the epoch and ``group_size``, and from nothing
    else; each step takes the next ``world_size * batch_size`` examples of it. So a run that is interrupted goes on from
    the state of its last checkpoint as if nothing had happened, with other workers, ranks or batch sizes too.

    Parameters
    ----------
    dataset : datasets.Dataset, datasets.IterableDataset or sequence of mappings
        From `load_dataset`, filtered and mapped as you like; it needs the column ``id``. A function set by
        ``with_transform`` is run in the workers, before `transform`. For streaming datasets see Notes.
    batch_size : int
        Examples in a batch of one rank.
    shuffle : bool
        Another order in every epoch. Volumes are put in random order, and the questions of each are spread over the
        time of ``group_size`` volumes.
    seed : int
        Of the order. Transforms have their own.
    num_workers : int
        Processes that read and transform; 0 for none besides this one.
    transform : callable, optional
        From example to example; it finds the epoch in ``example["epoch"]``.
    collate_fn : callable, optional
        From a list of examples to a batch. By default a `QuintupleCollator`. One that leaves its padding open pads
        tokens as the transform's tokenizer does. Each example has ``valid``.
    tail : {"drop", "pad", "keep"}
        What becomes of the last examples of an epoch, where they do not fill a step: left out (the log says how many);
        filled up with repeats that have ``valid=False``; or, on one rank, a smaller batch. Every example comes exactly
        once with ``keep``, and with ``pad`` where only ``valid`` ones are counted.
    group_size : int
        How many volumes are open at a time. More mix batches better, and take as many decoded volumes of shared memory.
    balance : str or sequence of str, optional
        Draw with replacement so that every class is equally likely: ``"grade"`` (the highest grade of a row, since
        grade 0 dominates), ``"category"`` or any other column, or several together. An epoch has as many draws as the
        dataset has rows; it is reproducible and resumable, and does not hold each example once. Needs ``shuffle=True``.
    rank, world_size : int, optional
        By default those of ``torch.distributed``, else of ``RANK`` and ``WORLD_SIZE``, else one rank.
    pin_memory, prefetch_factor, multiprocessing_context, worker_init_fn, timeout
        As for ``torch.utils.data.DataLoader``.
    persistent_workers : bool, optional
        Keep workers from epoch to epoch; by default they are kept.
    shared : "auto", path or None
        Where the workers and ranks of this machine share decoded volumes: by default in ``/dev/shm`` where it is big
        enough, else in the temporary folder. None lets every worker decode for itself.
    shared_bytes : int, optional
        Bound on what they take there. By default room for the volumes that are open, and a few.

    Returns
    -------
    ResumableLoader
        With ``state_dict()``, ``load_state_dict(state)``, ``set_epoch(epoch)`` and ``close()``.

    Raises
    ------
    LoaderError
        If the dataset is empty, an option contradicts another, or the shared folder has no room.

    Notes
    -----
    *Streaming datasets* keep their own order (shuffle them with ``dataset.shuffle(seed=..., buffer_size=...)``), resume
    exactly as well, and read the rows before the place again to do so. They know no length, no balancing and no
    shuffling by volumes. See `reasonknee_datasets.loader.streaming`.

    *Exactly* means: the same examples in the same order, with the same pixels and tokens, as far as ``transform`` draws
    its randomness from the example and its epoch, as those of this package do. What a model makes of them is its own
    matter: save the random state of torch beside this one.

    Examples
    --------
    >>> rows = [{"id": f"{n:07d}/00M/left/q01", "volume_path": f"{n}", "box": [0, 0, 0, 1, 1, 1]} for n in range(5)]
    >>> loader = make_dataloader(rows, batch_size=2, shuffle=True, seed=1, tail="keep")
    >>> [[row[6] for row in batch["id"]] for batch in loader]
    [['3', '4'], ['0', '1'], ['2']]
    """
    _check_numbers(seed, group_size, num_workers)
    topology = Topology(batch_size, *find_rank(rank, world_size), tail)
    balanced = (balance,) if isinstance(balance, str) else tuple(balance or ())
    if isinstance(dataset, datasets.IterableDataset):
        order = _streamed(dataset, seed, shuffled=bool(shuffle or balanced))
    else:
        order = _planned(dataset, Identity("", seed, group_size, shuffle, "+".join(balanced)), balanced, topology)
    in_flight = max(1, num_workers * (prefetch_factor or _USUAL_PREFETCH))
    session, volumes = _share(order, topology, in_flight, shared, shared_bytes)
    # A function of the dataset's own may be what tokenizes.
    own = getattr(dataset, "format", {}).get("format_kwargs", {}).get("transform")
    collate = collate_fn or QuintupleCollator()
    if isinstance(collate, QuintupleCollator):
        collate = collate.padded_as(find_padding(transform) or find_padding(own))
    work = Work(order.dataset, transform, collate, volumes)
    options = {
        "num_workers": num_workers,
        "collate_fn": as_it_is,
        "pin_memory": pin_memory,
        "timeout": timeout,
        "worker_init_fn": worker_init_fn,
        "multiprocessing_context": multiprocessing_context,
        "prefetch_factor": prefetch_factor,
        "persistent_workers": num_workers > 0 if persistent_workers is None else persistent_workers,
        # Its own, so that iterating draws nothing from the generator that the model uses.
        "generator": torch.Generator().manual_seed(seed),
    }
    return ResumableLoader(BatchSampler(order.source, topology), work, order.identity, session, options)


def find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Find which rank this is of how many: as given, else from ``torch.distributed``, else from the environment."""
    if (rank is None) != (world_size is None):
        got = f"rank={rank}, world_size={world_size}"
        raise LoaderError(explain("rank and world_size", "be given together", got, "Give both, or leave both out"))
    if rank is not None and world_size is not None:
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True, slots=True)
class _Order:
    """Where rows come from, and how many of their volumes are in use at a time."""

    source: Source
    identity: Identity
    dataset: Any
    volume_bytes: int
    volumes: int
    open_volumes: int
    rows_per_volume: float


def _planned(dataset: Any, wanted: Identity, balanced: Sequence[str], topology: Topology) -> _Order:
    if balanced and not wanted.shuffle:
        remedy = "Give shuffle=True, or weigh the loss instead"
        raise LoaderError(explain("balance", "come with shuffling, since it draws", "shuffle=False", remedy))
    rows = read_rows(dataset, balanced)
    total, volumes = len(rows.volumes), int(rows.volumes.max()) + 1
    if not topology.count(total):
        got = f"{total} examples for steps of {topology.step}"
        remedy = "Choose a smaller batch_size, or tail='pad'"
        raise LoaderError(explain("the dataset", "fill at least one step where tail='drop'", got, remedy))
    plan = Plan(rows.volumes, wanted.seed, wanted.group_size, wanted.shuffle, rows.classes)
    identity = replace(wanted, fingerprint=rows.fingerprint)
    at_a_time = min(wanted.group_size, volumes) if wanted.shuffle else 1
    return _Order(PlannedRows(plan), identity, dataset, rows.volume_bytes, volumes, at_a_time, total / volumes)


def _streamed(dataset: Any, seed: int, *, shuffled: bool) -> _Order:
    if shuffled:
        remedy = "Shuffle it with dataset.shuffle(seed=..., buffer_size=...), or load it without streaming=True"
        raise LoaderError(explain("a streaming dataset", "keep its own order", "shuffle= or balance=", remedy))
    source = StreamedRows(dataset)
    # A streamed volume's questions stand together, unless a shuffle buffer parts them: then some are decoded again.
    identity = Identity(source.fingerprint, seed, 0, False, "")
    size = first_volume_bytes(source.first)
    return _Order(source, identity, None, size, 1_000_000, _STREAMED_VOLUMES, _STREAMED_ROWS_PER_VOLUME)


def _share(
    order: _Order, topology: Topology, in_flight: int, shared: Where, shared_bytes: int | None
) -> tuple[Session | None, SharedVolumes | None]:
    """Hold a folder with room for the volumes that are in use at a time."""
    if shared is None or not order.volume_bytes or (shared == "auto" and not can_share_files()):
        return None, None
    local = int(os.environ.get("LOCAL_WORLD_SIZE", topology.world_size))
    # A worker may be as far behind the others as batches are in flight. A quarter more, for volumes have not all as
    # many rows.
    ahead = math.ceil(1.25 * in_flight * local * topology.batch_size / order.rows_per_volume)
    slots = order.open_volumes + min(ahead, max(_MOST_AHEAD, 2 * order.open_volumes)) + 2
    bound = shared_bytes or min(slots, order.volumes) * order.volume_bytes
    job = (order.identity.fingerprint,) if topology.world_size > 1 else ()
    session = open_session(bound, folder=None if shared == "auto" else shared, job=job)
    return session, SharedVolumes(str(session.folder), bound)


def _check_numbers(seed: int, group_size: int, num_workers: int) -> None:
    for name, value, least in (("seed", seed, 0), ("group_size", group_size, 1), ("num_workers", num_workers, 0)):
        if not isinstance(value, int) or not least <= value < 2**63:
            rule = f"be a whole number of at least {least}"
            raise LoaderError(explain(name, rule, repr(value), f"Give {name}={max(least, 2)}, for example"))
