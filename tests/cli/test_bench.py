"""`reasonknee evaluate`, `bench plan` and `bench compare` as their user meets them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reasonknee_datasets.bench.answers import write
from reasonknee_datasets.bench.conditions import CONDITIONS
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.cli import main
from reasonknee_datasets.moaks import ATTRIBUTES, QUESTIONS


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


@pytest.mark.slow
def test_evaluate_writes_report_and_prints_headline(
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


def test_evaluate_errors_name_options_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "3dreasonknee").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REASONKNEE_DATA", raising=False)
    assert run("evaluate", "--predictions", "p.jsonl", "--out", "report") == 1
    assert "or name a prepared repository with --data or REASONKNEE_DATA." in capsys.readouterr().err


@pytest.mark.slow
def test_two_reports_are_compared(annotated: Path, predictions: Path, tmp_path: Path) -> None:
    common = ("--data", annotated, "--resamples", "20")
    for name in ("a", "b"):
        words = ("--predictions", predictions, "--out", tmp_path / name, "--model", name)
        assert run("evaluate", *words, *common) == 0
    assert run("bench", "compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "ab", *common) == 0
    item = json.loads((tmp_path / "ab" / "comparison.json").read_text(encoding="utf-8"))
    assert {row["difference"]["value"] for row in item["differences"]} <= {0, None}


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bench", "paln"], "Did you mean 'plan'"),
        (["evaluate", "--questions", "1-x"], "must be numbers such as 1-15,34"),
        (["evaluate", "--questions", "15-1"], "must be numbers such as 1-15,34"),
        (["bench", "plan", "--frames", "0"], "must be a whole number of 1 or more, not 0"),
        (["bench", "plan", "--questions", "x"], "must be numbers such as 1-15,34"),
    ],
)
def test_wrong_words_are_answered(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("condition", ["guided", "own_region", "text_only"])
def test_plan_prints_what_a_run_asks(condition: str, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--data", prepared, "--condition", condition, "--questions", "41,45", "--patients", "1", "--frames", "3")
    assert run("bench", "plan", *words) == 0
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    records = len(read_truth(prepared, "test", patients=1, filters=[("question_id", "in", [41, 45])]))
    turns = 2 if condition == "own_region" else 1
    assert told["records"].startswith(f"{records} of 1 patients")
    assert told["requests"] == str(records * turns)
    assert told["images"] == str(0 if condition == "text_only" else 3 * records * turns)


def test_plan_stops_where_a_run_would(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "plan", "--data", prepared, "--condition", "official_o1") == 1
    assert "cannot show volumes/" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_overwrites_only_on_request(
    annotated: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--data", annotated, "--resamples", "0", "--out", tmp_path / "out")
    words = ("evaluate", "--predictions", predictions, "--pictures", "0", *common)
    assert run(*words) == 0
    first = (tmp_path / "out" / "results.json").read_bytes()
    assert run(*words, "--model", "another") == 1
    assert "already holds a report (results.json)" in capsys.readouterr().err
    assert (tmp_path / "out" / "results.json").read_bytes() == first
    assert run(*words, "--model", "another", "--overwrite") == 0
    assert (tmp_path / "out" / "results.json").read_bytes() != first


@pytest.mark.slow
def test_evaluate_escapes_control_characters(
    annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
    path = tmp_path / "predictions.jsonl"
    lines = [{"id": f"{hostile}/q01", "text": "{}"}, {"id": "a", "text": "{}", "slots": {hostile: 1}, hostile: 2}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    words = ("--data", annotated, "--predictions", path, "--out", tmp_path / "report", "--resamples", "0")
    assert run("evaluate", *words) == 1
    assert run("evaluate", *words, "--no-strict", "--condition", "guided", "--model", hostile) == 0
    identity = {"run": {"model": hostile, hostile: 1}}
    path.write_text(json.dumps(identity), encoding="utf-8")
    assert run("evaluate", *words, "--overwrite") == 1
    said = capsys.readouterr()
    assert r"\x1b[2J" in said.err
    assert not set(said.out + said.err) & set(hostile[:1] + "\x07\x9b\u202e")


@pytest.mark.slow
def test_several_files_are_scored_as_one(
    annotated: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predictions.read_text(encoding="utf-8").splitlines(keepends=True)
    halves = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for half, part in zip(halves, (lines[:100], lines[100:]), strict=True):
        half.write_text("".join(part), encoding="utf-8")
    words = ("--data", annotated, "--resamples", "0", "--out", tmp_path / "report")
    assert run("evaluate", "--predictions", *halves, *words) == 0
    assert "record_exact   1.000" in capsys.readouterr().out
    halves[1].write_text("".join(lines[99:]), encoding="utf-8")
    assert run("evaluate", "--predictions", *halves, *words, "--overwrite") == 1
    assert "duplicate" in (told := capsys.readouterr().err)
    assert "two.jsonl, line 1" in told


@pytest.mark.slow
def test_evaluate_log_names_the_missing_extra(annotated: Path, tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04")
    code = "import sys; sys.modules['inspect_ai'] = None; from reasonknee_datasets.cli import main; sys.exit(main())"
    words = ["evaluate", "--data", annotated, "--predictions", tmp_path / "log.eval", "--out", tmp_path / "report"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert 'On Python 3.11 or newer, run: pip install "reasonknee_datasets[bench]"' in done.stderr


@pytest.mark.parametrize("command", ["evaluate", "bench plan", "bench compare", "bench errors"])
def test_help_lists_the_questions_of_every_category(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run(*command.split(), "--help")
    text = re.sub(r"\s+", " ", re.sub(r"-\n\s+", "-", capsys.readouterr().out))
    for category in {question.category for question in QUESTIONS.values() if question.in_records}:
        ours = [question.id for question in QUESTIONS.values() if question.category == category]
        assert f"{category} {min(ours)}" + (f"-{max(ours)}" if len(ours) > 1 else "") in text
    if command != "bench plan":
        assert f"attributes alone: {', '.join(ATTRIBUTES)}" in text
        assert "such as slice0-x1-y2" in text


def test_bench_plan_help_lists_every_condition(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run("bench", "plan", "--help")
    shown = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", shown) for name in CONDITIONS)
    assert "  inspect eval reasonknee_datasets/reasonknee_bench --model PROVIDER/MODEL" in shown
