"""Scores of grades against plain loops over the records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.baselines import question_majority
from reasonknee_datasets.bench.priors import read_priors
from reasonknee_datasets.bench.results import Results
from reasonknee_datasets.bench.scoring import score
from reasonknee_datasets.bench.slot_table import SCORED_CATEGORIES
from reasonknee_datasets.bench.truth import open_data, read_truth
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS
from reasonknee_datasets.schema import SIDES, VISITS
from tests.benchmarks.scoring import make_priors, simulate_answers, simulate_truth

RULES = ("missing_as_wrong", "answered_only", "missing_as_prior")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return simulate_truth(12, 30, missing=0.03)


@pytest.fixture(scope="module")
def answers(truth: Truth) -> Answers:
    found = simulate_answers(truth, failed=0.1)
    found.given[::50] = False
    found.grades[::50] = -1
    found.reasons[::50] = -1
    return found


@pytest.fixture(scope="module")
def results(truth: Truth, answers: Answers) -> Results:
    return score(truth, answers, priors=make_priors(), resamples=50)


def slots_of(truth: Truth, n: int) -> Iterator[tuple[int, Any]]:
    for place, slot in enumerate(truth.slots[n]):
        if slot >= 0:
            yield place, SLOTS[slot]


def names_of(truth: Truth, n: int) -> dict[str, str]:
    question = QUESTIONS[int(truth.question[n])]
    return {
        "all": "all",
        "category": question.category,
        "question": f"q{question.id:02d}",
        "subregion": question.subregion,
        "side": SIDES[truth.side[n]],
        "visit": VISITS[truth.visit[n]],
    }


def answered(answers: Answers, n: int, place: int, slot: Any, rule: str) -> int | None:
    grade = int(answers.grades[n, place])
    if grade >= 0:
        return grade
    return int(make_priors()[slot.id]) if rule == "missing_as_prior" else None


def exact_by_record(truth: Truth, answers: Answers, rule: str) -> dict[int, bool]:
    """Tell of every record that counts whether it is right: the definition, record by record."""
    found = {}
    for n in range(len(truth)):
        true = [int(truth.grades[n, place]) for place, _ in slots_of(truth, n)]
        said = [answered(answers, n, place, slot, rule) for place, slot in slots_of(truth, n)]
        if min(true) >= 0 and not (rule == "answered_only" and None in said):
            found[n] = true == said
    return found


@pytest.mark.parametrize("rule", RULES)
def test_totals_equal_a_loop_over_records(truth: Truth, answers: Answers, results: Results, rule: Any) -> None:
    exact = exact_by_record(truth, answers, rule)
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    questions: dict[tuple[str, str], dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    categories: dict[tuple[str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    slots: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for n in range(len(truth)):
        names = names_of(truth, n)
        for key in names.items():
            if n in exact:
                groups[key].append(exact[n])
                questions[key][int(truth.question[n])].append(exact[n])
                categories[key][names["category"]].append(exact[n])
        for place, slot in slots_of(truth, n):
            true, said = int(truth.grades[n, place]), answered(answers, n, place, slot, rule)
            if true >= 0 and not (rule == "answered_only" and said is None):
                for key in (*names.items(), ("slot", slot.name), ("attribute", slot.attribute)):
                    slots[key].append(true == said)
    assert slots.keys() == {(group.by, group.value) for group in results.groups}
    for group in results.groups:
        key = (group.by, group.value)
        found = group.totals[rule]
        assert found.counts.slots == len(slots[key])
        assert found.metrics["slot_micro"].value == pytest.approx(np.mean(slots[key]))
        if key in groups:
            assert found.counts.records == len(groups[key])
            assert found.metrics["record_exact"].value == pytest.approx(np.mean(groups[key]))
        if group.by in ("all", "side", "visit"):
            for metric, parts in (("question_macro", questions[key]), ("category_macro", categories[key])):
                mean = np.mean([np.mean(each) for each in parts.values()])
                assert found.metrics[metric].value == pytest.approx(mean)
                full = 62 if metric == "question_macro" else 12
                assert found.metrics[metric].left_out == full - len(parts)
        else:
            assert found.metrics.keys() <= {"record_exact", "slot_micro"}


def test_four_totals_with_record_exact_first(results: Results) -> None:
    totals = results.group().totals["missing_as_wrong"].metrics
    assert list(totals) == ["record_exact", "slot_micro", "question_macro", "category_macro"]
    assert len({round(each.value or 0, 6) for each in totals.values()}) == 4
    assert results.total() == totals["record_exact"]
    assert "Which total the paper used is unknown" in results.about_totals
    assert len(SCORED_CATEGORIES) == 12


def condition_holds(truth: Truth, n: int, slot: Any, true: int, condition: str) -> bool:
    if condition == "size_above_0":
        size = {each.attribute: int(truth.grades[n, place]) for place, each in slots_of(truth, n)}.get("size", -1)
        return slot.attribute in ("number", "percent", "depth") and size > 0
    if condition == "true_tear":
        return slot.attribute == "tear_location" and true != 3
    return condition == "all" or slot.attribute == "morphology"


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("by", ["all", "category", "question", "attribute", "visit"])
def test_pools_are_what_scikit_learn_gives(
    truth: Truth, answers: Answers, results: Results, rule: Any, by: str
) -> None:
    groups = [group for group in results.groups if group.by == by]
    rows: dict[str, list[tuple[int, Any, int, int | None]]] = defaultdict(list)
    for n in range(len(truth)):
        for place, slot in slots_of(truth, n):
            true = int(truth.grades[n, place])
            if true >= 0:
                value = slot.attribute if by == "attribute" else names_of(truth, n)[by]
                rows[value].append((n, slot, true, answered(answers, n, place, slot, rule)))
    seen = set()
    for group in groups:
        for pool in group.pools:
            merge = pool.condition == "grades_6_7_merged"
            chosen = [
                (n, true, said)
                for n, slot, true, said in rows[group.value]
                if (slot.scale, slot.low, slot.high - merge) == (pool.scale, pool.low, pool.high)
                and condition_holds(truth, n, slot, true, pool.condition)
            ]
            check_pool(truth, pool, chosen, rule, merge)
            seen.add((pool.scale, pool.high, pool.condition))
    if by == "all":
        assert seen == {
            ("ordinal", 3, "all"),
            ("nominal", 8, "all"),
            ("binary", 1, "all"),
            ("nominal", 3, "all"),
            ("ordinal", 3, "size_above_0"),
            ("nominal", 3, "true_tear"),
            ("nominal", 7, "grades_6_7_merged"),
        }


def check_pool(truth: Truth, pool: Any, chosen: list[tuple[int, int, int | None]], rule: str, merge: bool) -> None:
    if rule == "answered_only":
        chosen = [row for row in chosen if row[2] is not None]
    true = np.array([row[1] for row in chosen])
    missing = {"ordinal": np.where(true > 1, 0, 3), "binary": 1 - true, "nominal": np.full(len(true), 99)}[pool.scale]
    said = np.array([far if row[2] is None else row[2] for row, far in zip(chosen, missing, strict=True)])
    if merge:
        true, said = np.where(true > 6, true - 1, true), np.where((said > 6) & (said < 99), said - 1, said)
    found = pool.rules[rule]
    assert found.counts.slots == len(true)
    assert found.counts.records == len({row[0] for row in chosen})
    assert found.counts.patients == len({truth.patient[row[0]] for row in chosen})
    if not len(true):
        assert all(each.value is None for each in found.metrics.values())
        return
    expected = {"accuracy": oracle.accuracy_score(true, said)}
    legal = np.unique(true)
    if len(legal) > 1:
        expected["balanced_accuracy"] = oracle.recall_score(
            true, said, labels=legal, average="macro", zero_division=0.0
        )
    if pool.scale == "ordinal":
        expected["mae"] = oracle.mean_absolute_error(true, said)
        if len(np.union1d(true, said)) > 1:
            for name, weights in (("linear_kappa", "linear"), ("quadratic_kappa", "quadratic")):
                expected[name] = oracle.cohen_kappa_score(true, said, weights=weights, labels=range(4))
    if pool.scale == "nominal" and len(legal) > 1:
        expected["macro_f1"] = oracle.f1_score(true, said, labels=legal, average="macro", zero_division=0.0)
        expected["kappa"] = oracle.cohen_kappa_score(true, said)
    if pool.scale == "binary" and len(legal) > 1 and len(np.unique(said)) > 1:
        expected["sensitivity"] = oracle.recall_score(true, said)
        expected["ppv"] = oracle.precision_score(true, said)
        expected["f1"] = oracle.f1_score(true, said)
        expected["matthews"] = oracle.matthews_corrcoef(true, said)
    for name, value in expected.items():
        assert found.metrics[name].value == pytest.approx(value, abs=1e-12), (pool.scale, name)
    assert "quadratic_kappa" not in found.metrics or pool.scale == "ordinal"


def test_slot_means_skip_undefined_slots(results: Results) -> None:
    by_slot = {
        (group.value, pool.condition): pool for group in results.groups if group.by == "slot" for pool in group.pools
    }
    checked = 0
    for group in results.groups:
        for pool in group.pools:
            if len(pool.slots) == 1 or group.by in ("side", "visit"):
                assert not pool.slot_means
                continue
            for rule, means in pool.slot_means.items():
                for metric, mean in means.items():
                    each = [by_slot[slot, pool.condition].rules[rule].metrics[metric].value for slot in pool.slots]
                    known = [value for value in each if value is not None]
                    assert mean.left_out == len(each) - len(known)
                    assert mean.value == (pytest.approx(np.mean(known)) if known else None)
                    checked += mean.left_out > 0 and bool(known)
    assert checked > 10


def test_coverage_adds_up(truth: Truth, answers: Answers, results: Results) -> None:
    for group in results.groups:
        coverage = group.coverage
        assert sum(coverage.reasons.values()) == coverage.slots - coverage.parsed
        assert coverage.complete <= coverage.given <= coverage.records
        assert coverage.reasons.keys() <= {*REASONS, "no_prediction"}
    whole = results.group().coverage
    assert whole.records == len(truth)
    assert whole.given == answers.given.sum()
    graded = (truth.slots >= 0) & (truth.grades >= 0)
    assert whole.slots == graded.sum()
    assert whole.missing_truth_slots == ((truth.slots >= 0) & (truth.grades < 0)).sum() > 0
    assert whole.reasons["no_prediction"] == (graded & ~answers.given[:, None]).sum()
    for by in ("category", "question", "slot", "attribute", "subregion", "side", "visit"):
        parts = [group.coverage for group in results.groups if group.by == by]
        assert sum(part.slots for part in parts) == whole.slots
        assert sum(part.missing_truth_slots for part in parts) == whole.missing_truth_slots


def oracle_answers(truth: Truth) -> Answers:
    rows = len(truth)
    return Answers(
        given=np.ones(rows, np.bool_),
        grades=truth.grades.copy(),
        reasons=np.full((rows, 3), -1, np.int8),
        strict=np.ones(rows, np.bool_),
        boxes=truth.boxes.copy(),
        has_box=np.ones(rows, np.bool_),
        box_reasons=np.full(rows, -1, np.int8),
    )


def test_an_oracle_scores_one_everywhere() -> None:
    truth = simulate_truth(12, 20, missing=0)
    results = score(truth, oracle_answers(truth), priors=make_priors(), resamples=20)
    numbers = 0
    for group in results.groups:
        scores = [*group.totals.values(), *(each for pool in group.pools for each in pool.rules.values())]
        for metrics in (*(each.metrics for each in scores), *(m for p in group.pools for m in p.slot_means.values())):
            for name, estimate in metrics.items():
                assert estimate.value in (None, pytest.approx(0 if name == "mae" else 1)), (group, name)
                numbers += estimate.value is not None
        if group.localisation is not None:
            for metrics in group.localisation.units.values():
                for name, estimate in metrics.items():
                    assert estimate.value == pytest.approx(0 if name == "centre_mm" else 1)
    assert numbers > 3000
    assert results.group().coverage.reasons == {}
    assert results.worst == ()


def test_conditional_slots_do_not_inflate() -> None:
    """Answering "nothing" everywhere is mostly right over all records, and never where there is a lesion."""
    truth = simulate_truth(12, 20, missing=0)
    nothing = oracle_answers(truth)
    normal = make_priors()[truth.slots]
    nothing.grades[:] = np.where(truth.slots >= 0, normal, -1)
    results = score(truth, nothing, resamples=0)
    for attribute in ("number", "percent", "depth", "tear_location"):
        pools = {pool.condition: pool for pool in results.group("attribute", attribute).pools}
        condition = "true_tear" if attribute == "tear_location" else "size_above_0"
        inflated, honest = (pools[c].rules["missing_as_wrong"].metrics["accuracy"].value for c in ("all", condition))
        assert inflated is not None
        assert honest is not None
        assert inflated > 0.6
        assert honest < 0.85
        if attribute == "tear_location":
            assert honest == 0


def test_a_condition_counts_what_it_cannot_know(truth: Truth, results: Results) -> None:
    expected = 0
    for n in range(len(truth)):
        grades = {slot.attribute: int(truth.grades[n, place]) for place, slot in slots_of(truth, n)}
        if grades.get("size", 0) < 0:
            expected += sum(grade >= 0 for name, grade in grades.items() if name != "size")
    pool = next(pool for pool in results.group().pools if pool.condition == "size_above_0")
    assert pool.unknown == expected > 0


def test_the_order_of_records_makes_no_difference(truth: Truth, answers: Answers, results: Results) -> None:
    turn = np.random.default_rng(0).permutation(len(truth))
    columns = ("question", "patient", "volume", "region", "side", "visit", "slots", "grades", "boxes")
    turned = replace(
        truth, ids=tuple(truth.ids[n] for n in turn), **{name: getattr(truth, name)[turn] for name in columns}
    )
    same = Answers(**{name: getattr(answers, name)[turn] for name in Answers.__dataclass_fields__})
    again = score(turned, same, priors=make_priors(), resamples=50)
    for group, other in zip(results.groups, again.groups, strict=True):
        assert group.coverage == other.coverage
        assert group.totals == other.totals
        assert group.pools == other.pools
    assert again.worst == results.worst


@pytest.mark.slow
def test_few_patients_give_no_interval() -> None:
    truth = simulate_truth(40, 60, missing=0)
    column = SLOTS[105].question_id
    rows = np.flatnonzero(truth.question == column)
    for positives, expected in ((9, "few_patients"), (10, None)):
        truth.grades[rows, 0] = 0
        patients = list(dict.fromkeys(truth.patient[rows].tolist()))[:positives]
        truth.grades[rows[np.isin(truth.patient[rows], patients)], 0] = 1
        results = score(truth, simulate_answers(truth), resamples=40)
        pool = results.group("slot", SLOTS[105].name).pools[0]
        found = pool.rules["missing_as_wrong"]
        assert found.counts.rarer_patients == positives
        assert found.metrics["accuracy"].no_interval == expected
        assert found.metrics["sensitivity"].no_interval == expected
        assert (found.metrics["accuracy"].low is None) == (expected is not None)


@pytest.mark.slow
def test_undefined_resamples_have_no_interval() -> None:
    """A PPV needs positive answers: with those in two patients only, one resample in seven has none."""
    truth = simulate_truth(40, 60, missing=0)
    rows = np.flatnonzero(truth.question == 60)
    truth.grades[rows, 0] = truth.patient[rows] % 2
    answers = oracle_answers(truth)
    answers.grades[rows, 0] = (truth.patient[rows] == 1) | (truth.patient[rows] == 3)
    metrics = (
        score(truth, answers, resamples=300)
        .group("slot", "q60.complete_tear")
        .pools[0]
        .rules["missing_as_wrong"]
        .metrics
    )
    assert metrics["ppv"].value == 1
    assert metrics["ppv"].no_interval == "undefined_resamples"
    assert metrics["ppv"].undefined_resamples == pytest.approx(300 * np.exp(-2), rel=0.3)
    assert metrics["sensitivity"].no_interval is None


def test_worst_cases_by_category(truth: Truth, results: Results) -> None:
    outcomes = results.outcomes
    assert outcomes is not None
    by_category: dict[str, list[float]] = defaultdict(list)
    for case in results.worst:
        by_category[QUESTIONS[int(case.id[-2:])].category].append(case.loss)
    # Wrong answers only: what is missing is counted, not shown.
    wrong = (outcomes.answers >= 0) & (outcomes.grades >= 0) & (outcomes.answers != outcomes.grades)
    categories = np.array([QUESTIONS[int(number)].category for number in truth.question])
    assert len(by_category) > 5
    for category, found in by_category.items():
        losses = outcomes.loss[(categories == category) & wrong.any(axis=1)]
        assert found == sorted(losses, reverse=True)[:5]
    assert [case.loss for case in results.worst] == sorted((case.loss for case in results.worst), reverse=True)
    assert any(case.reasons for case in results.worst)
    for case in results.worst:
        assert all(case.answer[name] is None for name in case.reasons)


def test_losses_are_distances_over_the_greatest_possible() -> None:
    truth = simulate_truth(10, 10, missing=0)
    row = int(np.flatnonzero(truth.question == 19)[0])  # cartilage: size and depth, 0 to 3
    truth.grades[row] = 1, 3, -1
    answers = oracle_answers(truth)
    answers.grades[row] = 2, 1, -1
    outcomes = score(truth, answers, resamples=0).outcomes
    assert outcomes is not None
    assert outcomes.loss[row] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert outcomes.right[row] == 0
    table = outcomes.to_table()
    assert table.num_rows == len(truth)
    assert table.column("loss")[row].as_py() == pytest.approx(7 / 12)


def test_what_does_not_go_together_is_refused(truth: Truth, answers: Answers) -> None:
    short = Answers(**{name: getattr(answers, name)[:-1] for name in Answers.__dataclass_fields__})
    with pytest.raises(BenchError, match=rf"\d+ answers cannot be scored against {len(truth)} true ones"):
        score(truth, short)
    illegal = replace(answers, grades=answers.grades.copy())
    illegal.grades[3, 0] = 9
    with pytest.raises(BenchError, match=r"1 answered grades are not legal, the first is 9 in q04\.size at "):
        score(truth, illegal)
    inside_out = replace(answers, boxes=truth.boxes[:, [3, 4, 5, 0, 1, 2]], has_box=np.ones(len(truth), bool))
    with pytest.raises(BenchError, match=f"{len(truth)} answered boxes do not start below their stop on each axis"):
        score(truth, inside_out)
    with pytest.raises(BenchError, match="priors must hold one grade for each of 118 slots"):
        score(truth, answers, priors=[0, 1])
    lacking = make_priors()
    lacking[5] = -1
    with pytest.raises(BenchError, match=r"priors hold no legal grade for the scored slots \['q02\.percent'\]"):
        score(truth, answers, priors=lacking)


def test_questions_without_a_truth_are_refused(truth: Truth, answers: Answers) -> None:
    other = replace(truth, question=np.where(truth.question == 62, 69, truth.question).astype(np.int16))
    with pytest.raises(BenchError, match=r"truth holds questions \[69\], which no record asks"):
        score(other, answers)


def test_nothing_to_score_is_refused() -> None:
    truth = simulate_truth(1, 1)
    columns = ("question", "patient", "volume", "region", "side", "visit", "slots", "grades", "boxes")
    empty = replace(truth, ids=(), **{name: getattr(truth, name)[:0] for name in columns})
    answers = Answers(**{name: getattr(simulate_answers(truth), name)[:0] for name in Answers.__dataclass_fields__})
    with pytest.raises(BenchError, match="truth holds no records to score"):
        score(empty, answers)


def test_phantom_scores_of_oracle_and_majority(prepared: Path) -> None:
    truth = read_truth(prepared, "train")
    perfect = score(truth, oracle_answers(truth), resamples=0)
    for group in perfect.groups:
        for scores in group.totals.values():
            assert {each.value for each in scores.metrics.values()} <= {1.0, None}
    localisation = perfect.group().localisation
    assert localisation is not None
    assert localisation.units["region"]["iou"].value == pytest.approx(1)

    majority = score(truth, question_majority(truth, read_priors(open_data(prepared))), resamples=0)
    shares = []
    for question in QUESTIONS.values():
        rows = (truth.question == question.id) & ~((truth.slots >= 0) & (truth.grades < 0)).any(axis=1)
        if rows.any():
            counts = Counter(map(tuple, truth.grades[rows].tolist()))
            shares.append(max(counts.values()) / rows.sum())
            found = majority.total(by="question", value=f"q{question.id:02d}")
            assert found.value == pytest.approx(shares[-1])
    assert len(shares) == 62
    assert min(shares) < 1
