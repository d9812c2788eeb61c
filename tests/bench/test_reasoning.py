"""Metrics of the reasoning: hand-written texts, the true reasoning, and what each kind of damage costs."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.bench.answers import parse_answer
from reasonknee_datasets.bench.bootstrap import draw_patients
from reasonknee_datasets.bench.evaluation import Evaluation, ReadOptions, evaluate
from reasonknee_datasets.bench.metrics.reasoning import agreement, consistency, coverage, grounding, stated_grades
from reasonknee_datasets.bench.metrics.reasoning_text import split_answer, steps
from reasonknee_datasets.bench.report import write_report
from reasonknee_datasets.bench.results import Results, schema
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import QUESTIONS, get_question
from reasonknee_datasets.phantom.record_writer import reasoning_steps
from tests.helpers import reasoning_texts

Row = dict[str, Any]
CASES = reasoning_texts.cases()
BOX = Box((40, 0, 0), (60, 9, 9))


@pytest.fixture(scope="module")
def rows(annotated: Path) -> list[Row]:
    columns = ["id", "patient", "question_id", "side", "reasoning", "grades", "answer", "box"]
    return list(load_dataset(str(annotated), split="test").select_columns(columns))


def grades_of(row: Row) -> dict[str, int | None]:
    return {each["attribute"]: each["grade"] for each in row["grades"]}


def true_texts(rows: list[Row]) -> dict[tuple[int, tuple[int, ...]], str]:
    """Every distinct question and grade combination without missing grades, with its reasoning."""
    found = {}
    for row in rows:
        grades = tuple(grades_of(row).values())
        if None not in grades:
            found[row["question_id"], grades] = " ".join(row["reasoning"])
    assert len(found) > 150
    return found


def write_text(reasoning: str, row: Row) -> str:
    return f"{reasoning}\nFinal diagnosis: {row['answer']}"


def evaluated(rows: list[Row], texts: list[str], data: Path, **options: Any) -> Evaluation:
    lines = [{"id": row["id"], "text": text} for row, text in zip(rows, texts, strict=True)]
    resamples = options.pop("resamples", 50)
    return evaluate(lines, data, options=ReadOptions(**options), resamples=resamples)


def values(done: Evaluation) -> dict[str, float | None]:
    assert done.results.reasoning is not None
    return {name: metric.value.value for name, metric in done.results.reasoning.metrics.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_read_reasoning_of_hand_written_texts(case: reasoning_texts.Case) -> None:
    question = get_question(case.question)
    reasoning, answer = split_answer(case.text)
    final = [slot.grade if answer else None for slot in parse_answer(question, case.text).slots]
    if not reasoning and "{" not in answer:  # a single sentence: both at once
        final = [None for _ in final]
    found = grounding(question, reasoning, side=case.knee, box=BOX, slice_axis=0)  # type: ignore[arg-type]
    assert dict(zip(question.attributes, consistency(question, reasoning, final), strict=True)) == case.consistency
    assert dict(zip(question.attributes, coverage(question, reasoning), strict=True)) == case.coverage
    assert (found.subregion, found.side, found.position) == case.grounding


def test_sixty_hand_written_reasonings_cover_kinds() -> None:
    assert len(CASES) == 60
    assert len({case.text for case in CASES}) == 60 - 1  # one text with two knees
    assert {QUESTIONS[case.question].category for case in CASES} == {
        question.category for question in QUESTIONS.values() if question.in_records
    }
    assert {value for case in CASES for value in case.consistency.values()} == {
        *("supported", "contradicted", "not_stated", None)
    }


@pytest.mark.slow
def test_consistency_coverage_grounding_of_true_reasoning(rows: list[Row]) -> None:
    for (number, grades), text in true_texts(rows).items():
        question = get_question(number)
        assert set(consistency(question, text, grades)) == {"supported"}, text
        assert all(coverage(question, text)), text
        for side in ("left", "right"):
            assert grounding(question, text, side=side).grounded, text


def test_consistency_of_a_changed_final_grade(rows: list[Row]) -> None:
    for (number, grades), text in true_texts(rows).items():
        question = get_question(number)
        for place, slot in enumerate(question.slots):
            other = next(grade for grade in slot.legal if grade != grades[place])
            changed = [other if each == place else grade for each, grade in enumerate(grades)]
            found = consistency(question, text, changed)
            assert found[place] == "contradicted"
            assert [each for at, each in enumerate(found) if at != place] == ["supported"] * (len(grades) - 1)


@pytest.mark.slow
def test_consistency_of_grade_changed_once(rows: list[Row]) -> None:
    """The conclusion alone says another size: the reasoning states two, and only this attribute loses."""
    tried = 0
    for (number, grades), text in true_texts(rows).items():
        question = get_question(number)
        if "size" not in question.attributes:
            continue
        at = text.rindex(f"size {grades[0]}")
        changed = f"{text[:at]}size {(grades[0] + 1) % 4}{text[at + 6 :]}"
        found = consistency(question, changed, grades)
        assert found[0] == "contradicted"
        assert set(found[1:]) == {"supported"}
        assert all(coverage(question, changed))
        assert grounding(question, changed, side="left").grounded
        tried += 1
    assert tried > 60


def exchange_sides(text: str) -> str:
    return re.sub("medial|lateral", lambda word: "lateral" if word[0] == "medial" else "medial", text)


@pytest.mark.slow
def test_grounding_of_exchanged_compartments(rows: list[Row]) -> None:
    tried = 0
    for (number, grades), text in true_texts(rows).items():
        question = get_question(number)
        if not re.search("medial|lateral", question.subregion):
            continue
        changed = exchange_sides(text)
        assert grounding(question, changed, side="left").subregion == "wrong", changed
        assert "contradicted" not in consistency(question, changed, grades)
        assert all(coverage(question, changed))
        tried += 1
    assert tried > 100


@pytest.mark.slow
@pytest.mark.parametrize("form", ["This is the {} knee. ", "Knee: {}. ", "**Side:** {}\n", "In the {}-sided knee, "])
def test_grounding_of_the_side_of_the_body(rows: list[Row], form: str) -> None:
    for (number, grades), text in random.Random(0).sample(sorted(true_texts(rows).items()), 40):
        question = get_question(number)
        for said, side in (("left", "right"), ("right", "right"), ("right", "left"), ("left", "left")):
            changed = form.format(said) + text
            found = grounding(question, changed, side=side)  # type: ignore[arg-type]
            assert found.side == ("right" if said == side else "wrong")
            assert found.grounded == (said == side)
            assert set(consistency(question, changed, grades)) == {"supported"}, changed
            assert all(coverage(question, changed))


@pytest.mark.parametrize("text", ["", " \n", "...", "```"])
def test_empty_reasoning_loses_everything(text: str) -> None:
    question = get_question(19)
    assert consistency(question, text, (2, 0)) == ("not_stated", "not_stated")
    assert coverage(question, text) == (False, False)
    assert not grounding(question, text, side="left").grounded
    assert agreement(text, ("The cartilage is thin.",)) == 0


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("The pad is dark. Nothing is bright.\nFinal answer: grade 0", "The pad is dark. Nothing is bright."),
        ("The pad is dark.\n**Final Diagnosis:**\n{'grade': 0}", "The pad is dark."),
        ("The pad is dark.\nAnswer: 0", "The pad is dark."),
        ("The answer is not easy. The pad is dark.\n{'grade': 0}", "The answer is not easy. The pad is dark."),
        ("The pad is dark.\n```json\n{'grade': 0}\n```\n", "The pad is dark."),
        ("<think>The pad is dark.</think>{'grade': 0}", "The pad is dark."),
        ("The pad is dark. <answer>{'grade': 0}</answer>", "The pad is dark."),
        ("Draft {'grade': 1}. The pad is dark.\n{'grade': 0}", "Draft {'grade': 1}. The pad is dark."),
        ('{"steps": ["The pad is dark.", "It is flat."], "grade": 0}', "The pad is dark.\nIt is flat."),
        ("{'grade': 0}\nThe pad is dark.", ""),
        ("<think>The pad is dark.</think>\n0", "The pad is dark."),
        (
            "<think>The pad is dark.</think>\nIt is flat. The grade is 0.",
            "The pad is dark. \nIt is flat. The grade is 0.",
        ),
        ("0", ""),
        ("The pad is dark. The grade is 0.", "The pad is dark. The grade is 0."),
    ],
)
def test_split_answer(text: str, reasoning: str) -> None:
    assert split_answer(text)[0] == reasoning


@pytest.mark.parametrize(
    ("number", "text", "grades"),
    [
        (54, "The medial meniscus is whole. No cyst is present.", (0, None)),
        (54, "No evidence of a meniscal cyst.", (0, None)),
        (54, "A cyst is not present.", (0, None)),
        (54, "It is unclear whether a cyst is present.", (None, None)),
        (56, "Hypertrophy is not absent.", (1,)),
        (58, "No root tear is seen.", (0,)),
        (60, "ACL: no complete tear. No graft.", (0, None, 0)),
        (60, "PCL: complete tear 1. ACL: complete tear 0, lesion at the insertion 0 and repair 0.", (0, 0, 0)),
        (62, "There is no signal abnormality of the patellar tendon.", (0,)),
        (19, "If the size is 2, then half of the area is thin.", (None, None)),
        (19, "Size 0 = none, 1 = small, 2 = medium.", (None, None)),
        (19, "The defect has a size of 3 mm.", (None, None)),
        (19, "In the lateral femoral condyle: size 2 and depth 1.", (None, None)),
        (4, "The cartilage is thin. The size is 2.", (None, None, None)),
        (42, "Effusion grade 2. The fat pad is dark.", (None,)),
        (42, "The Hoffa-synovitis seems to be grade 3. On reflection, it is grade 2.", (2,)),
    ],
)
def test_stated_grades(number: int, text: str, grades: tuple[int | None, ...]) -> None:
    assert stated_grades(get_question(number), text) == grades


def test_agreement_is_rouge_l_of_the_steps() -> None:
    """One sentence each: twice the longest common subsequence over all words."""
    assert agreement("The pad is not very dark.", ("The pad is dark.",)) == pytest.approx(2 * 4 / (6 + 4))
    assert agreement("It is flat. The pad is dark.", ("The pad is dark.", "It is flat.")) == 1.0
    assert agreement("Step 1: The pad is dark.\nStep 2: It is flat.", ("The pad is dark.", "It is flat.")) == 1.0


@pytest.mark.slow
def test_evaluate_true_reasoning(rows: list[Row], annotated: Path) -> None:
    texts = [write_text("\n".join(row["reasoning"]), row) for row in rows]
    done = evaluated(rows, texts, annotated, agreement=True)
    found = values(done)
    assert {name: found[name] for name in ("consistency", "coverage", "grounding", "agreement")} == {
        "consistency": 1.0,
        "coverage": 1.0,
        "grounding": 1.0,
        "agreement": pytest.approx(1.0),
    }
    assert found["contradicted"] == found["not_stated"] == found["wrong_subregion"] == 0
    assert found["wrong_side"] is None  # the phantom names no side
    assert done.results.total().value == 1.0


@pytest.mark.slow
def test_evaluate_reasoning_swapped_between_records(rows: list[Row], annotated: Path) -> None:
    """Within a question only the grades can be wrong: exactly where the other record's differ."""
    whole = [row for row in rows if None not in grades_of(row).values()]
    by_question: dict[int, list[Row]] = {}
    for row in whole:
        by_question.setdefault(row["question_id"], []).append(row)
    ordered = [row for same in by_question.values() for row in same]
    givers = [row for same in by_question.values() for row in [*same[1:], same[0]]]
    equal = [
        mine == theirs
        for row, giver in zip(ordered, givers, strict=True)
        for mine, theirs in zip(grades_of(row).values(), grades_of(giver).values(), strict=True)
    ]
    texts = [write_text(" ".join(giver["reasoning"]), row) for row, giver in zip(ordered, givers, strict=True)]
    swapped = values(evaluated(ordered, texts, annotated, strict=False))
    assert 0.3 < np.mean(equal) < 0.95
    assert swapped["consistency"] == pytest.approx(np.mean(equal))
    assert swapped["contradicted"] == pytest.approx(1 - np.mean(equal))
    assert swapped["wrong_subregion"] == 0
    # Between a subregion and the next of the same finding only the place is wrong.
    for one, other in pairwise(number for number in range(1, 16)):
        grades = {"size": 1, "number": 1, "percent": 3}
        text = " ".join(reasoning_steps(other, grades))
        assert grounding(get_question(one), text, side="left").subregion == "wrong"
        assert all(coverage(get_question(one), text))
        assert "contradicted" not in consistency(get_question(one), text, (1, 1, 3))


