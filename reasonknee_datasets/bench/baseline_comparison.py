"""Score baselines on the same records, and compute the model's paired difference from each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.baselines import (
    BoxGrader,
    chance,
    median_boxes,
    overall_majority,
    question_majority,
    whole_volume,
)
from reasonknee_datasets.bench.priors import TrainPriors
from reasonknee_datasets.bench.results import (
    HEADLINE,
    WHY_NO_INTERVAL,
    Baseline,
    By,
    Difference,
    Estimate,
    StatisticKind,
    Unit,
)
from reasonknee_datasets.bench.scoring import paired_difference

_BY: tuple[By, ...] = ("all", "category")
_TOTALS: tuple[StatisticKind, ...] = ("total",)
# The baseline of the report's tables by category and attribute.
_DETAILED: tuple[By, ...] = ("all", "category", "attribute")
_POOLS: tuple[StatisticKind, ...] = ("total", "pool")
_BOXES: tuple[StatisticKind, ...] = ("localisation",)
_UNITS: tuple[Unit, ...] = ("record", "region")
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
"""What each baseline answers."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """Resamples of the differences: the same as for the model's score."""

    resamples: int
    seed: int


def score_baselines(
    truth: Truth,
    answers: Answers,
    priors: TrainPriors,
    resampling: Resampling,
    *,
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
    resampling : Resampling
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
        graders["box_only"] = BoxGrader(train).answer(truth)
    found = [_grading(truth, answers, name, base, priors, resampling) for name, base in graders.items()]
    for name, expected in (("chance", chance(truth)), ("chance_by_frequency", chance(truth, priors))):
        totals = {total: _expected(value) for total, value in expected.totals.items()}
        found.append(Baseline(name, ABOUT[name], {"missing_as_wrong": totals}, None, (), ()))
    if boxes_asked and (truth.shapes > 0).all():
        boxes = {"whole_volume": whole_volume(truth)}
        if priors.has_boxes:
            boxes |= {
                "median_box_mm": median_boxes(truth, priors, "mm"),
                "median_box_fraction": median_boxes(truth, priors, "fraction"),
            }
        found += [_localising(truth, answers, name, base, resampling) for name, base in boxes.items()]
    return tuple(found)


def score_control(
    truth: Truth, answers: Answers, name: str, control: Answers, priors: TrainPriors, resampling: Resampling
) -> Baseline:
    """Score the same model without the patient's image, and subtract that from the model.

    Parameters
    ----------
    truth : Truth
    answers, control : Answers
        The model's, with the image and under the control condition.
    name : {"text_only", "shuffled_image"}
        The control condition.
    priors : TrainPriors
    resampling : Resampling
    """
    return _grading(truth, answers, name, control, priors, resampling)


def _grading(
    truth: Truth, answers: Answers, name: str, base: Answers, priors: TrainPriors, resampling: Resampling
) -> Baseline:
    compared = paired_difference(
        truth,
        answers,
        base,
        priors=priors.most_frequent,
        resamples=resampling.resamples,
        seed=resampling.seed,
        by=_DETAILED if name == "question_majority" else _BY,
        statistics=_POOLS if name == "question_majority" else _TOTALS,
        boxes_asked=False,
    )
    rows = compared.differences
    totals = {
        rule: {
            row.metric: _unsampled(row.second) for row in rows if (row.by, row.kind, row.rule) == ("all", "total", rule)
        }
        for rule in compared.rules
    }
    return Baseline(name, ABOUT[name], totals, None, rows, tuple(warn(name, rows)))


def _localising(truth: Truth, answers: Answers, name: str, base: Answers, resampling: Resampling) -> Baseline:
    compared = paired_difference(
        truth,
        answers,
        base,
        resamples=resampling.resamples,
        seed=resampling.seed,
        by=_BY,
        statistics=_BOXES,
        boxes_asked=True,
    )
    rows = compared.differences
    units: dict[Unit, dict[str, Estimate]] = {
        unit: {row.metric: _unsampled(row.second) for row in rows if row.by == "all" and row.unit == unit}
        for unit in _UNITS
    }
    return Baseline(name, ABOUT[name], {}, units, rows, tuple(warn(name, rows)))


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
    return Estimate(value, no_interval="undefined" if value is None else "no_resamples")


def _expected(value: float) -> Estimate:
    return _unsampled(None if math.isnan(value) else value)
