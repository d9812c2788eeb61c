"""Evaluation and reports, from predictions to pages: an oracle, baselines, half a model, and every way to go wrong."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.atomic_files import part_path
from reasonknee_datasets.bench.answers import write
from reasonknee_datasets.bench.arrays import Truth
from reasonknee_datasets.bench.baselines import question_majority
from reasonknee_datasets.bench.comparison import compare
from reasonknee_datasets.bench.evaluation import Evaluation, ReadOptions, evaluate
from reasonknee_datasets.bench.group_results import TOTALS
from reasonknee_datasets.bench.priors import read_priors
from reasonknee_datasets.bench.report import read_report, to_eval_results, to_markdown, write_comparison, write_report
from reasonknee_datasets.bench.report.group_tables import Table
from reasonknee_datasets.bench.results import Results, schema
from reasonknee_datasets.bench.truth import open_data, read_truth
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS

Line = dict[str, Any]
_FEW = (16, 17, 18, 19, 30, 31)


@pytest.fixture(scope="module")
def data(annotated: Path) -> Path:
    return annotated


@pytest.fixture(scope="module")
def truth(data: Path) -> Truth:
    return read_truth(data, "test")


def true_grades(truth: Truth, row: int) -> dict[str, int | None]:
    question = QUESTIONS[int(truth.question[row])]
    grades = truth.grades[row].tolist()
    return {slot.attribute: None if grade < 0 else grade for slot, grade in zip(question.slots, grades, strict=False)}


def oracle(truth: Truth) -> list[Line]:
    return [
        {"id": name, "text": write(int(truth.question[row]), true_grades(truth, row)), "box": truth.boxes[row].tolist()}
        for row, name in enumerate(truth.ids)
    ]


def careless(truth: Truth, share: float, seed: int) -> list[Line]:
    """Grade some records at random, and put every box a little aside."""
    rng = np.random.default_rng(seed)
    lines = oracle(truth)
    for row, line in enumerate(lines):
        if rng.random() < share:
            slots = QUESTIONS[int(truth.question[row])].slots
            grades = {slot.attribute: int(rng.integers(slot.low, slot.high + 1)) for slot in slots}
            line["text"] = write(int(truth.question[row]), grades)
        if rng.random() < 0.05:
            line["text"] = "I'm sorry, but I can't help with that."
    return lines


@pytest.fixture(scope="module")
def half(data: Path, truth: Truth) -> Evaluation:
    return evaluate(careless(truth, 0.5, 1), data, model="half <b>blind</b>", condition="zero_shot", resamples=200)


class TestEvaluate:
    @pytest.mark.slow
    def test_an_oracle_scores_one_everywhere(self, data: Path, truth: Truth) -> None:
        results = evaluate(oracle(truth), data, resamples=50).results
        for group in results.groups:
            for rule in results.rules:
                for name, value in group.totals[rule].metrics.items():
                    assert value.value == 1, (group.by, group.value, rule, name)
            if group.localisation is not None:
                assert group.localisation.units["record"]["iou"].value == 1
                assert group.localisation.units["region"]["acc@0.75"].value == 1
            for pool in group.pools:
                told = pool.rules["missing_as_wrong"].metrics
                assert told["accuracy"].value == 1
                assert told.get("mae", told["accuracy"]).value in (0, 1)

    def test_the_majority_scores_the_counted_frequencies(self, data: Path, truth: Truth) -> None:
        priors = read_priors(open_data(data))
        answered = question_majority(truth, priors).grades
        lines = [
            {
                "id": name,
                "slots": {
                    slot.attribute: int(grade)
                    for slot, grade in zip(QUESTIONS[int(truth.question[row])].slots, answered[row], strict=False)
                },
            }
            for row, name in enumerate(truth.ids)
        ]
        results = evaluate(lines, data, resamples=0).results
        right, records = Counter[int](), Counter[int]()
        for row in range(len(truth)):
            true = true_grades(truth, row).values()
            if None not in true:
                question = int(truth.question[row])
                records[question] += 1
                right[question] += tuple(true) == tuple(lines[row]["slots"].values())  # type: ignore[attr-defined]
        assert results.total().value == sum(right.values()) / sum(records.values())
        for question, count in records.items():
            assert results.total(by="question", value=f"q{question:02d}").value == right[question] / count
        base = next(each for each in results.baselines if each.name == "question_majority")
        assert all(row.difference.value in (0, None) for row in base.differences)
        assert base.totals["missing_as_wrong"]["record_exact"].value == results.total().value

    def test_baselines_stand_beside_the_model(self, half: Evaluation) -> None:
        found = {base.name: base for base in half.results.baselines}
        assert {"question_majority", "overall_majority", "chance", "chance_by_frequency"} <= set(found)
        assert "box_only" not in found  # the region was not given
        chance = found["chance"].totals["missing_as_wrong"]
        assert set(TOTALS) == set(chance)
        assert 0 < chance["record_exact"].value < half.results.total().value  # type: ignore[operator]

    @pytest.mark.slow
    def test_warnings_name_baselines_not_beaten(self, data: Path) -> None:
        # Of train there are enough patients for intervals.
        few = read_truth(data, "train", filters=[("question_id", "in", [*_FEW])])
        reading = ReadOptions(split="train", questions=_FEW)
        results = evaluate(careless(few, 0.6, 3), data, options=reading, resamples=200).results
        assert any("record_exact is worse than question_majority" in one for one in results.warnings)

    def test_given_region_adds_box_grader_baseline(self, data: Path, truth: Truth) -> None:
        some = [line for line in oracle(truth) if line["id"].endswith(("q43", "q44"))]
        reading = ReadOptions(questions=(43, 44))
        results = evaluate(some, data, options=reading, condition="region_given", resamples=20).results
        assert "box_only" in {base.name for base in results.baselines}

    def test_only_the_questions_asked_are_scored(self, data: Path, truth: Truth) -> None:
        some = [line for line in oracle(truth) if line["id"].endswith("/q19")]
        results = evaluate(some, data, options=ReadOptions(questions=(19,)), resamples=0).results
        assert results.group().coverage.records == len(some)

    def test_evaluate_scores_patients_of_the_run(self, data: Path) -> None:
        some = read_truth(data, "test", patients=1, seed=3, filters=[("question_id", "in", [19])])
        stated = {"run": {"patients": 1, "seed": 3, "prompts": {"19": "hash"}, "records": len(some)}}
        results = evaluate(iter([stated, *oracle(some)]), data, resamples=0).results
        assert results.group().coverage.records == results.group().coverage.given == len(some)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"condition": "zeroshot"}, "Did you mean 'zero_shot'"),
            ({"resamples": -1}, "resamples must be 0 or more, got -1"),
            ({"seed": -1}, "seed must be 0 or more, got -1"),
        ],
    )
    def test_wrong_options_are_named(self, data: Path, truth: Truth, options: dict[str, Any], told: str) -> None:
        with pytest.raises(BenchError, match=told):
            evaluate(oracle(truth), data, **options)

    @pytest.mark.slow
    def test_evaluate_scores_one_attribute(self, data: Path, truth: Truth, tmp_path: Path) -> None:
        lines = []
        for row, name in enumerate(truth.ids):
            if int(truth.question[row]) <= 15 and true_grades(truth, row)["size"] is not None:
                lines.append({"id": name, "slots": {"size": true_grades(truth, row)["size"]}})
        reading = ReadOptions(questions=tuple(range(1, 16)), attributes=("size",))
        done = evaluate(lines, data, options=reading, condition="region_given", model="m", resamples=20)
        assert done.results.total().value == 1
        assert {group.value for group in done.results.groups if group.by == "attribute"} == {"size"}
        sizes = truth.grades[truth.question <= 15, 0]
        assert done.results.group().coverage.slots == (sizes >= 0).sum()
        majority = next(base for base in done.results.baselines if base.name == "question_majority")
        assert 0.3 < majority.totals["missing_as_wrong"]["record_exact"].value < 1  # type: ignore[operator]
        write_report(done, tmp_path)
        again = read_report(tmp_path, data)
        assert compare(done, again, resamples=0).total().difference.value == 0
        whole = evaluate(lines, data, options=ReadOptions(questions=reading.questions), model="w", resamples=0)
        assert whole.results.total().value == 0
        with pytest.raises(BenchError, match="attributes"):
            compare(done, whole, resamples=0)

    @pytest.mark.parametrize(
        ("attributes", "told"),
        [(("sise",), "Did you mean 'size'"), (("percent",), r"\d+ questions do not ask for percent, such as 16")],
    )
    def test_attributes_that_are_not_there_are_refused(
        self, data: Path, truth: Truth, attributes: tuple[str, ...], told: str
    ) -> None:
        with pytest.raises(BenchError, match=told):
            evaluate(oracle(truth), data, options=ReadOptions(attributes=attributes), resamples=0)

    @pytest.mark.parametrize("number", [0, 63, 70])
    def test_evaluate_refuses_question_without_records(self, number: int) -> None:
        with pytest.raises(BenchError, match=rf"Records ask questions 1 to 62, and {number} is none of them"):
            ReadOptions(questions=(number,))

    def test_priors_of_another_revision_are_refused(self, data: Path, truth: Truth, tmp_path: Path) -> None:
        copy = shutil.copytree(data, tmp_path / "copy")
        (copy / "priors.json").unlink()
        with pytest.raises(BenchError, match=r"has no priors\.json next to its manifest.* Prepare the release again"):
            evaluate(oracle(truth), copy)


HOSTILE = (
    "gpt\n\n| total | value |\n|---|---|\n| record_exact | **0.99** |\n\n",
    "gpt ![seen](https://e.org/pixel.png)",
    "gpt [click](javascript:alert(1))",
    "gpt [click][1]\n\n[1]: https://e.org",
    "gpt <img src=x onerror=alert(1)> <https://e.org>",
    "gpt `a` \\`b *c* ~~d~~ ![a\\](b) \\[a](b)",
    "gpt|0.99|0.99|",
    "gpt\\",
    "gpt\\|x\\",
    "gpt\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxet",
    "gpt\r# Not synthetic\r\n---\r\n> quoted",
    "# gpt",
    "---",
    "```\n~~~\n    code",
)


def blocks(text: str) -> list[str]:
    """Parse Markdown with tables; return the kind of every block and span, texts left out."""
    pytest.importorskip("markdown_it")
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    spans = [child.type for token in tokens for child in token.children or ()]
    return [token.type for token in tokens] + [kind for kind in spans if kind not in ("text", "text_special")]


@pytest.mark.slow
class TestReport:
    def test_every_file_is_written_and_reads_back(self, half: Evaluation, data: Path, tmp_path: Path) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        written = {path.name for path in write_report(half, tmp_path / "report")}
        assert written == {"results.json", "report.md", "report.html", "report.csv", "report.tex", "outcomes.parquet"}
        assert {path.name for path in (tmp_path / "report").iterdir()} == written
        item = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
        jsonschema.validate(item, schema())
        assert Results.from_json(item) == half.results
        again = read_report(tmp_path / "report", data)
        assert again.truth.ids == half.truth.ids
        np.testing.assert_array_equal(again.predictions.answers.grades, half.predictions.answers.grades)
        np.testing.assert_array_equal(again.predictions.answers.boxes, half.predictions.answers.boxes)
        nothing = compare(half, again, resamples=20)
        assert all(row.difference.value in (0, None) for row in nothing.differences)

    def test_one_result_is_one_page(self, half: Evaluation, tmp_path: Path) -> None:
        for name in ("first", "second"):
            write_report(half, tmp_path / name)
        for name in ("report.html", "report.md", "results.json"):
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    def test_the_page_needs_nothing_and_trusts_nothing(self, half: Evaluation, tmp_path: Path) -> None:
        write_report(half, tmp_path)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "half &lt;b&gt;blind&lt;/b&gt;" in page
        assert "<b>blind" not in page
        assert "<script" not in page
        assert re.findall(r'(?:src|href)="(?!data:)', page) == []
        assert "<b>blind" not in (tmp_path / "report.md").read_text(encoding="utf-8")

    def test_it_says_that_the_data_are_synthetic(self, half: Evaluation, tmp_path: Path) -> None:
        write_report(half, tmp_path)
        for name in ("report.html", "report.md"):
            assert "SYNTHETIC data" in (tmp_path / name).read_text(encoding="utf-8")
        assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["identity"]["synthetic"] is True
        with pytest.raises(BenchError, match="must be of real data, and these are of synthetic data"):
            to_eval_results(half.results)

    def test_hub_results_of_real_data(self, half: Evaluation) -> None:
        yaml = pytest.importorskip("yaml")
        from huggingface_hub._eval_results import parse_eval_result_entries

        identity = half.results.identity
        assert identity is not None
        entries = yaml.safe_load(to_eval_results(replace(half.results, identity=replace(identity, synthetic=False))))
        read = parse_eval_result_entries(entries)
        assert [entry.task_id for entry in read] == [*TOTALS, "iou"]
        assert read[0].dataset_id == "rajpurkarlab/3DReasonKnee"
        assert read[0].value == pytest.approx(half.results.total().value)

    def test_report_numbers_have_intervals_and_counts(self, half: Evaluation, tmp_path: Path) -> None:
        write_report(half, tmp_path)
        text = (tmp_path / "report.md").read_text(encoding="utf-8")
        counts = half.results.group().totals["missing_as_wrong"].counts
        value = half.results.total()
        row = next(line for line in text.splitlines() if line.startswith("| record_exact |"))
        assert f"{value.value:.3f}" in row
        assert f"| {counts.patients:,} | {counts.records:,} | {counts.positives:,} |" in row
        assert "Which total the paper used is unknown" in text

    @pytest.mark.parametrize("made", ["file", "folder"])
    def test_nothing_else_is_overwritten(self, half: Evaluation, tmp_path: Path, made: str) -> None:
        out = tmp_path / "mine"
        if made == "file":
            out.write_text("precious", encoding="utf-8")
        else:
            out.mkdir()
            (out / "precious.txt").write_text("precious", encoding="utf-8")
        for overwrite in (False, True):
            with pytest.raises(BenchError, match=r"is a file, not a folder for a report|so it is not a report"):
                write_report(half, out, overwrite=overwrite)
        assert not list(tmp_path.rglob("*.part"))

    def test_write_report_accepts_leftovers_of_killed_run(self, half: Evaluation, tmp_path: Path) -> None:
        left = part_path(tmp_path / "report.md")
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
        write_report(half, tmp_path)
        assert (tmp_path / "results.json").is_file()
        assert not left.exists()

    def test_write_report_replaces_only_on_request(self, half: Evaluation, tmp_path: Path) -> None:
        write_report(half, tmp_path)
        (tmp_path / "report.md").write_text("with notes", encoding="utf-8")
        with pytest.raises(BenchError, match=r"already holds a report \(results\.json\)\. Choose another folder, or"):
            write_report(half, tmp_path)
        assert (tmp_path / "report.md").read_text(encoding="utf-8") == "with notes"
        write_report(half, tmp_path, overwrite=True)
        assert (tmp_path / "report.md").read_text(encoding="utf-8") != "with notes"
        compared = compare(half, half, resamples=0)
        write_comparison(compared, tmp_path / "ab")
        with pytest.raises(BenchError, match=r"already holds a report \(comparison\.json\)"):
            write_comparison(compared, tmp_path / "ab")
        write_comparison(compared, tmp_path / "ab", overwrite=True)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_markdown_of_hostile_text_is_text(self, name: str) -> None:
        """At any place, it parses to the same blocks as a plain word, and to no link, image or tag."""

        def parse(text: str) -> list[str]:
            rows = (("a", text, "1"), (text, text, "2"))
            tables = [Table(text, ("", text, "c"), rows, text), Table("x", (text, "b", "c"), rows)]
            return blocks(to_markdown(f"Report: {text}", [f"**{text}**", text, f"Of {text}"], tables))

        assert parse(name) == parse("plain")

    def test_hostile_names_do_not_change_a_report(self, half: Evaluation, tmp_path: Path) -> None:
        identity = half.results.identity
        assert identity is not None
        found = []
        for place, name in enumerate(("plain", "".join(HOSTILE))):
            named = replace(identity, model=name, model_revision=name, system_prompt=name, frames=name)
            write_report(replace(half, results=replace(half.results, identity=named)), tmp_path / str(place))
            text = (tmp_path / str(place) / "report.md").read_text(encoding="utf-8")
            found.append(blocks(text))
            assert text.index("\n**SYNTHETIC") < text.index("\n|")
        assert found[0] == found[1]
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)

    def test_hostile_markdown_is_noticed(self) -> None:
        assert "image" in blocks("# a\n\n![x](https://e.org/p.png)")
        assert "link_open" in blocks("# a\n\n[x](https://e.org)")
        assert blocks("# a") != blocks("# a\n\n| x |\n|---|\n| 1 |")

    def test_a_damaged_report_is_named(self, half: Evaluation, data: Path, tmp_path: Path) -> None:
        write_report(half, tmp_path / "report")
        (tmp_path / "report" / "outcomes.parquet").write_bytes(b"PAR1")
        with pytest.raises(
            BenchError, match=r"is not a report with a readable results\.json and outcomes\.parquet \(Arrow"
        ):
            read_report(tmp_path / "report", data)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                '{"format": 1, "new": 1}',
                r"results\.json: These results have format '1', and this version .* reads format 2\. Evaluate the",
            ),
            ("[]", r"results must be an object, but it is \[\]"),
            ('{"a":', "JSONDecodeError"),
            ("[" * 200_000, "RecursionError"),
        ],
    )
    def test_results_of_another_make_are_named(
        self, half: Evaluation, data: Path, tmp_path: Path, text: str, told: str
    ) -> None:
        write_report(half, tmp_path / "report")
        (tmp_path / "report" / "results.json").write_text(text, encoding="utf-8")
        with pytest.raises(BenchError, match=told):
            read_report(tmp_path / "report", data)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda table: table.drop_columns(["answers"]), "KeyError"),
            (lambda table: table.drop_columns(["id"]), "KeyError"),
            (
                lambda table: table.slice(5),
                r"The \d+ records in outcomes\.parquet of .* are not those of its results\.json",
            ),
            (lambda table: pa.concat_tables([table, table]), r"are not those of its results\.json"),
        ],
    )
    def test_outcomes_of_other_records_are_named(
        self, half: Evaluation, data: Path, tmp_path: Path, change: Any, told: str
    ) -> None:
        write_report(half, tmp_path / "report")
        path = tmp_path / "report" / "outcomes.parquet"
        pq.write_table(change(pq.read_table(path)), path)
        with pytest.raises(BenchError, match=told):
            read_report(tmp_path / "report", data)

    @pytest.mark.parametrize("kind", ["nothing answered", "one question", "one record in a hundred"])
    def test_little_is_reported_as_much_is(self, data: Path, truth: Truth, tmp_path: Path, kind: str) -> None:
        """Undefined statistics, empty plots, a single group: every file is there, and none says NaN."""
        lines, reading = oracle(truth), None
        if kind == "nothing answered":
            lines = [{"id": line["id"], "text": "", "box": None} for line in lines]
        elif kind == "one question":
            lines = [{"id": line["id"], "text": line["text"]} for line in lines if line["id"].endswith("/q48")]
            reading = ReadOptions(questions=(48,))
        else:
            lines = lines[::100]
        done = evaluate(lines, data, options=reading, resamples=20)
        assert len(write_report(done, tmp_path, pictures=2)) == 6
        told = (tmp_path / "report.md").read_text(encoding="utf-8")
        assert not re.search(r"\b(nan|None|inf)\b", told)
        coverage = done.results.group().coverage
        assert (coverage.records, coverage.given) == (len(done.truth), len(lines))
        assert Results.from_json(json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))) == done.results

    def test_columns_of_numbers_are_found_once(self) -> None:
        table = Table("x", ("a", "b", "c"), (("one", "1.5 [1, 2]", "x"), ("two", "–", "3")))
        assert table.numeric == (False, True, False)
        assert table.numeric is table.numeric
        assert pickle.loads(pickle.dumps(table)) == table

    def test_markdown_keeps_cells_apart(self) -> None:
        text = to_markdown("T", [], [Table("x", ("a", "b"), (("one|two", "<img>\nnext"),))])
        assert "| one\\|two | &lt;img> next |" in text

    @pytest.mark.browser
    def test_a_browser_shows_it(self, half: Evaluation, tmp_path: Path) -> None:
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("no chromium on this machine")
        write_report(half, tmp_path)
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command = [browser, *options, "--dump-dom", (tmp_path / "report.html").as_uri()]
        shown = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=120).stdout
        assert shown.count("<table>") == shown.count("</table>") > 10
        assert "record_exact" in shown


class TestCompare:
    @pytest.mark.slow
    def test_compare_finds_the_better_model(self, data: Path) -> None:
        few = read_truth(data, "train", filters=[("question_id", "in", [*_FEW])])
        reading = ReadOptions(split="train", questions=_FEW)
        better, worse = (
            evaluate(careless(few, share, 2), data, options=reading, model=f"{share}", resamples=0)
            for share in (0.2, 0.5)
        )
        difference = compare(better, worse, resamples=300).total()
        assert difference.first == better.results.total().value
        assert difference.second == worse.results.total().value
        assert difference.difference.low is not None
        assert difference.difference.low > 0

    @pytest.mark.slow
    def test_it_is_written_in_both_forms(self, half: Evaluation, tmp_path: Path) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        from reasonknee_datasets.bench.results import Comparison

        compared = compare(half, half, resamples=20)
        write_comparison(compared, tmp_path)
        item = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
        jsonschema.validate(item, schema(Comparison))
        page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
        assert "SYNTHETIC" in page
        assert "half &lt;b&gt;blind" in page
        assert "record_exact, first less second: all +0.000" in page

    @pytest.mark.slow
    def test_compare_refuses_different_conditions(self, half: Evaluation, data: Path, truth: Truth) -> None:
        other = evaluate(careless(truth, 0.5, 1), data, model="other", condition="guided", resamples=0)
        with pytest.raises(BenchError, match="condition"):
            compare(half, other, resamples=0)
        assert compare(half, other, allow=("condition",), resamples=0).tolerated == ("condition",)

    @pytest.mark.slow
    def test_compare_with_a_run_without_boxes(self, half: Evaluation, data: Path, truth: Truth, tmp_path: Path) -> None:
        lines = [{name: line[name] for name in ("id", "text")} for line in careless(truth, 0.5, 1)]
        blind = evaluate(lines, data, model="no boxes", condition="zero_shot", resamples=0)
        assert blind.predictions.identity.box_convention is None
        compared = compare(half, blind, resamples=0)
        assert compared.total().difference.value == 0
        assert "localisation" not in {row.kind for row in compared.differences}
        write_comparison(compared, tmp_path)
        assert "Boxes are not compared: the second run has none." in (tmp_path / "comparison.md").read_text("utf-8")
        write_comparison(compare(half, half, resamples=0), tmp_path, overwrite=True)
        assert "Boxes are not compared" not in (tmp_path / "comparison.md").read_text("utf-8")

    def test_other_records_are_never_compared(self, half: Evaluation, data: Path, truth: Truth) -> None:
        some = [line for line in oracle(truth) if line["id"].endswith("/q19")]
        reading = ReadOptions(questions=(19,))
        other = evaluate(some, data, options=reading, model="other", condition="zero_shot", resamples=0)
        with pytest.raises(BenchError, match="record"):
            compare(half, other, resamples=0)
        every = ("records", "records_sha256", "patients")
        with pytest.raises(BenchError, match="records, and they are not the same"):
            compare(half, other, allow=every, resamples=0)
