"""Doing a thing once for each key, whatever the number of threads and forks."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from reasonknee_datasets.system import call_in_forked_child

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_all: weakref.WeakSet[Once[Hashable, object]] = weakref.WeakSet()


class Once(Generic[K, V]):
    """A memo of the most recent `limit` values in which two threads that want one value make it once.

    Examples
    --------
    >>> squares = Once(limit=2)
    >>> squares.get(3, lambda: 9), squares.get(3, lambda: 1 / 0)
    (9, 9)
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self.renew_locks()
        _all.add(self)  # type: ignore[arg-type]  # a WeakSet is invariant, and here only renews locks

    def renew_locks(self) -> None:
        """Forget every lock: after a fork, the threads that held them are gone."""
        self._lock = threading.Lock()
        self._making: dict[K, threading.Lock] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, made by this thread or by the one that came first; an error is not remembered."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
            except BaseException:
                with self._lock:
                    self._making.pop(key, None)
                raise
            with self._lock:
                self._making.pop(key, None)
                self._values[key] = value
                while len(self._values) > self._limit:
                    self._values.popitem(last=False)
            return value

    def clear(self) -> None:
        """Forget every value."""
        with self._lock:
            self._values.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def put(self, key: K, value: V) -> None:
        """Set a value that is known already, or a better one than before."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                self._values.popitem(last=False)


def _renew_all() -> None:
    for memo in list(_all):
        memo.renew_locks()


call_in_forked_child(_renew_all)
