"""The vocabulary against the official slots and prompts, and the codec against itself and against bad input."""

from __future__ import annotations

import csv
import json
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.errors import GradeError
from reasonknee_datasets.moaks import (
    ATTRIBUTES,
    BONE_MARROW_BANDS,
    CARTILAGE_BANDS,
    CATEGORIES,
    EXTRUSION_BANDS_MM,
    QUESTIONS,
    SLOTS,
    TEAR_LOCATIONS,
    Question,
    find_question,
    find_slot,
    get_question,
    meaning,
    meanings,
    read_diagnosis,
    violations,
    write_answer,
    write_diagnosis,
)
from tests.helpers.paths import DATA, NO_OFFICIAL, OFFICIAL

SLOT_TABLE = DATA / "answer_slots.csv"
PROMPTS = OFFICIAL / "question_files"
DAMAGED = {58, 59}  # their wrapper is cut off, as officially published

needs_prompts = pytest.mark.skipif(not PROMPTS.exists(), reason=NO_OFFICIAL)

Grades = dict[str, "int | None"]


@st.composite
def graded(draw: st.DrawFn) -> tuple[Question, Grades]:
    question = draw(st.sampled_from(list(QUESTIONS.values())))
    return question, {slot.attribute: draw(st.none() | st.sampled_from(slot.legal)) for slot in question.slots}


# --- facts ---------------------------------------------------------------------------------------------------------


def test_counts() -> None:
    assert list(QUESTIONS) == list(range(1, 70))
    assert Counter(slot.scale for slot in SLOTS) == {"ordinal": 91, "binary": 19, "nominal": 8}
    assert sum(len(question.slots) for question in QUESTIONS.values() if question.in_records) == 111
    assert [question.id for question in QUESTIONS.values() if question.in_records] == list(range(1, 63))
    assert Counter(question.wrapper_key for question in QUESTIONS.values()) == {
        "MOAKS_scores": 47,
        "MOAKS_grade": 3,
        None: 19,
    }
    assert [question.id for question in QUESTIONS.values() if question.bare] == [44, 45]


def test_slots_are_ordered_by_question() -> None:
    assert [slot.id for slot in SLOTS] == list(range(118))
    assert tuple(slot for question in QUESTIONS.values() for slot in question.slots) == SLOTS
    for slot in SLOTS:
        question = QUESTIONS[slot.question_id]
        assert (slot.category, slot.finding, slot.subregion) == (
            question.category,
            question.finding,
            question.subregion,
        )
        assert slot.low == 0
        assert list(slot.legal) == list(range(slot.high + 1))
        assert slot.scale == {"morphology": "nominal", "tear_location": "nominal"}.get(
            slot.attribute, "binary" if slot.high == 1 else "ordinal"
        )


def test_attributes_and_categories_order() -> None:
    assert tuple(dict.fromkeys(slot.attribute for slot in SLOTS)) == ATTRIBUTES
    assert tuple(dict.fromkeys(question.category for question in QUESTIONS.values())) == CATEGORIES
    assert (len(ATTRIBUTES), len(CATEGORIES)) == (12, 13)


def test_finding_and_subregion_name_one_question() -> None:
    assert len({(question.finding, question.subregion) for question in QUESTIONS.values()}) == 69
    for question in QUESTIONS.values():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", question.finding)
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", question.subregion)


def test_slots_equal_the_official_table() -> None:
    with SLOT_TABLE.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    ours = [
        {
            "question_id": str(slot.question_id),
            "category": slot.category,
            "wrapper_key": QUESTIONS[slot.question_id].wrapper_key or "",
            "subject_key": QUESTIONS[slot.question_id].subject_key,
            "attribute_key": slot.prompt_key or "",
            "min": str(slot.low),
            "max": str(slot.high),
            "scale": slot.scale,
            "in_generated_records": str(int(QUESTIONS[slot.question_id].in_records)),
        }
        for slot in SLOTS
    ]
    assert len(table) == 118
    assert ours == table


def schema_in(prompt: str) -> Any:
    """Parse the JSON schema at a prompt's end, each placeholder as its (lowest, highest) grade."""
    filled = re.sub(
        r"\((?:grade from )?(\d)-(\d)\)|\(?(\d) \| (\d)\)?", lambda m: str([int(d) for d in m.groups() if d]), prompt
    )
    return json.JSONDecoder().raw_decode(filled[filled.index('{"') :])[0]


