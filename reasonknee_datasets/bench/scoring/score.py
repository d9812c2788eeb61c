"""Score one set of answers, and compute the paired differences of two sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import (
    LEVEL,
    Key,
    Statistic,
    Statistics,
    draw_patients,
    estimate_all,
    estimates,
)
from reasonknee_datasets.bench.results import (
    STATISTIC_KINDS,
    BoxCounts,
    By,
    Comparison,
    Difference,
    Estimate,
    Group,
    Localisation,
    Pool,
    Results,
    Sampling,
    Scores,
    StatisticKind,
)
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.scoring.localisation import (
    UNITS,
    box_statistics,
    check_convention,
    count_boxes,
    count_reasons,
    histograms,
)
from reasonknee_datasets.bench.scoring.pools import (
    Confusions,
    count_confusions,
    count_totals,
    pool_statistics,
    slot_mean_statistics,
    total_statistics,
)
from reasonknee_datasets.bench.scoring.record_outcomes import count_coverage, find_worst, make_outcomes
from reasonknee_datasets.bench.scoring.slot_table import BYS, Grouping, SlotTable, group_by, has_boxes, make_slot_table
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BenchError, nearest
from reasonknee_datasets.moaks import SLOTS

_Weights = NDArray[np.float32]


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
    """Score answers.

    Parameters
    ----------
    truth : Truth
    answers : Answers
        One row a record, as in the truth.
    priors : (118,) int array, optional
        Each slot's most frequent grade in train (``TrainPriors.most_frequent``). Without it the rule
        ``missing_as_prior`` is not applied.
    resamples, seed : int
        Of patients with all their records, for the intervals; 0 for none.
    boxes_asked : bool, optional
        Whether the run asked for boxes; by default it did if any record has a box or a reason for having none. Then
        every record without one is missing it.
    convention : BoxConvention, optional
        In which the answered numbers were read, for the check of the convention.
    numbers : (N, 6) array, optional
        The numbers as answered, NaN where there are none: with them the check includes numbers that are no box as read.
    identity : RunMetadata, optional
        Metadata of the run.
    worst : int
        How many of the worst records of each category to return.

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
    """Compute the statistics of the groups of one grouping.

    Parameters
    ----------
    table : SlotTable
    grouping : Grouping
    confusions : sequence of Confusions
        From `count_confusions`; empty where ``kinds`` has neither pool nor slot_mean.
    weights : (1 + R, P) float32 array
        From `draw_patients`.
    slots : dict
        From `slot_statistics`; empty where confusions are.
    kinds : collection of {"total", "pool", "slot_mean", "localisation"}

    Returns
    -------
    dict of Key to (dict of str to Statistic)
        Two sets of answers to one truth have the same keys.
    """
    found: Statistics = {}
    if "total" in kinds:
        for rule in table.rules:
            found |= total_statistics(table, grouping, count_totals(table, grouping, rule), weights, rule)
    if "localisation" in kinds and table.boxes is not None and grouping.of_record is not None:
        found |= box_statistics(table, grouping, count_boxes(table, grouping), weights)
    if "pool" in kinds:
        found |= slots if grouping.by == "slot" else pool_statistics(confusions, weights)
    if "slot_mean" in kinds:
        found |= slot_mean_statistics(confusions, slots)
    return found


def _score_groups(table: SlotTable, grouping: Grouping, weights: _Weights, slots: Statistics) -> list[Group]:
    """Return the groups of one grouping with everything that was counted and estimated."""
    by = grouping.by
    confusions = count_confusions(table, grouping)
    found = estimate_all(compute_statistics(table, grouping, confusions, weights, slots))
    coverage = count_coverage(table, grouping)
    counts = {rule: count_totals(table, grouping, rule) for rule in table.rules}
    localisation = _localisation(table, grouping, found)
    pools = _pools(confusions, found)
    groups = []
    for place, value in enumerate(grouping.values):
        totals = {
            rule: Scores(counts[rule][place], found[Key(by, value, "total", rule)]) for rule in table.rules
        }  # fmt: skip
        groups.append(Group(by, value, coverage[place], totals, tuple(pools.get(value, ())), localisation[place]))
    return groups


_Estimates = Mapping[Key, Mapping[str, Estimate]]


def _pools(confusions: Sequence[Confusions], found: _Estimates) -> dict[str, list[Pool]]:
    """Return the pools of each group by its name."""
    pools: dict[str, list[Pool]] = {}
    for each in confusions:
        kind = each.kind
        for place, value in enumerate(each.values):
            means = {rule: found.get(Key(each.by, value, "slot_mean", rule, kind.label)) for rule in each.counts}
            counted = each.by_patient[:, place].sum(axis=0).astype(np.int64).tolist()
            pool = Pool(
                scale=kind.scale,
                low=kind.low,
                high=kind.high,
                condition=kind.condition,
                slots=tuple(SLOTS[slot].name for slot in each.slots[place]),
                confusion=tuple(tuple(row) for row in counted),
                unknown=int(each.unknown[place]),
                rules={
                    rule: Scores(counts[place], found[Key(each.by, value, "pool", rule, kind.label)])
                    for rule, counts in each.counts.items()
                },
                slot_means={rule: metrics for rule, metrics in means.items() if metrics is not None},
            )
            pools.setdefault(value, []).append(pool)
    return pools


