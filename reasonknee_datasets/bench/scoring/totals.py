"""The four totals: shares of slots and of whole records that are right, and means of these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.bench.results import Counts, Rule
from reasonknee_datasets.bench.scoring.groups import (
    CATEGORY_OF,
    OF_KNEES,
    SCORED,
    SCORED_CATEGORIES,
    Grouping,
    count_distinct,
)
from reasonknee_datasets.bench.scoring.resampled_statistics import (
    Floats,
    Ints,
    Key,
    Statistic,
    Statistics,
    by_group,
    enough_patients,
    mean_of_defined,
    resample,
    sum_by_patient,
)
from reasonknee_datasets.bench.scoring.slot_table import SlotTable
from reasonknee_datasets.moaks import CATEGORIES

_SCORED_CATEGORY = np.array([SCORED_CATEGORIES.index(name) if name in SCORED_CATEGORIES else -1 for name in CATEGORIES])


def count_totals(table: SlotTable, grouping: Grouping, rule: Rule) -> list[Counts]:
    """Count what the totals of each group rest on."""
    many, patients = len(grouping.values), len(table.patients)
    rows = np.flatnonzero(~np.isnan(table.right(rule)))
    slots = np.bincount(grouping.of_row[rows], minlength=many)
    if grouping.of_record is None:
        group, who, positive = grouping.of_row[rows], table.patient[table.record[rows]], table.positive[rows]
        records = count_distinct(group, table.record[rows], many)
    else:
        chosen = np.flatnonzero(~np.isnan(table.exact[rule]))
        group, who = grouping.of_record[chosen], table.patient[chosen]
        positive = table.positive_record[chosen]
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


def total_statistics(
    table: SlotTable, grouping: Grouping, counts: Sequence[Counts], weights: NDArray[np.float32], rule: Rule
) -> Statistics:
    """Compute the totals of each group under a rule, the headline first.

    Parameters
    ----------
    table : SlotTable
    grouping : Grouping
    counts : sequence of Counts
        From `count_totals`.
    weights : (1 + R, P) float32 array
    rule : str
    """
    many, group = len(grouping.values), grouping.of_record
    columns = {}
    if group is not None:
        columns["record_exact"] = _mean(weights, table.patient, group, table.exact[rule], many)
    columns["slot_micro"] = _mean(weights, table.patient[table.record], grouping.of_row, table.right(rule), many)
    enough = [enough_patients(rest.rarer_patients) for rest in counts]
    found = by_group(grouping.by, grouping.values, columns, counts, enough=enough, kind="total", rule=rule)
    if group is None or grouping.by not in OF_KNEES:
        return found
    question = table.truth.question.astype(np.int64)
    for metric, part, parts in (
        ("question_macro", question - 1, len(SCORED)),
        ("category_macro", _SCORED_CATEGORY[CATEGORY_OF[question]], len(SCORED_CATEGORIES)),
    ):
        shares = _mean(weights, table.patient, part * many + group, table.exact[rule], parts * many)
        means, undefined = mean_of_defined(shares.reshape(-1, parts, many), axis=1)
        for place, value in enumerate(grouping.values):
            statistic = Statistic(means[:, place], counts[place], enough[place], int(undefined[place]))
            found[Key(grouping.by, value, "total", rule)][metric] = statistic
    return found


def _mean(weights: NDArray[np.float32], patient: Ints, group: Ints, values: Floats, groups: int) -> Floats:
    """Average values that are not NaN over each group of the sample and of each resample: shape (1 + R, G)."""
    rows = np.flatnonzero(~np.isnan(values))
    shape = (weights.shape[1], groups)
    whole = sum_by_patient(patient[rows], group[rows], shape)
    part = sum_by_patient(patient[rows], group[rows], shape, values[rows])
    both = resample(weights, np.stack([part, whole], axis=1).astype(np.float32))
    return ratio(both[:, 0], both[:, 1])
