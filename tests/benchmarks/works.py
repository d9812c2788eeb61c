"""Result of a benchmark for one piece of work, and its form in the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.tables import Table
from tests.benchmarks.timing import Times


@dataclass(frozen=True, slots=True)
class Goal:
    """Aim of this package in a work.

    Attributes
    ----------
    ours : str
        Which contender this is about.
    rivals : tuple of str
        The fastest of these counts.
    at_least : float or None
        How many times as fast we are to be; None where the figure is only told.
    deflate : str, optional
        The contender that does nothing but inflate the same bytes.
    threads : int
        How many threads share that.
    """

    ours: str
    rivals: tuple[str, ...]
    at_least: float | None
    deflate: str = ""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work, done by all libraries.

    ``unit`` is the unit of one time; it is printed with it.
    """

    title: str
    unit: str
    caption: str
    times: dict[str, Times]
    goals: tuple[Goal, ...]

    def table(self) -> Table:
        """Compare all times with the first of our own."""
        ours = self.times[self.goals[0].ours]
        columns = ("reader", f"ms {self.unit}", "CPU ms", f"times {self.goals[0].ours}")
        table = Table(self.title, columns, self.caption)
        for name, times in self.times.items():
            ratio = f"{times.wall / ours.wall:.2f} (CPU {times.cpu / ours.cpu:.2f})"
            table.add(name, _ms(times.wall), _ms(times.cpu), ratio)
        return table


def summarise(works: Sequence[Work]) -> Table:
    """Hold every goal to what was measured."""
    caption = (
        "Medians by the clock; in brackets by CPU time, which a busy machine disturbs less (one thread only). "
        "The last column is what the deflate library alone takes for the same bytes, as a share of our time."
    )
    columns = ("work", "ours", "ms", "fastest rival", "ms", "times as fast", "at least", "deflate alone")
    table = Table("Voxels: aims and figures", columns, caption)
    for work in works:
        for goal in work.goals:
            present = [name for name in goal.rivals if name in work.times]
            if present:
                table.add(work.title, *_cells(work, goal, present))
    return table


def _cells(work: Work, goal: Goal, rivals: list[str]) -> list[str]:
    ours = work.times[goal.ours]
    rival = min(rivals, key=lambda name: work.times[name].wall)
    theirs = work.times[rival]
    ratio = f"{theirs.wall / ours.wall:.1f}"
    if goal.threads == 1:
        ratio += f" ({min(work.times[name].cpu for name in rivals) / ours.cpu:.1f})"
    share = ""
    if goal.deflate:
        share = f"{work.times[goal.deflate].wall / goal.threads / ours.wall:.0%}"
        if goal.threads == 1:
            share += f" ({work.times[goal.deflate].cpu / ours.cpu:.0%})"
    least = "" if goal.at_least is None else f"{goal.at_least:g}"
    return [goal.ours, _ms(ours.wall), rival, _ms(theirs.wall), ratio, least, share]


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
