"""The loader: torch's own ``DataLoader`` over our order, with a state that resumes it exactly."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from reasonknee_datasets.collate.memory import forget
from reasonknee_datasets.errors import LoaderError, explain
from reasonknee_datasets.loader.sampler import BatchSampler
from reasonknee_datasets.loader.session import Session
from reasonknee_datasets.loader.state import Identity, Place, read_state, write_state
from reasonknee_datasets.loader.tally import SharedInfo
from reasonknee_datasets.loader.work import Work


class ResumableLoader:
    """Iterates batches; made by `make_dataloader`.

    Each ``iter(loader)`` begins an epoch, as with torch: the next one, also where the last was left early. The first
    after `load_state_dict` goes on where the state was taken.

    It works in a ``with`` block, which closes it. Otherwise it is closed when it is forgotten or the process ends.
    """

    def __init__(
        self, sampler: BatchSampler, work: Work, identity: Identity, session: Session | None, options: Mapping[str, Any]
    ) -> None:
        self.identity = identity
        self._sampler, self._work = sampler, work
        self._next = self._seen = Place()
        self._loader: DataLoader[Any] | None = DataLoader(work, batch_sampler=sampler, **options)  # type: ignore[arg-type]
        self._close = weakref.finalize(self, _clean, session, work)

    @property
    def dataset(self) -> Any:
        """The rows."""
        return self._work.dataset

    @property
    def batch_size(self) -> int:
        """Examples in a batch of this rank."""
        return self._sampler.topology.batch_size

    @property
    def epoch(self) -> int:
        """The epoch of the batch that comes next after those handed out."""
        return self._seen.epoch

    def __len__(self) -> int:
        """Count the batches of a whole epoch; a TypeError where a streaming dataset does not know."""
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        return self._handed(self.begin())

    def begin(self) -> Iterator[tuple[Any, Place]]:
        """Begin an epoch for someone who prefetches: batches, each with the place to `commit` when it is handed out."""
        if self._loader is None:
            raise LoaderError(explain("a loader", "be open to be iterated", "a closed one", "Make another"))
        if not self._loader.persistent_workers:
            self._forget_buffers()  # of workers that are gone
        start, self._next = self._next, Place(self._next.epoch + 1)
        self._seen = start
        places = self._sampler.begin(start)
        return self._with_places(iter(self._loader), places, start.epoch)

    def commit(self, place: Place) -> None:
        """Note that everything up to a place has been handed to the caller."""
        self._seen = place

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch; one that a loaded state stands in the middle of is not begun anew."""
        if epoch != self._next.epoch:
            self._next = Place(epoch)
        self._seen = self._next

    def state_dict(self) -> dict[str, Any]:
        """Give the state: after the last batch that the caller was handed, whatever has been prefetched.

        It is small and plain, and the same on all ranks that are at the same step.
        """
        return write_state(self.identity, self._seen)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with any number of workers, ranks and examples a batch.

        Raises
        ------
        LoaderError
            If it belongs to another dataset, seed, group size, shuffling or balancing.
        """
        self._next = self._seen = read_state(state, self.identity, self._sampler.source.total())

    def shared_info(self) -> SharedInfo | None:
        """Tell what the processes that share decoded volumes with this loader have done; None where none are shared."""
        return None if self._work.shared is None or not self._close.alive else self._work.shared.totals()

    def close(self) -> None:
        """Stop the workers and let go of the shared volumes."""
        self._loader = None
        self._close()

    def __enter__(self) -> ResumableLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _handed(self, pairs: Iterator[tuple[Any, Place]]) -> Iterator[Any]:
        for batch, place in pairs:
            self.commit(place)
            yield batch

    def _forget_buffers(self) -> None:
        if self._work.shared is not None:
            forget(self._work.shared.folder)

    def _with_places(self, batches: Iterator[Any], places: deque[Place], epoch: int) -> Iterator[tuple[Any, Place]]:
        for batch in batches:
            yield batch, places.popleft()
            if self._loader is None and self._seen.epoch == epoch:
                remedy = "Close it behind the loop, or leave the loop when you close it"
                raise LoaderError(explain("a loader", "be open while it is iterated", "one closed on the way", remedy))
        if self._seen.epoch == epoch:  # nothing was left of the epoch but a tail that is dropped
            self.commit(Place(epoch + 1))


def _clean(session: Session | None, work: Work) -> None:
    if work.shared is not None:
        work.shared.close()
        forget(work.shared.folder)
    if session is not None:
        session.leave()
