"""Which metrics a scale has; any other is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.metrics import grades
from reasonknee_datasets.bench.results import Scale
from reasonknee_datasets.errors import BenchError, explain

Metric = Callable[..., NDArray[np.float64]]

METRICS: Mapping[Scale, Mapping[str, Metric]] = MappingProxyType(
    {
        "ordinal": {
            "accuracy": grades.accuracy,
            "balanced_accuracy": grades.balanced_accuracy,
            "mae": grades.mae,
            "linear_kappa": grades.linear_kappa,
            "quadratic_kappa": grades.quadratic_kappa,
        },
        "nominal": {
            "accuracy": grades.accuracy,
            "balanced_accuracy": grades.balanced_accuracy,
            "macro_f1": grades.macro_f1,
            "kappa": grades.kappa,
        },
        "binary": {
            "accuracy": grades.accuracy,
            "balanced_accuracy": grades.balanced_accuracy,
            "sensitivity": grades.sensitivity,
            "specificity": grades.specificity,
            "ppv": grades.ppv,
            "npv": grades.npv,
            "f1": grades.f1,
            "matthews": grades.matthews,
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
        See `grades.balanced_accuracy`; other metrics pass it over.

    Raises
    ------
    BenchError
        If the scale has no such metric.

    Examples
    --------
    >>> compute("quadratic_kappa", np.eye(9), "nominal", subject="q48.morphology")
    Traceback (most recent call last):
    reasonknee_datasets.errors.BenchError: quadratic_kappa of q48.morphology must be a metric of nominal slots, got \
one of ordinal slots: nominal grades have no order. There are: accuracy, balanced_accuracy, macro_f1, kappa.
    """
    known = METRICS[scale]
    if metric not in known:
        scales = " and ".join(name for name, metrics in METRICS.items() if metric in metrics)
        got = f"one of {scales} slots" if scales else "an unknown one"
        if scales == "ordinal" and scale == "nominal":
            got += ": nominal grades have no order"
        remedy = f"There are: {', '.join(known)}"
        raise BenchError(explain(f"{metric} of {subject}", f"be a metric of {scale} slots", got, remedy))
    if metric in WEIGH_GRADES_ALIKE:
        return known[metric](confusion, occurring)
    return known[metric](confusion)
