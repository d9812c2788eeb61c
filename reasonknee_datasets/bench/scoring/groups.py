"""The groups that records and slots are broken down by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.results import By
from reasonknee_datasets.bench.scoring.slot_table import Ints, SlotTable
from reasonknee_datasets.moaks import ATTRIBUTES, CATEGORIES, QUESTIONS, SLOTS
from reasonknee_datasets.schema import SIDES, VISITS

BYS: tuple[By, ...] = ("all", "category", "question", "slot", "attribute", "subregion", "side", "visit")
OF_SLOTS = frozenset({"slot", "attribute"})
"""Groupings that divide the slots of one record, and so have no totals of whole records."""
OF_KNEES = frozenset({"all", "side", "visit"})
"""Groupings whose groups hold every question, and so have macro totals."""

SCORED = tuple(question for question in QUESTIONS.values() if question.in_records)
SCORED_CATEGORIES = tuple(name for name in CATEGORIES if any(question.category == name for question in SCORED))

_SUBREGIONS = tuple(dict.fromkeys(question.subregion for question in QUESTIONS.values()))


def _by_question(names: Sequence[str], field: str) -> NDArray[np.int64]:
    table = np.full(1 + max(QUESTIONS), -1)
    for question in QUESTIONS.values():
        table[question.id] = names.index(getattr(question, field))
    return table


CATEGORY_OF = _by_question(CATEGORIES, "category")
_SUBREGION_OF = _by_question(_SUBREGIONS, "subregion")
_ATTRIBUTE_OF = np.array([ATTRIBUTES.index(slot.attribute) for slot in SLOTS])


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """One way to divide everything into groups.

    Attributes
    ----------
    by : str
    values : tuple of str
        Names of the groups that have records, in the house order; G of them.
    of_record : (N,) int array or None
        Each record's group; None in groups of slots.
    of_row : (n,) int array
        The group of each row of the slot table.
    """

    by: By
    values: tuple[str, ...]
    of_record: Ints | None
    of_row: Ints


def compact(codes: Ints) -> tuple[Ints, Ints]:
    """Return the codes that occur, and each one's place among them: a tenth of the time of ``np.unique``."""
    occurs = np.bincount(codes) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[codes]


def count_distinct(group: Ints, code: Ints | NDArray[np.int32], groups: int) -> Ints:
    """Count the different codes in each group.

    Examples
    --------
    >>> count_distinct(np.array([0, 0, 2, 0]), np.array([7, 7, 7, 1]), 3)
    array([2, 0, 1])
    """
    if not len(code):
        return np.zeros(groups, dtype=np.int64)
    seen = np.zeros((groups, int(code.max()) + 1), dtype=np.bool_)
    seen[group, code] = True
    return np.asarray(seen.sum(axis=1), dtype=np.int64)


def group_by(table: SlotTable, by: By) -> Grouping:
    """Divide a table into the groups that occur in it."""
    truth = table.truth
    if by in OF_SLOTS:
        names, codes = {
            "slot": (tuple(slot.name for slot in SLOTS), table.slot),
            "attribute": (ATTRIBUTES, _ATTRIBUTE_OF[table.slot]),
        }[by]
        present, places = compact(codes)
        return Grouping(by, tuple(names[code] for code in present), None, places)
    question = truth.question.astype(np.int64)
    names, codes = {
        "all": (("all",), np.zeros(len(truth), dtype=np.int64)),
        "category": (CATEGORIES, CATEGORY_OF[question]),
        "question": (tuple(f"q{number:02d}" for number in range(1 + max(QUESTIONS))), question),
        "subregion": (_SUBREGIONS, _SUBREGION_OF[question]),
        "side": (SIDES, truth.side.astype(np.int64)),
        "visit": (VISITS, truth.visit.astype(np.int64)),
    }[by]
    present, places = compact(codes)
    return Grouping(by, tuple(names[code] for code in present), places, places[table.record])
