"""`reasonknee evaluate`, `bench run` and `bench compare` as their user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasonknee_datasets.bench.answers import write
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.cli import main
from reasonknee_datasets.moaks import QUESTIONS
from tests.model_server import Hang, ModelServer, Say

# A model that any user could write: it looks at the pictures, and answers 0 whatever they show.
MODEL = """
from reasonknee_datasets.moaks import write_answer, QUESTIONS
asked = []
def zero(request):
    asked.append(request)
    return '{"MOAKS_scores": 0}'
"""

# This one says what it was shown.
LOOKING = """
import json
def look(request):
    return json.dumps([frames.pixels.shape[1:] for frames in request.frames for _ in range(len(frames))])
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
        (["evaluate", "--questions", "15-1"], "must be numbers such as 1-15,34"),
        (["bench", "run", "--timeout", "0"], "must be seconds above 0"),
        (["bench", "run", "--frames", "0"], "must be 1 or more"),
        (["bench", "run", "--price", "cheap"], "must be two or three numbers"),
    ],
)
def test_wrong_words_are_answered(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert told in capsys.readouterr().err


def test_frames_are_as_many_and_as_large_as_asked(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(LOOKING, encoding="utf-8")
    words = ["--data", prepared, "--via", "callable", "--questions", "60", "--patients", "1"]
    words += ["--frames", "3", "--size", "24", "--model", "looking:look"]
    for condition in ("guided", "region_given"):
        journal = tmp_path / f"{condition}.jsonl"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            assert run("bench", "run", *words, "--condition", condition, "--journal", journal) == 0
        first, *rest = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
        assert "count=3" in first["run"]["frames"]
        assert "size=24" in first["run"]["frames"]
        assert all((len(shape), max(shape[0]), len(set(shape))) == (3, 24, 1) for shape in map(_shapes, rest))


def _shapes(line: dict[str, str]) -> list[tuple[int, ...]]:
    return [tuple(shape) for shape in json.loads(line["text"])]


def test_settings_reach_the_endpoint(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    words = ["--data", prepared, "--model", "m", "--questions", "60", "--patients", "1", "--max-tokens", "50"]
    words += ["--reasoning-effort", "low", "--response-format", "json_object", "--timeout", "20"]
    words += ["--tokens-field", "max_completion_tokens", "--size", "24", "--journal", tmp_path / "a.jsonl"]
    with ModelServer(lambda number, body: Say()) as server:
        assert run("bench", "run", *words, "--base-url", server.url) == 0
        bodies = [seen.body for seen in server.seen]
    assert bodies
    for body in bodies:
        assert body["reasoning_effort"] == "low"
        assert body["response_format"] == {"type": "json_object"}
        assert body["max_completion_tokens"] == 50
        assert "max_tokens" not in body
    stated = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()[0])["run"]["generation"]
    assert stated["reasoning_effort"] == "low"
    assert stated["response_format"] == "json_object"


def test_a_silent_endpoint_is_waited_for_as_long_as_said(prepared: Path, tmp_path: Path) -> None:
    """Both ways on: left to the next run, or recorded as failed and scored as such."""
    pytest.importorskip("openai")
    words = ["--data", prepared, "--model", "m", "--questions", "60", "--patients", "1", "--size", "24"]
    words += ["--timeout", "0.2", "--attempts", "1"]
    counts = {}
    with ModelServer(lambda number, body: Hang()) as server:
        for way in ("leave", "record"):
            journal = tmp_path / f"{way}.jsonl"
            more = ("--base-url", server.url, "--journal", journal, "--on-failure", way)
            assert run("bench", "run", *words, *more) == (way == "leave")
            counts[way] = len(journal.read_text(encoding="utf-8").splitlines()) - 1
    truth = read_truth(prepared, "test", patients=1, filters=[("question_id", "in", [60])])
    assert counts == {"leave": 0, "record": len(truth)}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--via", "callable", "--device", "cpu"], "--device must go with --via transformers"),
        (["--via", "transformers", "--timeout", "3"], "--timeout must go with --via endpoint"),
        (["--via", "callable", "--tokens-field", "max_tokens"], "--tokens-field must go with --via endpoint"),
        (["--condition", "official", "--frames", "3", "--dry-run"], "an official condition must show what the script"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(
    words: list[str], told: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "run", "--data", prepared, "--model", "m", "--journal", tmp_path / "a.jsonl", *words) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_a_function_that_is_not_there_is_named(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", prepared, "--model", "json:nothing", "--via", "callable", "--journal", tmp_path / "a.jsonl")
    assert run("bench", "run", *words) == 1
    assert "a callable model must be importable, got json:nothing" in capsys.readouterr().err
