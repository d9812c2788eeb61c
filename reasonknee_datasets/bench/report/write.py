"""`write_report` and `write_comparison`: everything that is told of results, as files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reasonknee_datasets.bench.bootstrap import MIN_PATIENTS
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.predictions import PROBLEMS, Problem
from reasonknee_datasets.bench.report.case_pictures import draw_case
from reasonknee_datasets.bench.report.export import to_csv, to_latex
from reasonknee_datasets.bench.report.folder import check_folder, write_folder
from reasonknee_datasets.bench.report.html_page import CasePicture, to_html
from reasonknee_datasets.bench.report.hub import to_eval_results
from reasonknee_datasets.bench.report.markdown import to_markdown
from reasonknee_datasets.bench.report.names import COMPARISON, OUTCOMES, RESULTS
from reasonknee_datasets.bench.report.numbers import count, estimate, number, plural, signed
from reasonknee_datasets.bench.report.plots import draw_comparison, draw_plots
from reasonknee_datasets.bench.report.reasoning_table import reasoning_tables
from reasonknee_datasets.bench.report.report_table import Table
from reasonknee_datasets.bench.report.result_tables import (
    comparison_tables,
    identity_table,
    no_intervals,
    pairs,
    result_tables,
)
from reasonknee_datasets.bench.results import HEADLINE, Case, Comparison, Results, Sampling
from reasonknee_datasets.bench.run_metadata import Identity
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.moaks import QUESTIONS, Question
from reasonknee_datasets.sources import find_volumes, join
from reasonknee_datasets.volumes import open_volume

SYNTHETIC = "SYNTHETIC data, drawn by a program: these numbers say nothing about any patient"


def check_report(out: str | Path, marker: str = RESULTS, *, overwrite: bool = False) -> None:
    """Check that a report can be written into a folder, before anything is scored.

    Parameters
    ----------
    out : path
    marker : {"results.json", "comparison.json", "losses.json"}
        Kind of report.
    overwrite : bool
        Accept the folder of an earlier report of this kind.

    Raises
    ------
    BenchError
        If the folder holds anything else.
    """
    check_folder(Path(out), marker, overwrite=overwrite)


def write_report(
    evaluation: Evaluation,
    out: str | Path,
    *,
    pictures: int = 6,
    volumes_dir: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write everything that is told of one set of answers.

    ``results.json`` (see `reasonknee_datasets.bench.results`), ``report.md``, ``report.html``, ``report.csv``,
    ``report.tex``, ``outcomes.parquet`` (every record) and, of real data only, ``eval_results.yaml`` for a model's
    repository on the Hub.

    Parameters
    ----------
    evaluation : Evaluation
    out : path
        A new or empty folder.
    pictures : int
        How many of the worst cases to draw, where volumes are at hand; 0 reads no image.
    volumes_dir : str, optional
        Where the voxels are, if not beside the annotations; as for `reasonknee_datasets.load_dataset`.
    overwrite : bool
        Replace an earlier report in the folder.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    BenchError
        If the folder holds something else, or cannot be written; nothing is then left half-written.
    MissingExtraError
        If jinja2 or matplotlib is not installed.
    """
    folder = Path(out)
    check_folder(folder, RESULTS, overwrite=overwrite)
    results = evaluation.results
    tables = [*result_tables(results), *reasoning_tables(results)]
    tables += [*_problem_table(evaluation.problems), *_rule_table(evaluation)]
    lead = [*_lead(results), *(f"No interval: {why}." for why in no_intervals(results))]
    banners = list(_banners(results))
    title = f"ReasonKnee-Bench: {(results.identity or Identity()).model or 'a model'}"
    page = to_html(
        title,
        banners=banners,
        lead=lead,
        tables=tables,
        plots=draw_plots(results),
        pictures=_draw_worst(evaluation, pictures, volumes_dir),
    )
    contents = {
        RESULTS: results.dumps().encode(),
        "report.md": to_markdown(
            title, [*(f"**{line}**" for line in banners), *lead, _more("report")], tables
        ).encode(),
        "report.html": page.encode(),
        "report.csv": to_csv(tables).encode(),
        "report.tex": to_latex(tables).encode(),
    }
    if results.outcomes is not None:
        buffer = io.BytesIO()
        pq.write_table(results.outcomes.to_table(), buffer)
        contents[OUTCOMES] = buffer.getvalue()
    if results.identity is not None and results.identity.synthetic is False:
        contents["eval_results.yaml"] = to_eval_results(results).encode()
    write_folder(folder, RESULTS, contents)
    return tuple(folder / name for name in contents)


