"""The authors' result files: written as their scripts write them, and read for what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.bench.answers import REASONS, write
from reasonknee_datasets.bench.arrays import NONE, Truth, take
from reasonknee_datasets.bench.predictions import Predictions
from reasonknee_datasets.bench.reference_results import is_official_file, read_official_results
from reasonknee_datasets.bench.truth import open_data, read_truth
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS
from reasonknee_datasets.sources import Repository

Entries = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def data(prepared: Path) -> Repository:
    return open_data(prepared)


@pytest.fixture(scope="module")
def truth(data: Repository) -> Truth:
    return read_truth(data, "test")


@pytest.fixture(scope="module")
def knees(data: Repository) -> dict[str, dict[str, Any]]:
    """The test split's volumes by id, as the split files list them."""
    shards = data.manifest.shards("volumes", "test")
    return {row["id"]: row for shard in shards for row in pq.read_table(Path(data.root) / shard.path).to_pylist()}


def key_of(knee: dict[str, Any], question: int) -> str:
    side = {"right": 1, "left": 2}[knee["side"]]
    # The scripts read the patient through pandas, as a number.
    return f"{int(knee['patient'])}_{knee['visit']}_{knee['study']}_{knee['series']}_{side}_{question}"


def true_grades(truth: Truth, row: int) -> dict[str, int | None]:
    pairs = zip(truth.slots[row].tolist(), truth.grades[row].tolist(), strict=True)
    return {SLOTS[slot].attribute: None if grade == NONE else grade for slot, grade in pairs if slot != NONE}


def run_script(
    truth: Truth, knees: dict[str, Any], model: str = "o1", failing: dict[str, str] | None = None
) -> Entries:
    """Do what the scripts do, with a model that knows; ``failing`` names ids whose request or JSON fails."""
    rows = {name: row for row, name in enumerate(truth.ids)}
    results: Entries = {}
    result: Any = None
    tokens: dict[str, int] = {}
    for volume, knee in knees.items():
        for question in QUESTIONS:
            name = f"{volume}/q{question:02d}"
            fails = (failing or {}).get(name)
            grades = (
                true_grades(truth, rows[name]) if name in rows else dict.fromkeys(QUESTIONS[question].attributes, 0)
            )
            text = write(question, grades)
            counts = {
                "total_tokens": 4000 + question + len(text),
                "completion_tokens": len(text),
                "prompt_tokens": 4000,
            }
            counts["reasoning_tokens"] = 64
            if model == "o1":
                if fails != "request":
                    tokens = counts
                    if fails != "json":
                        result = json.loads(text)
            elif fails == "request":
                result, tokens = {"error": "CUDA out of memory"}, dict.fromkeys(counts, 0)
            else:
                tokens = counts
                result = {"response": f"Sure! {text}"} if fails == "json" else json.loads(text)
            results[key_of(knee, question)] = {
                "question": "...",
                f"{model}_result": result,
                **{f"{model}_{what}": count for what, count in tokens.items()},
            }
    return results


def save(path: Path, entries: object) -> Path:
    path.write_text(json.dumps(entries, indent=2), encoding="utf-8")
    return path


def named(predictions: Predictions) -> dict[str, int]:
    return {problem.kind: problem.count for problem in predictions.problems}


@pytest.mark.parametrize("model", ["o1", "qwen25vl"])
def test_an_oracle_is_read_back(truth: Truth, data: Repository, knees: Any, tmp_path: Path, model: str) -> None:
    path = save(tmp_path / "results.json", run_script(truth, knees, model))
    predictions = read_official_results(path, truth, data=data)
    np.testing.assert_array_equal(predictions.answers.grades, truth.grades)
    assert predictions.answers.given.all()
    assert named(predictions) == {"unscored": 7 * len(knees)}
    assert predictions.identity.model == {"o1": "o1", "qwen25vl": "Qwen2.5-VL"}[model]
    assert predictions.identity.condition == {"o1": "official_o1", "qwen25vl": "official"}[model]
    assert predictions.identity.records == len(truth)
    # Without the repository the ids tell, where they kept their zeros or a patient's seven digits do.
    np.testing.assert_array_equal(read_official_results(path, truth).answers.grades, truth.grades)


