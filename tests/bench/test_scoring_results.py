"""Intervals and paired differences against resampling by hand; results as JSON; memory."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import Key, draw_patients, percentile_interval
from reasonknee_datasets.bench.comparison import compute_lost_shares, paired_difference
from reasonknee_datasets.bench.group_results import Estimate
from reasonknee_datasets.bench.pools import count_confusions
from reasonknee_datasets.bench.results import Comparison, Results, schema
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.scoring import compute_statistics, score, slot_statistics
from reasonknee_datasets.bench.slot_table import BYS, group_by, make_slot_table
from reasonknee_datasets.errors import BenchError
from tests.benchmarks import scoring as benchmark
from tests.benchmarks.scoring import make_priors, simulate_answers, simulate_truth
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def truth() -> Truth:
    return simulate_truth(14, 28, missing=0.01)


@pytest.fixture(scope="module")
def pair(truth: Truth) -> tuple[Answers, Answers]:
    return simulate_answers(truth, off=5), simulate_answers(truth, right=0.5, off=9, seed=2)


@pytest.fixture(scope="module")
def results(truth: Truth, pair: tuple[Answers, Answers]) -> Results:
    identity = RunMetadata(split="test", model="simulated", synthetic=True)
    return score(truth, pair[0], priors=make_priors(), resamples=60, identity=identity)


@pytest.fixture(scope="module")
def comparison(truth: Truth, pair: tuple[Answers, Answers]) -> Comparison:
    return paired_difference(truth, *pair, priors=make_priors(), resamples=60)


def repeated(truth: Truth, answers: Answers, times: np.ndarray) -> tuple[Truth, Answers]:
    """Write a resample out: every patient so often, each time as another one."""
    rows, patient, region, volume = [], [], [], []
    for turn in range(int(times.max())):
        chosen = np.flatnonzero(times[truth.patient] > turn)
        rows.append(chosen)
        patient.append(truth.patient[chosen] * 10 + turn)
        region.append(truth.region[chosen] * 10 + turn)
        volume.append(truth.volume[chosen])
    order = np.concatenate(rows)
    columns = ("question", "side", "visit", "slots", "grades", "boxes")
    again = replace(
        truth,
        ids=tuple(truth.ids[n] for n in order),
        patient=np.concatenate(patient).astype(np.int32),
        region=np.concatenate(region).astype(np.int32),
        volume=np.concatenate(volume).astype(np.int32),
        patients=tuple(f"{name}.{turn}" for name in truth.patients for turn in range(10)),
        **{name: getattr(truth, name)[order] for name in columns},
    )
    return again, Answers(**{name: getattr(answers, name)[order] for name in Answers.__dataclass_fields__})


def statistics(truth: Truth, answers: Answers, weights: np.ndarray) -> dict[tuple[object, ...], np.ndarray]:
    table = make_slot_table(truth, answers, make_priors(), None)
    slots = slot_statistics(table, weights)
    found = {}
    for grouping in (group_by(table, by) for by in BYS):
        computed = compute_statistics(table, grouping, count_confusions(table, grouping), weights, slots)
        for key, metrics in computed.items():
            found |= {(*key, metric): statistic.draws for metric, statistic in metrics.items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3])
def test_matrix_product_equals_explicit_resample(truth: Truth, pair: tuple[Answers, Answers], number: int) -> None:
    """Every statistic of a resample equals the same statistic of its patients' records, repeated one by one."""
    weights = draw_patients(truth.patients, 3, 5)
    drawn = statistics(truth, pair[0], weights)
    again, answers = repeated(truth, pair[0], weights[number].astype(int))
    by_hand = statistics(again, answers, np.ones((1, len(set(again.patient.tolist()))), np.float32))
    assert set(by_hand) <= set(drawn)
    same = 0
    for key, values in by_hand.items():
        mine, theirs = drawn[key][number], values[0]
        if key[-1] in ("balanced_accuracy", "macro_f1") and np.isnan(mine):
            continue  # a grade of the sample is lost, and with it the statistic
        if key[2] == "slot_mean" and not np.isclose(mine, theirs, equal_nan=True):
            assert key[-1] in ("balanced_accuracy", "macro_f1")  # means of such
            continue
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12, err_msg=str(key))
        same += 1
    assert same > 5000


