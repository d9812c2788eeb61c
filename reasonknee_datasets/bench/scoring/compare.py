"""`paired_difference`: two sets of answers to the same records, resampled with the same draws."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from numpy.typing import ArrayLike

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import LEVEL, draw, estimate
from reasonknee_datasets.bench.results import BoxCounts, By, Comparison, Difference, Sampling
from reasonknee_datasets.bench.run_metadata import Identity
from reasonknee_datasets.bench.scoring.batches import STATISTICS, Batch, Statistic
from reasonknee_datasets.bench.scoring.context import work_out
from reasonknee_datasets.bench.scoring.groups import BYS, group_by
from reasonknee_datasets.bench.scoring.slot_table import lay_out, mark
from reasonknee_datasets.errors import BenchError, explain, nearest


def paired_difference(
    truth: Truth,
    first: Answers,
    second: Answers,
    *,
    priors: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    by: Collection[By] = BYS,
    statistics: Collection[Statistic] = STATISTICS,
    boxes_asked: bool | None = None,
    identities: tuple[Identity | None, Identity | None] = (None, None),
    tolerated: tuple[str, ...] = (),
) -> Comparison:
    """Compare two sets of answers: every statistic of the first less that of the second.

    Each resample draws the same patients for both, so that what makes a patient hard for both cancels.

    Parameters
    ----------
    truth : Truth
    first, second : Answers
        Row for row beside the truth.
    priors, resamples, seed
        As for `score`.
    by : collection of {"all", "category", "question", "slot", "attribute", "subregion", "side", "visit"}
        The groupings to compare in; fewer are faster.
    statistics : collection of {"total", "pool", "slot_mean", "localisation"}
        The kinds of statistics to compare; totals and localisation take a fraction of the time of all.
    boxes_asked : bool, optional
        As for `score`. Left out, boxes are compared where both have some.
    identities : pair of Identity, optional
        What the two are results of.
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
            raise BenchError(explain("grouping", "be one that results have", name, nearest(name, BYS)))
    for kind in statistics:
        if kind not in STATISTICS:
            raise BenchError(explain("kind of statistic", "be one that results have", kind, nearest(kind, STATISTICS)))
    sheet = lay_out(truth)
    marked = [mark(sheet, answers, priors, boxes_asked) for answers in (first, second)]
    if not all(each.boxes_asked for each in marked):
        marked = [mark(sheet, answers, priors, False) for answers in (first, second)]
    # Slots are always needed: means over slots are made from them.
    groupings = [group_by(sheet, name) for name in BYS if name in by or name == "slot"]
    weights = draw(sheet.patients, resamples, seed)
    one, other = (work_out(sheet, each, groupings, statistics) for each in marked)
    pairs = zip(one.batches(weights, by, statistics), other.batches(weights, by, statistics), strict=True)
    differences = [row for mine, theirs in pairs for row in _subtract(mine, theirs)]
    order = {name: place for place, name in enumerate(BYS)}
    return Comparison(
        sampling=Sampling(resamples, seed, LEVEL, len(sheet.patients)),
        rules=one.rules,
        differences=tuple(sorted(differences, key=lambda row: order[row.by])),
        first=identities[0],
        second=identities[1],
        tolerated=tolerated,
    )


def _subtract(first: Batch, second: Batch) -> Iterator[Difference]:
    assert list(first.keys) == list(second.keys)  # both follow from the truth alone
    parts = estimate(first.draws - second.draws, first.enough & second.enough)
    columns = zip(first.keys, first.counts, first.draws[0].tolist(), second.draws[0].tolist(), parts, strict=True)
    for key, counts, one, other, part in columns:
        yield Difference(
            by=key.by,
            value=key.value,
            kind=key.kind,
            rule=key.rule,
            pool=key.pool,
            unit=key.unit,
            metric=key.metric,
            first=_known(one),
            second=_known(other),
            difference=part,
            patients=counts.patients,
            records=counts.records,
            positives=0 if isinstance(counts, BoxCounts) else counts.positives,
        )


def _known(value: float) -> float | None:
    return None if value != value else value
