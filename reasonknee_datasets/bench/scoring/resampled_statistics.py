"""Resampled statistics: a dict by group and kind, then by metric, before they become estimates or differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.bootstrap import MIN_PATIENTS, estimate
from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.bench.results import BoxCounts, By, Counts, Estimate, Rule, StatisticKind, Unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What float32 counts exactly; weights of quadratic kappa are at most 9.
_EXACT = 2**24 // 9
# Statistics whose resamples are copied and sorted at a time: 2,000 resamples of 500 are 8 MB.
_AT_ONCE = 500


class Key(NamedTuple):
    """Group and kind of some statistics: the fields of a `Difference`, its metric excepted."""

    by: By
    value: str
    kind: StatisticKind
    rule: Rule | None = None
    pool: str | None = None
    unit: Unit | None = None


class Statistic(NamedTuple):
    """One statistic with its resamples.

    Attributes
    ----------
    draws : (1 + R,) float array
        Of the sample itself, then of each resample; NaN where undefined.
    counts : Counts or BoxCounts
        What it rests on.
    enough : bool
        Enough patients have the rarer grade for an interval.
    left_out : int
        See `Estimate`.
    """

    draws: Floats
    counts: Counts | BoxCounts
    enough: bool
    left_out: int = 0


Statistics = dict[Key, dict[str, Statistic]]
"""Statistics by group and kind, then by the name of the metric."""


def estimate_all(statistics: Statistics) -> dict[Key, dict[str, Estimate]]:
    """Turn statistics into estimates with intervals."""
    places = [(key, metric) for key, metrics in statistics.items() for metric in metrics]
    found: dict[Key, dict[str, Estimate]] = {key: {} for key in statistics}
    every = [statistics[key][metric] for key, metric in places]
    for (key, metric), value in zip(places, estimates(every), strict=True):
        found[key][metric] = value
    return found


def estimates(statistics: Sequence[Statistic]) -> list[Estimate]:
    """Turn a list of statistics into estimates with intervals."""
    found: list[Estimate] = []
    for start in range(0, len(statistics), _AT_ONCE):
        some = statistics[start : start + _AT_ONCE]
        draws = np.stack([each.draws for each in some], axis=1)
        enough = np.array([each.enough for each in some])
        found += estimate(draws, enough, np.array([each.left_out for each in some]))
    return found


def by_group(
    by: By, values: Sequence[str], columns: Mapping[str, Floats], counts: Sequence[Counts] | Sequence[BoxCounts],
    *, enough: Sequence[bool], kind: StatisticKind, rule: Rule | None = None, unit: Unit | None = None,
) -> Statistics:  # fmt: skip
    """Arrange columns of draws, (1 + R, G) each, as the statistics of G groups."""
    found: Statistics = {}
    for place, value in enumerate(values):
        found[Key(by, value, kind, rule, unit=unit)] = {
            metric: Statistic(draws[:, place], counts[place], enough[place]) for metric, draws in columns.items()
        }
    return found


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