def test_intervals_are_percentiles_of_these_draws(
    truth: Truth, pair: tuple[Answers, Answers], results: Results, comparison: Comparison
) -> None:
    weights = draw_patients(truth.patients, 60, 0)
    first, second = (statistics(truth, answers, weights) for answers in pair)
    key = (*Key("all", "all", "total", "missing_as_wrong"), "record_exact")
    low, high, _ = percentile_interval(first[key][1:, None])
    assert (results.total().low, results.total().high) == (low[0], high[0])
    low, high, _ = percentile_interval((first[key] - second[key])[1:, None])
    row = comparison.total()
    assert (row.difference.low, row.difference.high) == (low[0], high[0])


def test_differences_are_those_of_the_results(
    truth: Truth, pair: tuple[Answers, Answers], results: Results, comparison: Comparison
) -> None:
    other = score(truth, pair[1], priors=make_priors(), resamples=0)
    checked = 0
    for row in comparison.differences:
        mine, theirs = (look_up(each, row) for each in (results, other))
        assert row.first == mine.value
        assert row.second == theirs.value
        if mine.value is not None and theirs.value is not None:
            assert row.difference.value == pytest.approx(mine.value - theirs.value)
            checked += 1
        else:
            assert row.difference.value is None
    assert checked > 5000
    assert list(dict.fromkeys(row.by for row in comparison.differences)) == list(BYS)


def look_up(results: Results, row: object) -> Estimate:
    by, value, kind, rule, pool, unit, metric = (
        getattr(row, name) for name in ("by", "value", "kind", "rule", "pool", "unit", "metric")
    )
    group = results.group(by, value)
    if kind == "total":
        return group.totals[rule].metrics[metric]
    if kind == "localisation":
        assert group.localisation is not None
        return group.localisation.units[unit][metric]
    found = next(each for each in group.pools if f"{each.scale} {each.low}-{each.high} ({each.condition})" == pool)
    return found.rules[rule].metrics[metric] if kind == "pool" else found.slot_means[rule][metric]


def test_the_same_answers_do_not_differ(truth: Truth, pair: tuple[Answers, Answers]) -> None:
    same = paired_difference(truth, pair[0], pair[0], resamples=30, by=("all",))
    assert {row.by for row in same.differences} == {"all"}
    for row in same.differences:
        if row.first is None:
            assert row.difference.no_interval == "undefined"
            continue
        assert row.first == row.second
        assert row.difference.value == 0
        assert row.difference.no_interval in ("few_patients", "undefined_resamples", None)
        assert row.difference.no_interval or row.difference.low == row.difference.high == 0


@pytest.mark.slow
def test_shared_draws_make_the_interval_narrower() -> None:
    """A patient that is hard for both models cancels; two separate intervals would hide the difference."""
    truth = simulate_truth(60, 120, missing=0)
    random = np.random.default_rng(0)
    hard = np.random.default_rng(1).beta(0.7, 0.7, 60)[truth.patient]
    first = simulate_answers(truth, failed=0)
    first.grades[:] = np.where((random.random(len(truth)) < hard)[:, None] | (truth.slots < 0), truth.grades, -1)
    second = replace(first, grades=first.grades.copy())
    second.grades[random.random(len(truth)) < 0.03] = -1
    row = paired_difference(truth, first, second, resamples=300, by=("all",), boxes_asked=False).total()
    alone = score(truth, first, resamples=300, boxes_asked=False).total()
    paired, single = row.difference, alone
    assert paired.low is not None
    assert paired.high is not None
    assert single.low is not None
    assert single.high is not None
    assert paired.low > 0
    assert paired.high - paired.low < (single.high - single.low) / 5