def _localisation(table: SlotTable, grouping: Grouping, found: _Estimates) -> list[Localisation | None]:
    if table.boxes is None or grouping.of_record is None:
        return [None] * len(grouping.values)
    parts = zip(
        grouping.values,
        count_boxes(table, grouping),
        count_reasons(table, grouping),
        histograms(table, grouping),
        strict=True,
    )
    return [
        Localisation(
            counts,
            reasons,
            histogram,
            {unit: found[Key(grouping.by, value, "localisation", unit=unit)] for unit in UNITS},
        )
        for value, counts, reasons, histogram in parts
    ]


def paired_difference(
    truth: Truth,
    first: Answers,
    second: Answers,
    *,
    priors: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    by: Collection[By] = BYS,
    statistics: Collection[StatisticKind] = STATISTIC_KINDS,
    boxes_asked: bool | None = None,
    identities: tuple[RunMetadata | None, RunMetadata | None] = (None, None),
    tolerated: tuple[str, ...] = (),
) -> Comparison:
    """Compare two sets of answers: every statistic of the first less that of the second.

    Each resample draws the same patients for both, so that what makes a patient hard for both cancels.

    Parameters
    ----------
    truth : Truth
    first, second : Answers
        One row a record, as in the truth.
    priors, resamples, seed
        As for `score`.
    by : collection of {"all", "category", "question", "slot", "attribute", "subregion", "side", "visit"}
        The groupings to compare in; fewer are faster.
    statistics : collection of {"total", "pool", "slot_mean", "localisation"}
        The kinds of statistics to compare; totals and localisation take a fraction of the time of all.
    boxes_asked : bool, optional
        As for `score`. By default boxes are compared where both have some.
    identities : pair of RunMetadata, optional
        Metadata of the two runs.
    tolerated : tuple of str
        Fields in which these differ besides the model.

    Returns
    -------
    Comparison

    Raises
    ------
    BenchError
        As `score` does, or if a grouping or a kind of statistic is unknown.
    """
    for name in by:
        if name not in BYS:
            raise BenchError(f"Unknown grouping {name!r}. {nearest(name, BYS)}.")
    for kind in statistics:
        if kind not in STATISTIC_KINDS:
            raise BenchError(f"Unknown kind of statistic {kind!r}. {nearest(kind, STATISTIC_KINDS)}.")
    boxed = all(map(has_boxes, (first, second))) if boxes_asked is None else boxes_asked
    tables = [make_slot_table(truth, answers, priors, boxed) for answers in (first, second)]
    weights = draw_patients(tables[0].patients, resamples, seed)
    pooled = bool({"pool", "slot_mean"} & set(statistics))
    slots: list[Statistics] = [slot_statistics(table, weights) if pooled else {} for table in tables]
    differences: list[Difference] = []
    for name in BYS:
        if name in by:
            grouping = group_by(tables[0], name)
            one, other = (
                compute_statistics(
                    table, grouping, count_confusions(table, grouping) if pooled else [], weights, own, statistics
                )
                for table, own in zip(tables, slots, strict=True)
            )
            differences += _subtract(one, other)
    return Comparison(
        sampling=Sampling(resamples, seed, LEVEL, len(tables[0].patients)),
        rules=tables[0].rules,
        differences=tuple(differences),
        first=identities[0],
        second=identities[1],
        tolerated=tolerated,
    )


def _subtract(first: Statistics, second: Statistics) -> list[Difference]:
    pairs = [
        (key, metric, mine, second[key][metric]) for key, metrics in first.items() for metric, mine in metrics.items()
    ]
    less = [
        Statistic(mine.draws - theirs.draws, mine.counts, mine.enough and theirs.enough) for _, _, mine, theirs in pairs
    ]
    return [_difference(*pair, part) for pair, part in zip(pairs, estimates(less), strict=True)]


def _difference(key: Key, metric: str, first: Statistic, second: Statistic, difference: Estimate) -> Difference:
    counts = first.counts
    return Difference(
        by=key.by,
        value=key.value,
        kind=key.kind,
        rule=key.rule,
        pool=key.pool,
        unit=key.unit,
        metric=metric,
        first=_known(first),
        second=_known(second),
        difference=difference,
        patients=counts.patients,
        records=counts.records,
        positives=0 if isinstance(counts, BoxCounts) else counts.positives,
    )


def _known(statistic: Statistic) -> float | None:
    value = float(statistic.draws[0])
    return None if value != value else value
