"""`Batch`: statistics of the sample and of every resample, before they become estimates or differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.bootstrap import MIN_PATIENTS
from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.bench.results import BoxCounts, By, Counts, Rule, Unit
from reasonknee_datasets.bench.scoring.slot_table import Ints

Floats = NDArray[np.float64]

# What float32 counts exactly; weights of quadratic kappa are at most 9.
_EXACT = 2**24 // 9


Statistic = Literal["total", "pool", "slot_mean", "localisation"]

STATISTICS: tuple[Statistic, ...] = ("total", "pool", "slot_mean", "localisation")


class Key(NamedTuple):
    """Which statistic: the fields of a `Difference`."""

    by: By
    value: str
    kind: Statistic
    rule: Rule | None
    pool: str | None
    unit: Unit | None
    metric: str


class Batch(NamedTuple):
    """Some statistics with their draws.

    Attributes
    ----------
    keys : sequence of Key
    draws : (1 + R, n) float array
        Of the sample itself, then of each resample; NaN where undefined.
    counts : sequence of Counts or BoxCounts
        What each rests on.
    enough : (n,) bool array
        Enough patients have the rarer grade.
    left_out : (n,) int array
        See `Estimate`.
    """

    keys: Sequence[Key]
    draws: Floats
    counts: Sequence[Counts | BoxCounts]
    enough: NDArray[np.bool_]
    left_out: Ints


def make_batch(
    keys: Sequence[Key],
    draws: Floats,
    counts: Sequence[Counts | BoxCounts],
    *,
    enough: Iterable[bool],
    left_out: Iterable[int] | None = None,
) -> Batch:
    """Put statistics together, one column of draws for each key."""
    parts = np.zeros(len(keys), dtype=np.int64) if left_out is None else np.fromiter(left_out, np.int64)
    return Batch(keys, draws, counts, np.fromiter(enough, np.bool_), parts)


def enough_patients(patients: int) -> bool:
    """Check whether so many patients with the rarer grade allow an interval."""
    return patients >= MIN_PATIENTS


def sum_by_patient(patient: Ints, group: Ints, shape: tuple[int, int], weights: NDArray[Any] | None = None) -> Floats:
    """Sum weights (by default count) within patients and groups: shape (P, G), float64."""
    sums = np.bincount(patient * shape[1] + group, weights=weights, minlength=shape[0] * shape[1])
    return np.asarray(sums.reshape(shape), dtype=np.float64)


def resample(weights: NDArray[np.float32], sums: NDArray[Any]) -> NDArray[Any]:
    """Return the sums over each resample: one matrix product.

    Parameters
    ----------
    weights : (1 + R, P) float32 array
        From `reasonknee_datasets.bench.bootstrap.draw`.
    sums : (P, ...) array
        Of each patient. Counts in float32 stay so, twice as fast, as long as they stay exact.

    Returns
    -------
    (1 + R, ...) array
    """
    flat = sums.reshape(len(sums), -1)
    if flat.dtype == np.float32 and flat.size and float(flat.max()) * len(flat) < _EXACT:
        found = weights @ flat
    else:
        found = weights.astype(np.float64) @ flat.astype(np.float64)
        if (weights[0] == 1).all():
            # A product rounds as its shape has it; the sample's own numbers must not depend on how many draws follow.
            found[0] = flat.sum(axis=0, dtype=np.float64)
    drawn: NDArray[Any] = found.reshape(len(weights), *sums.shape[1:])
    return drawn


def mean_of_defined(values: Floats, axis: int) -> tuple[Floats, Ints]:
    """Average over what is defined, and count what is not in the sample itself (the first row)."""
    defined = ~np.isnan(values)
    means = ratio(np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis))
    return means, np.asarray((~defined[0]).sum(axis=axis - 1), dtype=np.int64)