def write_comparison(comparison: Comparison, out: str | Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write ``comparison.json`` and its Markdown, HTML, CSV and LaTeX.

    Parameters
    ----------
    comparison : Comparison
    out : path
        A new or empty folder.
    overwrite : bool
        Replace an earlier comparison in the folder.

    Raises
    ------
    BenchError, MissingExtraError
        As `write_report` does.
    """
    folder = Path(out)
    check_folder(folder, COMPARISON, overwrite=overwrite)
    one, other = comparison.first or Identity(), comparison.second or Identity()
    title = f"ReasonKnee-Bench: {one.model or 'first'} less {other.model or 'second'}"
    tables = [*comparison_tables(comparison), identity_table(one, other, names=("first", "second"))]
    headline = comparison.total()
    lead = [
        f"{HEADLINE}: {number(headline.first)} and {number(headline.second)}; difference "
        f"{signed(headline.difference).replace('**', '')} over {plural(headline.patients, 'patient')}.",
        f"{about_intervals(comparison.sampling)} Both have the same resamples.",
        comparison.about_totals,
    ]
    if comparison.tolerated:
        lead.append(f"Besides the model they differ in {', '.join(comparison.tolerated)}, which was allowed.")
    banners = [SYNTHETIC] if one.synthetic or other.synthetic else []
    page = to_html(title, banners=banners, lead=lead, tables=tables, plots=draw_comparison(comparison))
    contents = {
        COMPARISON: (json.dumps(comparison.to_json(), allow_nan=False) + "\n").encode(),
        "comparison.md": to_markdown(
            title, [*(f"**{line}**" for line in banners), *lead, _more("comparison")], tables
        ).encode(),
        "comparison.html": page.encode(),
        "comparison.csv": to_csv(tables).encode(),
        "comparison.tex": to_latex(tables).encode(),
    }
    write_folder(folder, COMPARISON, contents)
    return tuple(folder / name for name in contents)


def _more(name: str) -> str:
    return f"Longer tables are in {name}.csv and {name}.html; to_pandas() returns every number in full precision."


def _lead(results: Results) -> Iterator[str]:
    everything = results.group()
    counts, covered = everything.totals["wrong"].counts, everything.coverage
    split = results.identity.split if results.identity else None
    yield (
        f"{HEADLINE} {estimate(results.total())} on split {split or '(not stated)'}: "
        f"{plural(counts.records, 'record')} of {plural(counts.patients, 'patient')}, {count(counts.positives)} of "
        f"them with a finding. {count(covered.parsed)} of {plural(covered.slots, 'slot')} were answered with a grade; "
        "missing answers count as wrong here."
    )
    yield (
        f"Not scored: {plural(covered.missing_truth_records, 'record')}, because a true grade is missing. Scored as "
        f"wrong: {plural(covered.records - covered.given, 'record')} without a prediction."
    )
    yield about_intervals(results.sampling)


def about_intervals(sampling: Sampling) -> str:
    """Describe the intervals, or why there are none."""
    if not sampling.resamples:
        return "No intervals: no resamples were asked for."
    if sampling.patients < MIN_PATIENTS:
        return (
            f"No intervals: {plural(sampling.patients, 'patient')}; an interval needs at least {MIN_PATIENTS} patients."
        )
    return (
        f"Intervals: {sampling.level:.0%}, percentiles of {plural(sampling.resamples, 'resample')} of "
        f"{plural(sampling.patients, 'patient')} with all their records, seed {sampling.seed}."
    )


def _banners(results: Results) -> Iterator[str]:
    if results.identity is not None and results.identity.synthetic:
        yield SYNTHETIC
    yield from results.warnings


def _problem_table(problems: Sequence[Problem]) -> Iterator[Table]:
    if problems:
        rows = tuple((each.kind, count(each.count), PROBLEMS[each.kind], "; ".join(each.examples)) for each in problems)
        yield Table(
            "What was wrong with the predictions", ("problem", "number", "what became of it", "first of them"), rows
        )


def _rule_table(evaluation: Evaluation) -> Iterator[Table]:
    from reasonknee_datasets.bench.answers import RULES

    if evaluation.predictions.rules:
        found = sorted(evaluation.predictions.rules.items(), key=lambda item: -item[1])
        rows = tuple((name, count(times), RULES[name]) for name, times in found)
        yield Table("How answers were read", ("rule", "slots", "what it does"), rows, folded=True)


def _draw_worst(evaluation: Evaluation, pictures: int, volumes_dir: str | None) -> list[CasePicture]:
    """Draw some of the worst cases, one a category in turn."""
    results = evaluation.results
    if not pictures or not results.worst:
        return []
    root = find_volumes(volumes_dir, evaluation.repository.root)
    truth, synthetic = evaluation.truth, bool(results.identity and results.identity.synthetic)
    row = {name: place for place, name in enumerate(truth.ids)}
    drawn = []
    questions = {case.id: QUESTIONS[int(truth.question[row[case.id]])] for case in results.worst}
    for case in _by_category(results.worst, questions)[:pictures]:
        path = truth.volumes[truth.volume[row[case.id]]]
        drawn.append(_draw(case, questions[case.id], join(root, path), synthetic=synthetic))
    # Annotations without images are no fault; then there is simply nothing to draw.
    return drawn if any(each.jpeg for each in drawn) else []


def _by_category(cases: Sequence[Case], questions: Mapping[str, Question]) -> list[Case]:
    """Take the worst of each category first, then the second worst of each."""
    seen: dict[str, int] = {}
    ranked = []
    for case in cases:
        category = questions[case.id].category
        seen[category] = seen.get(category, 0) + 1
        ranked.append((seen[category], case))
    return [case for _, case in sorted(ranked, key=lambda item: item[0])]


def _draw(case: Case, question: Question, url: str, *, synthetic: bool) -> CasePicture:
    answered = None if case.box is None else Box.from_row(list(case.box))
    jpeg, problem = None, None
    try:
        volume = open_volume(url)
        drawn = draw_case(volume, question, Box.from_row(list(case.true_box)), answered, synthetic=synthetic)
        jpeg, problem = drawn.jpeg, drawn.problem
    except ReasonKneeError as error:
        problem = str(error)
    given: dict[str, Any] = {
        name: case.reasons.get(name, "none") if grade is None else grade for name, grade in case.answer.items()
    }
    return CasePicture(
        id=case.id,
        asked=f"{question.finding.replace('_', ' ')}, {question.subregion.replace('_', ' ')}",
        truth=pairs(case.truth),
        answer=pairs(given),
        iou="" if case.iou is None else number(case.iou),
        jpeg=jpeg,
        problem=problem,
    )
