"""Grades in tables as Markdown draws them: a row or a column with the slot's name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reasonknee_datasets.bench.answers.candidates import Claims
from reasonknee_datasets.bench.answers.key_matching import Name, name_of
from reasonknee_datasets.bench.answers.subject_context import Context
from reasonknee_datasets.bench.answers.subject_names import Facets
from reasonknee_datasets.bench.answers.subject_phrases import mentions
from reasonknee_datasets.bench.answers.tokens import tokens
from reasonknee_datasets.bench.answers.unknown_subjects import opens_with_unknown
from reasonknee_datasets.bench.answers.value_parsing import Reading, read_text
from reasonknee_datasets.moaks import Question, Slot

_RULE = re.compile(r"[\s|:\-+=]*")
_VALUE_COLUMN = re.compile(r"(?:moaks\s+|final\s+|assigned\s+)*(?:grade|score|value|rating)s?(?:\s*\([^()]*\))?")
_WIDEST = 12
_LONGEST_NAME = 60


def read_tables(claims: Claims, text: str, context: Context) -> str:
    """Add what tables claim, and return the text without them.

    Parameters
    ----------
    claims : Claims
        Added to.
    text : str
        Normalised prose.
    context : Context
        The subject that the text before leaves open.
    """
    if text.count("|") < 2:
        return text
    kept: list[str] = []
    rows: list[list[str]] = []
    context, read = context.joined([]), 0
    for line in [*text.split("\n"), ""]:
        if line.count("|") >= 2 or (rows and _RULE.fullmatch(line) and line.strip()):
            if not _RULE.fullmatch(line):
                rows.append([cell.strip() for cell in line.strip().strip("|").split("|")[:_WIDEST]])
            continue
        if rows:
            context = context.joined(list(mentions(claims.question, "\n".join(kept[read:]))))
            read = len(kept)
            _read_table(claims, rows, context)
            rows = []
        kept.append(line)
    return "\n".join(kept)


def _named(question: Question, cell: str) -> Name:
    return name_of(question, cell.strip("*_` "))


def _read_table(claims: Claims, rows: list[list[str]], context: Context) -> None:
    question, header = claims.question, rows[0]
    columns = {place: name.slot for place, cell in enumerate(header) if (name := _named(question, cell)).slot}
    valued = [place for place, cell in enumerate(header) if place and _VALUE_COLUMN.fullmatch(cell)]
    for number, row in enumerate(rows):
        name = _named(question, row[0])
        place = valued[0] if number and valued else 1
        about = context.joined(_subject(question, row, place, columns))
        unknown = name.role == "unknown" and 0 not in columns and opens_with_unknown(tokens(row[0]), 0, len(row[0]))
        if name.role == "foreign" or (number and unknown) or about.contradicts(question):
            claims.foreign = claims.foreign or number > 0 or name.role == "foreign"
            continue
        slot = name.slot
        if (
            slot is None
            and len(question.slots) == 1
            and (name.role == "subject" or (number and about.is_asked(question)))
        ):
            slot = None if number and columns and 0 not in columns else question.slots[0]
        if slot is not None and (number or 0 not in columns or len(row) == 2):
            _add(claims, slot, row, place)
        elif number:
            for place, own in columns.items():
                if own is not None:
                    _add(claims, own, row, place)


def _subject(question: Question, row: list[str], value: int, columns: Mapping[int, Slot | None]) -> list[Facets]:
    """Find what the short cells before a row's values name."""
    first = min([value, *(place for place in columns if place)])
    short = [cell for cell in row[:first] if len(cell) <= _LONGEST_NAME]
    return [facets for cell in short for facets in mentions(question, cell)]


def _add(claims: Claims, slot: Slot, row: list[str], place: int) -> None:
    if place >= len(row):
        return
    reading: Reading = read_text(slot, row[place])
    if reading.grade is not None or reading.reason == "conflicting" or re.fullmatch(r"[0-9]{1,6}", row[place]):
        claims.add(slot, reading, ("table",))
