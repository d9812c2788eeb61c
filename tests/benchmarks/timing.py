"""Timing contenders against each other: interleaved, so that a busy minute of the machine hits all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


def _nothing(item: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing a piece of work.

    Attributes
    ----------
    name : str
        As the table calls it.
    work : callable
        Does the work for one item; this is timed.
    before : callable
        Is called with the item before that, untimed: it takes away what the last round left behind.
    every : int
        It takes part in every so many-th round only.
    share : float
        The part of the item's work that it does; its times are divided by it.
    """

    name: str
    work: Callable[[Any], object]
    before: Callable[[Any], object] = _nothing
    every: int = 1
    share: float = 1.0


@dataclass(slots=True)
class Times:
    """Seconds of every round, by the clock and of the processor (all threads of this process)."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    @property
    def wall(self) -> float:
        return median(self.walls)

    @property
    def cpu(self) -> float:
        return median(self.cpus)


def race(contenders: Sequence[Contender], items: Sequence[Any]) -> dict[str, Times]:
    """Run every item with all contenders, one after the other, in an order that rotates from item to item."""
    times = {contender.name: Times() for contender in contenders}
    gc.collect()
    gc.freeze()  # what the imports left is nothing to look through before every reading
    for number, item in enumerate(items):
        turn = number % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            if number % contender.every == 0:
                _time(contender, item, times[contender.name])
    gc.unfreeze()
    return times


def _time(contender: Contender, item: Any, times: Times) -> None:
    contender.before(item)
    gc.collect()
    gc.disable()
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        result = contender.work(item)
        walled, cpued = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        gc.enable()
    del result  # giving memory back is not part of reading
    times.walls.append(walled / contender.share)
    times.cpus.append(cpued / contender.share)
