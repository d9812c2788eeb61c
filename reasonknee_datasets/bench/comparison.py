"""Compare two sets of answers to one truth: `paired_difference`, `compare`, and `decompose_errors` by region."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import LEVEL, Statistic, Statistics, draw_patients, estimate_all
from reasonknee_datasets.bench.conditions import get_condition
from reasonknee_datasets.bench.group_results import HEADLINE, STATISTIC_KINDS, BoxCounts, By, StatisticKind
from reasonknee_datasets.bench.pools import count_confusions
from reasonknee_datasets.bench.priors import read_priors
from reasonknee_datasets.bench.results import Comparison, Difference, ErrorDecomposition, LostShares, Sampling
from reasonknee_datasets.bench.run_metadata import MODEL, RunMetadata, check_comparable, differences
from reasonknee_datasets.bench.scoring import compute_statistics, slot_statistics
from reasonknee_datasets.bench.slot_table import BYS, group_by, has_boxes, make_slot_table
from reasonknee_datasets.errors import BenchError, nearest

if TYPE_CHECKING:
    from reasonknee_datasets.bench.evaluation import Evaluation


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
    """Compute the paired difference of every statistic of two sets of answers: first less second.

    Each resample draws the same patients for both, so that the difficulty of a patient cancels.

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
    for name in (each for each in BYS if each in by):
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
    pairs = {
        key: {metric: (mine, second[key][metric]) for metric, mine in metrics.items()} for key, metrics in first.items()
    }
    estimates = estimate_all(
        {key: {metric: _less(*pair) for metric, pair in metrics.items()} for key, metrics in pairs.items()}
    )
    return [
        Difference(
            **key._asdict(),
            metric=metric,
            first=_known(one),
            second=_known(other),
            difference=estimates[key][metric],
            patients=one.counts.patients,
            records=one.counts.records,
            positives=0 if isinstance(one.counts, BoxCounts) else one.counts.positives,
        )
        for key, metrics in pairs.items()
        for metric, (one, other) in metrics.items()
    ]


def _less(first: Statistic, second: Statistic) -> Statistic:
    return Statistic(first.draws - second.draws, first.counts, first.enough and second.enough)


def _known(statistic: Statistic) -> float | None:
    value = float(statistic.draws[0])
    return None if value != value else value


