"""Coverage of each group, outcome of each record, and the worst records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import Ints, Mask, Outcomes
from reasonknee_datasets.bench.group_results import Coverage
from reasonknee_datasets.bench.metrics import farthest, ratio
from reasonknee_datasets.bench.results import Case
from reasonknee_datasets.bench.slot_table import (
    CATEGORY_OF,
    NO_PREDICTION,
    REASON_NAMES,
    Grouping,
    SlotTable,
    count_by_reason,
)
from reasonknee_datasets.moaks import SLOTS


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
    given = table.answers.given[record]
    return count_by_reason(grouping.of_row[rows], codes, given, len(grouping.values))


_HIGHEST = max(slot.high for slot in SLOTS) + 1


def _greatest_distances() -> NDArray[np.float64]:
    """Return for each slot and true grade the distance to the farthest legal grade."""
    table = np.ones((len(SLOTS), _HIGHEST))
    for slot in SLOTS:
        own = np.arange(slot.high + 1)
        table[slot.id, : slot.high + 1] = np.abs(farthest(slot.high + 1) - own)
    return table


_FARTHEST = _greatest_distances()
_ORDINAL = np.array([slot.scale == "ordinal" for slot in SLOTS])


def make_outcomes(table: SlotTable) -> Outcomes:
    """Compute the outcome of every record; missing answers count as wrong."""
    truth, answers, exact = table.truth, table.answers, table.exact["missing_as_wrong"]
    apart = np.abs(table.answered - table.true) / _FARTHEST[table.slot, table.true]
    wrong = (table.answered != table.true).astype(np.float64)
    losses = np.where((table.answered >= 0) & _ORDINAL[table.slot], apart, wrong)
    rows = len(truth)
    sums = np.bincount(table.record, weights=losses, minlength=rows)
    return Outcomes(
        ids=truth.ids,
        question=truth.question,
        patient=truth.patient,
        grades=truth.grades,
        answers=answers.grades,
        reasons=answers.reasons,
        right=np.where(np.isnan(exact), -1, exact).astype(np.int8),
        parsed=table.complete,
        loss=ratio(sums, np.bincount(table.record, minlength=rows)),
        iou=np.full(rows, np.nan) if table.boxes is None else table.boxes.iou,
        boxes=answers.boxes,
        true_boxes=truth.boxes,
        has_box=answers.has_box,
    )


def find_worst(table: SlotTable, outcomes: Outcomes, each: int) -> tuple[Case, ...]:
    """Return the records of each category that lost most by wrong grades, worst first, at most ``each``.

    Records that lost points only because a grade is missing are counted in the coverage instead.
    """
    wrong = (table.answered >= 0) & (table.answered != table.true)
    answered_wrong = np.bincount(table.record, weights=wrong, minlength=len(table.truth)) > 0
    loss = np.where(answered_wrong, np.nan_to_num(outcomes.loss, nan=0.0), 0.0)
    iou = np.nan_to_num(outcomes.iou, nan=1.0)
    names = np.array(outcomes.ids)
    order = np.lexsort((names, iou, -loss))
    category = CATEGORY_OF[table.truth.question]
    chosen: list[int] = []
    for code in np.unique(category):
        chosen += [int(n) for n in order[category[order] == code][:each] if loss[n] > 0]
    chosen.sort(key=lambda n: (-loss[n], iou[n], outcomes.ids[n]))
    return tuple(_case(table, outcomes, n) for n in chosen)


def _case(table: SlotTable, outcomes: Outcomes, n: int) -> Case:
    truth, answers = table.truth, table.answers
    slots = [SLOTS[number] for number in truth.slots[n].tolist() if number >= 0]
    true = {slot.attribute: _known(truth.grades[n, place]) for place, slot in enumerate(slots)}
    answer = {slot.attribute: _known(answers.grades[n, place]) for place, slot in enumerate(slots)}
    reasons = {}
    for place, slot in enumerate(slots):
        if answer[slot.attribute] is None:
            code = int(answers.reasons[n, place])
            reasons[slot.attribute] = REASON_NAMES[code] if answers.given[n] and code >= 0 else "missing"
            if not answers.given[n]:
                reasons[slot.attribute] = NO_PREDICTION
    return Case(
        id=truth.ids[n],
        truth=true,
        answer=answer,
        reasons=reasons,
        loss=float(outcomes.loss[n]),
        iou=float(outcomes.iou[n]) if table.boxes is not None else None,
        box=tuple(answers.boxes[n].tolist()) if answers.has_box[n] else None,
        true_box=tuple(truth.boxes[n].tolist()),
    )


def _known(grade: np.int8) -> int | None:
    return int(grade) if grade >= 0 else None
