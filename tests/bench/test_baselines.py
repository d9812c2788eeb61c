"""Baselines against counts taken one by one, and the box-only grader against what the phantom hides in its boxes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.arrays import NONE, Answers, Truth, take
from reasonknee_datasets.bench.baselines import (
    chance,
    median_boxes,
    nearest_boxes,
    overall_majority,
    question_majority,
    whole_volume,
)
from reasonknee_datasets.bench.priors import TrainPriors, read_priors
from reasonknee_datasets.bench.scoring import score
from reasonknee_datasets.bench.truth import open_data, read_truth
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS
from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.schema import SIDES

(EFFUSION,) = (question.id for question in QUESTIONS.values() if question.category == "effusion_synovitis")


@pytest.fixture(scope="module")
def train(annotated: Path) -> Truth:
    return read_truth(annotated, "train")


@pytest.fixture(scope="module")
def test(annotated: Path) -> Truth:
    return read_truth(annotated, "test")


@pytest.fixture(scope="module")
def priors(annotated: Path) -> TrainPriors:
    return read_priors(open_data(annotated))


def right(truth: Truth, answers: Answers, question: int) -> float:
    """Count the share of a question's complete records of which all is right, one by one."""
    hits = [
        truth.grades[row].tolist() == answers.grades[row].tolist()
        for row in np.flatnonzero(truth.question == question)
        if not any(s != NONE and g == NONE for s, g in zip(truth.slots[row], truth.grades[row], strict=True))
    ]
    return float(np.mean(hits))


def test_the_majority_scores_exactly_the_counted_frequency(train: Truth, test: Truth, priors: TrainPriors) -> None:
    answers = question_majority(test, priors)
    for question in range(1, 63):
        width = len(QUESTIONS[question].slots)
        seen, asked = (
            [tuple(row[:width]) for row in truth.grades[truth.question == question].tolist() if NONE not in row[:width]]
            for truth in (train, test)
        )
        counts = Counter(seen)
        best = min(counts, key=lambda answer: (-counts[answer], answer))
        rows = answers.grades[test.question == question][:, :width]
        assert {tuple(row) for row in rows.tolist()} == {best}
        assert right(test, answers, question) == asked.count(best) / len(asked)
    assert answers.given.all()
    assert not answers.has_box.any()
    assert (answers.reasons == NONE).all()
    assert ((answers.grades == NONE) == (test.slots == NONE)).all()


def test_the_scorer_counts_the_same(test: Truth, priors: TrainPriors) -> None:
    """The headline of the majority is the counted share, to the last bit; so is every question's and slot's."""
    answers = question_majority(test, priors)
    results = score(test, answers, priors=priors.most_frequent, resamples=0)
    complete = ((test.grades != NONE) | (test.slots == NONE)).all(axis=1)
    exact = (answers.grades == test.grades).all(axis=1)
    assert results.total().value == exact[complete].sum() / complete.sum()
    there = test.grades != NONE
    assert results.total("slot_micro").value == (answers.grades == test.grades)[there].sum() / there.sum()
    for question in range(1, 63):
        own = results.total(by="question", value=f"q{question:02d}").value
        assert own == pytest.approx(right(test, answers, question), abs=1e-12)
    expected = chance(test).totals
    uniform = [results.total(name).value for name in expected]
    assert all(value is not None and value > low for value, low in zip(uniform, expected.values(), strict=True))


def test_the_overall_majority_is_one_grade(train: Truth, test: Truth, priors: TrainPriors) -> None:
    counts = Counter(train.grades[train.grades != NONE].tolist())
    best = max(counts, key=lambda grade: counts[grade])
    answers = overall_majority(test, priors)
    assert set(answers.grades[test.slots != NONE].tolist()) == {best} == {0}


def test_overall_majority_within_each_slot(test: Truth, priors: TrainPriors) -> None:
    counts = np.zeros_like(priors.counts)
    counts[0, :4] = (1, 2, 0, 5)
    answers = overall_majority(test, replace(priors, counts=counts))
    for slot in SLOTS[:111]:
        assert set(answers.grades[test.slots == slot.id].tolist()) == {3 if slot.high >= 3 else 1}


