"""The golden answers: every one becomes what its file says, and together they show every rule and every reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasonknee_datasets.bench.answers import REASONS, RULES, parse_answer, parse_box
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.moaks import CATEGORIES, QUESTIONS, SLOTS
from tests.bench.golden import reading

ANSWERS = reading.answers()
BOXES = reading.boxes()


def question_of(golden: reading.Golden) -> int:
    return int(golden.fields["question"].split()[0])


@pytest.mark.parametrize("golden", ANSWERS, ids=lambda golden: golden.id)
def test_every_slot_becomes_what_the_file_says(golden: reading.Golden) -> None:
    parsed = parse_answer(
        question_of(golden), golden.said, finish_reason=golden.fields.get("ended"), error=golden.fields.get("error")
    )
    found = {
        answer.slot.attribute: (None if answer.grade is None else str(answer.grade), answer.reason, answer.rules)
        for answer in parsed.slots
    }
    assert found == golden.outcomes, golden.title


@pytest.mark.parametrize("golden", BOXES, ids=lambda golden: golden.id)
def test_every_box_becomes_what_the_file_says(golden: reading.Golden) -> None:
    volume = golden.fields["volume"]
    parsed = parse_box(
        golden.said,
        convention=BoxConvention.parse(golden.fields["convention"]),
        shape=None if volume == "unknown" else [int(length) for length in volume.split(" x ")],
        finish_reason=golden.fields.get("ended"),
        error=golden.fields.get("error"),
    )
    value, reason, rules = golden.outcomes["box"]
    box = None if value is None else Box.from_row([int(edge) for edge in value.replace("to", "").split()])
    assert (parsed.box, parsed.reason, parsed.rules) == (box, reason, rules), golden.title


def test_golden_files_name_questions_as_moaks() -> None:
    for golden in ANSWERS:
        number = question_of(golden)
        assert golden.fields["question"] == f"{number} ({QUESTIONS[number].subject_key})"
        assert tuple(golden.outcomes) == QUESTIONS[number].attributes


def test_no_case_is_there_twice() -> None:
    seen = [
        (question_of(golden), golden.said, golden.fields.get("ended"), "error" in golden.fields) for golden in ANSWERS
    ]
    assert len(set(seen)) == len(seen)


def test_there_are_enough_and_they_reach_everything() -> None:
    assert len(ANSWERS) >= 300
    assert len(BOXES) >= 40
    asked = {question_of(golden) for golden in ANSWERS}
    assert asked == set(QUESTIONS)
    assert {QUESTIONS[number].category for number in asked} == set(CATEGORIES)
    graded = {
        (question_of(golden), attribute)
        for golden in ANSWERS
        for attribute, (value, _, _) in golden.outcomes.items()
        if value is not None
    }
    assert graded == {(slot.question_id, slot.attribute) for slot in SLOTS}


def test_golden_files_show_all_rules_and_reasons() -> None:
    outcomes = [outcome for golden in [*ANSWERS, *BOXES] for outcome in golden.outcomes.values()]
    assert {rule for _, _, rules in outcomes for rule in rules} == set(RULES)
    assert {reason for _, reason, _ in outcomes if reason is not None} == set(REASONS)


def test_another_text_becomes_something_else() -> None:
    golden = next(entry for entry in ANSWERS if entry.outcomes == {"grade": ("2", None, ("bare",))})
    parsed = parse_answer(question_of(golden), golden.said)
    assert str(parsed.slots[0].grade) == "2"
    assert parse_answer(question_of(golden), golden.said.replace("2", "1")).slots[0].grade == 1


def test_golden_file_refuses_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("=== 1. Why.\nquestion: 1 (x)\nnonsense\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'nonsense' is no line of a golden file"):
        list(reading.read(path))
