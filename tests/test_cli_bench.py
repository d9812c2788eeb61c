"""`reasonknee evaluate`, `bench run` and `bench compare` as their user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasonknee_datasets.bench.codec import write
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.cli import main
from reasonknee_datasets.moaks import QUESTIONS

# A model that any user could write: it looks at the pictures, and answers 0 whatever they show.
MODEL = """
from reasonknee_datasets.moaks import write_answer, QUESTIONS
asked = []
def zero(request):
    asked.append(request)
    return '{"MOAKS_scores": 0}'
"""


@pytest.fixture
def predictions(annotated: Path, tmp_path: Path) -> Path:
    truth = read_truth(annotated, "test")
    lines = []
    for row, name in enumerate(truth.ids):
        slots = QUESTIONS[int(truth.question[row])].slots
        grades = {slot.attribute: int(max(grade, 0)) for slot, grade in zip(slots, truth.grades[row], strict=False)}
        lines.append(json.dumps({"id": name, "text": write(int(truth.question[row]), grades)}))
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def test_evaluate_writes_a_report_and_says_the_headline(
    annotated: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    words = ("--data", annotated, "--predictions", predictions, "--out", out, "--resamples", "20", "--model", "m")
    assert run("evaluate", *words) == 0
    told = capsys.readouterr().out
    assert "record_exact   1.000" in told
    assert "question_majority" in told
    assert str(out / "report.html") in told
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["identity"]["model"] == "m"


def test_two_reports_are_compared(annotated: Path, predictions: Path, tmp_path: Path) -> None:
    common = ("--data", annotated, "--resamples", "20")
    for name in ("a", "b"):
        words = ("--predictions", predictions, "--out", tmp_path / name, "--model", name)
        assert run("evaluate", *words, *common) == 0
    assert run("bench", "compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "ab", *common) == 0
    item = json.loads((tmp_path / "ab" / "comparison.json").read_text(encoding="utf-8"))
    assert {row["difference"]["value"] for row in item["differences"]} <= {0, None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("/q01", "/q99", 1), "unknown_id"),
        (lambda text: text + text.splitlines()[0] + "\n", "duplicate"),
        (lambda text: text[:-20], "half_line"),
        (lambda text: "", "empty"),
    ],
)
def test_what_is_wrong_with_predictions_is_named(
    annotated: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, told: str
) -> None:
    predictions.write_text(change(predictions.read_text(encoding="utf-8")), encoding="utf-8")
    words = ("--data", annotated, "--predictions", predictions, "--out", tmp_path / "report", "--resamples", "0")
    assert run("evaluate", *words) == 1
    error = capsys.readouterr().err
    assert told in error
    assert not (tmp_path / "report").exists()
    if told != "empty":
        assert run("evaluate", *words, "--no-strict") == 0
        assert told in capsys.readouterr().err


def test_a_function_is_asked_and_scored(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_model.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = ["--data", prepared, "--model", "my_model:zero", "--via", "callable", "--journal", "answers.jsonl"]
    words += ["--condition", "region_given", "--questions", "41,45"]
    assert run("bench", "run", *words, "--dry-run") == 0
    assert "requests" in capsys.readouterr().out
    assert not (tmp_path / "answers.jsonl").exists()
    assert run("bench", "run", *words) == 0
    first = (tmp_path / "answers.jsonl").read_bytes()
    assert run("bench", "run", *words) == 0
    assert (tmp_path / "answers.jsonl").read_bytes() == first, "nothing may be asked twice"
    score = ("--data", prepared, "--predictions", "answers.jsonl", "--out", "report", "--resamples", "20")
    assert run("evaluate", *score) == 0
    item = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert item["identity"]["condition"] == "region_given"
    assert "box_only" in {base["name"] for base in item["baselines"]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bench", "rnu"], "Did you mean 'run'"),
        (["evaluate", "--questions", "1-x"], "must be numbers such as 1-15,34"),
        (["bench", "run", "--price", "cheap"], "must be two or three numbers"),
    ],
)
def test_wrong_words_are_answered(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert told in capsys.readouterr().err


def test_a_function_that_is_not_there_is_named(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", prepared, "--model", "json:nothing", "--via", "callable", "--journal", tmp_path / "a.jsonl")
    assert run("bench", "run", *words) == 1
    assert "a callable model must be importable, got json:nothing" in capsys.readouterr().err