def test_stale_answers_are_flagged(truth: Truth, data: Repository, knees: Any, tmp_path: Path) -> None:
    """Two failed requests in a row keep one answer; JSON that fails keeps it with its own token counts."""
    volume, other = list(knees)[:2]
    failing = {f"{volume}/q{n:02d}": "request" for n in (10, 11, 42)}
    failing |= {f"{other}/q01": "request", f"{volume}/q20": "json"}
    path = save(tmp_path / "results.json", run_script(truth, knees, failing=failing))
    predictions = read_official_results(path, truth, data=data)
    stale = [name for name, why in failing.items() if why == "request"]
    (problem,) = (each for each in predictions.problems if each.kind == "stale")
    assert problem.count == 4
    assert set(problem.examples) == set(stale)
    assert not problem.stops
    answers = predictions.answers
    for row, name in enumerate(truth.ids):
        slots = truth.slots[row] != NONE
        if name in stale:
            assert (answers.grades[row] == NONE).all()
            assert (answers.reasons[row][slots] == REASONS.index("provider_error")).all()
        elif name == f"{volume}/q20":
            assert (answers.reasons[row][slots] == REASONS.index("wrong_key")).all()
        else:
            np.testing.assert_array_equal(answers.grades[row], truth.grades[row])


def test_equal_answers_ignore_token_counts(truth: Truth, knees: Any, tmp_path: Path) -> None:
    entries = run_script(truth, knees)
    first, second = list(entries)[40:42]
    entries[second]["o1_result"] = entries[first]["o1_result"]
    assert "stale" not in named(read_official_results(save(tmp_path / "r.json", entries), truth))
    for what in ("total", "completion", "prompt", "reasoning"):
        entries[second][f"o1_{what}_tokens"] = entries[first][f"o1_{what}_tokens"]
    assert named(read_official_results(save(tmp_path / "r.json", entries), truth))["stale"] == 1


def test_failures_of_the_qwen_scripts(truth: Truth, data: Repository, knees: Any, tmp_path: Path) -> None:
    volume = next(iter(knees))
    failing = {f"{volume}/q{n:02d}": "request" for n in (10, 11)} | {f"{volume}/q20": "json"}
    path = save(tmp_path / "results.json", run_script(truth, knees, "qwen25vl", failing))
    clean = read_official_results(path, truth, data=data)
    assert "stale" not in named(clean)
    rows = {name: row for row, name in enumerate(truth.ids)}
    for number in (10, 11):
        assert clean.answers.reasons[rows[f"{volume}/q{number}"], 0] == REASONS.index("provider_error")
    text = rows[f"{volume}/q20"]
    np.testing.assert_array_equal(clean.answers.grades[text], truth.grades[text])
    official = read_official_results(path, truth, data=data, official=True)
    assert official.answers.reasons[text, 0] == REASONS.index("not_json")
    others = np.arange(len(truth)) != text
    np.testing.assert_array_equal(official.answers.grades[others], clean.answers.grades[others])


def test_an_interrupted_entry_is_empty(truth: Truth, knees: Any, tmp_path: Path) -> None:
    entries = run_script(truth, knees)
    last = list(entries)[61]
    entries[last] = {}
    predictions = read_official_results(save(tmp_path / "r.json", entries), truth)
    assert predictions.answers.reasons[61, 0] == REASONS.index("empty")
    assert predictions.answers.given[61]


def test_half_a_file_gives_its_whole_entries(truth: Truth, knees: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "r.json", run_script(truth, knees))
    text = path.read_text()
    path.write_text(text[: text.index(list(run_script(truth, knees))[30]) + 60])
    with pytest.raises(BenchError, match=r"half_line \(1, .*after 30 whole entries"):
        read_official_results(path, truth)
    predictions = read_official_results(path, truth, strict=False)
    assert predictions.answers.given.sum() == 30
    np.testing.assert_array_equal(predictions.answers.grades[:30], truth.grades[:30])


