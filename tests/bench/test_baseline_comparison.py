"""Warnings about baselines: when a model is called worse than one, or not shown to be better."""

from __future__ import annotations

import re

import pytest

from reasonknee_datasets.bench.baseline_comparison import warn
from reasonknee_datasets.bench.comparison import paired_difference
from reasonknee_datasets.bench.group_results import Estimate
from reasonknee_datasets.bench.results import Difference
from tests.benchmarks.scoring import simulate_answers, simulate_truth


def headline(value: float | None, low: float | None, high: float | None) -> Difference:
    why = None if low is not None else "few_patients"
    estimate = Estimate(value, low, high, why)  # type: ignore[arg-type]
    second = None if value is None else 0.5
    first = None if value is None else 0.5 + value
    return Difference(
        *("all", "all", "total", "missing_as_wrong", None, None, "record_exact"), first, second, estimate, 20, 40, 10
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "low", "high", "told"),
    [
        (0.1, 0.05, 0.15, None),
        (
            0.1,
            -0.05,
            0.2,
            r"not shown to be better than majority, .* \+0\.100, interval -0\.050 to \+0\.200",
        ),
        (-0.1, -0.2, 0.05, "not shown to be better than majority"),
        (0.0, 0.0, 0.0, "not shown to be better than majority"),
        (0.1, 0.0, 0.2, "not shown to be better than majority"),
        (-0.1, -0.2, 0.0, "not shown to be better than majority"),
        (-0.1, -0.2, -0.05, r"worse than majority, .* interval -0\.200 to -0\.050"),
        (-0.1, None, None, r"below majority, .* 0\.400 against 0\.500, without an interval \(fewer than 10 patients"),
        (0.1, None, None, None),
        (None, None, None, None),
    ],
)
def test_warn_by_interval(value: float | None, low: float | None, high: float | None, told: str | None) -> None:
    found = list(warn("majority", [headline(value, low, high)]))
    assert len(found) == (told is not None)
    if told is not None:
        assert re.search(told, found[0])


def test_warn_of_real_differences() -> None:
    truth = simulate_truth(25, 50, missing=0)
    good, bad = simulate_answers(truth, right=0.9), simulate_answers(truth, right=0.3)
    for first, second, told in ((good, bad, []), (good, good, ["not shown"] * 2), (bad, good, ["worse than"])):
        rows = paired_difference(
            truth, first, second, resamples=100, by=("all", "category"), statistics=("total", "localisation")
        ).differences
        found = [each for each in warn("other", rows) if each.startswith("record_exact") or len(told) == 2]
        assert [word in each for word, each in zip(told, found, strict=True)] == [True] * len(told), found
