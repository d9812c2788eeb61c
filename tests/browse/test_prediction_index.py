"""Predictions for the rows: a log of inspect_ai, its texts, and the order from the worst."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasonknee_datasets.bench.run_spec import make_study
from reasonknee_datasets.browse.prediction_index import load_prediction_index
from reasonknee_datasets.browse.row_index import RowFilter, RowIndex
from reasonknee_datasets.sources import open_repository


def test_load_prediction_index_of_json_lines(marked: Path, answered: Path) -> None:
    index = RowIndex(open_repository(str(marked), where="data_dir"))
    found = load_prediction_index(answered, index)
    order = found.worst_first(index.find(RowFilter())).tolist()
    assert [index.row(position)["id"][8:] for position in order] == ["12M/left/q16", "00M/left/q01", "00M/left/q40"]
    worst, half, right = (found.by_position[position] for position in order)
    assert (worst.wrong, worst.graded, worst.box, worst.iou, worst.text) == (2, 2, None, None, "<b>no idea</b>")
    assert (half.wrong, half.graded, half.iou) == (1, 3, 0.5)
    assert (right.wrong, right.graded, right.iou, right.grades) == (0, 1, 1.0, {"grade": 1})
    assert found.name == answered.name


@pytest.mark.slow
def test_prediction_index_sorts_log_worst_first(prepared: Path, tmp_path: Path) -> None:
    from tests.helpers.scripted_model import Asked, run_study

    index = RowIndex(open_repository(str(prepared), where="data_dir"))
    rows = {row["id"]: row for row in map(index.row, range(len(index)))}
    study = make_study(prepared, "text_only", split="test", patients=1, questions=[16, 19, 42])

    def answer(asked: Asked) -> str:
        row = rows[asked.id]
        return "I see nothing." if row["question_id"] == 42 else f"Seen: {row['answer']}"

    log = run_study(study, answer, tmp_path)
    found = load_prediction_index(Path(log.location.removeprefix("file://")), index)
    order = found.worst_first(index.find(RowFilter()))
    kinds = [int(index.brief(position)["question_id"]) for position in order.tolist()]
    unread = kinds.count(42)
    assert 0 < unread < len(kinds)
    assert set(kinds[:unread]) == {42}
    assert found.name == "scripted/m"
    best = found.by_position[int(order[-1])]
    assert (best.wrong, best.text) == (0, f"Seen: {index.row(int(order[-1]))['answer']}")
    assert json.loads(best.text.removeprefix("Seen: "))
    assert found.by_position[int(order[0])].text == "I see nothing."
