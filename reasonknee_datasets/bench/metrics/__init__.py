"""Metrics as pure functions: of grades (`record_exact` among them), of confusion arrays, and of boxes."""

from __future__ import annotations

from reasonknee_datasets.bench.metrics.boxes import THRESHOLDS, BoxScores, iou, score_boxes
from reasonknee_datasets.bench.metrics.confusions import (
    MERGED,
    METRICS,
    WEIGH_GRADES_ALIKE,
    apply_rule,
    common_scale,
    compute,
    count_confusion,
    farthest,
    merge_macerations,
)
from reasonknee_datasets.bench.metrics.grades import (
    accuracy,
    balanced_accuracy,
    f1,
    kappa,
    linear_kappa,
    macro_f1,
    mae,
    matthews,
    npv,
    ppv,
    quadratic_kappa,
    ratio,
    record_exact,
    sensitivity,
    specificity,
)

__all__ = [
    "MERGED",
    "METRICS",
    "THRESHOLDS",
    "WEIGH_GRADES_ALIKE",
    "BoxScores",
    "accuracy",
    "apply_rule",
    "balanced_accuracy",
    "common_scale",
    "compute",
    "count_confusion",
    "f1",
    "farthest",
    "iou",
    "kappa",
    "linear_kappa",
    "macro_f1",
    "mae",
    "matthews",
    "merge_macerations",
    "npv",
    "ppv",
    "quadratic_kappa",
    "ratio",
    "record_exact",
    "score_boxes",
    "sensitivity",
    "specificity",
]
