"""Bootstrap over patients: draws that two models can share, and percentile intervals.

The patient, with both knees and all visits, is the unit: records of one patient resemble each other, and drawing them
one by one makes intervals that are far too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.results import Estimate, NoInterval
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
        Their names: draws go by rising name, so that neither the order of records nor that of codes matters, and two
        models scored on the same patients share them.
    resamples, seed : int

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
