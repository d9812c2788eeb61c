"""`prefetch_to_device`: copy the next batches to the GPU while the model works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

import datasets
import torch

from reasonknee_datasets.collate.argument_checks import check_callable, check_count
from reasonknee_datasets.errors import LoaderError, shown
from reasonknee_datasets.loader.loader import ResumableLoader, not_copied

T = TypeVar("T")
R = TypeVar("R")

_END = object()
_cuda: Any = torch.cuda  # torch leaves streams and events untyped


class _Moved(NamedTuple):
    """A batch on its device, the event of its copy, and a function to call once it is returned."""

    batch: Any
    arrived: Any
    handed: Callable[[], None]


class DevicePrefetcher:
    """Iterates a loader's batches on a device; made by `prefetch_to_device`.

    It has the loader's length and state: a batch that was copied ahead counts as seen once it is handed out.
    """

    def __init__(
        self, loader: Iterable[Any], device: torch.device, depth: int, transform: Callable[[Any], Any] | None
    ) -> None:
        self.loader, self.device = loader, device
        self._depth, self._transform = depth, transform

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise not_copied()

    def __len__(self) -> int:
        """Count the batches of a whole epoch."""
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return self._on_cuda() if self.device.type == "cuda" else self._one_by_one()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self._stateful().set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state, after the last batch that was handed out here."""
        return self._stateful().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._stateful().load_state_dict(state)

    def _stateful(self) -> ResumableLoader:
        if not isinstance(self.loader, ResumableLoader):
            raise LoaderError(
                f"A {type(self.loader).__name__} has no state and no epoch to set. Wrap a loader of make_dataloader."
            )
        return self.loader

    def _pairs(self) -> Iterator[tuple[Any, Callable[[], None]]]:
        """Return batches, each with a function to call once it is handed out."""
        if isinstance(self.loader, ResumableLoader):
            loader = self.loader
            return ((batch, lambda place=place: loader.commit(place)) for batch, place in loader.begin())  # type: ignore[misc]
        return ((batch, _nothing) for batch in self.loader)

    def _one_by_one(self) -> Iterator[Any]:
        for batch, handed in self._pairs():
            moved = self._finished(_moved(batch, self.device, non_blocking=False))
            handed()
            yield moved

    def _on_cuda(self) -> Iterator[Any]:
        """Copy on a separate stream in a separate thread, so that neither loader nor copy delays the model."""
        copying = _cuda.Stream(self.device)

        def move(pair: tuple[Any, Callable[[], None]]) -> _Moved:
            with _cuda.device(self.device), _cuda.stream(copying):
                batch = self._finished(_moved(pair[0], self.device, non_blocking=True))
                return _Moved(batch, copying.record_event(), pair[1])

        for batch, arrived, handed in run_ahead(self._pairs(), move, self._depth):
            working = _cuda.current_stream(self.device)
            working.wait_event(arrived)
            _record(batch, working)
            handed()
            yield batch

    def _finished(self, batch: Any) -> Any:
        return batch if self._transform is None else self._transform(batch)


def prefetch_to_device(
    loader: Iterable[Any],
    device: torch.device | str | int,
    *,
    depth: int = 2,
    transform: Callable[[Any], Any] | None = None,
) -> DevicePrefetcher:
    """Iterate over batches on a device; the next ones are copied while the model works on this one.

    On a CUDA device copies run on a separate stream; pass the loader ``pin_memory=True``, or they wait for each
    other. On any other device batches are moved as they come, and nothing runs ahead.

    Parameters
    ----------
    loader : iterable of batches
        Result of `make_dataloader`, or any other loader. Batches are mappings, sequences or tensors, or have ``to``.
    device : torch.device, str or int
        Where to.
    depth : int
        How many batches are kept on the device besides the one in use.
    transform : callable, optional
        From batch to batch, run on the device and the copying stream: with
        ``lambda batch: batch.cast(torch.float16, (0, 400))`` voxels are copied as 16-bit integers.

    Returns
    -------
    DevicePrefetcher
        Iterable, with the loader's ``state_dict`` and ``load_state_dict``, which count what was handed out *here*.

    Examples
    --------
    >>> [batch["volume"] for batch in prefetch_to_device([{"volume": torch.zeros(1)}], "cpu")]
    [tensor([0.])]
    """
    check_count("depth", depth, 1)
    check_callable("transform", transform)
    if not isinstance(loader, Iterable) or isinstance(loader, str | bytes | Mapping | datasets.Dataset):
        raise LoaderError(f"The loader must be an iterable of batches, not {shown(loader)}. Pass make_dataloader(...).")
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise LoaderError(f"The device must be one such as 'cuda' or 'cpu', not {shown(device)}.") from error
    return DevicePrefetcher(loader, target, depth, transform)


def run_ahead(items: Iterator[T], work: Callable[[T], R], depth: int) -> Iterator[R]:
    """Do work on items in a thread, `depth` of them ahead of who takes the results, in order.

    An error is raised where its result would have come. Once the results are no longer wanted, the thread ends with the
    item that it is at.

    Examples
    --------
    >>> list(run_ahead(iter([1, 2, 3]), lambda number: number * number, depth=2))
    [1, 4, 9]
    """
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    unwanted = threading.Event()

    def run() -> None:
        try:
            while room.acquire() and not unwanted.is_set():
                try:
                    item = next(items)
                except StopIteration:
                    break
                done.put((work(item), None))
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is raised where results are taken)
            done.put((None, error))
        done.put(_END)

    thread = threading.Thread(target=run, name="reasonknee-ahead", daemon=True)
    thread.start()
    try:
        while (found := done.get()) is not _END:
            result, error = found
            if error is not None:
                raise error
            room.release()
            yield result
    finally:
        unwanted.set()
        room.release()
        thread.join()


def _moved(value: Any, device: torch.device, *, non_blocking: bool) -> Any:
    """Move whatever can be moved."""
    if hasattr(value, "to"):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, Mapping):
        return {name: _moved(item, device, non_blocking=non_blocking) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(item, device, non_blocking=non_blocking) for item in value]
    return value


def _record(value: Any, stream: torch.cuda.Stream) -> None:
    """Record for CUDA's allocator that the model's stream uses the memory, which the copying stream allocated."""
    if hasattr(value, "record_stream"):
        value.record_stream(stream)
    elif isinstance(value, Mapping):
        _record(list(value.values()), stream)
    elif isinstance(value, list | tuple):
        for item in value:
            _record(item, stream)


def _nothing() -> None:
    """Do nothing after a batch, for a loader without a state."""
