"""Grades in tables as Markdown draws them: a row or a column with the slot's name."""

from __future__ import annotations

import re

from reasonknee_datasets.bench.codec.claims import Claims
from reasonknee_datasets.bench.codec.grade import Reading, read_text
from reasonknee_datasets.bench.codec.names import Name, name_of
from reasonknee_datasets.bench.codec.subjects import is_about_another
from reasonknee_datasets.moaks import Question, Slot

_RULE = re.compile(r"[\s|:\-+=]*")
_VALUE_COLUMN = re.compile(r"(?:moaks\s+|final\s+|assigned\s+)*(?:grade|score|value|rating)s?(?:\s*\([^()]*\))?")
_WIDEST = 12


def read_tables(claims: Claims, text: str) -> str:
    """Add what tables claim, and give the text without them."""
    kept: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.split("\n"), ""]:
        if line.count("|") >= 2 or (rows and _RULE.fullmatch(line) and line.strip()):
            if not _RULE.fullmatch(line):
                rows.append([cell.strip() for cell in line.strip().strip("|").split("|")[:_WIDEST]])
            continue
        if rows:
            _read_table(claims, rows)
            rows = []
        kept.append(line)
    return "\n".join(kept)


def _named(question: Question, cell: str) -> Name:
    return name_of(question, cell.strip("*_` "))


def _read_table(claims: Claims, rows: list[list[str]]) -> None:
    question = claims.question
    header = rows[0]
    columns = {place: name.slot for place, cell in enumerate(header) if (name := _named(question, cell)).slot}
    valued = [place for place, cell in enumerate(header) if place and _VALUE_COLUMN.fullmatch(cell)]
    for number, row in enumerate(rows):
        name = _named(question, row[0])
        slot = name.slot or (question.slots[0] if name.role == "subject" and len(question.slots) == 1 else None)
        if name.role == "foreign" or (number and is_about_another(question, row[0], len(row[0]), len(row[0]))):
            claims.foreign = True
        elif slot is not None and (number or 0 not in columns or len(row) == 2):
            place = valued[0] if number and valued else 1
            _add(claims, slot, row, place)
        elif number:
            for place, own in columns.items():
                if own is not None:
                    _add(claims, own, row, place)


def _add(claims: Claims, slot: Slot, row: list[str], place: int) -> None:
    if place >= len(row):
        return
    reading: Reading = read_text(slot, row[place])
    if reading.grade is not None or reading.reason == "conflicting" or re.fullmatch(r"[0-9]{1,6}", row[place]):
        claims.add(slot, reading, ("table",))