@pytest.mark.parametrize("drawn", ["uniformly", "as in train"])
def test_chance_is_what_random_grades_score(test: Truth, priors: TrainPriors, drawn: str) -> None:
    """The oracle draws: its mean over many draws agrees within four standard errors."""
    some = take(test, np.isin(test.question, [1, 19, 34, 49, 53, 60]))
    expected = chance(some, priors if drawn == "as in train" else None)
    generator = np.random.default_rng(0)
    missing = ((some.grades == NONE) & (some.slots != NONE)).any(axis=1)
    there = some.grades != NONE
    draws = 400
    slot_micro, record_exact, question_macro = np.zeros((3, draws))
    for turn in range(draws):
        grades = np.full(some.grades.shape, NONE)
        for slot in np.unique(some.slots[some.slots != NONE]).tolist():
            at = some.slots == slot
            weights = (
                np.ones(SLOTS[slot].high + 1) if drawn == "uniformly" else priors.counts[slot, : SLOTS[slot].high + 1]
            )
            grades[at] = generator.choice(len(weights), size=int(at.sum()), p=weights / weights.sum())
        hits = (grades == some.grades) | (some.slots == NONE)
        slot_micro[turn] = hits[there].mean()
        exact = hits.all(axis=1)[~missing]
        record_exact[turn] = exact.mean()
        numbers = some.question[~missing]
        question_macro[turn] = np.mean([exact[numbers == number].mean() for number in np.unique(numbers)])
    for name, values in (
        ("slot_micro", slot_micro),
        ("record_exact", record_exact),
        ("question_macro", question_macro),
    ):
        assert abs(expected.totals[name] - values.mean()) < 4 * values.std() / draws**0.5


def test_chance_by_hand(test: Truth) -> None:
    expected = chance(test)
    for row in (np.flatnonzero(test.question == 19)[:20]).tolist():
        complete = NONE not in test.grades[row][:2]
        assert expected.records[row] == 1 / 16 if complete else np.isnan(expected.records[row])
    parts: dict[str, list[float]] = {}
    for question in QUESTIONS.values():
        if question.in_records:
            values = expected.records[test.question == question.id]
            parts.setdefault(question.category, []).extend(values[np.isfinite(values)].tolist())
    assert len(parts) == 12
    assert expected.totals["category_macro"] == pytest.approx(np.mean([np.mean(values) for values in parts.values()]))


@pytest.fixture(scope="module")
def drawn(prepared: Path) -> Truth:
    """Records of volumes that were drawn, so that grids are known."""
    return read_truth(prepared, "test")


@pytest.fixture(scope="module")
def own(prepared: Path) -> TrainPriors:
    return read_priors(open_data(prepared))


class TestBoxes:
    @pytest.mark.parametrize("unit", ["mm", "fraction"])
    def test_median_boxes_stand_where_they_say(self, drawn: Truth, own: TrainPriors, unit: str) -> None:
        answers = median_boxes(drawn, own, unit)  # type: ignore[arg-type]
        table = own.boxes_mm if unit == "mm" else own.boxes_fraction
        seen = 0
        for row in range(0, len(drawn), 7):
            wanted = table[drawn.question[row], drawn.side[row]]
            if np.isnan(wanted).any():
                assert not answers.has_box[row]
                assert answers.box_reasons[row] == REASONS.index("missing")
                continue
            shape, affine = drawn.shapes[drawn.volume[row]].tolist(), drawn.affines[drawn.volume[row]]
            turn = to_canonical(affine)
            spacing = np.linalg.norm(turn.apply_affine(affine, shape)[:3, :3], axis=0)
            length = np.array(turn.apply_shape(shape))
            box = Box.from_row(answers.boxes[row].tolist()).check_inside(shape)
            turned = turn.apply_box(box, shape)
            edges = np.array([turned.start, turned.stop])
            found = (edges - length / 2) * spacing if unit == "mm" else edges / length
            step = spacing if unit == "mm" else 1 / length
            inside = (edges > 0) & (edges < length)
            assert (np.abs(found - wanted) <= 0.5 * step + 1e-6)[inside].all()
            seen += 1
        assert seen > 20
        assert (answers.reasons[drawn.slots != NONE] == REASONS.index("missing")).all()

    def test_median_boxes_find_regions(self, drawn: Truth, own: TrainPriors) -> None:
        """They beat the whole volume, and those of the other knee."""

        def mean(answers: Answers) -> float:
            pairs = zip(answers.boxes.tolist(), drawn.boxes.tolist(), strict=True)
            return float(np.mean([Box.from_row(a).iou(Box.from_row(b)) for a, b in pairs]))

        swapped = replace(own, boxes_mm=own.boxes_mm[:, ::-1])
        one = mean(median_boxes(drawn, own))
        assert one > 3 * mean(whole_volume(drawn))
        assert one > 1.2 * mean(median_boxes(drawn, swapped))
        assert mean(median_boxes(drawn, own, "fraction")) > 3 * mean(whole_volume(drawn))

    def test_the_whole_volume(self, drawn: Truth) -> None:
        answers = whole_volume(drawn)
        assert answers.has_box.all()
        for row in (0, len(drawn) - 1):
            assert answers.boxes[row].tolist() == [0, 0, 0, *drawn.shapes[drawn.volume[row]].tolist()]

    def test_baseline_box_is_clipped_to_the_volume(self, drawn: Truth, own: TrainPriors) -> None:
        far = np.full_like(own.boxes_mm, 500.0)
        answers = median_boxes(drawn, replace(own, boxes_mm=far))
        for row in range(0, len(drawn), 11):
            box = Box.from_row(answers.boxes[row].tolist())
            assert box.check_inside(drawn.shapes[drawn.volume[row]].tolist()).size == 1

    def test_without_images_there_are_none(self, test: Truth, priors: TrainPriors, own: TrainPriors) -> None:
        with pytest.raises(BenchError, match=r"The grids of \d+ of \d+ volumes are not known"):
            median_boxes(test, own)
        with pytest.raises(BenchError, match="volumes are not known"):
            whole_volume(test)

    def test_priors_without_boxes(self, drawn: Truth, priors: TrainPriors) -> None:
        with pytest.raises(BenchError, match="The priors hold no median boxes"):
            median_boxes(drawn, priors)


