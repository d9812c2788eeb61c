"""`paired_difference`: two sets of answers to the same records, resampled with the same draws."""

from __future__ import annotations

from collections.abc import Collection

from numpy.typing import ArrayLike

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import LEVEL, draw_patients
from reasonknee_datasets.bench.results import (
    STATISTIC_KINDS,
    BoxCounts,
    By,
    Comparison,
    Difference,
    Estimate,
    Sampling,
    StatisticKind,
)
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.scoring.groups import BYS, group_by
from reasonknee_datasets.bench.scoring.pools import count_confusions
from reasonknee_datasets.bench.scoring.resampled_statistics import Key, Statistic, Statistics, estimates
from reasonknee_datasets.bench.scoring.score import compute_statistics, slot_statistics
from reasonknee_datasets.bench.scoring.slot_table import has_boxes, make_slot_table
from reasonknee_datasets.errors import BenchError, nearest


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
