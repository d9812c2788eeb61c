"""Asking no faster than allowed, and asking again when it may help."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from reasonknee_datasets.bench.runner.replies import AskError, Reply
from reasonknee_datasets.errors import BenchError, explain


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how late a question is asked again.

    Parameters
    ----------
    attempts : int
        In all, the first included.
    first, most : float
        Seconds before the second attempt; each later one waits twice as long, up to ``most``. Half of a wait is drawn
        at random, so that questions that failed together do not come back together. An endpoint that says how long to
        wait (``Retry-After``) is waited for so long, and by everyone.
    """

    attempts: int = 6
    first: float = 1.0
    most: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first <= self.most:
            remedy = "Give at least one attempt, and waits of 0 s or more with first <= most"
            raise BenchError(explain("Retry", "be possible", repr(self), remedy))

    def wait(self, attempt: int, draw: float) -> float:
        """Give the seconds to wait after so many attempts.

        Examples
        --------
        >>> [Retry(first=1, most=5).wait(attempt, draw=1.0) for attempt in (1, 2, 3, 4)]
        [1.0, 2.0, 4.0, 5.0]
        """
        return min(self.most, self.first * 2.0 ** (attempt - 1)) * (0.5 + 0.5 * draw)


class Pace:
    """When the next question may be asked, for all threads of a run.

    Parameters
    ----------
    requests_per_minute, tokens_per_minute : float, optional
        What the endpoint allows. Requests are spread evenly. Tokens are known only when the answer is there: the next
        question then waits until the minute's share has made up for it.
    clock, sleep : callable, optional
        The time in seconds, and waiting for some; by default a wait that `end` cuts short.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        for name, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None and not value > 0:
                raise BenchError(explain(name, "be above 0", value, "Leave it out for no limit"))
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._ended = threading.Event()
        self._clock, self._sleep = clock, sleep or self._ended.wait
        self._lock = threading.Lock()
        self._next_request = self._next_token = self._paused = clock()

    def take_turn(self) -> None:
        """Wait until a question may be asked.

        Raises
        ------
        AskError
            If the run ends meanwhile.
        """
        while True:
            if self._ended.is_set():
                raise AskError("the run ended before it was asked again")
            with self._lock:
                now = self._clock()
                free = max(self._next_request, self._next_token, self._paused)
                if free <= now:
                    self._next_request = now + self._gap
                    return
            self._sleep(free - now)

    def spend(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        with self._lock:
            self._next_token = max(self._next_token, self._clock()) + tokens * self._per_token

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._lock:
            self._paused = max(self._paused, self._clock() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._sleep(seconds)

    def begin(self) -> None:
        """Let questions be asked, in this run or a later one."""
        self._ended.clear()

    def end(self) -> None:
        """Wake whoever waits, and let nobody ask any more."""
        self._ended.set()


def ask_again(once: Callable[[], Reply], retry: Retry, pace: Pace) -> tuple[Reply, int]:
    """Ask until there is an answer, or no hope of one.

    Parameters
    ----------
    once : callable
        Asks once, and raises `AskError` where there is no answer.
    retry : Retry
    pace : Pace
        Once it has ended, nothing is asked again.

    Returns
    -------
    (Reply, int)
        And how many attempts it took.

    Raises
    ------
    AskError
        The last one.
    """
    for attempt in range(1, retry.attempts + 1):
        pace.take_turn()
        try:
            reply = once()
        except AskError as error:
            if error.retry_after is not None and error.kind == "transient":
                pace.pause(error.retry_after)
            if error.kind != "transient" or attempt == retry.attempts:
                raise
            if error.retry_after is None:
                # Not the run's seed: two runs against one endpoint are not to move in step.
                pace.sleep(retry.wait(attempt, random.random()))
        else:
            pace.spend(reply.usage.get("prompt_tokens", 0) + reply.usage.get("completion_tokens", 0))
            return reply, attempt
    raise AssertionError("unreachable: the last attempt returns or raises")
