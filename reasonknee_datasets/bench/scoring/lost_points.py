"""`lost_points`: what several runs of one model under different conditions say about where its points went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from numpy.typing import ArrayLike

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.results import HEADLINE, LostPoints
from reasonknee_datasets.bench.scoring.batches import Statistic
from reasonknee_datasets.bench.scoring.compare import paired_difference

_TOTALS: tuple[Statistic, ...] = ("total",)


def lost_points(
    truth: Truth,
    region_given: Answers,
    others: Mapping[str, Answers],
    *,
    priors: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[LostPoints, ...]:
    """Part the lost share of ``record_exact`` (rule ``wrong``) by setting runs against the one with the true region.

    With the true region given, everything that is lost is lost by grading. What a run with another region (the model's
    own, or the true one moved and scaled by known amounts) loses beyond that, it loses because of the region. This
    compares the same records with nothing but the region changed, where ``Results.attribution`` can only compare
    different records of one run.

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
    tuple of LostPoints
        For everything, then for each category; those of one run together.
    """
    compare = partial(
        paired_difference,
        truth,
        priors=priors,
        resamples=resamples,
        seed=seed,
        by=("all", "category"),
        statistics=_TOTALS,
        boxes_asked=False,
    )
    perfect = compare(replace(region_given, grades=truth.grades), region_given)
    found = []
    for name, answers in others.items():
        compared = compare(region_given, answers)
        for graded, moved in zip(perfect.differences, compared.differences, strict=True):
            if moved.metric == HEADLINE and moved.rule == "wrong":
                found.append(
                    LostPoints(
                        condition=name,
                        by=moved.by,
                        value=moved.value,
                        grading=graded.difference,
                        region=moved.difference,
                        records=moved.records,
                        patients=moved.patients,
                        positives=moved.positives,
                    )
                )
    return tuple(found)
