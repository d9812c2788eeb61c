"""Draws of patients, percentile intervals, and whether these cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reasonknee_datasets.bench.bootstrap import draw_patients, estimate, percentile_interval, resample
from reasonknee_datasets.bench.metrics import apply_rule, compute

PATIENTS, RECORDS, SETS = 120, 20, 500


def test_every_resample_draws_as_many_patients() -> None:
    weights = draw_patients([str(n) for n in range(50)], 200, 3)
    assert weights.shape == (201, 50)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 50).all()
    assert (weights == np.rint(weights)).all()
    # The share of patients that a resample misses is (1 - 1/n)**n.
    assert (weights[1:] == 0).mean() == pytest.approx(0.98**50, abs=0.01)


def test_draws_belong_to_names() -> None:
    names = [f"p{n}" for n in range(30)]
    turned = list(np.random.default_rng(0).permutation(names))
    one, other = draw_patients(names, 20, 7), draw_patients(turned, 20, 7)
    np.testing.assert_array_equal(one[:, [names.index(name) for name in turned]], other)
    assert not np.array_equal(one[1:], draw_patients(names, 20, 8)[1:])


def test_no_resamples_leave_the_sample() -> None:
    assert draw_patients(["a", "b"], 0, 0).tolist() == [[1, 1]]


def test_intervals_are_numpys_percentiles() -> None:
    values = np.random.default_rng(0).normal(size=(777, 6))
    values[::3, 1] = np.nan
    values[:, 2] = np.nan
    values[1:, 3] = np.nan
    low, high, undefined = percentile_interval(values)
    assert undefined.tolist() == [0, 259, 777, 776, 0, 0]
    known = [0, 1, 3, 4, 5]
    for found, share in ((low, 2.5), (high, 97.5)):
        np.testing.assert_allclose(found[known], np.nanpercentile(values[:, known], share, axis=0))
        assert np.isnan(found[2])


def test_why_there_is_no_interval() -> None:
    draws = np.tile(np.linspace(0, 1, 101)[:, None], (1, 4))
    draws[0] = 0.5, np.nan, 0.5, 0.5
    draws[1:7, 3] = np.nan  # 6 of 100
    found = estimate(draws, np.array([True, True, False, True]))
    assert [each.no_interval for each in found] == [None, "undefined", "few_patients", "undefined_resamples"]
    assert [each.value for each in found] == [0.5, None, 0.5, 0.5]
    assert found[0].low == pytest.approx(0.0346, abs=1e-3)
    assert found[3].undefined_resamples == 6
    assert all(each.low is None and each.high is None for each in found[1:])
    draws[1, 3] = 0.1  # 5 of 100 are borne
    assert estimate(draws, np.full(4, True))[3].no_interval is None
    assert estimate(draws[:1], np.array([True] * 4))[0].no_interval == "no_resamples"


def clustered_sets(sets: int, patients: int, seed: int) -> NDArray[np.float32]:
    """Simulate confusions (patients, sets, 4, 5) of an ordinal slot: patients differ in severity and in difficulty."""
    random = np.random.default_rng(seed)
    shape = (patients, sets, RECORDS)
    severity = random.beta(1.0, 2.0, shape[:2])[..., None]
    ability = random.beta(2.0, 1.0, shape[:2])[..., None]
    true = random.binomial(3, np.broadcast_to(severity, shape))
    answered = np.where(random.random(shape) < ability, true, random.integers(0, 4, shape))
    cells = np.arange(patients * sets).reshape(patients, sets, 1) * 20 + true * 5 + answered
    return np.bincount(cells.ravel(), minlength=patients * sets * 20).reshape(patients, sets, 4, 5).astype(np.float32)


def share_covered(metric: str, weights: NDArray[np.float32], confusions: NDArray[np.float32], truth: float) -> float:
    draws = compute(metric, apply_rule(resample(weights[1:], confusions), "ordinal", "missing_as_wrong"), "ordinal")
    low, high, undefined = percentile_interval(draws)
    assert not undefined.any()
    return float(((low <= truth) & (truth <= high)).mean())


def in_parts(metric: str, confusions: NDArray[np.float32], truth: float, names: list[str]) -> float:
    """Tell the share of sets whose interval covers the truth, with draws of their own for every 50 sets."""
    shares = [
        share_covered(metric, draw_patients(names, 1000, start), confusions[:, start : start + 50], truth)
        for start in range(0, confusions.shape[1], 50)
    ]
    return float(np.mean(shares))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "quadratic_kappa", "balanced_accuracy"])
def test_interval_coverage_needs_patients_not_records(metric: str) -> None:
    population = clustered_sets(1, 200_000, 1).sum(axis=0)[0]
    truth = float(compute(metric, apply_rule(population, "ordinal", "missing_as_wrong"), "ordinal"))
    confusions = clustered_sets(SETS, PATIENTS, 2)
    covered = in_parts(metric, confusions, truth, [str(n) for n in range(PATIENTS)])
    assert 0.92 <= covered <= 0.97
    # The same intervals with every record as if it were a patient of its own; 100 of the sets are enough to see it.
    alone = single_records(confusions[:, :100])
    narrow = in_parts(metric, alone, truth, [str(n) for n in range(PATIENTS * RECORDS)])
    assert narrow < covered - 0.1


def single_records(confusions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every record a row of its own: (patients * RECORDS, sets, 4, 5)."""
    patients, sets = confusions.shape[:2]
    cells = np.tile(np.arange(20), patients * sets)
    of_record = np.repeat(cells, confusions.astype(int).ravel()).reshape(patients, sets, RECORDS)
    rows = np.moveaxis(of_record, 2, 1).reshape(patients * RECORDS, sets)
    return (rows[..., None] == np.arange(20)).reshape(-1, sets, 4, 5).astype(np.float32)


def test_single_records_are_the_same_records() -> None:
    confusions = clustered_sets(3, 5, 0)
    alone = single_records(confusions)
    assert (alone.sum(axis=(2, 3)) == 1).all()
    np.testing.assert_array_equal(alone.sum(axis=0), confusions.sum(axis=0))