@pytest.mark.parametrize("other", [16, 34, 42, 43, 44, 48, 54, 56, 58, 60, 62])
def test_reasoning_about_another_finding_loses_everything(other: int) -> None:
    question, giver = get_question(4), get_question(other)
    text = " ".join(reasoning_steps(other, {slot.attribute: slot.high for slot in giver.slots}))
    assert set(consistency(question, text, (3, 3, 3))) == {"not_stated"}
    assert coverage(question, text) == (False, False, False)
    assert not grounding(question, text, side="left").grounded


@pytest.mark.slow
def test_evaluate_counts_missing_reasoning_as_empty(rows: list[Row], annotated: Path) -> None:
    texts = [
        write_text(" ".join(row["reasoning"]) if place % 2 else "", row)
        for place, row in enumerate(rows)
        if place % 4 != 3  # every fourth record has no prediction at all
    ]
    kept = [row for place, row in enumerate(rows) if place % 4 != 3]
    done = evaluated(kept, texts, annotated, strict=False)
    found, scores = values(done), done.results.reasoning
    reasoned = [place % 4 == 1 for place in range(len(rows))]
    assert scores is not None
    assert (scores.records, scores.with_reasoning) == (len(rows), sum(reasoned))
    assert found["grounding"] == pytest.approx(np.mean(reasoned))
    graded = [sum(grade is not None for grade in grades_of(row).values()) for row in rows]
    assert found["coverage"] == pytest.approx(np.dot(graded, reasoned) / sum(graded))
    assert found["not_stated"] == pytest.approx(
        1 - np.dot(graded, reasoned) / sum(many for place, many in enumerate(graded) if place % 4 != 3)
    )