class TestNearestBoxes:
    def test_it_finds_the_effusion_and_nothing_else(self, train: Truth, test: Truth, priors: TrainPriors) -> None:
        grader, majority = nearest_boxes(test, train), question_majority(test, priors)
        gained = {number: right(test, grader, number) - right(test, majority, number) for number in range(1, 63)}
        assert gained.pop(EFFUSION) > 0.15
        # A twentieth of some 33 records is two of them.
        assert max(gained.values()) < 0.07
        assert np.mean(list(gained.values())) < 0.01

    def test_shuffled_boxes_find_nothing(self, train: Truth, test: Truth, priors: TrainPriors) -> None:
        """The same check fails where the boxes are those of other records: the gain is the region's."""
        boxes = train.boxes.copy()
        at = np.flatnonzero(train.question == EFFUSION)
        boxes[at] = boxes[np.random.default_rng(0).permutation(at)]
        grader = nearest_boxes(test, replace(train, boxes=boxes))
        majority = question_majority(test, priors)
        assert right(test, grader, EFFUSION) - right(test, majority, EFFUSION) < 0.1

    def test_votes_are_those_of_the_nearest(self, train: Truth, test: Truth) -> None:
        """Against distances taken pair by pair."""
        answers = nearest_boxes(test, train, neighbours=7)
        rows = np.flatnonzero((train.question == 19) & (train.grades[:, :2] != NONE).all(axis=1))
        boxes = [Box.from_row(row) for row in train.boxes[rows].tolist()]
        known = np.array([[*box.center, *box.shape] for box in boxes])
        spread = known.std(axis=0)
        for row in np.flatnonzero(test.question == 19)[:20].tolist():
            box = Box.from_row(test.boxes[row].tolist())
            far = [float((((np.array([*box.center, *box.shape]) - each) / spread) ** 2).sum()) for each in known]
            near = np.argsort(far, kind="stable")[:8]
            if far[near[7]] - far[near[6]] < 1e-9:
                continue
            votes = [tuple(train.grades[rows[place]].tolist()) for place in near[:7]]
            counts = Counter(votes)
            top = [answer for answer in votes if counts[answer] == max(counts.values())]
            assert tuple(answers.grades[row].tolist()) in set(top)

    def test_nearest_neighbour_mirrors_left_knees(self, prepared: Path) -> None:
        """A left knee whose box mirrors a right one's is its nearest neighbour."""
        base = take(read_truth(prepared, "train"), [0, 0, 0])
        shape = np.array([[40, 50, 60]], dtype=np.int32)
        right_knee, left_knee = SIDES.index("right"), SIDES.index("left")
        fields: dict[str, Any] = {
            "shapes": shape,
            "affines": np.diag([-0.5, 0.4, 0.4, 1.0])[None],
            "boxes": np.array([[2, 5, 5, 12, 20, 20], [28, 5, 5, 38, 20, 20], [28, 30, 5, 38, 50, 20]], np.int32),
        }
        pool = replace(
            base,
            **fields,
            side=np.array([right_knee, right_knee, right_knee], np.int8),
            grades=np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]], np.int8),
            patients=("pool",),
        )
        one = take(pool, [0])
        asked = replace(one, patients=("other",), side=np.array([left_knee], np.int8), boxes=fields["boxes"][1:2])
        assert nearest_boxes(asked, pool, neighbours=1).grades.tolist() == [[0, 0, 0]]
        same = replace(asked, side=np.array([right_knee], np.int8))
        assert nearest_boxes(same, pool, neighbours=1).grades.tolist() == [[1, 1, 1]]

    def test_it_refuses_patients_that_it_knows(self, train: Truth) -> None:
        with pytest.raises(BenchError, match=r"\d+ scored patients are in train as well"):
            nearest_boxes(train, train)

    def test_a_question_that_train_lacks_stays_unanswered(self, train: Truth, test: Truth) -> None:
        answers = nearest_boxes(test, take(train, train.question != 19))
        rows = test.question == 19
        assert (answers.grades[rows] == NONE).all()
        assert (answers.reasons[rows][:, :2] == REASONS.index("missing")).all()
        assert (answers.grades[~rows][:, 0] != NONE).all()
