"""How long the first batch takes, from a fresh start and from a state late in an epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.feeds import Ours
from tests.benchmarks.knee_rows import Knees


@dataclass(frozen=True, slots=True)
class FirstBatch:
    """Seconds to the first batch, medians."""

    fresh: float
    resumed: float


def measure(knees: Knees, *, workers: int, rounds: int, part: float = 0.9) -> FirstBatch:
    """Make a loader, load a state where there is one, and take a batch; files are new to the package each time."""
    state = _state_at(knees, part)
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * rounds):
        resumes = number % 4 in (1, 2)  # neither is always the one that comes second
        knees.renew()
        started = time.perf_counter()
        feed = Ours(knees, workers)
        if resumes:
            feed.loader.load_state_dict(state)
        batch = next(feed.run())
        times[resumes].append(time.perf_counter() - started)
        if feed.loader.state_dict()["position"] != resumes * state["position"] + len(batch["id"]):
            raise AssertionError("the loader must stand behind the batch that it gave")
        feed.close()
    return FirstBatch(median(times[False]), median(times[True]))


def _state_at(knees: Knees, part: float) -> dict[str, int]:
    feed = Ours(knees, 0)
    state = feed.loader.state_dict()
    feed.close()
    return {**state, "position": int(part * len(knees.questions))}
