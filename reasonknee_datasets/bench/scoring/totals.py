"""The four totals: shares of slots and of whole records that are right, and means of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.bench.results import Counts, Rule
from reasonknee_datasets.bench.scoring.batches import (
    Batch,
    Floats,
    Key,
    enough_patients,
    make_batch,
    mean_of_defined,
    resample,
    sum_by_patient,
)
from reasonknee_datasets.bench.scoring.groups import (
    CATEGORY_OF,
    OF_KNEES,
    SCORED,
    SCORED_CATEGORIES,
    Grouping,
    count_distinct,
)
from reasonknee_datasets.bench.scoring.slot_table import Ints, Marked, Mask, Sheet
from reasonknee_datasets.moaks import CATEGORIES


@dataclass(frozen=True, slots=True, eq=False)
class Right:
    """What is right under one failure rule.

    Attributes
    ----------
    slot, slot_counted : (n,) bool array
        Of each row of the sheet.
    record, record_counted : (N,) bool array
        Every slot of the record is right; it has all its true grades, and under rule ``parsed`` all its answers.
    """

    slot: Mask
    slot_counted: Mask
    record: Mask
    record_counted: Mask


def find_right(sheet: Sheet, marked: Marked, rule: Rule) -> Right:
    """Compute which slots and records are right under a rule."""
    answer = marked.filled if rule == "prior" else marked.grade
    assert answer is not None  # rules without priors are never asked for
    slot = answer == sheet.grade
    wrong = np.bincount(sheet.record[~slot], minlength=len(sheet.truth)) > 0
    counted = sheet.whole & marked.complete if rule == "parsed" else sheet.whole
    seen = marked.grade >= 0 if rule == "parsed" else np.ones(len(slot), dtype=np.bool_)
    return Right(slot, seen, counted & ~wrong, counted)


def count_totals(sheet: Sheet, right: Right, grouping: Grouping) -> list[Counts]:
    """Count what the totals of each group rest on."""
    many, patients = len(grouping.values), len(sheet.patients)
    rows = np.flatnonzero(right.slot_counted)
    slots = np.bincount(grouping.of_row[rows], minlength=many)
    if grouping.of_record is None:
        group, who, positive = grouping.of_row[rows], sheet.patient[sheet.record[rows]], sheet.positive[rows]
        records = count_distinct(group, sheet.record[rows], many)
    else:
        chosen = np.flatnonzero(right.record_counted)
        group, who = grouping.of_record[chosen], sheet.patient[chosen]
        positive = sheet.positive_record[chosen]
        records = np.bincount(group, minlength=many)
    shape = (patients, many)
    with_positive = sum_by_patient(who[positive], group[positive], shape) > 0
    with_normal = sum_by_patient(who[~positive], group[~positive], shape) > 0
    rarer = np.minimum(with_positive.sum(axis=0), with_normal.sum(axis=0))
    columns = (
        slots,
        records,
        (with_positive | with_normal).sum(axis=0),
        np.bincount(group[positive], minlength=many),
        rarer,
        rarer,
    )
    return [Counts(*each) for each in np.stack(columns, axis=1).astype(np.int64).tolist()]


def total_batches(
    sheet: Sheet, right: Right, grouping: Grouping, weights: NDArray[np.float32], rule: Rule
) -> Iterator[Batch]:
    """Compute the totals of each group."""
    counts = count_totals(sheet, right, grouping)
    enough = [enough_patients(rest.rarer_patients) for rest in counts]

    def batch(metric: str, draws: Floats, left_out: Sequence[int] | None = None) -> Batch:
        keys = [Key(grouping.by, value, "total", rule, None, None, metric) for value in grouping.values]
        return make_batch(keys, draws, counts, enough=enough, left_out=left_out)

    many = len(grouping.values)
    who = sheet.patient[sheet.record]
    yield batch("slot_micro", _share(weights, who, grouping.of_row, right.slot, right.slot_counted, many))
    if grouping.of_record is None:
        return
    group = grouping.of_record
    yield batch("record_exact", _share(weights, sheet.patient, group, right.record, right.record_counted, many))
    if grouping.by not in OF_KNEES:
        return
    question = sheet.truth.question.astype(np.int64)
    for metric, part, parts in (
        ("question_macro", question - 1, len(SCORED)),
        ("category_macro", _SCORED_CATEGORY[CATEGORY_OF[question]], len(SCORED_CATEGORIES)),
    ):
        cells = part * many + group
        shares = _share(weights, sheet.patient, cells, right.record, right.record_counted, parts * many)
        means, undefined = mean_of_defined(shares.reshape(-1, parts, many), axis=1)
        yield batch(metric, means, undefined.tolist())


_SCORED_CATEGORY = np.array([SCORED_CATEGORIES.index(name) if name in SCORED_CATEGORIES else -1 for name in CATEGORIES])


def _share(weights: NDArray[np.float32], patient: Ints, group: Ints, right: Mask, counted: Mask, groups: int) -> Floats:
    """Return the share of what is counted that is right, in each group of the sample and of each resample."""
    shape = (weights.shape[1], groups)
    rows = np.flatnonzero(counted)
    whole = sum_by_patient(patient[rows], group[rows], shape)
    rows = rows[right[rows]]
    part = sum_by_patient(patient[rows], group[rows], shape)
    both = resample(weights, np.stack([part, whole], axis=1).astype(np.float32))
    return ratio(both[:, 0], both[:, 1])
