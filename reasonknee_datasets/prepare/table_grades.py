"""Grades of MOAKS tables in place of the released ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from reasonknee_datasets.errors import PrepareError
from reasonknee_datasets.moaks import QUESTIONS, write_answer
from reasonknee_datasets.oai.moaks_readings import ReadingRule, resolve_readings
from reasonknee_datasets.oai.moaks_tables import Knee, read_moaks_tables
from reasonknee_datasets.oai.moaks_variables import AclRule
from reasonknee_datasets.schema import Grade, Quintuple, flat_grades

GradesSource = Literal["released", "moaks"]


class TableGrades:
    """The grades of MOAKS tables, by knee, question and attribute.

    Parameters
    ----------
    paths : sequence of Path
        Tables, or folders of them, see `read_moaks_tables`.
    readings : {"agree", "first", "latest"}
        Rule for several readings of one knee and visit.
    acl : {"label", "any", "highest"}
        Rule for MACLTR, whose three codes are not the two grades of the slot.

    Attributes
    ----------
    counts : Counter of str
        How many grades of the rows so far are ``equal`` in both, ``changed`` (both have one), ``added`` (only the
        tables) and ``nulled`` (only the release).
    """

    def __init__(self, paths: Iterable[Path], readings: ReadingRule, acl: AclRule) -> None:
        if readings == "all":
            raise PrepareError(
                'readings="all" keeps several grades for one row. Choose "agree", "first" or "latest" to take grades '
                "from MOAKS tables."
            )
        tables = read_moaks_tables(paths, acl=acl)
        self._grades: Mapping[Knee, Mapping[tuple[int, str], int | None]] = {
            each.knee: each.grades for each in resolve_readings(tables, readings)
        }
        self.counts: Counter[str] = Counter(equal=0, changed=0, added=0, nulled=0)

    def replace(self, rows: Iterable[tuple[str, Quintuple]]) -> Iterator[tuple[str, Quintuple]]:
        """Replace grades, flat grades and answers of rows; a grade that the tables do not have is null."""
        for split, row in rows:
            yield split, self._replaced(row)

    def _replaced(self, row: Quintuple) -> Quintuple:
        known = self._grades.get(Knee(row["patient"], row["visit"], row["side"]), {})
        grades: list[Grade] = [
            {**each, "grade": known.get((row["question_id"], each["attribute"]))} for each in row["grades"]
        ]
        for released, own in zip(row["grades"], grades, strict=True):
            self.counts[_outcome(released["grade"], own["grade"])] += 1
        answer = write_answer(QUESTIONS[row["question_id"]], {each["attribute"]: each["grade"] for each in grades})
        return {**row, "grades": grades, **flat_grades(grades), "answer": answer}


def _outcome(released: int | None, own: int | None) -> str:
    if own is None:
        return "equal" if released is None else "nulled"
    if released is None:
        return "added"
    return "equal" if own == released else "changed"
