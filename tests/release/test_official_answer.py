"""Answers taken apart and put together again, whatever their hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.release.rebuild import join_steps, read_answer, split_steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("One.\nTwo.\nThree.", ["One.", "Two.", "Three."]),
        ("One.\n\n  Two.  \n\n", ["One.", "Two."]),
        ("Step 1: One.\n  - a detail\nStep 2: Two.", ["Step 1: One.\n  - a detail", "Step 2: Two."]),
        ("1. One. More of it.\n2) Two.", ["1. One. More of it.", "2) Two."]),
        ("**Step 1: One**\ntext\n**Step 2: Two**\ntext", ["**Step 1: One**\ntext", "**Step 2: Two**\ntext"]),
        ("1. One. 2. Two. 3. Three.", ["1. One.", "2. Two.", "3. Three."]),
        ("The grade is 2. The size is 3. Fine.", ["The grade is 2.", "The size is 3.", "Fine."]),
        ("It is 2.5 mm, e.g. Thin, vs. Thick. Next!", ["It is 2.5 mm, e.g. Thin, vs. Thick.", "Next!"]),
        ("Only one without an end", ["Only one without an end"]),
        ("One.\n---\nTwo.", ["One.", "Two."]),
    ],
)
def test_reasoning_is_split_into_steps(text: str, steps: list[str]) -> None:
    found, gaps = split_steps(text)
    assert list(found) == steps
    assert join_steps(found, gaps) == text


@given(st.text(alphabet="ab. \n1)2:Step\t-*", max_size=60))
def test_no_character_is_lost_in_splitting(text: str) -> None:
    steps, gaps = split_steps(text)
    assert join_steps(steps, gaps) == text
    assert all(step == step.strip() and step for step in steps)


@pytest.mark.parametrize(
    ("ending", "diagnosis"),
    [
        (
            "Final diagnosis: {'ACL': {'Complete Tear': 0, 'ACL Repair': None}}",
            {"ACL": {"Complete Tear": 0, "ACL Repair": None}},
        ),
        ('Final diagnosis: {"ACL": {"Complete Tear": null}}', {"ACL": {"Complete Tear": None}}),
        ("final_diagnosis: {'a': 1}\n", {"a": 1}),
        ("**Final Diagnosis:** {'a': 1}.", {"a": 1}),
        ('Final diagnosis:\n{\n  "a": 1\n}', {"a": 1}),
        ("Final diagnosis: {'final_diagnosis': {'a': 1}}", {"final_diagnosis": {"a": 1}}),
        ("Final diagnosis: 2", 2),
    ],
)
def test_read_answer_json_or_python(ending: str, diagnosis: object) -> None:
    text = f"Look at it.\nThe final diagnosis: 7 is not meant.\n\n{ending}"
    answer = read_answer(text)
    assert answer.diagnosis == diagnosis
    assert answer.steps == ("Look at it.", "The final diagnosis: 7 is not meant.")
    assert answer.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is large.",
        "Look. Final diagnosis: large",
        "Look. Final diagnosis: {'a': 1} and more",
        "Look. Final diagnosis: {'a': __import__('os')}",
        "Look. Final diagnosis: {'a': nan}",
    ],
)
def test_read_answer_unreadable(text: str) -> None:
    with pytest.raises(ReleaseError, match=r"The answer does not end in 'Final diagnosis: <dict>'"):
        read_answer(text)


def test_an_answer_without_reasoning_is_refused() -> None:
    with pytest.raises(ReleaseError, match="it has no reasoning"):
        read_answer("Final diagnosis: {'a': 1}")
