"""Reader of MOAKS tables: OAI's own ``kMRI_SQ_MOAKS`` files and the label tables of the official release.

Several readings of one knee and visit are resolved to one by a named rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from reasonknee_datasets.errors import ConvertError, nearest
from reasonknee_datasets.oai.moaks_variables import (
    ACL_RULES,
    AclRule,
    Variable,
    find_variable,
    grade_of,
    read_number,
    split_cartilage,
    split_cell,
)
from reasonknee_datasets.oai.table_cells import SAS_SUFFIXES, read_cells

_SIDES = {"1": "right", "2": "left"}
_TABLE_NAME = re.compile(r"moaks|annotated_kmri", re.IGNORECASE)
_SUFFIXES = (".txt", ".csv", *SAS_SUFFIXES)


class Knee(NamedTuple):
    """A knee at a visit."""

    patient: str
    visit: str
    side: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True, slots=True)
class MoaksReading:
    """All grades that one reading project gave a knee at a visit."""

    knee: Knee
    project: str  # READPRJ of OAI's tables, VERSION of the release's
    grades: Mapping[tuple[int, str], int | None]  # by question and attribute; None is missing
    codes: Mapping[tuple[int, str], str]  # the cells' codes, by question and attribute
    where: str  # file and line


@dataclass(frozen=True, slots=True)
class MoaksTables:
    """The readings of one or more tables."""

    readings: tuple[MoaksReading, ...]  # in the order of the tables; several of one knee and visit stay apart
    # Rows that were dropped since they repeat a reading exactly: the same knee, visit, project and grades.
    duplicates: int
    # Numbers of cells by variable and code that no grade of the slot corresponds to: MACLTR 1 and 2, depth code 5
    # (``MCMFMC``, ``2.5``), and any other. Their grades are None.
    unmapped: Mapping[tuple[str, str], int]
    labels: Mapping[tuple[str, str], str]  # the tables' own labels by variable and code
    ignored: tuple[str, ...]  # columns that were not read

    def by_knee(self) -> dict[Knee, list[MoaksReading]]:
        """Return the readings of every knee and visit, in the order of the tables."""
        found: dict[Knee, list[MoaksReading]] = {}
        for reading in self.readings:
            found.setdefault(reading.knee, []).append(reading)
        return found


@dataclass(slots=True)
class _Notes:
    unmapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    ignored: dict[str, None] = field(default_factory=dict)


# The visit, the variable, and its columns: one, or for cartilage two of one name.
_Columns = list[tuple[str, Variable, list[int]]]


def read_moaks_tables(paths: str | Path | Iterable[str | Path], *, acl: AclRule = "label") -> MoaksTables:
    """Read MOAKS tables.

    Codes that begin with ``.``, empty cells, and the codes 0.5, -0.5 and -1 (a change within a grade) are missing and
    become None, never 0. Cartilage is either one column whose code is size.depth (``2.1``), or two columns of one
    name. The first of the two is taken as size and the second as depth, which is most likely and not documented:
    `compare_grades` shows whether it is right.

    Parameters
    ----------
    paths : path or iterable of paths
        Files (``|``-separated ASCII, CSV, or SAS with the extra ``sas``), or folders. Of a folder, every file whose
        name contains MOAKS is read, and the release's ``manual_annotated_kMRI`` table.
    acl : {"label", "any", "highest"}
        Rule for MACLTR: see `ACL_RULES`.

    Returns
    -------
    MoaksTables

    Raises
    ------
    ConvertError
        If a file is not a MOAKS table, or a key or code in it cannot be understood.
    MissingExtraError
        If a SAS table is given without pyreadstat.
    """
    if acl not in ACL_RULES:
        raise ConvertError(f"Unknown rule {acl!r} for MACLTR. {nearest(acl, ACL_RULES)}.")
    given = [paths] if isinstance(paths, (str, Path)) else paths
    notes, readings, seen, duplicates = _Notes(), list[MoaksReading](), set[object](), 0
    files = find_tables(map(Path, given))
    for path in files:
        for reading in _read_table(path, acl, notes):
            key = (reading.knee, reading.project, *reading.grades.items())
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            readings.append(reading)
    if not readings:
        named = ", ".join(map(str, files))
        raise ConvertError(f"The MOAKS tables have column names but no rows: {named}. Download them again.")
    return MoaksTables(tuple(readings), duplicates, dict(notes.unmapped), notes.labels, tuple(notes.ignored))


def find_tables(paths: Iterable[Path]) -> list[Path]:
    """List the tables among files and folders: every file given, and of a folder those with MOAKS in their name.

    Raises ConvertError if there are none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(each for each in path.rglob("*") if each.suffix.lower() in _SUFFIXES and each.is_file())
        found = [each for each in found if _TABLE_NAME.search(each.name)]
        if not found:
            raise ConvertError(f"{path} has no file with MOAKS in its name. Name the tables themselves.")
        files += found
    if not files:
        raise ConvertError("No MOAKS tables were passed. Name their files or the folder that contains them.")
    return files