@pytest.mark.slow
def test_evaluate_intervals_are_percentiles_over_patients(annotated: Path) -> None:
    """Against resampling by hand: the reasoning is there where a fixed die says so."""
    train = load_dataset(str(annotated), split="train", filters=[("question_id", "==", 42)])
    rows = list(train.select_columns(["id", "patient", "reasoning", "answer"]))
    die = np.random.default_rng(3).random(len(rows)) < 0.6
    texts = [write_text(" ".join(row["reasoning"]) if there else "", row) for row, there in zip(rows, die, strict=True)]
    done = evaluated(rows, texts, annotated, resamples=400, split="train", questions=(42,))
    assert done.results.reasoning is not None
    found = done.results.reasoning.metrics["grounding"]
    patients = sorted({row["patient"] for row in rows})
    sums = np.array([sum(die[n] for n, row in enumerate(rows) if row["patient"] == name) for name in patients])
    counts = np.array([sum(row["patient"] == name for row in rows) for name in patients])
    weights = draw_patients(patients, 400, 0)[1:]
    drawn = (weights @ sums) / (weights @ counts)
    assert (found.count, found.unit, found.patients) == (len(rows), "records", len(patients))
    assert found.value.value == pytest.approx(die.mean())
    assert (found.value.low, found.value.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_evaluate_agreement_only_on_request(rows: list[Row], annotated: Path) -> None:
    few = [row for row in rows if row["question_id"] == 42]
    texts = [write_text(" ".join(row["reasoning"]), row) for row in few]
    assert "agreement" not in values(evaluated(few, texts, annotated, questions=(42,)))
    assert values(evaluated(few, texts, annotated, questions=(42,), agreement=True))["agreement"] == pytest.approx(1.0)


def test_evaluate_without_reasoning(rows: list[Row], annotated: Path) -> None:
    few = [row for row in rows if row["question_id"] == 42]
    texts = [write_text(" ".join(row["reasoning"]), row) for row in few]
    slots = [{"id": row["id"], "slots": grades_of(row)} for row in few]
    reading = ReadOptions(questions=(42,))
    assert evaluate(slots, annotated, options=reading, resamples=0).results.reasoning is None
    answers = [row["answer"] for row in few]
    assert evaluated(few, answers, annotated, questions=(42,)).results.reasoning is None
    assert evaluated(few, texts, annotated, questions=(42,), reasoning=False).results.reasoning is None


def test_evaluate_keeps_reasoning_apart_from_the_headline(rows: list[Row], annotated: Path) -> None:
    few = [row for row in rows if row["question_id"] in (19, 42)]
    true = evaluated(few, [write_text(" ".join(row["reasoning"]), row) for row in few], annotated, questions=(19, 42))
    wrong = [write_text("The lateral meniscus of the knee has a cyst. It is large.", row) for row in few]
    other = evaluated(few, wrong, annotated, questions=(19, 42))
    assert values(other)["grounding"] == 0
    assert values(true)["grounding"] == 1
    assert replace(other.results, reasoning=None).groups == replace(true.results, reasoning=None).groups


def test_evaluate_chosen_attributes(rows: list[Row], annotated: Path) -> None:
    few = [row for row in rows if row["question_id"] == 19]
    texts = [
        write_text("The central medial femoral condyle has lost cartilage. The size is large.", row) for row in few
    ]
    both = evaluated(few, texts, annotated, questions=(19,))
    size = evaluated(few, texts, annotated, questions=(19,), attributes=("size",))
    assert values(size)["coverage"] == 1.0
    assert values(both)["coverage"] == pytest.approx(0.5, abs=0.1)


def slice_rows(data: Path) -> list[Row]:
    columns = ["id", "question_id", "answer", "box"]
    return [row for row in load_dataset(str(data), split="train").select_columns(columns) if row["question_id"] == 42]


def test_evaluate_checks_stated_slices_against_the_box(prepared: Path) -> None:
    """The array axis across the slices is read from the affine, whichever layout the volume has."""
    rows = slice_rows(prepared)
    truth = evaluate(
        [{"id": row["id"], "text": row["answer"]} for row in rows],
        prepared,
        options=ReadOptions(split="train", questions=(42,)),
        resamples=0,
    ).truth
    inside, outside = [], []
    for place in range(len(truth)):
        affine = truth.affines[truth.volume[place]]
        axis = int(np.argmax(np.abs(affine[0, :3])))
        box = truth.boxes[place]
        row = next(row for row in rows if row["id"] == truth.ids[place])
        middle = int(box[axis] + box[axis + 3]) // 2
        for lines, number in ((inside, middle), (outside, int(box[axis + 3]) + 5)):
            text = write_text(f"Slice {number} shows the Hoffa fat pad. It is dark.", row)
            lines.append({"id": row["id"], "text": text})
    reading = ReadOptions(split="train", questions=(42,))
    assert values(evaluate(inside, prepared, options=reading, resamples=0))["outside_box"] == 0
    found = values(evaluate(outside, prepared, options=reading, resamples=0))
    assert (found["outside_box"], found["grounding"]) == (1, 0)
    # Where frames were shown, numbers count frames and say nothing about slices.
    shown = values(evaluate(outside, prepared, options=reading, resamples=0, condition="region_given"))
    assert (shown["outside_box"], shown["grounding"]) == (None, 1)


@pytest.mark.slow
def test_reasoning_in_results_and_report(rows: list[Row], annotated: Path, tmp_path: Path) -> None:
    import jsonschema

    few = [row for row in rows if row["question_id"] in (19, 42)]
    texts = [write_text(" ".join(row["reasoning"]), row) for row in few]
    done = evaluated(few, texts, annotated, questions=(19, 42), agreement=True)
    write_report(done, tmp_path / "report", pictures=0)
    item = json.loads((tmp_path / "report" / "results.json").read_text())
    jsonschema.validate(item, schema())
    assert Results.from_json(item).reasoning == done.results.reasoning
    report = (tmp_path / "report" / "report.md").read_text()
    assert report.count("## Reasoning\n") == 1
    table = report.split("## Reasoning\n")[1].split("\n## ")[0]
    names = re.findall(r"(?m)^\| (\w+) \|", table)
    assert names == ["metric", *item["reasoning"]["metrics"]]
    assert "<h2" in (tmp_path / "report" / "report.html").read_text()


def test_steps_of_lists_lines_and_paragraphs() -> None:
    expected = ("The pad is dark.", "It measures 3.5 mm.", "Nothing is bright.")
    for text in (
        "The pad is dark. It measures 3.5 mm. Nothing is bright.",
        "1. The pad is dark.\n2) It measures 3.5 mm.\n- Nothing is bright.",
        "Step 1: The pad is dark. Step 2: It measures 3.5 mm. Step 3: Nothing is bright.",
        "**Step 1:** The pad is dark.\n\n**Step 2:** It measures 3.5 mm.\n\n* Nothing is bright.",
    ):
        assert steps(text) == expected
