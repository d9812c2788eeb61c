"""Scoring: from a `Truth` and `Answers` to `Results`.

The way of the headline:

1. `make_slot_table` marks each record by `reasonknee_datasets.bench.metrics.record_exact`.
2. `total_statistics` sums the marks by patient, and averages them in each resample of patients.
3. `estimate_all` turns the averages into a value with an interval.
4. `score` arranges the values of each group as `Results`.

Metrics of confusions (`pools`) and of boxes (`localisation`) go the same way: counted once by patient, then resampled
by one matrix product.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.arrays import Answers, Floats, Ints, Truth
from reasonknee_datasets.bench.bootstrap import (
    LEVEL,
    Key,
    Statistic,
    Statistics,
    by_group,
    draw_patients,
    enough_patients,
    estimate_all,
    mean_of_defined,
    resample,
    sum_by_patient,
)
from reasonknee_datasets.bench.group_results import STATISTIC_KINDS, Counts, Group, Rule, Scores, StatisticKind
from reasonknee_datasets.bench.localisation import box_statistics, check_convention, make_localisation
from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.bench.pools import (
    Confusions,
    count_confusions,
    make_pool,
    pool_statistics,
    slot_mean_statistics,
)
from reasonknee_datasets.bench.record_outcomes import count_coverage, find_worst, make_outcomes
from reasonknee_datasets.bench.results import Results, Sampling
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.slot_table import (
    BYS,
    CATEGORY_OF,
    OF_KNEES,
    SCORED,
    SCORED_CATEGORIES,
    Grouping,
    SlotTable,
    count_distinct,
    group_by,
    make_slot_table,
)
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.moaks import CATEGORIES

_Weights = NDArray[np.float32]
_SCORED_CATEGORY = np.array([SCORED_CATEGORIES.index(name) if name in SCORED_CATEGORIES else -1 for name in CATEGORIES])


def score(
    truth: Truth,
    answers: Answers,
    *,
    priors: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    boxes_asked: bool | None = None,
    convention: BoxConvention | None = None,
    numbers: ArrayLike | None = None,
    identity: RunMetadata | None = None,
    worst: int = 5,
) -> Results:
    """Compute every metric of answers against the truth, with bootstrap confidence intervals.

    Parameters
    ----------
    truth : Truth
        True grades and boxes of N records.
    answers : Answers
        Answers to the same records, in the same order.
    priors : (118,) int array, optional
        Most frequent grade of each slot in train (``TrainPriors.most_frequent``), for the rule ``missing_as_prior``.
        Without it that rule is left out.
    resamples : int
        Number of bootstrap resamples of patients for the intervals; 0 for none.
    seed : int
        Seed of the resamples.
    boxes_asked : bool, optional
        Whether the run asked for boxes; records without a box then count as missing. Default: True if any record has a
        box or a reason for having none.
    convention : BoxConvention, optional
        Convention in which the answered numbers were read, for the check of the convention.
    numbers : (N, 6) array, optional
        Numbers as answered, NaN where there are none. The check then includes numbers that do not form a box.
    identity : RunMetadata, optional
        Metadata of the run.
    worst : int
        Number of worst records to return for each category.

    Returns
    -------
    Results

    Raises
    ------
    BenchError
        If answers and truth do not match, or hold an illegal grade or an empty box.
    """
    table = make_slot_table(truth, answers, priors, boxes_asked)
    weights = draw_patients(table.patients, resamples, seed)
    slots = slot_statistics(table, weights)
    groups = [group for by in BYS for group in _score_groups(table, group_by(table, by), weights, slots)]
    outcomes = make_outcomes(table)
    check = None if table.boxes is None else check_convention(table, weights, convention, numbers)
    return Results(
        sampling=Sampling(resamples, seed, LEVEL, len(table.patients)),
        rules=table.rules,
        groups=tuple(groups),
        conventions=check,
        worst=find_worst(table, outcomes, worst),
        warnings=(check.verdict,) if check is not None and check.verdict else (),
        identity=identity,
        outcomes=outcomes,
    )


def slot_statistics(table: SlotTable, weights: _Weights) -> Statistics:
    """Compute each slot's own metrics, which the means over slots are made of."""
    return pool_statistics(count_confusions(table, group_by(table, "slot")), weights)


def compute_statistics(
    table: SlotTable,
    grouping: Grouping,
    confusions: Sequence[Confusions],
    weights: _Weights,
    slots: Statistics,
    kinds: Collection[StatisticKind] = STATISTIC_KINDS,
) -> Statistics:
    """Compute the statistics of the groups of one grouping; two sets of answers to one truth have the same keys.

    ``confusions`` (of `count_confusions`) and ``slots`` (of `slot_statistics`) are empty if ``kinds`` has neither pool
    nor slot_mean.
    """
    found: Statistics = {}
    if "total" in kinds:
        for rule in table.rules:
            found |= total_statistics(table, grouping, weights, rule)
    if "localisation" in kinds and table.boxes is not None and grouping.of_record is not None:
        found |= box_statistics(table, grouping, weights)
    if "pool" in kinds:
        found |= slots if grouping.by == "slot" else pool_statistics(confusions, weights)
    if "slot_mean" in kinds:
        found |= slot_mean_statistics(confusions, slots)
    return found


def _score_groups(table: SlotTable, grouping: Grouping, weights: _Weights, slots: Statistics) -> list[Group]:
    """Return the groups of one grouping with everything that was counted and estimated."""
    confusions = count_confusions(table, grouping)
    statistics = compute_statistics(table, grouping, confusions, weights, slots)
    estimates = estimate_all(statistics)
    coverage = count_coverage(table, grouping)
    localisation = make_localisation(table, grouping, statistics, estimates)
    groups = []
    for place, value in enumerate(grouping.values):
        totals = {}
        for rule in table.rules:
            key = Key(grouping.by, value, "total", rule)
            counts = statistics[key]["slot_micro"].counts
            assert isinstance(counts, Counts)
            totals[rule] = Scores(counts, estimates[key])
        pools = tuple(make_pool(each, value, estimates) for each in confusions if value in each.values)
        groups.append(Group(grouping.by, value, coverage[place], totals, pools, localisation[place]))
    return groups


def _count_totals(table: SlotTable, grouping: Grouping, rule: Rule) -> list[Counts]:
    """Count the slots, records and patients that the totals of each group are computed from."""
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


def total_statistics(table: SlotTable, grouping: Grouping, weights: _Weights, rule: Rule) -> Statistics:
    """Compute the totals of each group under a rule, the headline first: means of `record_exact` and right slots."""
    many, group, counts = len(grouping.values), grouping.of_record, _count_totals(table, grouping, rule)
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


def _mean(weights: _Weights, patient: Ints, group: Ints, values: Floats, groups: int) -> Floats:
    """Average values that are not NaN over each group of the sample and of each resample: shape (1 + R, G)."""
    rows = np.flatnonzero(~np.isnan(values))
    shape = (weights.shape[1], groups)
    whole = sum_by_patient(patient[rows], group[rows], shape)
    part = sum_by_patient(patient[rows], group[rows], shape, values[rows])
    both = resample(weights, np.stack([part, whole], axis=1).astype(np.float32))
    return ratio(both[:, 0], both[:, 1])
