"""Error decomposition: lost shares of one model's runs are counted, refused where runs do not fit, and written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.bench.answers import write
from reasonknee_datasets.bench.arrays import Truth
from reasonknee_datasets.bench.comparison import decompose_errors
from reasonknee_datasets.bench.evaluation import Evaluation, evaluate
from reasonknee_datasets.bench.report import write_error_decomposition
from reasonknee_datasets.bench.results import ErrorDecomposition, schema
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.cli import main
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS

_STATED: dict[str, Any] = {"model": "a <b>model</b>", "split": "test", "generation": {"temperature": 0}}


@pytest.fixture(scope="module")
def truth(annotated: Path) -> Truth:
    return read_truth(annotated, "test")


def lines(truth: Truth, wrong: float, **stated: Any) -> list[dict[str, Any]]:
    """Answer rightly but for a share of records, which are the first of one order: more share, more of the same."""
    order = np.random.default_rng(0).random(len(truth))
    found: list[dict[str, Any]] = [{"run": _STATED | stated}]
    for row, name in enumerate(truth.ids):
        slots = QUESTIONS[int(truth.question[row])].slots
        grades = {slot.attribute: int(max(grade, 0)) for slot, grade in zip(slots, truth.grades[row], strict=False)}
        text = "no idea" if order[row] < wrong else write(int(truth.question[row]), grades)
        found.append({"id": name, "text": text})
    return found


@pytest.fixture(scope="module")
def runs(annotated: Path, truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    conditions = {"region_given": 0.25, "jittered_region(shift=0.5, scale=1.0)": 0.4, "own_region": 0.6}
    paths = {}
    for name, wrong in conditions.items():
        more = {"generation": {"temperature": 0, "box_prompts": "x"}} if name == "own_region" else {}
        paths[name] = folder / f"{name.partition('(')[0]}.jsonl"
        text = "\n".join(json.dumps(line) for line in lines(truth, wrong, condition=name, frames=name, **more))
        paths[name].write_text(text + "\n", encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def evaluated(annotated: Path, runs: dict[str, Path]) -> list[Evaluation]:
    return [evaluate(path, annotated, resamples=0) for path in runs.values()]


def test_lost_points_are_grading_plus_localisation(evaluated: list[Evaluation]) -> None:
    given, *others = evaluated
    found = decompose_errors(given, others, resamples=50)
    whole = {row.condition: row for row in found.rows if row.by == "all"}
    assert list(whole) == ["jittered_region(shift=0.5, scale=1.0)", "own_region"]
    for other, row in zip(others, whole.values(), strict=True):
        assert row.grading.value == pytest.approx(1 - given.results.total().value)  # type: ignore[operator]
        lost = given.results.total().value - other.results.total().value  # type: ignore[operator]
        assert row.region.value == pytest.approx(lost)
        assert lost > 0.05
    assert found.sampling.patients == given.results.sampling.patients
    assert ErrorDecomposition.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.slow
def test_from_the_command_line(annotated: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    words = ["bench", "errors", *runs.values(), "--data", annotated, "--out", tmp_path / "out", "--resamples", "20"]
    assert main([str(word) for word in words]) == 0
    item = json.loads((tmp_path / "out" / "error_decomposition.json").read_text(encoding="utf-8"))
    jsonschema.validate(item, schema(ErrorDecomposition))
    page = (tmp_path / "out" / "error_decomposition.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;model" in page
    assert "<b>model" not in page
    assert "SYNTHETIC" in page
    with (tmp_path / "out" / "error_decomposition.csv").open(encoding="utf-8", newline="") as file:
        table = {(row["run"], row["group"]): row for row in csv.DictReader(file) if row["table"] == "Lost shares"}
    told = (tmp_path / "out" / "error_decomposition.md").read_text(encoding="utf-8")
    row = next(line for line in told.splitlines() if line.startswith("| own_region | everything |"))
    region = next(row for row in item["rows"] if (row["condition"], row["by"]) == ("own_region", "all"))["region"]
    assert f"{region['value']:+.3f}" in row
    assert table["own_region", "everything"]["lost because of the region"] == f"{region['value']:+.3f}"
    assert "own\\_region & everything" in (tmp_path / "out" / "error_decomposition.tex").read_text(encoding="utf-8")


def changed(run: Evaluation, **fields: Any) -> Evaluation:
    identity = replace(run.predictions.identity, **fields)
    return replace(run, predictions=replace(run.predictions, identity=identity))


def test_what_would_tell_nothing_is_refused(evaluated: list[Evaluation], tmp_path: Path) -> None:
    given, moved, own = evaluated
    with pytest.raises(BenchError, match="first run is of condition own_region, which does not show the true region"):
        decompose_errors(own, [given])
    with pytest.raises(BenchError, match="first run is of condition None, which does not show the true region"):
        decompose_errors(changed(given, condition=None), [own])
    with pytest.raises(BenchError, match=r"differ in more than the region: model: 'a <b>model</b>' and 'another'"):
        decompose_errors(given, [changed(own, model="another")])
    with pytest.raises(BenchError, match=r"differ in more than the region: generation\.temperature: 0 and 1"):
        decompose_errors(given, [changed(own, generation={"temperature": 1})])
    with pytest.raises(BenchError, match="Both runs are of condition region_given"):
        decompose_errors(given, [given])
    with pytest.raises(BenchError, match="There is no other run"):
        decompose_errors(given, [])
    with pytest.raises(BenchError, match="Two runs are in the condition own_region"):
        decompose_errors(given, [own, own])
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(BenchError, match=r"error_decomposition\.json is not among them"):
        write_error_decomposition(decompose_errors(given, [moved], resamples=0), tmp_path)