@needs_prompts
@pytest.mark.parametrize("wording", ["guided", "zeroshot"])
def test_questions_match_their_prompts(wording: str) -> None:
    prompts = json.loads((PROMPTS / f"questions_nobbox_{wording}.json").read_text(encoding="utf-8"))
    assert list(prompts) == [str(number) for number in QUESTIONS]
    for question in QUESTIONS.values():
        prompt = prompts[str(question.id)]
        if question.id in DAMAGED:
            # The rest: a bounding box's tail, then the subject without the brace that opened before it.
            prompt = "{" + prompt[prompt.index(f'"{question.subject_key}"') :]
        ranges = {slot.prompt_key: [slot.low, slot.high] for slot in question.slots}
        expected: Any = {question.subject_key: ranges[None] if question.bare else ranges}
        expected = {question.wrapper_key: expected} if question.wrapper_key else expected
        assert schema_in(prompt) == expected, question.id
        assert list(schema_in(prompt)) == list(expected)


@needs_prompts
def test_find_slot_accepts_prompt_words() -> None:
    prompts = json.loads((PROMPTS / "questions_nobbox_guided.json").read_text(encoding="utf-8"))
    assert "Percent of full-thickness loss" in prompts["19"]
    assert find_slot(19, "Percent of full-thickness loss").attribute == "depth"
    assert "percent of lesion that is BML" in prompts["1"]
    assert find_slot(1, "percent of lesion that is BML").attribute == "percent"
    assert "Grade 2: Extrusion is between 3 to 4.9mm" in prompts["44"]
    assert meaning(QUESTIONS[44].slots[0], 2) == "3 to 5 mm"
    assert "3 = No tear detected" in prompts["54"]
    assert TEAR_LOCATIONS[3] == "no tear"


def test_bands_meet_without_gaps() -> None:
    for bands in (EXTRUSION_BANDS_MM, BONE_MARROW_BANDS, CARTILAGE_BANDS):
        assert len(bands) == 4
        assert all(low[1] == high[0] for low, high in pairwise(bands))
    assert [low for low, _ in EXTRUSION_BANDS_MM] == [0, 2, 3, 5]


def test_every_legal_grade_has_a_meaning() -> None:
    for slot in SLOTS:
        assert len(set(meanings(slot))) == len(slot.legal)
        assert [meaning(slot, grade) for grade in slot.legal] == list(meanings(slot))
    assert meaning(SLOTS[0], None) == "missing"
    with pytest.raises(GradeError, match=r"q01\.size"):
        meaning(SLOTS[0], 4)


def test_values_pickle_hash_and_are_frozen() -> None:
    question = QUESTIONS[60]
    assert pickle.loads(pickle.dumps(question)) == question
    assert len({*SLOTS, *SLOTS}) == 118
    with pytest.raises(AttributeError, match="cannot assign"):
        question.id = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="does not support item assignment"):
        QUESTIONS[60] = question  # type: ignore[index]


# --- spellings -----------------------------------------------------------------------------------------------------


def spellings(question: Question) -> Iterator[str]:
    keys = {question.subject_key, question.record_key, f"{question.subregion}_{question.finding}"}
    keys |= {key.replace("trochlea", "anterior") for key in keys} | {
        key.replace("anterior", "trochlea") for key in keys
    }
    keys |= {key.replace("BML", long) for key in keys for long in ("bone marrow lesion", "bone-marrow_lesions", "bml")}
    for key in keys:
        yield from (key, key.upper(), key.lower(), key.replace(" ", "_"), key.replace("_", " "), f"  {key}\t")


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda question: f"q{question.id:02d}")
def test_every_spelling_finds_its_question_and_slot(question: Question) -> None:
    for spelling in spellings(question):
        if "trochlea meniscus" in spelling.casefold() or "trochlea_cruciate" in spelling.casefold():
            continue
        assert find_question(spelling) is question, spelling
    for slot in question.slots:
        for key in (slot.attribute, slot.record_key, slot.prompt_key or slot.attribute):
            for spelling in (key, key.upper(), key.replace(" ", "_")):
                assert find_slot(question, spelling) is slot, spelling


def test_records_join_words_with_underscores() -> None:
    # The one spelling that someone saw in the files.
    assert write_diagnosis(19, {"size": 0, "depth": 0}) == {
        "femur_medial_central_cartilage_lesion": {"size": 0, "depth": 0}
    }
    assert [find_question(name).id for name in ("ACL", "posterior_cruciate_ligament", "MMRT", "LMRT")] == [
        60,
        61,
        58,
        59,
    ]


def test_find_question_suggests_closest_subject() -> None:
    with pytest.raises(GradeError, match=r"'femur medial centre BML'\. Did you mean 'femur medial central BML'\?"):
        find_question("femur medial centre BML")
    with pytest.raises(GradeError, match=r"has the subject ''\. moaks\.QUESTIONS"):
        find_question("")


