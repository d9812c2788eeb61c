"""Score baselines on the records of a model, and compute the model's paired difference from each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.baselines import (
    chance,
    median_boxes,
    nearest_boxes,
    overall_majority,
    question_majority,
    whole_volume,
)
from reasonknee_datasets.bench.comparison import paired_difference
from reasonknee_datasets.bench.group_results import HEADLINE, WHY_NO_INTERVAL, By, Estimate, Rule, StatisticKind, Unit
from reasonknee_datasets.bench.priors import TrainPriors
from reasonknee_datasets.bench.results import Baseline, Difference

# Headline metrics: a paired interval that includes 0 gives a warning.
_WATCHED = (HEADLINE, "iou")

ABOUT: Mapping[str, str] = {
    "question_majority": "each question's most frequent whole answer in train",
    "overall_majority": "the one grade that is most frequent in train, over all slots",
    "chance": "expected score of legal grades drawn evenly",
    "chance_by_frequency": "expected score of grades drawn as often as they occur in train",
    "median_box_mm": "the median box of train by question and side, in mm from the volume's centre",
    "median_box_fraction": "the same in shares of the volume's extent",
    "whole_volume": "the whole volume",
    "text_only": "the same model, shown no image",
    "shuffled_image": "the same model, shown another patient's image",
    "box_only": "the nearest train boxes' most frequent answer: six numbers, no voxel",
}
"""Description of each baseline and control, for reports."""


def score_baselines(
    truth: Truth,
    answers: Answers,
    priors: TrainPriors,
    *,
    resamples: int,
    seed: int,
    train: Truth | None = None,
    boxes_asked: bool,
) -> tuple[Baseline, ...]:
    """Score every baseline on the same records, and subtract it from the model.

    Parameters
    ----------
    truth : Truth
    answers : Answers
        The model's.
    priors : TrainPriors
        Of the same repository.
    resamples, seed : int
        Bootstrap of patients, as for the score of the model.
    train : Truth, optional
        The train split, where the region was given: adds the grader that sees the box alone.
    boxes_asked : bool
        Whether the model was asked for boxes.

    Returns
    -------
    tuple of Baseline
    """
    graders = {
        "question_majority": question_majority(truth, priors),
        "overall_majority": overall_majority(truth, priors),
    }
    if train is not None:
        graders["box_only"] = nearest_boxes(truth, train)
    score = partial(score_baseline, truth, answers, priors=priors, resamples=resamples, seed=seed)
    found = [score(name, base) for name, base in graders.items()]
    for name, expected in (("chance", chance(truth)), ("chance_by_frequency", chance(truth, priors))):
        totals = {total: _unsampled(value) for total, value in expected.totals.items()}
        found.append(Baseline(name, ABOUT[name], {"missing_as_wrong": totals}, None, (), ()))
    if boxes_asked and (truth.shapes > 0).all():
        boxes = {"whole_volume": whole_volume(truth)}
        if priors.has_boxes:
            boxes |= {
                "median_box_mm": median_boxes(truth, priors, "mm"),
                "median_box_fraction": median_boxes(truth, priors, "fraction"),
            }
        found += [score(name, base, boxes=True) for name, base in boxes.items()]
    return tuple(found)


def score_baseline(
    truth: Truth,
    answers: Answers,
    name: str,
    base: Answers,
    priors: TrainPriors,
    *,
    resamples: int,
    seed: int,
    boxes: bool = False,
) -> Baseline:
    """Score a baseline, or a control run of the same model, and subtract it from the model.

    Parameters
    ----------
    truth : Truth
    answers, base : Answers
        The model's, and the baseline's.
    name : str
        A key of `ABOUT`.
    priors : TrainPriors
    resamples, seed : int
        Bootstrap of patients, as for the score of the model.
    boxes : bool
        Score the boxes instead of the grades.
    """
    by: tuple[By, ...] = ("all", "category")
    kinds: tuple[StatisticKind, ...] = ("localisation",) if boxes else ("total",)
    if name == "question_majority":  # the baseline of the report's tables by category and attribute
        by, kinds = (*by, "attribute"), (*kinds, "pool")
    compared = paired_difference(
        truth,
        answers,
        base,
        priors=priors.most_frequent,
        resamples=resamples,
        seed=seed,
        by=by,
        statistics=kinds,
        boxes_asked=boxes,
    )
    totals: dict[Rule, dict[str, Estimate]] = {} if boxes else {rule: {} for rule in compared.rules}
    units: dict[Unit, dict[str, Estimate]] = {}
    for row in compared.differences:
        if row.by == "all" and row.kind == "total" and row.rule is not None:
            totals[row.rule][row.metric] = _unsampled(row.second)
        elif row.by == "all" and row.unit is not None:
            units.setdefault(row.unit, {})[row.metric] = _unsampled(row.second)
    rows = compared.differences
    return Baseline(name, ABOUT[name], totals, units if boxes else None, rows, tuple(warn(name, rows)))


def warn(name: str, rows: Iterable[Difference]) -> Iterator[str]:
    """Write a warning for each headline metric that is not shown to be better than a baseline."""
    for row in rows:
        value, low, high = row.difference.value, row.difference.low, row.difference.high
        headline = row.by == "all" and row.metric in _WATCHED and row.rule in {"missing_as_wrong", None}
        if not headline or row.unit not in {"record", None} or value is None:
            continue
        if low is None or high is None:
            if value < 0:
                yield (
                    f"{row.metric} is below {name}, which does not see this patient's image: "
                    f"{row.first:.3f} against {row.second:.3f}, "
                    f"without an interval ({WHY_NO_INTERVAL[row.difference.no_interval or 'no_resamples']})"
                )
        elif low <= 0:
            verdict = "worse than" if high < 0 else "not shown to be better than"
            yield (
                f"{row.metric} is {verdict} {name}, which does not see this patient's image: difference {value:+.3f}, "
                f"interval {low:+.3f} to {high:+.3f}"
            )


def _unsampled(value: float | None) -> Estimate:
    undefined = value is None or math.isnan(value)
    return Estimate(None if undefined else value, no_interval="undefined" if undefined else "no_resamples")