def test_points_lost_by_grading_and_region() -> None:
    """With the true region a quarter is wrong; with another one, a third of the rest is wrong as well."""
    truth = simulate_truth(30, 60, missing=0)
    random = np.random.default_rng(0)
    given = simulate_answers(truth, failed=0)
    good = random.random(len(truth)) < 0.75
    given.grades[:] = np.where(good[:, None] | (truth.slots < 0), truth.grades, -1)
    moved = replace(given, grades=given.grades.copy())
    moved.grades[random.random(len(truth)) < 1 / 3] = -1
    found = compute_lost_shares(truth, given, {"own_region": moved, "region_given": given}, resamples=100)
    assert [(each.condition, each.by) for each in found][::13] == [("own_region", "all"), ("region_given", "all")]
    assert len(found) == 26
    own, same = found[0], found[13]
    assert own.grading.value == pytest.approx(1 - good.mean())
    assert own.region.value == pytest.approx(0.25, abs=0.02)
    assert own.region.low is not None
    assert own.region.low > 0.2
    headlines = [score(truth, each, resamples=0).total().value for each in (given, moved)]
    assert headlines == [pytest.approx(1 - own.grading.value), pytest.approx(1 - own.grading.value - own.region.value)]
    assert (same.region.value, same.region.low, same.region.high) == (0, 0, 0)
    assert own.records == len(truth)
    assert own.patients == 30


def test_comparison_of_a_part(truth: Truth, pair: tuple[Answers, Answers], comparison: Comparison) -> None:
    for kind in ("total", "slot_mean", "localisation"):
        part = paired_difference(
            truth, *pair, priors=make_priors(), resamples=60, by=("all", "category"), statistics=(kind,)
        )
        whole = [row for row in comparison.differences if row.kind == kind and row.by in ("all", "category")]
        assert list(part.differences) == whole


def test_compare_needs_boxes_of_both_models(truth: Truth, pair: tuple[Answers, Answers]) -> None:
    without = replace(pair[1], has_box=np.zeros(len(truth), bool), box_reasons=np.full(len(truth), -1, np.int8))
    found = paired_difference(truth, pair[0], without, resamples=5, by=("all",))
    assert {row.kind for row in found.differences} == {"total", "pool", "slot_mean"}
    asked = paired_difference(truth, pair[0], without, resamples=5, by=("all",), boxes_asked=True)
    iou = next(row for row in asked.differences if (row.metric, row.unit) == ("iou", "record"))
    assert iou.second == 0


def test_an_unknown_grouping_is_refused(truth: Truth, pair: tuple[Answers, Answers]) -> None:
    with pytest.raises(BenchError, match=r"Unknown kind of statistic 'totals'\. Did you mean 'total'"):
        paired_difference(truth, *pair, statistics=("totals",))  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=r"Unknown grouping 'vist'\. Did you mean 'visit'"):
        paired_difference(truth, *pair, by=("vist",))  # type: ignore[arg-type]


@pytest.mark.slow
def test_results_depend_on_the_seed(truth: Truth, pair: tuple[Answers, Answers]) -> None:
    one, same, other = (score(truth, pair[0], resamples=20, seed=seed).total() for seed in (4, 4, 5))
    assert one == same
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)


@pytest.mark.slow
def test_results_follow_their_schema_and_come_back(results: Results) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    validator.check_schema(schema())
    item = json.loads(results.dumps())
    again = Results.from_json(item)
    assert again == results
    item["groups"] = item["groups"][::15]  # the validator takes its time
    assert {group["by"] for group in item["groups"]} > {"all", "question", "slot", "subregion"}
    validator(schema()).validate(item)
    assert again.outcomes is None
    assert again.identity == results.identity
    assert json.loads(json.dumps(results.to_json())) == json.loads(results.dumps())
    assert "NaN" not in results.dumps()


def test_comparisons_follow_their_schema_and_come_back(comparison: Comparison) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    validator.check_schema(schema(Comparison))
    some = replace(comparison, differences=comparison.differences[::20])
    item = json.loads(json.dumps(some.to_json(), allow_nan=False))
    validator(schema(Comparison)).validate(item)
    assert Comparison.from_json(item) == some