def _read_table(path: Path, acl: AclRule, notes: _Notes) -> Iterable[MoaksReading]:
    columns, rows = read_cells(path)
    names = [name.upper() for name in columns]
    keys = {key: names.index(key) for key in ("ID", "SIDE", "READPRJ", "VERSION") if key in names}
    project = keys.get("READPRJ", keys.get("VERSION"))
    if "ID" not in keys or "SIDE" not in keys or project is None:
        found = ", ".join(columns[:6]) or "none"
        message = f"{path} needs the columns ID, SIDE and READPRJ (or VERSION) and has {found}"
        raise ConvertError(f"{message}. It is not a MOAKS table: leave it out.")
    known = _group_columns(path, columns, notes)
    _check_cartilage(path, known, rows)
    notes.ignored |= dict.fromkeys(
        columns[at] for at in range(len(columns)) if at not in {*_used(known), *keys.values()}
    )
    for line, cells in rows:
        where = f"{path} line {line}"
        patient, side = split_cell(cells[keys["ID"]])[0], split_cell(cells[keys["SIDE"]])[0]
        side = side.removesuffix(".0")
        if not re.fullmatch(r"[0-9]+", patient) or side not in _SIDES:
            message = f"ID {cells[keys['ID']]!r} and SIDE {cells[keys['SIDE']]!r} at {where} name no knee"
            raise ConvertError(f"{message}. ID must be a number, and SIDE 1 (right) or 2 (left).")
        read_by = split_cell(cells[project])[0].removesuffix(".0")
        for visit in dict.fromkeys(visit for visit, _, _ in known):
            held = [(variable, at) for found, variable, at in known if found == visit]
            yield _read_row(Knee(patient, visit, _SIDES[side]), read_by, held, cells, where, acl, notes)


def _used(known: _Columns) -> set[int]:
    return {place for _, _, at in known for place in at}


def _group_columns(path: Path, columns: Sequence[str], notes: _Notes) -> _Columns:
    found: dict[tuple[str, str], tuple[str, Variable, list[int]]] = {}
    for place, column in enumerate(columns):
        known = find_variable(column)
        if known is not None:
            visit, variable = known
            found.setdefault((visit, variable.name), (visit, variable, []))[2].append(place)
    if not found:
        raise ConvertError(f"{path} has no column of a MOAKS variable, such as V00MCMFMC or V00MOSPS.")
    for _, variable, at in found.values():
        if len(at) > len(variable.attributes):
            raise ConvertError(f"{path} has {len(at)} columns named {columns[at[0]]}, not {len(variable[2])}.")
    return list(found.values())


def _check_cartilage(path: Path, known: _Columns, rows: Sequence[tuple[int, list[str]]]) -> None:
    """Refuse a release table in which one of two columns of the same name was lost by an earlier reader."""
    if path.suffix.lower() in SAS_SUFFIXES:
        return  # numbers there have no written form
    single = [at[0] for _, variable, at in known if len(variable.attributes) > len(at)]
    codes = {split_cell(cells[at])[0] for _, cells in rows for at in single}
    whole = {code for code in codes if code.isdecimal()}
    if whole - {"0"} and not any("." in code.lstrip(".-") for code in codes):
        message = (
            f"{path} has one column for each cartilage variable, and its codes ({', '.join(sorted(whole))}) have no"
        )
        remedy = "Take the original table: a reader by column name keeps only the second of two columns of one name"
        raise ConvertError(f"{message} decimal for the depth. {remedy}.")


def _read_row(
    knee: Knee,
    project: str,
    held: Sequence[tuple[Variable, list[int]]],
    cells: Sequence[str],
    where: str,
    acl: AclRule,
    notes: _Notes,
) -> MoaksReading:
    grades: dict[tuple[int, str], int | None] = {}
    codes: dict[tuple[int, str], str] = {}
    for variable, at in held:
        split = [split_cell(cells[place]) for place in at]
        for code, label in split:
            if label:
                notes.labels.setdefault((variable.name, code), label)
        try:
            numbers = [read_number(code) for code, _ in split]
        except ValueError as error:
            message = f"Code {str(error)!r} of {variable.name} at {where} is neither a number nor a missing code"
            raise ConvertError(f"{message}, which begins with a full stop.") from None
        texts, label = [code for code, _ in split], split[0][1]
        if len(at) < len(variable.attributes):
            texts *= 2
            numbers = [None, None] if numbers[0] is None else [*split_cartilage(numbers[0])]
        for attribute, number, code in zip(variable.attributes, numbers, texts, strict=True):
            slot = (variable.question_id, attribute)
            codes[slot] = code
            grades[slot] = None if number is None else grade_of(variable, attribute, Decimal(number), label, acl)
            if number is not None and grades[slot] is None:
                notes.unmapped[variable.name, code] += 1
    return MoaksReading(knee, project, grades, codes, where)


ReadingRule = Literal["first", "latest", "agree", "all"]

READING_RULES: Mapping[ReadingRule, str] = {
    "first": "each question's grades from the first project that read it",
    "latest": "each question's grades from the last project that read it",
    "agree": "a grade that all projects agree on, null where two of them differ",
    "all": "every reading by itself",
}
"""Rules that resolve several readings of one knee and visit."""


@dataclass(frozen=True, slots=True)
class KneeGrades:
    """The grades of a knee at a visit after a rule was applied."""

    knee: Knee
    projects: tuple[str, ...]  # the reading projects of the knee, in order; one with the rule ``all``
    grades: Mapping[tuple[int, str], int | None]  # by question and attribute


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
