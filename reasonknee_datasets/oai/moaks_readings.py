"""Several readings of one knee and visit, resolved to one by a named rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from reasonknee_datasets.errors import ConvertError, nearest
from reasonknee_datasets.oai.moaks_tables import Knee, MoaksReading, MoaksTables

ReadingRule = Literal["first", "latest", "agree", "all"]

READING_RULES: Mapping[ReadingRule, str] = MappingProxyType(
    {
        "first": "each question's grades from the first project that read it",
        "latest": "each question's grades from the last project that read it",
        "agree": "a grade that all projects agree on, null where two of them differ",
        "all": "every reading by itself",
    }
)
"""Rules that resolve several readings of one knee and visit."""


@dataclass(frozen=True, slots=True)
class KneeGrades:
    """The grades of a knee at a visit after a rule was applied.

    Parameters
    ----------
    knee : Knee
    projects : tuple of str
        The reading projects of the knee, in order; one with the rule ``all``.
    grades : mapping of (int, str) to (int or None)
        By question and attribute.
    """

    knee: Knee
    projects: tuple[str, ...]
    grades: Mapping[tuple[int, str], int | None]


def resolve_readings(
    tables: MoaksTables, rule: ReadingRule = "agree", *, projects: Sequence[str] | None = None
) -> list[KneeGrades]:
    """Resolve the readings of every knee and visit.

    ``first`` and ``latest`` choose by question, so that size and depth of one lesion come from one reading; a reading
    in which all grades of the question are missing is passed over.

    Parameters
    ----------
    tables : MoaksTables
    rule : {"first", "latest", "agree", "all"}
        See `READING_RULES`.
    projects : sequence of str, optional
        Names of the reading projects (``"22"``, ``"63A"``), first to last. By default in the order of their number
        and letter, which need not be the order in time. Readings of one project keep the order of the tables.

    Returns
    -------
    list of KneeGrades
        In the order of patient, visit and side.

    Raises
    ------
    ConvertError
        If the rule is unknown, or a table has a project that `projects` does not name.
    """
    if rule not in READING_RULES:
        raise ConvertError(f"Unknown rule {rule!r} for several readings. {nearest(rule, READING_RULES)}.")
    order = _project_order(tables, projects)
    resolved: list[KneeGrades] = []
    for knee, readings in sorted(tables.by_knee().items()):
        ordered = sorted(readings, key=lambda reading: order[reading.project])
        resolved += _resolve(knee, ordered, rule)
    return resolved


def _project_order(tables: MoaksTables, projects: Sequence[str] | None) -> dict[str, int]:
    found = {reading.project for reading in tables.readings}
    if projects is None:
        return {name: place for place, name in enumerate(sorted(found, key=_natural))}
    order = {name: place for place, name in enumerate(projects)}
    unnamed = sorted(found - order.keys(), key=_natural)
    if unnamed:
        message = f"The tables have readings of project {', '.join(unnamed)}, and the order names {', '.join(projects)}"
        raise ConvertError(f"{message}. Name every project of the tables, first to last.")
    return order


def _natural(name: str) -> tuple[int, str]:
    digits = re.match(r"[0-9]*", name)
    return int(digits[0]) if digits and digits[0] else -1, name


def _resolve(knee: Knee, readings: Sequence[MoaksReading], rule: ReadingRule) -> Iterator[KneeGrades]:
    if rule == "all":
        for reading in readings:
            yield KneeGrades(knee, (reading.project,), reading.grades)
        return
    projects = tuple(dict.fromkeys(reading.project for reading in readings))
    slots = dict.fromkeys(slot for reading in readings for slot in reading.grades)
    if rule == "agree":
        grades = {slot: _agreed(reading.grades.get(slot) for reading in readings) for slot in slots}
    else:
        ordered = list(readings if rule == "first" else readings[::-1])
        grades = {}
        for question in dict.fromkeys(question for question, _ in slots):
            grades |= _chosen([slot for slot in slots if slot[0] == question], ordered)
    yield KneeGrades(knee, projects, grades)


def _agreed(grades: Iterable[int | None]) -> int | None:
    """Return the one grade of all readings that have one."""
    found = {grade for grade in grades if grade is not None}
    return found.pop() if len(found) == 1 else None


def _chosen(slots: Sequence[tuple[int, str]], readings: Sequence[MoaksReading]) -> dict[tuple[int, str], int | None]:
    """Take one question's grades from the first of the readings that has any."""
    for reading in readings:
        grades = {slot: reading.grades.get(slot) for slot in slots}
        if any(grade is not None for grade in grades.values()):
            return grades
    return dict.fromkeys(slots)
