"""Bootstrap over patients: draws that two models can share, and percentile intervals.

The patient, with both knees and all visits, is the unit: records of one patient resemble each other, and drawing them
one by one makes intervals that are far too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import Floats, Ints
from reasonknee_datasets.bench.group_results import (
    BoxCounts,
    By,
    Counts,
    Estimate,
    NoInterval,
    Rule,
    StatisticKind,
    Unit,
)
from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.errors import BenchError

LEVEL = 0.95
MIN_PATIENTS = 10
"""No interval where fewer patients have the rarer grade."""
MAX_UNDEFINED = 0.05
"""No interval where a larger share of the resamples leaves the statistic undefined."""


def draw_patients(patients: Sequence[str], resamples: int, seed: int) -> NDArray[np.float32]:
    """Draw patients with replacement, as many as there are, many times.

    Parameters
    ----------
    patients : sequence of str
        Names of the patients. Draws are assigned by ascending name, so that two models scored on the same patients
        share them whatever the order of records.
    resamples, seed : int
        Number of resamples, and seed of the generator.

    Returns
    -------
    (resamples + 1, P) float32 array
        How often each patient is in each resample; the first row is all ones, the sample itself.

    Raises
    ------
    BenchError
        If a number is below 0.

    Examples
    --------
    >>> draw_patients(["b", "a"], 3, 0)
    array([[1., 1.],
           [2., 0.],
           [1., 1.],
           [0., 2.]], dtype=float32)
    """
    for name, value in (("resamples", resamples), ("seed", seed)):
        if value < 0:
            raise BenchError(f"{name} must be 0 or more, got {value}. 0 resamples give no intervals; 2000 are usual.")
    many = len(patients)
    weights = np.ones((resamples + 1, many), dtype=np.float32)
    if not many or not resamples:
        return weights
    chosen = np.random.default_rng(seed).integers(0, many, size=(resamples, many))
    chosen += np.arange(resamples)[:, None] * many
    counts = np.bincount(chosen.ravel(), minlength=resamples * many).reshape(resamples, many)
    by_name = sorted(range(many), key=patients.__getitem__)
    weights[1:, by_name] = counts
    return weights


def percentile_interval(
    draws: NDArray[np.float64], level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the percentile interval of each column, and in how many draws it is undefined.

    Parameters
    ----------
    draws : (R, n) float array
        NaN where undefined: left out.
    level : float

    Returns
    -------
    low, high : (n,) float array
        NaN where no draw is defined. Between two draws the percentile is interpolated linearly.
    undefined : (n,) int array

    Examples
    --------
    >>> low, high, undefined = percentile_interval(np.arange(101.0)[:, None])
    >>> low, high, undefined
    (array([2.5]), array([97.5]), array([0]))
    """
    ordered = np.sort(draws.T, axis=1)  # NaN goes last
    undefined = np.isnan(ordered).sum(axis=1)
    defined = ordered.shape[1] - undefined
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = np.maximum(defined - 1, 0) * share
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(defined - 1, 0))
        rows = np.arange(len(ordered))
        if not ordered.shape[1]:
            ends.append(np.full(len(ordered), np.nan))
            continue
        low, high = ordered[rows, below], ordered[rows, above]
        ends.append(low + (high - low) * (place - below))
    return ends[0], ends[1], undefined.astype(np.int64)


def estimate(
    draws: NDArray[np.float64],
    enough: NDArray[np.bool_],
    left_out: NDArray[Any] | None = None,
) -> list[Estimate]:
    """Turn statistics and their draws into estimates.

    Parameters
    ----------
    draws : (1 + R, n) float array
        The statistic of the sample itself, then of each resample; NaN where undefined.
    enough : (n,) bool array
        Whether enough patients have the rarer grade.
    left_out : (n,) int array, optional
        See `Estimate`.

    Returns
    -------
    list of Estimate
    """
    resamples = len(draws) - 1
    low, high, undefined = percentile_interval(draws[1:])
    parts = np.zeros(len(enough), dtype=np.int64) if left_out is None else left_out
    found = []
    for n, value in enumerate(draws[0].tolist()):
        why: NoInterval | None = None
        if value != value:
            why = "undefined"
        elif not resamples:
            why = "no_resamples"
        elif not enough[n]:
            why = "few_patients"
        elif undefined[n] > MAX_UNDEFINED * resamples:
            why = "undefined_resamples"
        start, end = (None, None) if why else (float(low[n]), float(high[n]))
        known = None if why == "undefined" else value
        found.append(Estimate(known, start, end, why, int(undefined[n]), int(parts[n])))
    return found


# Largest count that float32 holds exactly; weights of quadratic kappa are at most 9.
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
        Numbers that it is computed from.
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
    found: dict[Key, dict[str, Estimate]] = {key: {} for key in statistics}
    every = [(key, metric, value) for key, metrics in statistics.items() for metric, value in metrics.items()]
    for start in range(0, len(every), _AT_ONCE):
        keys, names, some = zip(*every[start : start + _AT_ONCE], strict=True)
        draws = np.stack([each.draws for each in some], axis=1)
        enough = np.array([each.enough for each in some])
        estimates = estimate(draws, enough, np.array([each.left_out for each in some]))
        for key, name, value in zip(keys, names, estimates, strict=True):
            found[key][name] = value
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
        From `draw_patients`.
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
