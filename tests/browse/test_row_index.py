"""The index: every filter against a scan of the rows, neighbours, visits and whole rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.browse.row_index import RowFilter, RowIndex, pretty_answer
from reasonknee_datasets.sources import open_repository


@pytest.fixture(scope="module")
def index(prepared: Path) -> RowIndex:
    return RowIndex(open_repository(str(prepared), where="data_dir"))


@pytest.fixture(scope="module")
def rows(index: RowIndex) -> list[dict[str, Any]]:
    return index.table.to_pylist()


def graded(row: dict[str, Any], attribute: str, test: Any) -> bool:
    return any(test(grade["grade"]) for grade in row["grades"] if attribute in ("", grade["attribute"]))


@pytest.mark.parametrize(
    ("query", "keep"),
    [
        ({}, lambda row: True),
        ({"split": "test"}, lambda row: row["split"] == "test"),
        ({"category": "ligament", "side": "left"}, lambda row: (row["category"], row["side"]) == ("ligament", "left")),
        ({"subregion": "Femur Medial"}, lambda row: "femur_medial" in row["subregion"]),
        ({"subregion": ".*"}, lambda row: False),
        ({"patient": "0000003", "visit": "24M"}, lambda row: (row["patient"], row["visit"]) == ("0000003", "24M")),
        ({"attribute": "depth"}, lambda row: graded(row, "depth", lambda grade: True)),
        ({"attribute": "size", "grade": "2"}, lambda row: graded(row, "size", lambda grade: (grade or 0) >= 2)),
        ({"grade": "0", "compare": "exactly"}, lambda row: graded(row, "", lambda grade: grade == 0)),
        ({"compare": "not graded"}, lambda row: graded(row, "", lambda grade: grade is None)),
        ({"split": "nonsense"}, lambda row: False),
    ],
)
def test_find(index: RowIndex, rows: list[dict[str, Any]], query: dict[str, str], keep: Any) -> None:
    expected = [place for place, row in enumerate(rows) if keep(row)]
    assert index.find(RowFilter.from_query(query)).tolist() == expected
    assert expected or "nonsense" in query.values() or ".*" in query.values() or query == {"compare": "not graded"}


def test_to_query_reads_back(index: RowIndex) -> None:
    wanted = RowFilter.from_query({"category": "ligament", "grade": "1", "compare": "exactly", "page": "7"})
    assert wanted.to_query() == "category=ligament&compare=exactly&grade=1"
    assert RowFilter().to_query(order="stored") == "order=stored"


def test_row_reads_the_texts_of_any_row(index: RowIndex, rows: list[dict[str, Any]]) -> None:
    for place in (0, len(index) // 2, len(index) - 1):
        row = index.row(place)
        assert row["id"] == rows[place]["id"]
        assert row["split"] == rows[place]["split"]
        assert row["question"]
        assert row["reasoning"]


def test_position_of_an_unknown_id_is_none(index: RowIndex) -> None:
    assert index.position("0000003/24M/left/q99") is None
    assert index.position("") is None


def test_other_visits_of_knee_and_question(index: RowIndex, rows: list[dict[str, Any]]) -> None:
    found = [rows[each] for each in index.other_visits(0)]
    key = [(row["patient"], row["side"], row["question_id"]) for row in found]
    assert set(key) == {(rows[0]["patient"], rows[0]["side"], rows[0]["question_id"])}
    assert [row["visit"] for row in found] == sorted(row["visit"] for row in found)
    assert rows[0] in found


@pytest.mark.parametrize("text", ["", "{", "no JSON", "[" * 5000])
def test_pretty_answer_keeps_what_is_no_json(text: str) -> None:
    assert pretty_answer(text) == text
