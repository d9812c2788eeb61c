"""Confusion arrays: counts of true by answered grades, the rules for slots without a grade, and each scale's metrics.

A confusion is ``(..., K, K + 1)``: true grade by row, answered grade by column, and the last column for slots that
ended without one. Leading axes (patients, resamples, pools) pass through every function unchanged, and
confusions add up: that is what lets 2,000 resamples of patients be one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.group_results import Rule, Scale
from reasonknee_datasets.bench.metrics import grades as grade_metrics
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import Slot

# Partial maceration is 6, and 7 where it is progressive: a follow-up reading, which one volume cannot show.
MERGED = (6, 7)


def farthest(grades: int) -> NDArray[np.int64]:
    """Return for each true grade the legal grade farthest from it; the lowest where two are equally far.

    Examples
    --------
    >>> farthest(4), farthest(2)
    (array([3, 3, 0, 0]), array([1, 0]))
    """
    own = np.arange(grades)
    return np.where(own > (grades - 1) / 2, 0, np.where(own == (grades - 1) / 2, 0, grades - 1))


def apply_rule(confusion: NDArray[Any], scale: Scale, rule: Rule) -> NDArray[Any]:
    """Apply a rule for slots without a grade.

    Parameters
    ----------
    confusion : (..., K, K + 1) array
    scale : {"ordinal", "nominal", "binary"}
    rule : {"missing_as_wrong", "answered_only", "missing_as_prior"}
        Under ``missing_as_prior`` missing answers must be replaced before counting, by each slot's most frequent grade:
        the last column must be empty.

    Returns
    -------
    (..., K, K) array
        Or (..., K, K + 1) for nominal grades under ``missing_as_wrong``, which keep "no grade" as a column of its own.

    Examples
    --------
    >>> apply_rule(np.array([[5, 1, 2], [0, 3, 4]]), "binary", "missing_as_wrong")
    array([[5, 3],
           [4, 3]])
    """
    if rule == "missing_as_wrong" and scale == "nominal":
        return confusion
    graded, none = confusion[..., :-1], confusion[..., -1]
    if rule == "answered_only":
        return graded
    if rule == "missing_as_prior":
        if np.any(none):
            raise BenchError(
                "The rule missing_as_prior needs a confusion without missing answers. Replace them by priors before "
                "counting."
            )
        return graded
    folded = graded.copy()
    rows = np.arange(folded.shape[-1])
    folded[..., rows, farthest(len(rows))] += none
    return folded


def merge_macerations(grades: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take morphology grades 6 and 7 as one: 8 becomes 7, and 7 becomes 6.

    Examples
    --------
    >>> merge_macerations(np.array([-1, 5, 6, 7, 8]))
    array([-1,  5,  6,  6,  7])
    """
    return grades - (grades >= MERGED[1])


def common_scale(slots: Iterable[Slot]) -> tuple[Scale, int, int]:
    """Return the scale and range that slots share, which they must before their confusions may be added up.

    Raises
    ------
    BenchError
        If they differ: a kappa or F1 over a mixture means nothing.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import SLOTS
    >>> common_scale(SLOTS[:3])
    ('ordinal', 0, 3)
    >>> common_scale([SLOTS[0], SLOTS[91]])
    Traceback (most recent call last):
    reasonknee_datasets.errors.BenchError: Slots of different scales or ranges cannot be pooled: nominal 0-8 as in \
q48.morphology; ordinal 0-3 as in q01.size. Pool each scale and range by itself; totals by record take all slots.
    """
    kinds: dict[tuple[Scale, int, int], str] = {}
    for slot in slots:
        kinds.setdefault((slot.scale, slot.low, slot.high), slot.name)
    if len(kinds) != 1:
        got = "; ".join(f"{scale} {low}-{high} as in {name}" for (scale, low, high), name in sorted(kinds.items()))
        raise BenchError(
            f"Slots of different scales or ranges cannot be pooled: {got or 'no slots'}. Pool each scale and range by "
            "itself; totals by record take all slots."
        )
    return next(iter(kinds))


Metric = Callable[..., NDArray[np.float64]]

METRICS: Mapping[Scale, Mapping[str, Metric]] = MappingProxyType(
    {
        "ordinal": {
            "accuracy": grade_metrics.accuracy,
            "balanced_accuracy": grade_metrics.balanced_accuracy,
            "mae": grade_metrics.mae,
            "linear_kappa": grade_metrics.linear_kappa,
            "quadratic_kappa": grade_metrics.quadratic_kappa,
        },
        "nominal": {
            "accuracy": grade_metrics.accuracy,
            "balanced_accuracy": grade_metrics.balanced_accuracy,
            "macro_f1": grade_metrics.macro_f1,
            "kappa": grade_metrics.kappa,
        },
        "binary": {
            "accuracy": grade_metrics.accuracy,
            "balanced_accuracy": grade_metrics.balanced_accuracy,
            "sensitivity": grade_metrics.sensitivity,
            "specificity": grade_metrics.specificity,
            "ppv": grade_metrics.ppv,
            "npv": grade_metrics.npv,
            "f1": grade_metrics.f1,
            "matthews": grade_metrics.matthews,
        },
    }
)
"""Metrics by scale."""

WEIGH_GRADES_ALIKE = frozenset({"balanced_accuracy", "macro_f1"})
"""Metrics in which a grade of three patients counts as much as one of three hundred."""


def compute(
    metric: str,
    confusion: NDArray[Any],
    scale: Scale,
    *,
    subject: str = "a slot",
    occurring: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Compute one metric of one scale.

    Parameters
    ----------
    metric : str
    confusion : (..., K, K or K + 1) array
        After `apply_rule`.
    scale : {"ordinal", "nominal", "binary"}
    subject : str
        What it is a metric of, for the message.
    occurring : (..., K) bool array, optional
        See `balanced_accuracy`; other metrics ignore it.

    Raises
    ------
    BenchError
        If the scale has no such metric.

    Examples
    --------
    >>> compute("quadratic_kappa", np.eye(9), "nominal", subject="q48.morphology")
    Traceback (most recent call last):
    reasonknee_datasets.errors.BenchError: quadratic_kappa cannot be computed of q48.morphology, which is nominal: it \
is a metric of ordinal slots: nominal grades have no order. Metrics of nominal slots: accuracy, balanced_accuracy, \
macro_f1, kappa.
    """
    known = METRICS[scale]
    if metric not in known:
        scales = " and ".join(name for name, metrics in METRICS.items() if metric in metrics)
        whose = f"a metric of {scales} slots" if scales else "unknown"
        why = ": nominal grades have no order" if scales == "ordinal" and scale == "nominal" else ""
        raise BenchError(
            f"{metric} cannot be computed of {subject}, which is {scale}: it is {whose}{why}. "
            f"Metrics of {scale} slots: {', '.join(known)}."
        )
    if metric in WEIGH_GRADES_ALIKE:
        return known[metric](confusion, occurring)
    return known[metric](confusion)