def test_keys_of_other_knees_and_no_keys(truth: Truth, data: Repository, knees: Any, tmp_path: Path) -> None:
    entries = run_script(truth, knees)
    entry = next(iter(entries.values()))
    knee = next(iter(knees.values()))
    train = pq.read_table(Path(data.root) / data.manifest.shards("volumes", "train")[0].path).to_pylist()[0]
    entries[key_of(train, 5)] = entry
    entries[key_of(knee | {"series": "99999999"}, 5)] = entry
    entries[key_of(knee | {"patient": "1234567"}, 5)] = entry
    entries["nonsense"] = entry
    path = save(tmp_path / "r.json", entries)
    with pytest.raises(BenchError, match="There are 3 kinds of problems") as caught:
        read_official_results(path, truth, data=data)
    for shown in (f"{train['id']}/q05 is of train", "unknown_id (2, ", "malformed (1, ", "key nonsense"):
        assert shown in str(caught.value)
    predictions = read_official_results(path, truth, data=data, strict=False)
    np.testing.assert_array_equal(predictions.answers.grades, truth.grades)


def test_a_key_that_stands_twice(truth: Truth, knees: Any, tmp_path: Path) -> None:
    text = json.dumps(run_script(truth, knees))
    path = tmp_path / "r.json"
    key = key_of(next(iter(knees.values())), 1)
    path.write_text(f'{text[:-1]}, "{key}": {{"o1_result": {{"a": 1}}}}}}')
    with pytest.raises(BenchError, match=rf"duplicate \(1, .*{truth.ids[0]} "):
        read_official_results(path, truth)
    np.testing.assert_array_equal(read_official_results(path, truth, strict=False).answers.grades, truth.grades)
    path.write_text(text + text)
    with pytest.raises(BenchError, match=r"not_json \(1, .*text after the end of the object"):
        read_official_results(path, truth)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"empty \(1, there are no predictions\)"),
        ("{}", r"empty \(1, there are no predictions\)"),
        (
            "[1]",
            r"r\.json does not hold a JSON object, but begins with \[1\]\. Files of JSON lines",
        ),
        (
            '{"1_00M_2_3_1_1": {"question": "?"}}',
            r"holds no answers as o1_result or qwen25vl_result",
        ),
    ],
)
def test_files_that_are_none(truth: Truth, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=message):
        read_official_results(path, truth, strict=False)


def test_no_file_and_no_text(truth: Truth, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"The result file .* cannot be read as text: .*No such file"):
        read_official_results(tmp_path / "r.json", truth)
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BenchError, match="cannot be read as text"):
        read_official_results(tmp_path / "r.json", truth)


def test_answers_of_two_models(truth: Truth, knees: Any, tmp_path: Path) -> None:
    entries = run_script(truth, knees)
    for key, other in run_script(truth, knees, "qwen25vl").items():
        entries[key] |= other
    entries[next(iter(entries))]["o1_result"] = {}
    path = save(tmp_path / "r.json", entries)
    with pytest.raises(
        BenchError,
        match=r"holds answers of several models: o1_result \(\d+\), qwen25vl_result \(\d+\)\. Name one: read_official",
    ):
        read_official_results(path, truth)
    with pytest.raises(BenchError, match=r"The file has no answers of model 'qwen'\. Did you mean 'qwen25vl'"):
        read_official_results(path, truth, model="qwen")
    np.testing.assert_array_equal(read_official_results(path, truth, model="qwen25vl").answers.grades, truth.grades)
    assert (read_official_results(path, truth, model="o1").answers.grades[0] == NONE).all()


def test_usage_leaves_stale_answers_out(truth: Truth, knees: Any, tmp_path: Path) -> None:
    some = take(truth, truth.question <= 12)
    volume = next(iter(knees))
    whole = read_official_results(save(tmp_path / "a.json", run_script(truth, knees)), some, strict=False)
    failing = {f"{volume}/q05": "request"}
    less = read_official_results(
        save(tmp_path / "b.json", run_script(truth, knees, failing=failing)), some, strict=False
    )
    assert whole.usage["reasoning_tokens"] == 64 * len(some)
    assert less.usage["reasoning_tokens"] == 64 * (len(some) - 1)


def test_result_files_are_told_from_lines(truth: Truth, knees: Any, tmp_path: Path) -> None:
    assert is_official_file(save(tmp_path / "r.json", run_script(truth, knees)))
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": truth.ids[0], "text": "{}"}) + "\n")
    assert not is_official_file(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text("")
    assert not is_official_file(tmp_path / "p.jsonl")