def test_an_attribute_of_another_question_is_refused() -> None:
    with pytest.raises(
        GradeError,
        match=r"question 16\) has no attribute 'percent'\. Available: 'size' \('Size of lesion'\) or 'depth'",
    ):
        find_slot(16, "percent")
    with pytest.raises(GradeError, match="There is no question 70; they are numbered from 1 to 69"):
        get_question(70)


# --- grades --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.name)
def test_only_legal_grades_pass(slot: Any) -> None:
    for grade in slot.legal:
        for same in (grade, str(grade), float(grade), np.int64(grade), np.float32(grade)):
            checked = slot.check(same)
            assert checked == grade
            assert type(checked) is int
    legal = ", ".join(map(str, slot.legal))
    for wrong in (slot.high + 1, -1, 0.5, "0.5", "1.0", "", "one", "-1", None, [1], float("inf"), float("nan")):
        subject = f"Slot {slot.name} ({slot.attribute} of {slot.finding} in {slot.subregion})"
        expected = f"{subject} takes the grades {legal}, not {wrong!r} in train.json"
        with pytest.raises(GradeError, match=re.escape(expected)):
            slot.check(wrong, "in train.json")


def test_check_accepts_bool_in_binary_slots() -> None:
    assert QUESTIONS[56].slots[0].check(True) == 1
    assert QUESTIONS[56].slots[0].check(False) == 0
    with pytest.raises(GradeError, match="not True"):
        QUESTIONS[16].slots[0].check(True)


# --- answers -------------------------------------------------------------------------------------------------------


@given(graded())
def test_both_spellings_read_back(case: tuple[Question, Grades]) -> None:
    question, grades = case
    answer = json.loads(write_answer(question.id, grades))
    record = json.loads(json.dumps(write_diagnosis(question, grades)))
    for written in (answer, record):
        for asked in (None, question.id, question):
            read = read_diagnosis(asked, written)
            assert read == grades
            assert list(read) == list(question.attributes)


@given(
    graded(),
    st.lists(st.sampled_from(["MOAKS_scores", "MOAKS_grade", "final_diagnosis", "Final diagnosis"]), max_size=4),
    st.booleans(),
)
def test_any_nesting_of_wrappers_reads_the_same(
    case: tuple[Question, Grades], wrappers: list[str], boxed: bool
) -> None:
    question, grades = case
    written: dict[str, Any] = dict(write_diagnosis(question, grades))
    for wrapper in wrappers:
        written = {wrapper: written}
        if boxed:
            written = {"bounding_box": [1, 2, 3, 4, 5, 6], **written}
    assert read_diagnosis(question, written) == grades
    assert read_diagnosis(None, written) == grades


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda question: f"q{question.id:02d}")
def test_the_answer_has_the_prompts_keys(question: Question) -> None:
    answer = json.loads(write_answer(question, dict.fromkeys(question.attributes, 1)))
    below = answer[question.wrapper_key] if question.wrapper_key else answer
    assert list(below) == [question.subject_key]
    expected: Any = 1 if question.bare else {slot.prompt_key: 1 for slot in question.slots}
    assert below[question.subject_key] == expected


def test_missing_is_null_and_never_0() -> None:
    assert write_answer(16, {"size": 0}) == write_answer(16, {"size": 0, "depth": None})
    assert '"Depth of lesion": null' in write_answer(16, {"size": 0})
    assert read_diagnosis(16, {"patella_medial_cartilage_lesion": {"size": 0}}) == {"size": 0, "depth": None}
    assert read_diagnosis(None, json.loads('{"ACL": {"Complete Tear": NaN}}')) == dict.fromkeys(
        QUESTIONS[60].attributes
    )


def test_a_known_question_needs_no_subject() -> None:
    assert read_diagnosis(16, {"size": 1, "Depth of lesion": 2}) == {"size": 1, "depth": 2}
    assert read_diagnosis(45, {"MOAKS_grade": 3}) == {"grade": 3}
    assert read_diagnosis(62, {"final_diagnosis": {"Patellar_Tendon": True}}) == {"signal": 1}
    assert (
        read_diagnosis(16, {"patella medial cartilage lesion": {"MOAKS_scores": {"size": 1, "depth": 2}}})["depth"] == 2
    )


