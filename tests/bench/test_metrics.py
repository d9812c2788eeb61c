"""Metrics of grades against scikit-learn, and the three rules for what has no grade."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle
from numpy.typing import NDArray

from reasonknee_datasets.bench import metrics
from reasonknee_datasets.bench.metrics import METRICS, apply_rule, common_scale, compute, farthest
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS

GRADES = {"ordinal": 4, "nominal": 9, "binary": 2}


def labels(seed: int, grades: int, *, rows: int = 200, failed: float = 0.0) -> tuple[Any, Any]:
    """Draw true and answered grades that agree more often than chance."""
    draw = np.random.default_rng(seed)
    true = draw.choice(grades, rows, p=draw.dirichlet(np.ones(grades) * 2))
    answered = np.where(draw.random(rows) < 0.6, true, draw.integers(0, grades, rows))
    return true, np.where(draw.random(rows) < failed, -1, answered)


def count_confusion(true: Any, answered: Any, grades: int) -> NDArray[np.int64]:
    """Count true by answered grades, and grades that are missing (-1) in the last column."""
    columns = np.where(answered < 0, grades, answered)
    return np.asarray(oracle.confusion_matrix(true, columns, labels=range(grades + 1))[:-1])


def square(true: Any, answered: Any, grades: int) -> NDArray[np.int64]:
    return apply_rule(count_confusion(true, answered, grades), "ordinal", "answered_only")


@pytest.mark.parametrize("answered_only", [False, True])
def test_record_exact_is_what_a_loop_gives(answered_only: bool) -> None:
    draw = np.random.default_rng(3)
    asked = np.arange(3) < draw.integers(1, 4, (500, 1))
    true, answered = (np.where(asked, draw.integers(-1, 3, (500, 3)), -1) for _ in range(2))
    expected = []
    for slots, said, some in zip(true.tolist(), answered.tolist(), asked.tolist(), strict=True):
        pairs = [pair for pair, inside in zip(zip(slots, said, strict=True), some, strict=True) if inside]
        left_out = any(grade < 0 or (answered_only and answer < 0) for grade, answer in pairs)
        expected.append(np.nan if left_out else float(all(grade == answer for grade, answer in pairs)))
    found = metrics.record_exact(true, answered, asked, answered_only=answered_only)
    np.testing.assert_array_equal(found, expected)
    assert set(found[~np.isnan(found)]) == {0.0, 1.0}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grades", [2, 3, 4, 9])
def test_agreement_is_scikit_learns(seed: int, grades: int) -> None:
    true, answered = labels(seed, grades)
    confusion = square(true, answered, grades)
    expected = {
        metrics.accuracy: oracle.accuracy_score(true, answered),
        metrics.balanced_accuracy: oracle.balanced_accuracy_score(true, answered),
        metrics.mae: oracle.mean_absolute_error(true, answered),
        metrics.linear_kappa: oracle.cohen_kappa_score(true, answered, weights="linear"),
        metrics.quadratic_kappa: oracle.cohen_kappa_score(true, answered, weights="quadratic"),
        metrics.kappa: oracle.cohen_kappa_score(true, answered),
        metrics.macro_f1: oracle.f1_score(true, answered, average="macro", labels=np.unique(true)),
    }
    for metric, value in expected.items():
        assert metric(confusion) == pytest.approx(value, abs=1e-12), metric.__name__


@pytest.mark.parametrize("seed", range(5))
def test_binary_metrics_are_scikit_learns(seed: int) -> None:
    true, answered = labels(seed, 2)
    confusion = square(true, answered, 2)
    expected = {
        "sensitivity": oracle.recall_score(true, answered),
        "specificity": oracle.recall_score(true, answered, pos_label=0),
        "ppv": oracle.precision_score(true, answered),
        "npv": oracle.precision_score(true, answered, pos_label=0),
        "f1": oracle.f1_score(true, answered),
        "matthews": oracle.matthews_corrcoef(true, answered),
        "accuracy": oracle.accuracy_score(true, answered),
        "balanced_accuracy": oracle.balanced_accuracy_score(true, answered),
    }
    assert expected.keys() == METRICS["binary"].keys()
    for name, value in expected.items():
        assert compute(name, confusion, "binary") == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(5))
def test_nominal_confusions_have_a_missing_column(seed: int) -> None:
    true, answered = labels(seed, 9, failed=0.2)
    confusion = apply_rule(count_confusion(true, answered, 9), "nominal", "missing_as_wrong")
    assert confusion.shape == (9, 10)
    as_label = np.where(answered < 0, 9, answered)
    legal = np.unique(true)
    assert metrics.accuracy(confusion) == pytest.approx(oracle.accuracy_score(true, as_label))
    assert metrics.kappa(confusion) == pytest.approx(oracle.cohen_kappa_score(true, as_label))
    assert metrics.macro_f1(confusion) == pytest.approx(oracle.f1_score(true, as_label, average="macro", labels=legal))
    assert metrics.balanced_accuracy(confusion) == pytest.approx(
        oracle.recall_score(true, as_label, average="macro", labels=legal)
    )


@pytest.mark.parametrize(("scale", "grades"), [("ordinal", 4), ("binary", 2)])
@pytest.mark.parametrize("seed", range(3))
def test_no_grade_counts_as_the_farthest(scale: Any, grades: int, seed: int) -> None:
    true, answered = labels(seed, grades, failed=0.2)
    confusion = apply_rule(count_confusion(true, answered, grades), scale, "missing_as_wrong")
    far = np.array([max(range(grades), key=lambda other: abs(other - own)) for own in range(grades)])
    replaced = np.where(answered < 0, far[true], answered)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(true, replaced, labels=range(grades)))
    if scale == "ordinal":
        kappa = oracle.cohen_kappa_score(true, replaced, weights="quadratic")
        assert metrics.quadratic_kappa(confusion) == pytest.approx(kappa)
        assert metrics.mae(confusion) == pytest.approx(oracle.mean_absolute_error(true, replaced))


def test_parsed_leaves_out_what_has_no_grade() -> None:
    true, answered = labels(0, 4, failed=0.3)
    kept = answered >= 0
    confusion = apply_rule(count_confusion(true, answered, 4), "ordinal", "answered_only")
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(true[kept], answered[kept], labels=range(4)))


def test_prior_has_to_be_filled_in_first() -> None:
    true, answered = labels(0, 4, failed=0.3)
    with pytest.raises(BenchError, match="rule missing_as_prior needs a confusion without missing answers"):
        apply_rule(count_confusion(true, answered, 4), "ordinal", "missing_as_prior")
    filled = np.where(answered < 0, 0, answered)
    confusion = apply_rule(count_confusion(true, filled, 4), "ordinal", "missing_as_prior")
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(true, filled, labels=range(4)))


@pytest.mark.parametrize("grades", range(2, 10))
def test_farthest_grade_is_farthest_from_truth(grades: int) -> None:
    for own, far in enumerate(farthest(grades)):
        assert far != own
        assert abs(far - own) == max(abs(other - own) for other in range(grades))


@pytest.mark.parametrize("scale", ["ordinal", "nominal", "binary"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_axes_in_front_go_through(scale: Any, dtype: type) -> None:
    grades = GRADES[scale]
    many = np.random.default_rng(0).integers(0, 30, (3, 5, grades, grades)).astype(dtype)
    for name in METRICS[scale]:
        together = compute(name, many, scale)
        assert together.shape == (3, 5)
        for place in np.ndindex(3, 5):
            assert together[place] == pytest.approx(float(compute(name, many[place].astype(np.float64), scale)))


def test_what_is_undefined_is_nan() -> None:
    none_positive = np.array([[5, 2], [0, 0]])
    for metric in (metrics.sensitivity, metrics.balanced_accuracy, metrics.matthews, metrics.macro_f1):
        assert np.isnan(metric(none_positive)), metric.__name__
    assert metrics.specificity(none_positive) == 5 / 7
    assert metrics.ppv(none_positive) == 0
    assert metrics.f1(none_positive) == 0  # 1 is answered, though never true
    all_alike = np.array([[5, 0], [0, 0]])
    for metric in (metrics.f1, metrics.ppv, metrics.kappa, metrics.linear_kappa, metrics.quadratic_kappa):
        assert np.isnan(metric(all_alike)), metric.__name__
    assert metrics.npv(all_alike) == metrics.accuracy(all_alike) == 1
    for metric in (metrics.accuracy, metrics.mae, metrics.kappa):
        assert np.isnan(metric(np.zeros((4, 4)))), metric.__name__


def test_metrics_undefined_without_a_grade() -> None:
    confusion = np.array([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
    occurring = np.array([True, True, True])
    assert metrics.balanced_accuracy(confusion) == pytest.approx(0.9)
    assert np.isnan(metrics.balanced_accuracy(confusion, occurring))
    assert np.isnan(metrics.macro_f1(confusion, occurring))


def test_quadratic_kappa_refuses_nominal_slots() -> None:
    with pytest.raises(BenchError, match=r"quadratic_kappa cannot be computed of q48\.morphology, which is nominal"):
        compute("quadratic_kappa", np.eye(9), "nominal", subject="q48.morphology")
    for scale in ("nominal", "binary"):
        for metric in ("mae", "linear_kappa", "quadratic_kappa"):
            with pytest.raises(BenchError, match=f"{metric} cannot be computed of a slot, which is {scale}"):
                compute(metric, np.eye(2), scale)
    with pytest.raises(BenchError, match="it is unknown"):
        compute("auc", np.eye(2), "binary")
    with pytest.raises(BenchError, match="it is a metric of binary slots"):
        compute("ppv", np.eye(4), "ordinal")


def test_metrics_refuse_tables_of_wrong_shape() -> None:
    with pytest.raises(BenchError, match="confusion of mae has 4 rows and 5 columns, and must be square"):
        metrics.mae(np.ones((4, 5)))
    with pytest.raises(BenchError, match=r"confusion of f1 has shape .*, and must be 2 by 2"):
        metrics.f1(np.ones((4, 4)))


def test_pooling_needs_one_scale_and_range() -> None:
    assert common_scale(QUESTIONS[1].slots) == ("ordinal", 0, 3)
    with pytest.raises(BenchError, match="different scales or ranges cannot be pooled: binary 0-1 as in q54"):
        common_scale(QUESTIONS[54].slots)
    # Both nominal, of different ranges.
    with pytest.raises(BenchError, match=r"nominal 0-3 as in q54\.tear_location; nominal 0-8 as in q48"):
        common_scale([slot for slot in SLOTS if slot.scale == "nominal"])
    with pytest.raises(BenchError, match="cannot be pooled: no slots"):
        common_scale([])
