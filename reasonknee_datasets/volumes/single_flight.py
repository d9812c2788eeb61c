"""Compute a value once for each key, whatever the number of threads that need it."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from reasonknee_datasets.system import call_in_forked_child

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight:
    """Locks by which one thread makes a value and the others wait for it.

    Attributes
    ----------
    lock : threading.Lock
        Protects what values are kept in.
    """

    def __init__(self) -> None:
        self.renew_locks()
        _all.add(self)

    def renew_locks(self) -> None:
        """Replace every lock: after a fork, the threads that held them are gone."""
        self.lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, find: Callable[[], V | None], make: Callable[[], V], keep: Callable[[V], object]) -> V:
        """Return the value of a key, made by this thread or by the one that came first.

        Parameters
        ----------
        key : hashable
            Threads that want the same key wait for each other.
        find : callable
            Returns the value, or None where it is missing; called under the lock, and again after waiting.
        make : callable
            Makes the value. Its error reaches this caller, and the next one tries again.
        keep : callable
            Keeps the value; called under the lock.
        """
        with self.lock:
            if (found := find()) is not None:
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self.lock:
                if (found := find()) is not None:
                    return found
            try:
                value = make()
            except BaseException:
                with self.lock:
                    self._making.pop(key, None)
                raise
            with self.lock:
                self._making.pop(key, None)
                keep(value)
            return value


class Once(Generic[K, V]):
    """Memo of the most recent `limit` values; two threads that want one value make it once.

    Examples
    --------
    >>> squares = Once(limit=2)
    >>> squares.get(3, lambda: 9), squares.get(3, lambda: 1 / 0)
    (9, 9)
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self._flight = SingleFlight()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, which is never None; an error of `make` is not remembered."""
        return self._flight.get(key, lambda: self._find(key), make, lambda value: self._keep(key, value))

    def clear(self) -> None:
        """Remove every value."""
        with self._flight.lock:
            self._values.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def put(self, key: K, value: V) -> None:
        """Set a value that is known already, or replace one."""
        with self._flight.lock:
            self._keep(key, value)

    def _find(self, key: K) -> V | None:
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def _keep(self, key: K, value: V) -> None:
        self._values[key] = value
        while len(self._values) > self._limit:
            self._values.popitem(last=False)


_all: weakref.WeakSet[SingleFlight] = weakref.WeakSet()


def _renew_all() -> None:
    for flight in list(_all):
        flight.renew_locks()


call_in_forked_child(_renew_all)
