"""`ResumableLoader`: torch's own ``DataLoader`` over our order, with a state that resumes it exactly."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from torch.utils.data import DataLoader

from reasonknee_datasets.collate import Batch
from reasonknee_datasets.collate.memory import forget
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader.sampler import BatchSampler, Pass
from reasonknee_datasets.loader.shared_folder import Session, SharedInfo
from reasonknee_datasets.loader.state import EpochPosition, Identity, read_state, write_state
from reasonknee_datasets.loader.worker_dataset import Work


def not_copied() -> TypeError:
    """Build the error for a copy or pickle of a loader: a shallow copy would move the position of the original."""
    return TypeError(
        "A loader cannot be copied or pickled: it has running workers and a position. "
        "Make another one with make_dataloader and load its state: other.load_state_dict(loader.state_dict())."
    )


class ResumableLoader:
    """A loader of batches; made by `make_dataloader`.

    Each iteration begins an epoch, as with torch: the one after the batch that was handed out last, also where
    that epoch was left early. The first after `load_state_dict` continues where the state was taken. Several iterators
    may be in use at once, each with a separate epoch; the state is that of the one that handed out the last batch.

    It works in a ``with`` block, which closes it. Otherwise it is closed when it is garbage-collected or the process
    ends.

    Attributes
    ----------
    dataset, batch_sampler, sampler, collate_fn, num_workers, pin_memory, ...
        As of a ``torch.utils.data.DataLoader``, for libraries that build another one from this, such as
        ``accelerate.skip_first_batches``. `dataset` reads rows, transforms and collates; ``dataset.dataset`` has the
        rows.
    """

    def __init__(
        self,
        sampler: BatchSampler,
        work: Work,
        identity: Identity,
        session: Session | None,
        options: Mapping[str, Any],
        check: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.dataset, self.batch_sampler, self.sampler = work, sampler, sampler
        self._options, self._check = options, check
        self._current = _Batches()
        self._loader: DataLoader[Any] | None = self._make_torch_loader(self._current)
        self._running: Callable[[], Any] = _nothing
        self._beginning = threading.RLock()
        self._last = self._last_but_one = _Handed(None, EpochPosition())
        self._close = weakref.finalize(self, _clean, session, work)

    def __getattr__(self, name: str) -> Any:
        # Only what is not found otherwise: the options of torch's DataLoader.
        options = self.__dict__.get("_options", {})
        if name in options:
            return options[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise not_copied()

    @property
    def batch_size(self) -> int:
        """Examples in a batch of this rank."""
        return self.batch_sampler.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether the last examples of an epoch are left out where they do not fill a step."""
        return self.batch_sampler.drop_last

    @property
    def epoch(self) -> int:
        """The epoch of the batch that comes next after those handed out."""
        return self.batch_sampler.seen.epoch

    def __len__(self) -> int:
        """Count the batches of a whole epoch; raise a TypeError where a streaming dataset has no length."""
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        self._open_loader()
        return self._hand_out()

    def begin(self) -> Iterator[tuple[Any, EpochPosition]]:
        """Begin an epoch for a prefetcher: batches, each with the place to `commit` when it is handed out."""
        loader = self._open_loader()
        self._check()
        with self._beginning:  # two threads would each get the batches of the other's pass
            current = self._current
            if self._is_running():
                # torch has one iterator for all passes of persistent workers: a second pass would take over the first.
                if loader.persistent_workers:
                    current = _Batches()
                    loader = self._make_torch_loader(current, persistent_workers=False)
            elif not loader.persistent_workers:
                self._forget_buffers()  # of workers that are gone
            begun = current.begun = self.batch_sampler.begin()
            self._last = self._last_but_one = _Handed(None, begun.start)
            pairs = self._with_places(iter(loader), begun)
            if current is self._current:
                self._running = weakref.ref(pairs)
        return pairs

    def commit(self, place: EpochPosition) -> None:
        """Note that everything up to a place has been handed to the caller."""
        self.batch_sampler.commit(place)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; an epoch that a loaded state is in the middle of is resumed."""
        self.batch_sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: after the last batch that the caller was handed, whatever has been prefetched.

        It is small and plain, and the same on all ranks that are at the same step. Lightning takes one batch more than
        it trains on where a loader has no length, as over a stream: that batch does not count.

        Raises
        ------
        LoaderError
            If another loader iterates this one's `batch_sampler`, as after ``accelerate.skip_first_batches``.
        """
        if self.batch_sampler.is_taken:
            raise LoaderError(
                "The position of this loader is not known: another loader iterates its batch_sampler (as after "
                "accelerate.skip_first_batches, which the Hugging Face Trainer calls). Let that library count the "
                "batches to skip, or iterate this loader and use its state (with the Trainer, ignore_data_skip=True)."
            )
        return write_state(self.identity, self._seen_by_caller())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, with any number of workers, ranks and examples a batch.

        Raises
        ------
        LoaderError
            If it belongs to another dataset, seed, number of volumes in flight, shuffling or balancing.
        """
        place = read_state(state, self.identity, self.batch_sampler.source.total())
        self.batch_sampler.go_to(place)
        self._last = self._last_but_one = _Handed(None, place)

    def shared_info(self) -> SharedInfo | None:
        """Return counts and sizes of the shared decoded volumes; None without sharing."""
        shared = self.dataset.shared
        return None if shared is None or not self._close.alive else shared.totals()

    def close(self) -> None:
        """Stop the workers and release the shared volumes."""
        self._loader = None
        self._close()

    def __enter__(self) -> ResumableLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _make_torch_loader(self, batches: _Batches, **changes: Any) -> DataLoader[Any]:
        return DataLoader(self.dataset, batch_sampler=batches, **{**self._options, **changes})  # type: ignore[arg-type]

    def _is_running(self) -> bool:
        """Check whether an iterator of this loader's own workers can still return a batch."""
        pairs = self._running()
        return pairs is not None and pairs.gi_frame is not None

    def _open_loader(self) -> DataLoader[Any]:
        if self._loader is None:
            raise LoaderError("The loader is closed. Make another with make_dataloader.")
        return self._loader

    def _hand_out(self) -> Iterator[Any]:
        # The epoch begins with the first batch that is requested: Lightning makes iterators that it never uses, and
        # chooses the epoch after it has made one.
        pairs = self.begin()
        epoch = self.epoch
        for batch, place in pairs:
            self.commit(place)
            self._last, self._last_but_one = _Handed(batch, place), self._last
            yield batch
            del batch  # whose memory the next one may use
        if self.epoch <= epoch:  # set_epoch named this epoch again while it was iterated
            self.commit(EpochPosition(epoch + 1))

    def _seen_by_caller(self) -> EpochPosition:
        """Find the place after the last batch that was handed out, or that Lightning has begun to use."""
        seen = self.batch_sampler.seen
        if self.batch_sampler.source.total() is None and {"lightning", "pytorch_lightning"} & set(sys.modules):
            last, before = self._last, self._last_but_one
            is_ahead = before.is_used and last.is_used is False
            if last.is_used is None:  # a batch of the caller's own collate_fn
                is_ahead = _lightning_is_ahead()
            if seen == last.place and is_ahead:
                return before.place
        return seen

    def _forget_buffers(self) -> None:
        if self.dataset.shared is not None:
            forget(self.dataset.shared.folder)

    def _with_places(self, batches: Iterator[Any], begun: Pass) -> Iterator[tuple[Any, EpochPosition]]:
        epoch, is_empty = begun.start.epoch, True
        for batch in batches:
            is_empty = False
            yield batch, begun.places.popleft()
            del batch
            if self._loader is None and self.epoch == epoch:
                raise LoaderError(
                    "The loader was closed while it was iterated. Close it after the loop, or leave the loop when you "
                    "close it."
                )
        if is_empty:  # nothing was left of the epoch but what drop_last=True leaves out
            self.commit(EpochPosition(epoch + 1))


class _Batches:
    """The batch sampler of a torch loader: the batches of the pass that has begun."""

    begun: Pass | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter(()) if self.begun is None else self.begun.batches


class _Handed:
    """The place after a batch that was handed out, and whether it is in use."""

    def __init__(self, batch: Any, place: EpochPosition) -> None:
        self._usage = batch.usage if isinstance(batch, Batch) else None
        self.place = place

    @property
    def is_used(self) -> bool | None:
        """Whether the caller has read from the batch; None where that is not known."""
        return None if self._usage is None else self._usage.has_begun


def _lightning_is_ahead() -> bool:
    """Check whether a Lightning trainer further up the stack holds a batch that it has not trained on yet."""
    frame = sys._getframe().f_back
    while frame is not None:
        fetcher = getattr(frame.f_locals.get("self"), "_data_fetcher", None)
        if fetcher is not None:
            return bool(getattr(fetcher, "batches", ()))
        frame = frame.f_back
    return False


def _nothing() -> None:
    """Return None, in place of a dead reference."""


def _clean(session: Session | None, work: Work) -> None:
    if work.shared is not None:
        work.shared.close()
        forget(work.shared.folder)
    if session is not None:
        session.leave()