def test_the_schema_refuses_what_reading_refuses(results: Results) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    sound = json.loads(replace(results, groups=results.groups[:2]).dumps())
    validator.validate(sound)
    for break_it, message in (
        (lambda item: item.pop("groups"), r"results does not have the right fields \(missing: groups\)"),
        (lambda item: item.update(extra=1), r"results does not have the right fields \(unknown: extra\)"),
        (lambda item: item.update(format=99), r"have format '99', .* format 2\. Evaluate the predictions again"),
        (lambda item: item["groups"][0].update(by="colour"), r"results.groups\[0\]\.by must be one of all, category"),
        (lambda item: item["sampling"].update(seed="0"), r"sampling\.seed must be of type integer, but it is '0'"),
        (lambda item: item["sampling"].update(seed=True), r"results\.sampling\.seed must be of type integer"),
        (lambda item: item.update(groups={}), r"results\.groups must be a list"),
        (lambda item: item["groups"][0].update(totals=[]), r"results\.groups\[0\]\.totals must be an object"),
        (lambda item: item["groups"][0]["totals"].update(other={}), r"totals must be one of missing_as_wrong, answ"),
        (lambda item: item.update(sampling=3), r"results\.sampling must be an object"),
    ):  # fmt: skip
        item = copy.deepcopy(sound)
        break_it(item)
        with pytest.raises(BenchError, match=message):
            Results.from_json(item)
        assert not validator.is_valid(item), message


def test_results_name_absent_groups(results: Results, comparison: Comparison) -> None:
    assert results.group("side", "left").value == "left"
    with pytest.raises(BenchError, match=r"There is no group 'middle' by side\. Groups by side: right, left"):
        results.group("side", "middle")
    assert comparison.total(by="side", value="left").metric == "record_exact"
    with pytest.raises(BenchError, match=r"The comparison has no difference f1 \(missing_as_wrong\) of all all"):
        comparison.total("f1")
    bare = replace(results, outcomes=None)
    assert bare.outcomes is None
    assert bare == results


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(12))
def test_score_of_any_part_of_the_truth(seed: int) -> None:
    """One record, no true grade at all, nothing answered, no images: results all the same, and no warning."""
    random = np.random.default_rng(seed)
    patients = int(random.integers(1, 5))
    whole = simulate_truth(patients, patients + 3, seed=seed, missing=float(random.choice([0, 0.3, 0.9, 1])))
    rows = np.sort(random.choice(len(whole), int(random.choice([1, 2, 7, 60])), replace=False))
    columns = ("question", "patient", "volume", "region", "side", "visit", "slots", "grades", "boxes")
    truth = replace(
        whole, ids=tuple(whole.ids[n] for n in rows), **{name: getattr(whole, name)[rows] for name in columns}
    )
    if seed % 3 == 0:
        truth.affines[:], truth.shapes[:] = np.nan, 0
    answers = simulate_answers(truth, failed=float(random.choice([0, 0.2, 1])), seed=seed)
    answers.given[random.random(len(truth)) < random.choice([0, 0.5, 1])] = False
    results = score(truth, answers, priors=make_priors(), resamples=int(random.choice([0, 1, 10])))
    assert Results.from_json(json.loads(results.dumps())) == results
    coverage = results.group().coverage
    assert coverage.records == len(truth)
    assert sum(coverage.reasons.values()) == coverage.slots - coverage.parsed
    same = paired_difference(truth, answers, answers, resamples=5, by=("all",))
    assert {row.difference.value for row in same.differences} <= {0, None}


@pytest.mark.slow
def test_score_memory_of_the_test_split() -> None:
    """76,384 records, 2,000 resamples, results.json written: in a process of its own, imports and all."""
    command = [sys.executable, "-m", "tests.benchmarks.scoring", "dumps", "399", "1232", "2000"]
    said = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=ROOT).stdout
    assert int(said.split()[2]) < 1_000_000_000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_resamples() -> None:
    """Resamples are taken in parts of pools: 20 times as many do not take 20 times the memory."""
    peaks = []
    for resamples in ("50", "1000"):
        command = [sys.executable, "-m", "tests.benchmarks.scoring", "headline", "20", "40", resamples]
        said = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=ROOT).stdout
        peaks.append(int(said.split()[2]))
    assert peaks[1] < peaks[0] + 120_000_000


@pytest.mark.slow
def test_the_benchmark_tells_of_every_work(tmp_path: Path) -> None:
    table = benchmark.measure(tmp_path, patients=12, volumes=14, resamples=10)
    assert [row[0] for row in table.rows] == list(benchmark.WORKS.values())
    assert "868 records of 12 patients, 10 resamples" in table.caption