def compare(
    first: Evaluation, second: Evaluation, *, allow: Sequence[str] = (), resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compute the paired differences of two evaluations of the same records: first less second.

    Each bootstrap resample draws the same patients for both.

    Parameters
    ----------
    first, second : Evaluation
        Evaluations of the same records.
    allow : sequence of str
        Fields of `RunMetadata` that may differ, apart from the model.
    resamples : int
        Number of bootstrap resamples of patients for the intervals; 0 for none.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Comparison
        ``comparison.total()`` is the difference of the headline.

    Raises
    ------
    BenchError
        If another field than the model differs and is not in ``allow``, or if the records differ. The message names
        each field with both values.
    """
    one, other = first.predictions.identity, second.predictions.identity
    tolerated = check_comparable(one, other, allow)
    if first.truth.ids != second.truth.ids:
        raise BenchError(
            f"The two results are of {len(first.truth)} and {len(second.truth)} records, and they are not the same. "
            "Evaluate both with the same questions and patients."
        )
    priors = read_priors(first.repository)
    return paired_difference(
        first.truth,
        first.predictions.answers,
        second.predictions.answers,
        priors=priors.most_frequent,
        resamples=resamples,
        seed=seed,
        identities=(one, other),
        tolerated=tuple(each.field for each in tolerated if each.field not in MODEL),
    )


# Fields that differ between runs with different regions; all others must match.
_REGION = frozenset({"condition", "frames", "box_convention", "generation.box_prompts"})


def decompose_errors(
    region_given: Evaluation, others: Sequence[Evaluation], *, resamples: int = 2000, seed: int = 0
) -> ErrorDecomposition:
    """Split the errors of a model into errors of grading and errors caused by a wrong region.

    Records that are wrong with the true region given are lost by grading. Records that another run of the same model
    loses beyond that are lost because of its region: its own one, or the true one moved and scaled.

    Parameters
    ----------
    region_given : Evaluation
        Evaluation of the run with the true region.
    others : sequence of Evaluation
        Evaluations of the same model and records in ``own_region``, ``jittered_region(shift=0.5)`` or ``guided``.
    resamples : int
        Number of bootstrap resamples of patients for the intervals; all runs share them.
    seed : int
        Seed of the resamples.

    Returns
    -------
    ErrorDecomposition

    Raises
    ------
    BenchError
        If the first run did not show the true region, or another run differs from it in more than the region.
    """
    given = region_given.predictions.identity
    if given.condition is None or get_condition(given.condition).region != "true":
        raise BenchError(
            f"The first run is of condition {given.condition}, which does not show the true region. Name the run in "
            "the condition region_given first."
        )
    if not others:
        raise BenchError("There is no other run. Add the run in own_region, or in a jittered_region.")
    runs = {}
    for other in others:
        identity = other.predictions.identity
        _check_same_but_region(given, identity)
        if other.truth.ids != region_given.truth.ids:
            raise BenchError(
                f"The run in {identity.condition} has {len(other.truth)} records, the run in {given.condition} "
                f"{len(region_given.truth)}, and they are not the same. Score both on the same sample."
            )
        name = str(identity.condition)
        if name in runs:
            raise BenchError(f"Two runs are in the condition {name}. Leave one out.")
        runs[name] = other.predictions.answers
    rows = compute_lost_shares(
        region_given.truth,
        region_given.predictions.answers,
        runs,
        priors=read_priors(region_given.repository).most_frequent,
        resamples=resamples,
        seed=seed,
    )
    sampling = Sampling(resamples, seed, LEVEL, rows[0].patients)
    return ErrorDecomposition(given, tuple(other.predictions.identity for other in others), sampling, rows)


def compute_lost_shares(
    truth: Truth,
    region_given: Answers,
    others: Mapping[str, Answers],
    *,
    priors: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[LostShares, ...]:
    """Compute which shares of ``record_exact`` are lost by grading and because of the region.

    The same records are compared with nothing but the region changed.

    Parameters
    ----------
    truth : Truth
    region_given : Answers
        Of the run with the true region.
    others : mapping of str to Answers
        Of runs of the same model with other regions, by the name of their condition.
    priors, resamples, seed
        As for `score`; all runs share the draws.

    Returns
    -------
    tuple of LostShares
        For everything, then for each category; those of one run together.
    """
    totals: tuple[StatisticKind, ...] = ("total",)
    compare = partial(
        paired_difference,
        truth,
        priors=priors,
        resamples=resamples,
        seed=seed,
        by=("all", "category"),
        statistics=totals,
        boxes_asked=False,
    )
    perfect = compare(replace(region_given, grades=truth.grades), region_given)
    by_grading = {(row.by, row.value, row.rule, row.metric): row.difference for row in perfect.differences}
    found = []
    for name, answers in others.items():
        for row in compare(region_given, answers).differences:
            if row.metric == HEADLINE and row.rule == "missing_as_wrong":
                found.append(
                    LostShares(
                        condition=name,
                        by=row.by,
                        value=row.value,
                        grading=by_grading[row.by, row.value, row.rule, row.metric],
                        region=row.difference,
                        records=row.records,
                        patients=row.patients,
                        positives=row.positives,
                    )
                )
    return tuple(found)


def _check_same_but_region(given: RunMetadata, other: RunMetadata) -> None:
    if given.condition == other.condition:
        raise BenchError(
            f"Both runs are of condition {other.condition}, so that they show the same region. Add a run in "
            "own_region, jittered_region or guided."
        )
    found = [each for each in differences(given, other) if each.field not in _REGION]
    if found:
        shown = "; ".join(map(str, found[:10])) + (f"; and {len(found) - 10} more" if len(found) > 10 else "")
        raise BenchError(
            f"The runs in {given.condition} and {other.condition} differ in more than the region: {shown}. Ask the "
            "same model the same questions in both conditions."
        )