@pytest.mark.parametrize(
    ("question", "diagnosis", "message"),
    [
        (
            16,
            {"patella_medial_cartilage_lesion": {"size": 4, "depth": 0}},
            r"q16\.size .* takes the grades 0, 1, 2, 3, not 4",
        ),
        (None, {"ACL": {"repair": 2}}, r"q60\.repair .* takes the grades 0, 1, not 2"),
        (
            16,
            {"patella_lateral_cartilage_lesion": {"size": 1}},
            r"must be about patella medial .*found: patella lateral",
        ),
        (16, {"elbow": {"size": 1}}, "No official prompt or record has the subject 'elbow'"),
        (16, {"patella_medial_cartilage_lesion": {"width": 1}}, "has no attribute 'width'"),
        (16, {"patella_medial_cartilage_lesion": 1}, "must have size and depth under its subject; found: 1"),
        (16, {}, "must name exactly one subject; found: none in {}"),
        (None, {"bounding_box": [1, 2, 3, 4, 5, 6]}, "must name exactly one subject; found: none"),
        (None, {"ACL": {}, "PCL": {}}, "must name exactly one subject; found: ACL and PCL"),
        (None, {"final_diagnosis": {"ACL": {}}, "MOAKS_scores": {"ACL": {}}}, "found: ACL and ACL"),
        (None, 2, "must be a JSON object with the subject as its key; found: 2"),
        (16, [1, 2], "must be a JSON object"),
        (16, {"size": 1, "Size of lesion": 2}, "must give size once; found: a second one under 'Size of lesion'"),
        (44, {"medial meniscus anterior extrusion": [1]}, r"q44\.grade .*not \[1\]"),
    ],
)
def test_a_diagnosis_that_is_none_is_refused(question: int | None, diagnosis: object, message: str) -> None:
    with pytest.raises(GradeError, match=message):
        read_diagnosis(question, diagnosis)


def test_writers_take_attribute_names_only() -> None:
    with pytest.raises(
        GradeError, match=r"has no attribute 'Depth of lesion'\. Available: size, depth\. .*read_diagnosis translates"
    ):
        write_answer(16, {"Depth of lesion": 1})
    with pytest.raises(GradeError, match="has no attribute 'grade'"):
        write_diagnosis(16, {"grade": 1})
    with pytest.raises(GradeError, match=r"q16\.depth .*not 7"):
        write_answer(16, {"depth": 7})


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda node: (
            st.dictionaries(st.sampled_from(["ACL", "size", "MOAKS_scores", "grade", "x"]), node)
            | st.lists(node, max_size=2)
        ),
        max_leaves=6,
    )
)
def test_read_diagnosis_returns_legal_grades_or_raises(node: object) -> None:
    for question in (None, 16, 44, 60):
        try:
            grades = read_diagnosis(question, node)
        except GradeError:
            continue
        asked = get_question(60 if question is None else question)
        assert list(grades) == list(asked.attributes)
        assert all(
            grade is None or grade in slot.legal for slot, grade in zip(asked.slots, grades.values(), strict=True)
        )


# --- rules ---------------------------------------------------------------------------------------------------------


def rules(question: int, grades: Grades, visit: str | None = None) -> list[str]:
    return [violation.rule for violation in violations(question, grades, visit)]


def test_contradictions_are_reported() -> None:
    assert rules(1, {"size": 0, "number": 1, "percent": 0}) == ["size_zero_number_above"]
    assert rules(1, {"size": 0, "number": 0, "percent": 2}) == ["size_zero_percent_above"]
    assert rules(1, {"size": 2, "number": 0, "percent": 2}) == ["number_zero_size_above"]
    assert rules(1, {"size": 0, "number": 1, "percent": 2}) == ["size_zero_number_above", "size_zero_percent_above"]
    assert rules(16, {"size": 0, "depth": 1}) == ["size_zero_depth_above"]
    assert rules(48, {"morphology": 7}, "00M") == ["progressive_at_first_visit"]
    assert str(violations(48, {"morphology": 7}, "00M")[0]).startswith("question 48: morphology is 7")


def test_violations_ignore_legal_and_missing() -> None:
    assert not rules(1, {"size": 1, "number": 1, "percent": 0})  # all of it may be cyst
    assert not rules(1, {"size": None, "number": 1, "percent": 1})
    assert not rules(1, {"size": 0, "number": None, "percent": None})
    assert not rules(16, {"size": 1, "depth": 0})
    assert not rules(48, {"morphology": 7}, "12M")
    assert not rules(48, {"morphology": 7})  # the visit is not known
    assert not rules(54, {"presence": 0, "tear_location": 1})  # a tear without a cyst


@given(graded(), st.sampled_from([None, "00M", "12M"]))
def test_rules_change_nothing_and_spare_grade_0(case: tuple[Question, Grades], visit: str | None) -> None:
    question, grades = case
    before = dict(grades)
    found = violations(question, grades, visit)
    assert grades == before
    assert all(violation.question_id == question.id for violation in found)
    assert not violations(question, dict.fromkeys(question.attributes, 0), visit)
    assert not violations(question, dict.fromkeys(question.attributes), visit)
