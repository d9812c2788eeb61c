"""`make_dataloader`: check the arguments of a training loader, and build it."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import torch

from reasonknee_datasets.collate import QuintupleCollator
from reasonknee_datasets.collate.argument_checks import (
    check_callable,
    check_count,
    check_flag,
    check_names,
    check_number,
)
from reasonknee_datasets.collate.token_padding import find_padding
from reasonknee_datasets.errors import LoaderError, shown
from reasonknee_datasets.loader.epoch_order import EpochPlan
from reasonknee_datasets.loader.loader import ResumableLoader
from reasonknee_datasets.loader.ranks import RankCheck, Topology, find_rank
from reasonknee_datasets.loader.rows import StreamedRows, check_dataset, first_volume_bytes, read_rows
from reasonknee_datasets.loader.sampler import BatchSampler, PlannedRows, RowSource
from reasonknee_datasets.loader.shared import SharedVolumes
from reasonknee_datasets.loader.shared_folder import Session, open_session
from reasonknee_datasets.loader.state import Identity
from reasonknee_datasets.loader.worker_dataset import Work, as_it_is
from reasonknee_datasets.parallel import EndWithParent
from reasonknee_datasets.system import can_share_files

VOLUMES_IN_FLIGHT = 16
_STREAMED_VOLUMES = 4
_STREAMED_ROWS_PER_VOLUME = 8.0
_USUAL_PREFETCH = 2  # torch's own
# No more volumes than that are held for workers that are far apart, unless more are in flight.
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
    drop_last: bool = False,
    volumes_in_flight: int = VOLUMES_IN_FLIGHT,
    balance: str | Sequence[str] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
    prefetch_factor: int | None = None,
    persistent_workers: bool | None = None,
    multiprocessing_context: Any = None,
    worker_init_fn: Callable[[int], None] | None = None,
    timeout: float = 0,
    share_volumes: bool | str | os.PathLike[str] = True,
    shared_memory_bytes: int | None = None,
) -> ResumableLoader:
    """Make a loader that decodes each volume once and resumes exactly.

    The order of an epoch follows from the dataset's rows, ``seed``, the epoch and ``volumes_in_flight``, and from
    nothing else; each step takes the next ``world_size * batch_size`` examples of it. An interrupted run therefore
    resumes from the state of its last checkpoint as if nothing had happened, also with other workers, ranks or batch
    sizes.

    Parameters
    ----------
    dataset : datasets.Dataset, datasets.IterableDataset or sequence of mappings
        From `load_dataset`, filtered and mapped as you like; it needs the column ``id``. A function set by
        ``with_transform`` is run in the workers, before `transform`. On several ranks every rank passes the whole
        dataset, not its part of it. For streaming datasets see Notes.
    batch_size : int
        Examples in a batch of one rank.
    shuffle : bool
        Another order in every epoch. Volumes are put in random order, and the questions of each are spread over the
        time of ``volumes_in_flight`` volumes.
    seed : int
        Seed of the order. Transforms have their own.
    num_workers : int
        Processes that read and transform; 0 for none besides this one.
    transform : callable, optional
        From example to example; it finds the epoch in ``example["epoch"]``.
    collate_fn : callable, optional
        From a list of examples to a batch. By default a `QuintupleCollator`. One that leaves its padding open pads
        tokens as the transform's tokenizer does. Each example has ``valid``.
    drop_last : bool
        Leave out the last examples of an epoch where they do not fill a step (the log counts them). By default every
        example comes once: one rank gets a smaller last batch; several ranks, which need equal steps, get a last step
        filled with repeats that have ``valid=False``, to be left out of losses and metrics.
    volumes_in_flight : int
        How many volumes have some rows read and some not, at any time. More volumes mix batches better, and take
        as many decoded volumes of shared memory.
    balance : str or sequence of str, optional
        Draw with replacement so that every class is equally likely: ``"grade"`` (the highest grade of a row, since
        grade 0 dominates), ``"grade_size"`` (the grade of the attribute ``size``; rows that lack it are a class of
        their own, so filter them out first), ``"category"`` or any other column, or several together. An epoch has as
        many draws as the dataset has rows; it is reproducible and resumable, and does not hold each example once. Needs
        ``shuffle=True``.
    rank, world_size : int, optional
        By default those of ``torch.distributed``, else of ``RANK`` and ``WORLD_SIZE``, else one rank. Where there is a
        process group, the ranks compare their rows, so all of them must make their loaders in the same order.
    pin_memory, prefetch_factor, multiprocessing_context, worker_init_fn, timeout
        As for ``torch.utils.data.DataLoader``.
    persistent_workers : bool, optional
        Keep workers from epoch to epoch; by default they are kept.
    share_volumes : bool or path
        Share decoded volumes between the workers and ranks of this machine: in a folder of this path, or by default in
        ``/dev/shm`` where it is large enough, else in the temporary folder. False lets every worker decode for itself.
    shared_memory_bytes : int, optional
        Bound on what shared volumes take there. By default room for the volumes in flight, and a few.

    Returns
    -------
    ResumableLoader
        With ``state_dict()``, ``load_state_dict(state)``, ``set_epoch(epoch)`` and ``close()``.

    Raises
    ------
    LoaderError
        If the dataset is empty, an option contradicts another, ranks load different rows, or the shared folder has no
        room.

    Notes
    -----
    *Batches* of the default `QuintupleCollator` keep the voxels' own type, int16 for stored knees, and -1 means a
    missing grade: cast the volume (``Window`` in the transform, or `Batch.cast`) and leave -1 out of the loss
    (``ignore_index=-1``). The axes D, H, W are the array axes of the volume: after ``ToCanonical``, D runs from left to
    right, H from posterior to anterior and W from inferior to superior.

    *Streaming datasets* keep their own order (shuffle them with ``dataset.shuffle(seed=..., buffer_size=...)``), resume
    exactly as well, and read the rows before the place again to do so. They have no length, no balancing and no
    shuffling by volumes. See `reasonknee_datasets.loader.rows`.

    *Exactly* means: the same examples in the same order, with the same pixels and tokens, as far as ``transform`` draws
    its randomness from the example and its epoch, as those of this package do. Save the random state of torch with
    this one for a model that draws too.

    *Libraries*: Lightning saves and loads the loader's state by itself. The Hugging Face ``Trainer`` and
    ``accelerate.skip_first_batches`` count batches instead; ``accelerator.register_for_checkpointing(loader)`` saves
    the state. Use one of the two ways, not both. ``accelerator.accumulate`` does not see the end of an epoch here:
    steps that are left over are accumulated with the first ones of the next epoch.

    Examples
    --------
    >>> rows = [{"id": f"{n:07d}/00M/left/q01", "volume_path": f"{n}", "box": [0, 0, 0, 1, 1, 1]} for n in range(5)]
    >>> loader = make_dataloader(rows, batch_size=2, shuffle=True, seed=1)
    >>> [[row[6] for row in batch["id"]] for batch in loader]
    [['3', '4'], ['0', '1'], ['2']]
    """
    check_dataset(dataset)
    for name, value, least in (("seed", seed, 0), ("volumes_in_flight", volumes_in_flight, 1)):
        check_count(name, value, least)
    check_count("num_workers", num_workers, 0)
    check_count("prefetch_factor", prefetch_factor, 1, optional=True)
    seed, volumes_in_flight = int(seed), int(volumes_in_flight)  # states hold plain numbers, not numpy's
    check_number("timeout", timeout, 0, threading.TIMEOUT_MAX)
    check_flag("shuffle", shuffle)
    check_flag("pin_memory", pin_memory)
    check_flag("persistent_workers", persistent_workers, optional=True)
    # A function of the dataset's own may be what crops and tokenizes.
    own = getattr(dataset, "format", {}).get("format_kwargs", {}).get("transform")
    functions = {"transform": transform, "collate_fn": collate_fn, "worker_init_fn": worker_init_fn}
    for name, function in {**functions, "The function of with_transform": own}.items():
        check_callable(name, function)
    topology = Topology(batch_size, *find_rank(rank, world_size), drop_last)
    balanced = check_names("balance", balance)
    if isinstance(dataset, datasets.IterableDataset):
        order = _streamed(dataset, seed, shuffled=bool(shuffle or balanced))
    else:
        order = _planned(
            dataset, Identity("", seed, volumes_in_flight, shuffle, "+".join(balanced)), balanced, topology
        )
    check = RankCheck(order.identity, order.source.total(), topology.world_size)
    check(is_last_chance=False)
    in_flight = max(1, num_workers * (prefetch_factor or _USUAL_PREFETCH))
    session, volumes = _share(order, topology, in_flight, share_volumes, shared_memory_bytes)
    collate = collate_fn or QuintupleCollator()
    if isinstance(collate, QuintupleCollator):
        collate = collate.padded_as(find_padding(transform) or find_padding(own))
    work = Work(order.dataset, transform, collate, volumes)
    options = {
        "num_workers": num_workers,
        "collate_fn": as_it_is,
        "pin_memory": pin_memory,
        "timeout": timeout,
        "worker_init_fn": EndWithParent(worker_init_fn),
        "multiprocessing_context": multiprocessing_context,
        "prefetch_factor": prefetch_factor,
        "persistent_workers": num_workers > 0 if persistent_workers is None else persistent_workers,
        # Its own, so that iterating draws nothing from the generator that the model uses.
        "generator": torch.Generator().manual_seed(seed),
    }
    return ResumableLoader(BatchSampler(order.source, topology), work, order.identity, session, options, check)


@dataclass(frozen=True, slots=True)
class _Order:
    """Where rows come from, and how many of their volumes are in use at a time."""

    source: RowSource
    identity: Identity
    dataset: Any
    volume_bytes: int
    volumes: int
    open_volumes: int
    rows_per_volume: float


def _planned(dataset: Any, wanted: Identity, balanced: Sequence[str], topology: Topology) -> _Order:
    if balanced and not wanted.shuffle:
        raise LoaderError("balance= draws rows at random, so it needs shuffle=True. Or weigh the loss instead.")
    rows = read_rows(dataset, balanced)
    total, volumes = len(rows.volumes), int(rows.volumes.max()) + 1
    if not topology.count(total):
        raise LoaderError(
            f"With drop_last=True the {total} examples make no batch, since a step takes {topology.step}. Choose a "
            "smaller batch_size, or drop_last=False."
        )
    plan = EpochPlan(rows.volumes, wanted.seed, wanted.volumes_in_flight, wanted.shuffle, rows.classes)
    identity = replace(wanted, fingerprint=rows.fingerprint)
    at_a_time = min(wanted.volumes_in_flight, volumes) if wanted.shuffle else 1
    return _Order(PlannedRows(plan), identity, dataset, rows.volume_bytes, volumes, at_a_time, total / volumes)


def _streamed(dataset: Any, seed: int, *, shuffled: bool) -> _Order:
    if shuffled:
        raise LoaderError(
            "A streaming dataset keeps its own order, so shuffle= and balance= cannot be used. Shuffle it with "
            "dataset.shuffle(seed=..., buffer_size=...), or load it without streaming=True."
        )
    source = StreamedRows(dataset)
    # A streamed volume's rows are consecutive, unless a shuffle buffer separates them: then some are decoded again.
    identity = Identity(source.fingerprint, seed, 0, False, "")
    size = first_volume_bytes(source.first)
    return _Order(source, identity, None, size, 1_000_000, _STREAMED_VOLUMES, _STREAMED_ROWS_PER_VOLUME)


def _share(
    order: _Order, topology: Topology, in_flight: int, where: bool | str | os.PathLike[str], most: int | None
) -> tuple[Session | None, SharedVolumes | None]:
    """Open a session folder with space for the volumes that are in use at a time."""
    if most is not None:
        check_count("shared_memory_bytes", most, 1)
    if not isinstance(where, bool | str | os.PathLike) or where == "":
        raise LoaderError(f"share_volumes must be True, False or the path of a folder, not {shown(where)}.")
    if where is False or not order.volume_bytes or (where is True and not can_share_files()):
        return None, None
    local = int(os.environ.get("LOCAL_WORLD_SIZE", topology.world_size))
    # A worker may be as far behind the others as batches are in flight. A quarter more, for volumes have not all as
    # many rows.
    ahead = math.ceil(1.25 * in_flight * local * topology.batch_size / order.rows_per_volume)
    slots = order.open_volumes + min(ahead, max(_MOST_AHEAD, 2 * order.open_volumes)) + 2
    bound = most or min(slots, order.volumes) * order.volume_bytes
    job = (order.identity.fingerprint,) if topology.world_size > 1 else ()
    session = open_session(bound, folder=None if where is True else where, job=job)
    return session, SharedVolumes(str(session.folder), bound)
