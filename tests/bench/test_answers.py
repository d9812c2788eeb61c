"""The codec: what is written is read again, every spelling is understood, nothing is made up, the work is linear."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonknee_datasets.bench.answers import (
    CODEC_VERSION,
    REASONS,
    RULES,
    official_parse,
    parse_answer,
    parse_box,
    write,
)
from reasonknee_datasets.bench.answers.json_nodes import Members, Node, loads
from reasonknee_datasets.bench.answers.key_matching import name_of, slot_forms, subject_forms
from reasonknee_datasets.bench.answers.lenient_json import scan
from reasonknee_datasets.bench.answers.outcome import by_gravity
from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention
from reasonknee_datasets.errors import BenchError, GradeError
from reasonknee_datasets.moaks import QUESTIONS, Question, get_question, write_answer, write_diagnosis
from tests.helpers import fuzz_answers
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

QUESTION = st.sampled_from(sorted(QUESTIONS)).map(get_question)
SHAPE = (24, 40, 32)


@st.composite
def graded(draw: st.DrawFn) -> tuple[Question, dict[str, int | None]]:
    question = draw(QUESTION)
    return question, {slot.attribute: draw(st.none() | st.sampled_from(slot.legal)) for slot in question.slots}


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    start, stop = [], []
    for length in SHAPE:
        low = draw(st.integers(0, length - 1))
        start.append(low)
        stop.append(draw(st.integers(low + 1, length)))
    return Box.from_row([*start, *stop])


# -- what is written is read again


@given(graded(), st.none() | boxes(), st.sampled_from(CONVENTIONS))
def test_what_is_written_is_read_again(
    given_: tuple[Question, dict[str, int | None]], box: Box | None, convention: BoxConvention
) -> None:
    question, grades = given_
    text = write(question, grades, box, convention, SHAPE)
    answer = parse_answer(question, text)
    assert answer.grades == grades
    assert answer.strict
    assert all(
        slot.rules == ("strict",) if slot.grade is not None else slot.reason == "missing" for slot in answer.slots
    )
    found = parse_box(text, convention=convention, shape=SHAPE)
    assert found.box == box
    assert found.rules == (("strict",) if box is not None else ())


@given(graded(), boxes())
def test_convention_names_round_trip(given_: tuple[Question, dict[str, int | None]], box: Box) -> None:
    question, grades = given_
    for order in (("x", "slice", "y"), ("y", "x", "slice")):
        for axes in ((0, 1, 2), (2, 0, 1)):
            convention = BoxConvention(order, "corners", True, False, axes)  # type: ignore[arg-type]
            text = write(question, grades, box, convention, SHAPE)
            assert parse_box(text, convention=convention, shape=SHAPE).box == box


STYLES: dict[str, Callable[[str], str]] = {
    "fenced": lambda text: f"Here is my answer.\n```json\n{json.dumps(json.loads(text), indent=2)}\n```\nRegards.",
    "thought": lambda text: f"<think>Maybe {text.translate(str.maketrans('0123', '3210'))}</think>{text}",
    "python": lambda text: repr(json.loads(text)),
    "string": lambda text: json.dumps(text),
    "escaped": lambda text: text.replace('"', '\\"'),
    "doubled braces": lambda text: text.replace("{", "{{").replace("}", "}}"),
    "unquoted": lambda text: text.replace('"', ""),
    "trailing commas": lambda text: text.replace("}", ",}"),
    "typographic": lambda text: "".join(
        "“" if mark == '"' and before in "{ " else "”" if mark == '"' else mark
        for before, mark in zip(" " + text, text, strict=False)
    ),
    "answer tags": lambda text: f"<answer>{text}</answer>",
    "list": lambda text: f"[{text}]",
    "twice": lambda text: f"{text}\n\nOnce more:\n{text}",
    "wrapped": lambda text: f'{{"final_diagnosis": {text}}}',
    "final": lambda text: f"At first: {text.translate(str.maketrans('0123', '1230'))}\nFinal answer: {text}",
    "commented": lambda text: text.replace("}", " // so I think\n}"),
}


@pytest.mark.parametrize("style", STYLES)
@given(graded())
def test_answer_styles_give_equal_grades(style: str, given_: tuple[Question, dict[str, int | None]]) -> None:
    question, grades = given_
    text = STYLES[style](write(question, grades))
    if style == "unquoted" and any("(" in (slot.prompt_key or "") or "%" in (slot.prompt_key or "")
                                   for slot in question.slots):  # fmt: skip
        return  # a parenthesis before a key is a remark: the keys of bone-marrow lesions need their quotes
    assert parse_answer(question, text).grades == grades, text


@given(graded())
def test_parse_answer_of_record_spelling_in_wrappers(
    given_: tuple[Question, dict[str, int | None]],
) -> None:
    question, grades = given_
    diagnosis = write_diagnosis(question, grades)
    for answer in (diagnosis, {"final_diagnosis": diagnosis}, {"MOAKS_scores": {"MOAKS_grade": diagnosis}}):
        assert parse_answer(question, json.dumps(answer)).grades == grades


@given(graded())
def test_rows_of_names_and_values_are_understood(given_: tuple[Question, dict[str, int | None]]) -> None:
    question, grades = given_
    rows = [f"- {slot.prompt_key or slot.attribute}: {grades[slot.attribute]}"
            for slot in question.slots if grades[slot.attribute] is not None]  # fmt: skip
    table = "| Component | Grade |\n|---|---|\n" + "\n".join(
        f"| {slot.prompt_key or slot.attribute} | {grades[slot.attribute]} |"
        for slot in question.slots
        if grades[slot.attribute] is not None
    )
    if rows:
        assert parse_answer(question, "My reading:\n" + "\n".join(rows)).grades == grades
        assert parse_answer(question, table).grades == grades


def test_parse_box_needs_convention_and_shape() -> None:
    box = Box((0, 0, 0), (1, 1, 1))
    with pytest.raises(BenchError, match="box cannot be written without its convention"):
        write(62, {"signal": 1}, box)
    with pytest.raises(BenchError, match="box cannot be written without the shape of its volume"):
        write(62, {"signal": 1}, box, BoxConvention(normalised=True))
    for shape in (None, (0, 0, 0)):
        with pytest.raises(
            BenchError, match=r"box in shares of its volume cannot be read without the volume's shape \(got"
        ):
            parse_box("[0, 1, 0, 1, 0, 1]", convention=BoxConvention(normalised=True), shape=shape)


def test_only_legal_grades_are_written() -> None:
    with pytest.raises(GradeError, match=r"takes the grades 0, 1, 2, 3, not 4"):
        write(19, {"size": 4})
    with pytest.raises(GradeError, match=r"Question 19 has no attribute .* Available: size, depth"):
        write(19, {"grade": 1})
    with pytest.raises(GradeError, match="There is no question 70; they are numbered from 1 to 69"):
        parse_answer(70, "2")


# -- keys


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda question: f"q{question.id:02d}")
def test_official_keys_name_one_slot_each(question: Question) -> None:
    for form in (question.subject_key, question.record_key, *subject_forms(question)):
        assert name_of(question, form).role in ("subject", "slot"), form
    for slot in question.slots:
        for form in (slot.record_key, slot.prompt_key, *slot_forms(slot)):
            if form is not None and name_of(question, form).role != "subject":
                assert name_of(question, form).slot is slot, form
    for other in QUESTIONS.values():
        if other.id != question.id:
            assert name_of(question, other.subject_key).role == "foreign", other.subject_key


@given(graded(), graded())
def test_parse_answer_of_another_question(
    asked: tuple[Question, dict[str, int | None]], other: tuple[Question, dict[str, int | None]]
) -> None:
    if asked[0].id != other[0].id:
        answer = parse_answer(asked[0], write_answer(*other))
        assert {slot.reason for slot in answer.slots} == {"wrong_key"}


# -- rules and reasons


def test_rules_are_sentences_in_order_of_gravity() -> None:
    assert next(iter(RULES)) == "strict"
    assert all(sentence.endswith(".") and sentence.count(". ") == 0 for sentence in RULES.values())
    assert by_gravity(reversed(RULES)) == tuple(RULES)
    assert not set(RULES) & set(REASONS)
    assert CODEC_VERSION == 6
    with pytest.raises(KeyError, match="made_up"):
        by_gravity(["made_up"])


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda question: f"q{question.id:02d}")
def test_the_prompts_schema_is_no_answer(question: Question) -> None:
    from reasonknee_datasets.prompts import answer_schema, project_prompt

    for text in (
        answer_schema(question),
        project_prompt(question.id, "guided"),
        project_prompt(question.id, "zeroshot"),
    ):
        assert all(slot.grade is None for slot in parse_answer(question, text).slots), text
    full = project_prompt(question.id, "full")
    assert parse_box(full, convention=CONVENTIONS[0], shape=SHAPE).box is None
    answer = {slot.attribute: slot.high for slot in question.slots}
    assert parse_answer(question, f"{full}\n\n{write(question, answer)}").grades == answer


@given(graded(), st.data())
def test_parse_answer_of_different_answers_is_conflicting(
    given_: tuple[Question, dict[str, int | None]], data: st.DataObject
) -> None:
    question, grades = given_
    changed = data.draw(st.sampled_from(question.slots))
    first = {slot.attribute: slot.low if grades[slot.attribute] is None else grades[slot.attribute]
             for slot in question.slots}  # fmt: skip
    old = first[changed.attribute]
    new = data.draw(st.sampled_from([grade for grade in changed.legal if grade != old]))
    second = {**first, changed.attribute: new}
    text = f"{write(question, first)}\n{write(question, second)}"
    for slot in parse_answer(question, text).slots:
        if slot.slot is changed:
            assert (slot.grade, slot.reason) == (None, "conflicting")
        else:
            assert slot.grade == first[slot.slot.attribute]


@pytest.mark.slow
def test_parse_answer_of_cut_text() -> None:
    for question in QUESTIONS.values():
        grades = {slot.attribute: slot.high for slot in question.slots}
        text = write(question, grades)
        for end in range(1, len(text)):
            for slot in parse_answer(question, text[:end], finish_reason="length").slots:
                assert slot.grade in (None, grades[slot.slot.attribute]), text[:end]
                assert slot.grade is not None or slot.reason == "truncated", text[:end]


@pytest.mark.parametrize(
    ("text", "finish", "error", "reason"),
    [
        (None, None, None, "empty"),
        ("", "length", None, "truncated"),
        ("", "content_filter", None, "refusal"),
        ("", "error", None, "provider_error"),
        (write(30, {"grade": 1}), None, "HTTP 500", "provider_error"),
    ],
)
def test_what_the_provider_says_counts(text: str | None, finish: str | None, error: str | None, reason: str) -> None:
    assert parse_answer(30, text, finish_reason=finish, error=error).slots[0].reason == reason
    assert parse_box(text, convention=CONVENTIONS[0], shape=SHAPE, finish_reason=finish, error=error).reason == reason


def test_the_official_scripts_reading() -> None:
    text = write(19, {"size": 2, "depth": 1})
    assert official_parse(text) == official_parse(f"```json\n{text}\n```") == json.loads(text)
    assert official_parse(f"Sure!\n```json\n{text}\n```") is None
    assert official_parse(None) is None
    assert official_parse("[" * 100_000) is None


# -- the scanner against json


def plain(node: Node) -> Any:
    if isinstance(node, Members):
        return {key: plain(value) for key, value in node.pairs}
    return [plain(item) for item in node] if isinstance(node, list) else node


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(-1e6, 1e6) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=6 * settings.default.max_examples)
@given(st.dictionaries(st.text(max_size=8), JSON, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_lenient_json_equals_json_for_valid_text(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    fine, node = loads(text)
    assert fine
    assert plain(node) == value
    found = scan(f"So: {text} Thus.")
    assert [document.root for document in found] == [node]
    assert not found[0].rules - {"invisible"}
    assert (found[0].open, found[0].broken) == (False, False)


# -- hostile texts

HOSTILE = {
    **{mark: mark for mark in ("{", "}", "[", "(", '"', "'", "“", "/*", "//", "```", "\\", "|", ",", "...", "1")},
    "thoughts": "<think>",
    "blanks": " ",
    "lines": "\n",
    "open objects": '{"a": ',
    "open strings": '{"a": "',
    "open lists": '{"a": [',
    "open parentheses": '{"a": (',
    "open comments": '{"a": /*',
    "small objects": '{"a":1} ',
    "commas": "{,",
    "keys": "{a b c ",
    "fences": "```json\n{",
    "words": "grade ",
    "grades": "grade 1 ",
    "names": "size: 2, ",
    "subjects": "femur medial central BML: ",
    "tables": "| a | b |\n",
    "headings": "final answer: ",
    "scales": "grade 1: x, grade 2: y, ",
    "six": "bounding box: [1, ",
    "escapes": '{"a":"\\"',
    "apologies": "I can",
    "boxed": "\\boxed{",
    "channels": "<|channel|>",
    "doubled": '{{"a"',
    "apostrophes": "{'a':'b's ",
    "quotes and blanks": '" ',
    "spaced colons": '"a"  :  ',
}  # fmt: skip


def steps(text: str) -> int:
    """Count the lines of Python that reading a text takes."""
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse_answer(1, text)
        parse_answer(30, text)
        parse_box(text, convention=CONVENTIONS[0], shape=SHAPE)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "opening", ["", *(pytest.param(text, marks=pytest.mark.slow) for text in ('{"grade": "', "<answer>"))]
)
@pytest.mark.parametrize("pattern", HOSTILE)
def test_parse_answer_steps_grow_linearly(pattern: str, opening: str) -> None:
    piece = HOSTILE[pattern]
    length = 1500
    once, twice = (steps(opening + (piece * size)[:size]) for size in (length, 2 * length))
    assert twice <= 2.2 * once + 2000


# Megabytes of text that is skipped as a whole, and less of text that makes objects or claims.
MEGABYTES = ("{", "}", "[", "(", '"', "'", "/*", "//", "```", "1", "words", "thoughts", "blanks", "open comments")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", HOSTILE)
def test_megabytes_of_anything_end(pattern: str) -> None:
    size = 2_000_000 if pattern in MEGABYTES else 100_000
    text = HOSTILE[pattern] * (size // len(HOSTILE[pattern]))
    # Quadratic work, of a regular expression too, would take hours: pytest's own limit is minutes.
    assert all(slot.grade is None or pattern == "names" for slot in parse_answer(1, text).slots)
    assert parse_box(text, convention=CONVENTIONS[0], shape=SHAPE).box is None


@settings(max_examples=6 * settings.default.max_examples)
@given(
    st.text() | st.text(alphabet="{}[]()\"':,.=/*#\\ \n0123grade`|<>", max_size=200), st.sampled_from(sorted(QUESTIONS))
)
def test_no_text_makes_it_raise(text: str, question: int) -> None:
    fuzz_answers.check_answer(question, text, None, fuzz_answers.Tally())
    parse_box(text, convention=CONVENTIONS[0], shape=SHAPE)


@pytest.mark.slow
def test_parse_answer_invariants_under_mutation() -> None:
    tally = fuzz_answers.run(2000, seed=20)
    assert tally.cases == 2000
    assert len(tally.rules) > 30
    assert set(tally.rules) <= set(RULES)
    assert len(tally.reasons) >= 7


def test_the_fuzzer_notices_a_made_up_grade(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fuzz_answers.parse_answer
    monkeypatch.setattr(fuzz_answers, "parse_answer", lambda question, text, **more: real(question, "3", **more))
    with pytest.raises(AssertionError, match="grade=3"):
        fuzz_answers.check_answer(30, "Nothing here.", None, fuzz_answers.Tally())


@pytest.mark.parametrize("wording", ["zeroshot", "guided"])
def test_the_official_prompts_repeated_are_no_answers(wording: str) -> None:
    path = OFFICIAL / f"question_files/questions_nobbox_{wording}.json"
    if not path.exists():
        pytest.skip(NO_OFFICIAL)
    for number, prompt in json.loads(path.read_text(encoding="utf-8")).items():
        assert all(slot.grade is None for slot in parse_answer(int(number), prompt).slots), prompt
