"""Reports answer a reader's questions: tables, words and warnings."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.bench.baseline_comparison import ABOUT
from reasonknee_datasets.bench.comparison import compare
from reasonknee_datasets.bench.evaluation import Evaluation, ReadOptions, evaluate
from reasonknee_datasets.bench.group_results import Estimate
from reasonknee_datasets.bench.report import comparison_tables, result_tables, write_comparison, write_report
from reasonknee_datasets.bench.report.export import to_csv, to_html, to_latex, to_markdown
from reasonknee_datasets.bench.report.group_tables import (
    LEGEND,
    Table,
    about_intervals,
    decomposition_tables,
    format_estimate,
    group_name,
    missing_intervals,
    signed,
)
from reasonknee_datasets.bench.report.plots import _MARKERS
from reasonknee_datasets.bench.results import ErrorDecomposition, LostShares, Sampling
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS

Line = dict[str, Any]
_FEW = (19, 30)


def slots(data: Path, split: str, *, wrong: bool = False) -> list[Line]:
    truth = read_truth(data, split, filters=[("question_id", "in", [*_FEW])])
    lines = []
    for row, name in enumerate(truth.ids):
        asked = QUESTIONS[int(truth.question[row])].slots
        known = zip(asked, truth.grades[row].tolist(), strict=False)
        grades = {slot.attribute: slot.high - grade if wrong else grade for slot, grade in known if grade >= 0}
        lines.append({"id": name, "slots": grades})
    return lines


@pytest.fixture(scope="module")
def wrong(annotated: Path) -> Evaluation:
    lines = slots(annotated, "test", wrong=True)
    lines[0]["slots"] = {}
    return evaluate(lines[:-1], annotated, options=ReadOptions(questions=_FEW), model="wrong", resamples=100)


@pytest.fixture(scope="module")
def train(annotated: Path) -> Evaluation:
    lines = slots(annotated, "train", wrong=True)
    return evaluate(lines, annotated, options=ReadOptions(split="train", questions=_FEW), resamples=100)


def table(done: Evaluation, title: str) -> Table:
    return next(each for each in result_tables(done.results) if each.title == title)


class TestResultTables:
    def test_metrics_by_category_and_attribute(self, wrong: Evaluation) -> None:
        results = wrong.results
        titles = {each.title for each in result_tables(results)}
        for group in results.groups:
            if group.by not in ("category", "attribute"):
                continue
            title = f"Metrics of {group.by} {group.value}".replace("_", " ")
            assert title in titles
            found = table(wrong, title)
            assert found.columns[2:] == (
                *("value", "majority", "model less majority", "patients", "slots", "positives"),
            )
            expected = [name for pool in group.pools for name in pool.rules["missing_as_wrong"].metrics]
            assert [row[1] for row in found.rows if row[0] != "all slots"] == expected
            values = [value for pool in group.pools for value in pool.rules["missing_as_wrong"].metrics.values()]
            assert [row[2] for row in found.rows if row[0] != "all slots"] == [
                format_estimate(value) for value in values
            ]

    def test_majority_of_pools_is_its_own_score(self, annotated: Path, wrong: Evaluation) -> None:
        found = table(wrong, "Metrics of attribute size")
        row = next(row for row in found.rows if row[1] == "mae")
        assert float(row[3]) >= 0
        assert row[4].startswith(("+", "-", "**"))

    def test_captions_name_columns_that_are_there(self, wrong: Evaluation) -> None:
        for found in result_tables(wrong.results):
            if "majority: record_exact" in found.caption or "Majority: question_majority" in found.caption:
                assert "majority" in found.columns, found.title

    def test_rules_are_named_by_what_they_do(self, wrong: Evaluation) -> None:
        names = {name for found in result_tables(wrong.results) for name in found.columns}
        assert not names & {"wrong", "parsed", "prior"}
        assert {"missing count as wrong", "missing left out", "missing replaced by train majority"} <= names

    def test_strict_counts_texts_only(self, annotated: Path, wrong: Evaluation) -> None:
        covered = wrong.results.group().coverage
        assert (covered.texts, covered.strict) == (0, 0)
        assert not any("json.loads" in row[0] for row in table(wrong, "Coverage").rows)
        lines: list[Line] = [{"id": line["id"], "text": "{}"} for line in slots(annotated, "test")[:3]]
        lines[2]["text"] = "no json"
        read = evaluate(lines, annotated, options=ReadOptions(questions=_FEW), resamples=0).results.group().coverage
        assert (read.texts, read.strict) == (3, 2)

    def test_questions_have_names(self, wrong: Evaluation) -> None:
        names = [row[0] for row in table(wrong, "By question").rows]
        asked = QUESTIONS[19]
        assert f"q19 {asked.finding}, {asked.subregion}".replace("_", " ") in names

    def test_worst_cases_are_wrong_answers(self, wrong: Evaluation) -> None:
        assert wrong.results.worst
        for case in wrong.results.worst:
            assert any(grade is not None and grade != case.truth[name] for name, grade in case.answer.items())
        assert "2 records without a grade in every slot" in table(wrong, "Worst cases").caption

    def test_no_column_is_empty(self, wrong: Evaluation) -> None:
        assert wrong.results.group().localisation is None
        for found in result_tables(wrong.results):
            for place, name in enumerate(found.columns):
                assert any(row[place] for row in found.rows), (found.title, name)
        assert "IoU" not in table(wrong, "Worst cases").columns

    def test_captions_explain_marks_that_are_there(self, wrong: Evaluation, train: Evaluation) -> None:
        for found in (*result_tables(wrong.results), *result_tables(train.results)):
            marks = [cell for row in found.rows for cell in row if cell.startswith("**") or cell.endswith(" worse")]
            assert (LEGEND in found.caption) == bool(marks), found.title

    def test_caption_baselines_are_in_the_table(self, wrong: Evaluation) -> None:
        for title in ("Baselines", "Baselines by the other totals"):
            found = table(wrong, title)
            named = {base.name for base in wrong.results.baselines if f"{base.name}: " in found.caption}
            assert named == {row[0] for row in found.rows}


class TestControls:
    def lines(self, data: Path, condition: str, model: str = "m", *, wrong: bool = False) -> list[Line]:
        truth = read_truth(data, "test")
        stated = {"run": {"model": model, "condition": condition, "split": "test"}}
        assert len(truth)
        return [stated, *slots(data, "test", wrong=wrong)]

    def test_a_control_is_a_baseline(self, annotated: Path) -> None:
        how = ReadOptions(questions=_FEW)
        blind = self.lines(annotated, "text_only", wrong=True)
        done = evaluate(self.lines(annotated, "guided"), annotated, options=how, controls=[blind], resamples=0)
        base = next(base for base in done.results.baselines if base.name == "text_only")
        alone = evaluate(blind, annotated, options=how, resamples=0).results
        assert base.totals["missing_as_wrong"]["record_exact"].value == alone.total().value
        row = next(
            row
            for row in base.differences
            if (row.by, row.metric, row.rule) == ("all", "record_exact", "missing_as_wrong")
        )
        assert row.difference.value == 1 - alone.total().value  # type: ignore[operator]
        assert any(row[0] == "text_only" for row in table(done, "Baselines").rows)

    @pytest.mark.parametrize(
        ("condition", "model", "message"),
        [
            ("guided", "m", "'guided' is not a control"),
            ("text_only", "n", "is of model 'n', the predictions are of 'm'"),
        ],
    )
    def test_other_runs_are_refused(self, annotated: Path, condition: str, model: str, message: str) -> None:
        other = self.lines(annotated, condition, model)
        with pytest.raises(BenchError, match=message):
            evaluate(
                self.lines(annotated, "guided"),
                annotated,
                options=ReadOptions(questions=_FEW),
                controls=[other],
                resamples=0,
            )


class TestWarnings:
    def test_worse_than_a_baseline(self, train: Evaluation) -> None:
        majority = next(base for base in train.results.baselines if base.name == "question_majority")
        headline = next(row for row in majority.differences if (row.by, row.metric) == ("all", "record_exact"))
        assert headline.difference.high is not None
        assert headline.difference.high < 0
        assert any("record_exact is worse than question_majority" in told for told in train.results.warnings)

    def test_below_a_baseline_without_an_interval(self, wrong: Evaluation) -> None:
        done = evaluate_without_interval(wrong)
        told = [each for each in done.results.warnings if "record_exact is below question_majority" in each]
        assert len(told) == 1
        assert "without an interval (none were asked for)" in told[0]

    def test_train_is_in_sample(self, train: Evaluation, wrong: Evaluation) -> None:
        assert any("in-sample" in told for told in train.results.warnings)
        assert not any("in-sample" in told for told in wrong.results.warnings)


def evaluate_without_interval(done: Evaluation) -> Evaluation:
    lines = slots(Path(str(done.repository.root)), "test", wrong=True)
    return evaluate(lines, done.repository, options=ReadOptions(questions=_FEW), resamples=0)


def test_about_intervals_says_why_there_are_none() -> None:
    assert about_intervals(Sampling(2000, 0, 0.95, 1)) == (
        "No intervals: 1 patient; an interval needs at least 10 patients."
    )
    assert about_intervals(Sampling(0, 0, 0.95, 50)) == "No intervals: no resamples were asked for."
    assert "percentiles of 2,000 resamples of 50 patients" in about_intervals(Sampling(2000, 0, 0.95, 50))


def test_write_report_explains_missing_intervals_once(wrong: Evaluation, tmp_path: Path) -> None:
    assert 0 < wrong.results.sampling.patients < 10
    write_report(wrong, tmp_path, pictures=0)
    told = [line for line in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines() if "No interval" in line]
    assert told == [about_intervals(wrong.results.sampling)]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("q19", "q19 cartilage lesion, femur medial central"),
        ("q60", "q60 anterior cruciate ligament"),
        ("q61", "q61 posterior cruciate ligament"),
    ],
)
def test_group_name_does_not_repeat_the_subregion(question: str, name: str) -> None:
    assert group_name("question", question) == name


def test_table_leaves_out_empty_columns() -> None:
    found = Table("T", ("", "empty", "n"), (("", "", "1"), ("b", "", "")), "c")
    assert (found.columns, found.rows) == (("", "n"), (("", "1"), ("b", "")))
    assert Table("T", ("a", "b"), ()).columns == ("a", "b")


def test_every_baseline_has_its_own_marker() -> None:
    graders = [name for name in ABOUT if "box" not in name or name == "box_only"]
    assert len(graders) <= len(set(_MARKERS)) == len(_MARKERS)


def test_signed_draws_a_loss_unlike_a_gain() -> None:
    assert signed(Estimate(0.1, 0.05, 0.2)) == "**+0.100 [+0.050, +0.200]**"
    assert signed(Estimate(-0.1, -0.2, -0.05)) == "-0.100 [-0.200, -0.050] worse"
    assert signed(Estimate(-0.1, -0.2, -0.05), "mae") == "**-0.100 [-0.200, -0.050]**"
    assert signed(Estimate(0.1, 0.05, 0.2), "centre_mm") == "+0.100 [+0.050, +0.200] worse"
    assert signed(Estimate(0.1, 0.05, 0.2), "volume_ratio") == "+0.100 [+0.050, +0.200]"
    assert signed(Estimate(-0.132, no_interval="few_patients")) == "-0.132 [too few patients]"


def test_to_csv_splits_intervals() -> None:
    rows = (("a", "**+0.1 [+0.0, +0.2]**"), ("=b", "0.5 [too few patients]"), ("c", "1,234"))
    found = list(csv.DictReader(io.StringIO(to_csv([Table("T", ("name", "x"), rows)]))))
    assert [row["x"] for row in found] == ["+0.1", "0.5", "1234"]
    assert (found[0]["x low"], found[0]["x high"]) == ("+0.0", "+0.2")
    assert found[1]["x no interval"] == "too few patients"
    assert found[1]["name"] == "'=b"


def test_to_csv_writes_plain_numbers() -> None:
    rows = (("a", "76,384", "88.9%"), ("b", "–", ""))
    found = list(csv.DictReader(io.StringIO(to_csv([Table("T", ("name", "x", "share"), rows)]))))
    assert [(row["x"], row["share"]) for row in found] == [("76384", "0.889"), ("", "")]


def test_missing_intervals_explains_each_reason_once() -> None:
    few, whole = Estimate(0.7, no_interval="few_patients"), Estimate(0.7, 0.6, 0.8)
    sampling = Sampling(resamples=2000, seed=0, level=0.95, patients=14)
    assert [line[:36] for line in missing_intervals(sampling, [few, whole, few])] == [
        "No interval, too few patients: fewer"
    ]
    assert not list(missing_intervals(sampling, [whole, Estimate(None, no_interval="undefined")]))
    assert not list(missing_intervals(replace(sampling, patients=9), [few]))


def test_decomposition_tables_call_no_gain_worse() -> None:
    """Below 0 a run lost less than with the true region."""
    grading = Estimate(0.3, 0.2, 0.4)
    rows = [
        LostShares("own_region", "all", "all", grading, Estimate(value, value - 0.1, value + 0.1), 100, 20, 30)
        for value in (0.2, 0.0, -0.2)
    ]
    (found, _) = decomposition_tables(ErrorDecomposition(RunMetadata(), (), Sampling(2000, 0, 0.95, 20), tuple(rows)))
    assert [row[3] for row in found.rows] == [
        "**+0.200 [+0.100, +0.300]**",
        "+0.000 [-0.100, +0.100]",
        "-0.200 [-0.300, -0.100]",
    ]
    assert "**bold**" in found.caption


def test_to_latex_escapes() -> None:
    text = to_latex([Table("50 % & more", ("a_b", "x"), ((r"\input{#1}", "**1.0**"),))])
    assert r"\caption{50 \% \& more}" in text
    assert r"\textbackslash{}input\{\#1\} & \textbf{1.0} \\" in text


def test_to_html_draws_losses_without_scrolling() -> None:
    page = to_html("T", tables=[Table("x", ("a", "d"), (("one", "-0.1 [-0.2, -0.0] worse"),))])
    assert '<td class="number worse">' in page
    assert "overflow-x" not in page


def test_write_report_states_split_and_unscored(wrong: Evaluation, tmp_path: Path) -> None:
    write_report(wrong, tmp_path, pictures=0)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    top = text[: text.index("## ")]
    missing = wrong.results.group().coverage.missing_truth_records
    assert "on split test" in top
    assert f"Not scored: {missing}" in top
    assert "because a true grade is missing" in top
    assert "1 record without a prediction" in top
    found = list(csv.DictReader((tmp_path / "report.csv").open(encoding="utf-8")))
    tables = result_tables(wrong.results)
    assert {each.title for each in tables} <= {row["table"] for row in found}
    assert all(name for each in tables for name in each.columns)  # a column of the CSV file is found by its name
    stated = {row["field"]: row["stated"] for row in found if row["table"] == "Run metadata"}
    assert stated["split"] == "test"
    assert stated["records"] == str(len(wrong.predictions.answers.given))
    marked = [
        each
        for each in tables
        if any(cell.startswith("**") or cell.endswith(" worse") for row in each.rows for cell in row)
    ]
    assert all("**bold**" in each.caption for each in marked)
    assert r"\caption{Metrics of attribute size." in (tmp_path / "report.tex").read_text(encoding="utf-8")


def test_write_comparison_is_short(wrong: Evaluation, tmp_path: Path) -> None:
    compared = compare(wrong, replace(wrong), resamples=20)
    write_comparison(compared, tmp_path)
    lines = (tmp_path / "comparison.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 100
    rows = sum(len(each.rows) for each in comparison_tables(compared))
    assert rows == len(compared.differences)
    frame = compared.to_pandas()
    assert len(frame) == len(compared.differences)
    assert (frame["difference"].dropna() == 0).all()


def test_results_to_pandas(wrong: Evaluation) -> None:
    frame = wrong.results.to_pandas()
    size = frame.query(
        "by == 'attribute' and group == 'size' and metric == 'mae' and rule == 'missing_as_wrong' and kind == 'pool'"
    )
    pools = wrong.results.group("attribute", "size").pools
    assert size["value"].tolist() == [pool.rules["missing_as_wrong"].metrics["mae"].value for pool in pools]
    headline = frame.query("by == 'all' and metric == 'record_exact' and rule == 'missing_as_wrong'")
    assert headline["value"].item() == wrong.results.total().value


class TestToMarkdown:
    def test_report_begins_with_the_headline(self, wrong: Evaluation) -> None:
        tables = result_tables(wrong.results)
        text = to_markdown("Report", [], tables)
        opened = text.split("<details>")[0]
        shown = [line.removeprefix("## ") for line in opened.splitlines() if line.startswith("## ")]
        assert shown[:3] == ["Totals", "Baselines", "By category"]
        assert "<details><summary>Metrics of category cartilage lesion</summary>" in text
        assert text.count("<details>") == text.count("</details>") == sum(t.folded and not t.detail for t in tables)
        for title in ("By subregion", "By question", "Worst cases", "By scale"):
            assert title not in text
            assert f"\n{title}," in to_csv(tables)

    def test_a_caption_that_tables_share_stands_once(self) -> None:
        rows = (("a", "1"),)
        tables = [Table(name, ("", "n"), rows, caption) for name, caption in (("A", "c1"), ("B", "c1"), ("C", "c2"))]
        text = to_markdown("", [], tables)
        assert (text.count("c1."), text.count("c2.")) == (1, 1)

    def test_baselines_table_holds_the_headline_only(self, wrong: Evaluation) -> None:
        assert {row[1] for row in table(wrong, "Baselines").rows} == {"record_exact"}
        assert "record_exact" not in {row[1] for row in table(wrong, "Baselines by the other totals").rows}
