"""`decompose_errors`: a model's lost points, split into what grading lost and what the region lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from numpy.typing import ArrayLike

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import LEVEL
from reasonknee_datasets.bench.conditions import get_condition
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.priors import read_priors
from reasonknee_datasets.bench.results import HEADLINE, ErrorDecomposition, LostShares, Sampling, StatisticKind
from reasonknee_datasets.bench.run_metadata import RunMetadata, differences
from reasonknee_datasets.bench.scoring import paired_difference
from reasonknee_datasets.errors import BenchError

# What another region changes; nothing else may differ.
_REGION = frozenset({"condition", "frames", "box_convention", "generation.box_prompts"})


def decompose_errors(
    region_given: Evaluation, others: Sequence[Evaluation], *, resamples: int = 2000, seed: int = 0
) -> ErrorDecomposition:
    """Split what a model lost into what grading lost and what the region lost.

    What is lost with the true region given is lost by grading. What another run of the same model loses beyond that
    (on its own region, or on the true one moved and scaled by known amounts), it loses because of the region.

    Parameters
    ----------
    region_given : Evaluation
        Of the run that was given the true region.
    others : sequence of Evaluation
        Of the same model on the same records: ``own_region``, ``jittered_region(shift=0.5)``, ``guided``.
    resamples, seed : int
        Of patients; all runs share the draws.

    Returns
    -------
    ErrorDecomposition

    Raises
    ------
    BenchError
        If the first was not given the true region, or another run differs from it in more than the region.
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
