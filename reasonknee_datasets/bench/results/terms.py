"""Names that results use: rules, totals, conditions, metrics, each with what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Rule = Literal["missing_as_wrong", "answered_only", "missing_as_prior"]
Unit = Literal["record", "region"]
By = Literal["all", "category", "question", "slot", "attribute", "subregion", "side", "visit"]
Condition = Literal["all", "size_above_0", "true_tear", "grades_6_7_merged"]
NoInterval = Literal["undefined", "no_resamples", "few_patients", "undefined_resamples"]
Scale = Literal["ordinal", "nominal", "binary"]
StatisticKind = Literal["total", "pool", "slot_mean", "localisation"]

STATISTIC_KINDS: tuple[StatisticKind, ...] = ("total", "pool", "slot_mean", "localisation")

RULES: Mapping[Rule, str] = {
    "missing_as_wrong": "a missing answer counts as wrong: as the legal grade farthest from the truth where grades "
    "have an order, as the other class of a binary slot, in a column of its own where they have none",
    "answered_only": "slots without a grade, and records that lack one, are left out",
    "missing_as_prior": "a missing answer is replaced by the slot's most frequent grade in train",
}
"""Rules for slots without an answered grade."""

TOTALS: Mapping[str, str] = {
    "record_exact": "share of records of which every slot is right (the headline)",
    "slot_micro": "share of graded slots that are right",
    "question_macro": "mean of record_exact over the questions",
    "category_macro": "mean of record_exact over the scored categories",
}
"""The four totals; none of them is called "overall"."""

HEADLINE = "record_exact"

ABOUT_TOTALS = (
    "Which total the paper used is unknown: it defines none, and no scorer was published. The four named here differ, "
    "so none of them can be compared with the paper's numbers as if it were the same."
)

CONDITIONS: Mapping[Condition, str] = {
    "all": "every slot with a true grade",
    "size_above_0": "number, percent and depth where the true size is above 0",
    "true_tear": "tear location where the truth is a tear",
    "grades_6_7_merged": "meniscal morphology with 6 and 7, the two partial macerations, taken as one",
}
"""Which of its slots a pool holds."""

WHY_NO_INTERVAL: Mapping[NoInterval, str] = {
    "undefined": "the statistic itself is undefined",
    "no_resamples": "none were asked for",
    "few_patients": "fewer than 10 patients have the rarer grade; for boxes, there are fewer than 10 patients",
    "undefined_resamples": "more than 5 % of the resamples leave it undefined",
}

BOX_METRICS: Mapping[str, str] = {
    "iou": "voxels in both boxes over voxels in either; 0 without a box",
    "giou": "IoU less the empty share of the smallest box around both; -1 without a box, as for a box infinitely far",
    "acc@0.1": "share with an IoU of at least 0.1",
    "acc@0.25": "share with an IoU of at least 0.25",
    "acc@0.5": "share with an IoU of at least 0.5",
    "acc@0.75": "share with an IoU of at least 0.75",
    "centre_mm": "mean distance of the centres in mm, of those with a box and an affine",
    "coverage": "share of the true box's voxels that the answer holds; 0 without a box",
    "volume_ratio": "voxels answered over voxels true, geometric mean of those with a box: half and double cancel",
}
"""Metrics of localisation."""

REASONING_METRICS: Mapping[str, str] = {
    "consistency": "share of answered grades that the reasoning states too",
    "contradicted": "share of answered grades of which the reasoning states another, or several",
    "not_stated": "share of answered grades of which the reasoning states none",
    "coverage": "share of the asked attributes that the reasoning assesses",
    "grounding": "share of records that name the asked subregion, and no wrong side or slice",
    "wrong_subregion": "share of records that name another subregion instead of the asked one",
    "wrong_side": "share of records naming a side of the body that name the other one",
    "outside_box": "share of records stating slice numbers that state one outside the true box",
    "agreement": "mean ROUGE-L (summary level, F) with the steps of the reference: the wording of a fixed template",
}
"""What is measured of reasoning, in the order of the report."""
