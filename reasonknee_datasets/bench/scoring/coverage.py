"""Coverage: how much was answered at all, and why the rest was not."""

from __future__ import annotations

import numpy as np

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.results import Coverage
from reasonknee_datasets.bench.scoring.groups import Grouping
from reasonknee_datasets.bench.scoring.slot_table import Ints, Mask, SlotTable
from reasonknee_datasets.moaks import SLOTS

NO_PREDICTION = "no_prediction"
"""Reason where the record has no prediction; the parser's reasons are about answers."""

NAMES = (*REASONS, NO_PREDICTION)


def count_coverage(table: SlotTable, grouping: Grouping) -> list[Coverage]:
    """Count each group's coverage.

    In groups of slots, the records are those that have a true grade in such a slot, and complete those of them that
    have an answer in it.
    """
    answers, many = table.answers, len(grouping.values)
    parsed = table.answered >= 0
    missing = _missing_truth(table, grouping)
    if grouping.of_record is None:
        # A slot occurs once in a record, and so does an attribute: rows are records.
        group, record = grouping.of_row, table.record
        complete = np.bincount(group[parsed], minlength=many)
        missing_records = missing
    else:
        group, record = grouping.of_record, np.arange(len(table.truth))
        complete = np.bincount(group[table.complete], minlength=many)
        missing_records = np.bincount(group[np.isnan(table.exact["missing_as_wrong"])], minlength=many)
    columns = {
        "records": np.bincount(group, minlength=many),
        "given": np.bincount(group[answers.given[record]], minlength=many),
        "texts": np.bincount(group[answers.text[record]], minlength=many),
        "strict": np.bincount(group[answers.strict[record]], minlength=many),
        "complete": complete,
        "slots": np.bincount(grouping.of_row, minlength=many),
        "parsed": np.bincount(grouping.of_row[parsed], minlength=many),
        "missing_truth_slots": missing,
        "missing_truth_records": missing_records,
    }
    reasons = _count_reasons(table, grouping, ~parsed)
    rows = np.stack(list(columns.values()), axis=1).tolist()
    return [
        Coverage(**dict(zip(columns, row, strict=True)), reasons=why) for row, why in zip(rows, reasons, strict=True)
    ]


def _missing_truth(table: SlotTable, grouping: Grouping) -> Ints:
    """Count each group's slots without a true grade."""
    truth = table.truth
    record, place = np.nonzero((truth.slots >= 0) & (truth.grades < 0))
    if grouping.of_record is not None:
        return np.bincount(grouping.of_record[record], minlength=len(grouping.values))
    slot = [SLOTS[number] for number in truth.slots[record, place].tolist()]
    names = [each.name if grouping.by == "slot" else each.attribute for each in slot]
    return np.array([names.count(value) for value in grouping.values], dtype=np.int64)


def _count_reasons(table: SlotTable, grouping: Grouping, lacking: Mask) -> list[dict[str, int]]:
    rows = np.flatnonzero(lacking)
    record = table.record[rows]
    codes = table.answers.reasons[record, table.place[rows]].astype(np.int64)
    # Without a grade and without a reason, the slot was left out of the answer.
    codes = np.where(codes < 0, NAMES.index("missing"), codes)
    codes = np.where(table.answers.given[record], codes, NAMES.index(NO_PREDICTION))
    return tally(grouping.of_row[rows], codes, len(grouping.values), NAMES)


def tally(group: Ints, codes: Ints, many: int, names: tuple[str, ...]) -> list[dict[str, int]]:
    """Count names by group, those that occur."""
    counts = np.bincount(group * len(names) + codes, minlength=many * len(names)).reshape(many, len(names))
    return [{name: count for name, count in zip(names, row, strict=True) if count} for row in counts.tolist()]
