"""The words: official lengths and schemas, nothing copied, one text for each question and combination of grades."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product

import pytest

from reasonknee_datasets.moaks import QUESTIONS, Question, find_question, find_slot, read_diagnosis
from reasonknee_datasets.phantom.record_writer import (
    answer_text,
    diagnosis_text,
    layout,
    opening_steps,
    reasoning_steps,
)
from reasonknee_datasets.prompts.prompt_assembly import (
    DAMAGED,
    FullWording,
    answer_schema,
    project_prompt,
    project_prompts,
)
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

REAL = OFFICIAL / "question_files"
RECORDED = [question for question in QUESTIONS.values() if question.in_records]
WITHOUT_BOX: tuple[FullWording, FullWording] = ("guided", "zeroshot")
TAIL = 'end_slice, x_min, x_max, y_min, y_max], "{}": {{"presence": (0 | 1)}}}}'


def combinations(question: Question) -> Iterator[dict[str, int | None]]:
    for values in product(*[(None, *slot.legal) for slot in question.slots]):
        yield dict(zip(question.attributes, values, strict=True))


@pytest.fixture(scope="module")
def official() -> dict[FullWording, dict[str, str]]:
    if not REAL.is_dir():
        pytest.skip(NO_OFFICIAL)
    return {
        wording: json.loads((REAL / f"questions_nobbox_{wording}.json").read_text(encoding="utf-8"))
        for wording in WITHOUT_BOX
    }


def test_guided_prompts_have_official_lengths() -> None:
    lengths = [len(project_prompt(number)) for number in QUESTIONS]
    assert min(lengths) >= 610
    assert max(lengths) <= 1078


def test_project_prompt_lengths_by_wording() -> None:
    for number in QUESTIONS:
        assert (
            len(project_prompt(number, "zeroshot")) < len(project_prompt(number)) < len(project_prompt(number, "full"))
        )


@pytest.mark.parametrize("wording", ["full", "guided", "zeroshot"])
def test_question_files_have_69_different_prompts(wording: FullWording) -> None:
    texts = project_prompts(wording)
    assert list(texts) == [str(number) for number in range(1, 70)]
    assert len(set(texts.values())) == 69


def test_damaged_prompts_58_and_59_match_official() -> None:
    for number, side in ((58, "medial"), (59, "lateral")):
        for wording in WITHOUT_BOX:
            text = project_prompt(number, wording)
            assert text.endswith("your reasoning and " + TAIL.format(f"{side}_meniscal_root_tear"))
            assert text.count("{") < text.count("}")
        whole = project_prompt(number, "full")
        assert whole.count("{") == whole.count("}")
        assert "[start_slice, end_slice" in whole


def test_the_other_prompts_are_whole() -> None:
    for number in QUESTIONS:
        if number not in DAMAGED:
            for wording in WITHOUT_BOX:
                assert "end_slice" not in project_prompt(number, wording)
                assert project_prompt(number, wording).endswith(answer_schema(QUESTIONS[number]))


def test_schemas_are_read_back_by_the_vocabulary() -> None:
    for question in QUESTIONS.values():
        schema = answer_schema(question).rstrip(".")
        values = json.loads(re.sub(r"\((?:grade from )?0[-0-9 |]*\)|0 \| 1", "0", schema))
        assert read_diagnosis(question.id, values) == dict.fromkeys(question.attributes, 0)
        assert find_question(question.subject_key).id == question.id
        for slot in question.slots:
            if slot.prompt_key is not None:
                assert find_slot(question.id, slot.prompt_key) == slot
                assert f'"{slot.prompt_key}"' in schema


def test_schemas_are_the_official_ones(official: dict[FullWording, dict[str, str]]) -> None:
    for number in QUESTIONS:
        for wording, texts in official.items():
            theirs = texts[str(number)]
            schema = theirs[theirs.index("end_slice" if number in DAMAGED else "{") :]
            assert project_prompt(number, wording).endswith(schema)


def test_no_wording_is_copied(official: dict[FullWording, dict[str, str]]) -> None:
    def runs(text: str, length: int = 6) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[place : place + length]) for place in range(len(words) - length + 1)}

    theirs = set().union(*(runs(text.split("{")[0]) for texts in official.values() for text in texts.values()))
    assert ("marrow", "lesions", "bmls", "in", "the", "patella") in theirs
    for number in QUESTIONS:
        for wording in WITHOUT_BOX:
            ours = project_prompt(number, wording).split("{")[0].split("end_slice")[0]
            assert sorted(runs(ours) & theirs) == []
    for question in RECORDED:
        for grades in combinations(question):
            assert sorted(runs(" ".join(reasoning_steps(question.id, grades))) & theirs) == []


def test_write_prompts_lengths_match_official(
    official: dict[FullWording, dict[str, str]],
) -> None:
    for number, text in official["guided"].items():
        if len(text) >= 610:
            assert len(project_prompt(int(number))) == pytest.approx(len(text), rel=0.1)


def test_one_text_for_each_question_and_combination() -> None:
    seen: set[str] = set()
    for question in RECORDED:
        for grades in combinations(question):
            text = answer_text(question.id, grades)
            assert text == answer_text(question.id, dict(grades))
            assert text not in seen
            seen.add(text)


def test_reasoning_goes_in_three_to_six_steps() -> None:
    for question in RECORDED:
        for grades in combinations(question):
            steps = reasoning_steps(question.id, grades)
            assert 3 <= len(steps) <= 6
            assert steps[: len(opening_steps(question.id))] == opening_steps(question.id)
            assert all(step.endswith(".") and len(step) > 40 for step in steps)
            assert not any(mark in "".join(steps) for mark in "{}\n")


def test_paragraphs_have_one_sentence_a_step() -> None:
    for question in RECORDED:
        if layout(question.id) == "paragraph":
            for grades in combinations(question):
                assert not any(re.search(r"[.!?]\s", step) for step in reasoning_steps(question.id, grades))


def test_answer_layouts_and_spellings_occur() -> None:
    assert {layout(question.id) for question in RECORDED} == {"lines", "numbered", "paragraph"}
    texts = [diagnosis_text(question.id, next(combinations(question))) for question in RECORDED]
    assert {text[:2] for text in texts} == {'{"', "{'"}


def test_answer_text_ends_in_its_diagnosis() -> None:
    for question in RECORDED:
        for grades in combinations(question):
            said = answer_text(question.id, grades).rpartition("Final diagnosis: ")[2]
            parsed = json.loads(said.replace("'", '"').replace("None", "null"))
            assert read_diagnosis(question.id, parsed) == grades


def test_the_last_step_names_every_grade() -> None:
    for question in RECORDED:
        for grades in combinations(question):
            last = reasoning_steps(question.id, grades)[-1]
            said = re.findall(r"not graded|\b[0-8]\b", last.rpartition(": ")[2])
            assert said == ["not graded" if grade is None else str(grade) for grade in grades.values()]


def test_project_prompt_names_no_body_side() -> None:
    # Else a transform that mirrors a knee would have to refuse it.
    texts = [project_prompt(number, wording) for number in QUESTIONS for wording in ("full", "guided", "zeroshot")]
    texts += [answer_text(question.id, grades) for question in RECORDED for grades in combinations(question)]
    assert not [text for text in texts if re.search(r"\b(left|right)\b", text, re.IGNORECASE)]
