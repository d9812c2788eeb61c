"""Write reports of results, comparisons and error decompositions."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from reasonknee_datasets.bench.bootstrap import MIN_PATIENTS
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.predictions import PROBLEMS, Problem
from reasonknee_datasets.bench.report.case_pictures import CasePicture, draw_worst
from reasonknee_datasets.bench.report.export import to_csv, to_eval_results, to_latex
from reasonknee_datasets.bench.report.group_tables import comparison_tables, decomposition_tables
from reasonknee_datasets.bench.report.html_page import to_html
from reasonknee_datasets.bench.report.markdown import to_markdown
from reasonknee_datasets.bench.report.plots import Plot, draw_comparison, draw_decomposition, draw_plots
from reasonknee_datasets.bench.report.report_folder import (
    COMPARISON,
    DECOMPOSITION,
    OUTCOMES,
    RESULTS,
    check_folder,
    write_folder,
)
from reasonknee_datasets.bench.report.report_table import (
    Table,
    format_count,
    format_estimate,
    format_number,
    plural,
    signed,
)
from reasonknee_datasets.bench.report.result_tables import identity_table, no_intervals, result_tables
from reasonknee_datasets.bench.results import HEADLINE, Comparison, ErrorDecomposition, Results, Sampling
from reasonknee_datasets.bench.run_metadata import RunMetadata

SYNTHETIC = "SYNTHETIC data, drawn by a program: these numbers say nothing about any patient"


def check_report(out: str | Path, marker: str = RESULTS, *, overwrite: bool = False) -> None:
    """Check that a report can be written into a folder, before anything is scored.

    Parameters
    ----------
    out : path
    marker : {"results.json", "comparison.json", "error_decomposition.json"}
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
    """Write the report of one set of answers.

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
    tables = [*result_tables(results), *_problem_table(evaluation.problems), *_rule_table(evaluation)]
    lead = [*_lead(results), *(f"No interval: {why}." for why in no_intervals(results))]
    title = f"ReasonKnee-Bench: {(results.identity or RunMetadata()).model or 'a model'}"
    pages = _render("report", title, list(_banners(results)), lead, tables, draw_plots(results),
                    pictures=draw_worst(evaluation, pictures, volumes_dir))  # fmt: skip
    contents = {RESULTS: results.dumps().encode(), **pages}
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
    one, other = comparison.first or RunMetadata(), comparison.second or RunMetadata()
    title = f"ReasonKnee-Bench: {one.model or 'first'} less {other.model or 'second'}"
    tables = [*comparison_tables(comparison), identity_table(one, other, names=("first", "second"))]
    headline = comparison.total()
    lead = [
        f"{HEADLINE}: {format_number(headline.first)} and {format_number(headline.second)}; difference "
        f"{signed(headline.difference).replace('**', '')} over {plural(headline.patients, 'patient')}.",
        f"{about_intervals(comparison.sampling)} Both have the same resamples.",
        comparison.about_totals,
    ]
    if comparison.tolerated:
        lead.append(f"Besides the model they differ in {', '.join(comparison.tolerated)}, which was allowed.")
    banners = [SYNTHETIC] if one.synthetic or other.synthetic else []
    contents = {
        COMPARISON: (json.dumps(comparison.to_json(), allow_nan=False) + "\n").encode(),
        **_render("comparison", title, banners, lead, tables, draw_comparison(comparison)),
    }
    write_folder(folder, COMPARISON, contents)
    return tuple(folder / name for name in contents)


def write_error_decomposition(
    decomposition: ErrorDecomposition, out: str | Path, *, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write ``error_decomposition.json`` and its Markdown, HTML, CSV and LaTeX.

    Parameters
    ----------
    decomposition : ErrorDecomposition
    out : path
        A new or empty folder.
    overwrite : bool
        Replace an earlier error decomposition in the folder.

    Raises
    ------
    BenchError, MissingExtraError
        As `write_report` does.
    """
    folder = Path(out)
    check_folder(folder, DECOMPOSITION, overwrite=overwrite)
    given, others = decomposition.given, decomposition.others
    title = f"ReasonKnee-Bench: error decomposition of {given.model or 'a model'}"
    lead = [
        f"Shares of records that are not right ({HEADLINE}; missing answers count as wrong). What is lost with the "
        "true region given is lost by grading; what a run loses beyond that, it loses because of the region that it "
        "saw. Below 0: it lost less than with the true region.",
        f"{about_intervals(decomposition.sampling)} All runs have the same resamples.",
    ]
    names = (given.condition or "", *(str(each.condition) for each in others))
    tables = [*decomposition_tables(decomposition), identity_table(given, *others, names=names)]
    banners = [SYNTHETIC] if given.synthetic else []
    contents = {
        DECOMPOSITION: (json.dumps(decomposition.to_json(), allow_nan=False) + "\n").encode(),
        **_render("error_decomposition", title, banners, lead, tables, draw_decomposition(decomposition)),
    }
    write_folder(folder, DECOMPOSITION, contents)
    return tuple(folder / name for name in contents)


def _render(
    name: str,
    title: str,
    banners: Sequence[str],
    lead: Sequence[str],
    tables: Sequence[Table],
    plots: Sequence[Plot],
    pictures: Sequence[CasePicture] = (),
) -> dict[str, bytes]:
    """Render the same tables as HTML, Markdown, CSV and LaTeX, by file name."""
    more = f"Longer tables are in {name}.csv and {name}.html; to_pandas() returns every number in full precision."
    page = to_html(title, banners=banners, lead=lead, tables=tables, plots=plots, pictures=pictures)
    return {
        f"{name}.md": to_markdown(title, [*(f"**{line}**" for line in banners), *lead, more], tables).encode(),
        f"{name}.html": page.encode(),
        f"{name}.csv": to_csv(tables).encode(),
        f"{name}.tex": to_latex(tables).encode(),
    }


def _lead(results: Results) -> Iterator[str]:
    everything = results.group()
    counts, covered = everything.totals["missing_as_wrong"].counts, everything.coverage
    split = results.identity.split if results.identity else None
    yield (
        f"{HEADLINE} {format_estimate(results.total())} on split {split or '(not stated)'}: "
        f"{plural(counts.records, 'record')} of {plural(counts.patients, 'patient')}, "
        f"{format_count(counts.positives)} of them with a finding. {format_count(covered.parsed)} of "
        f"{plural(covered.slots, 'slot')} were answered with a grade; missing answers count as wrong here."
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
        rows = tuple(
            (each.kind, format_count(each.count), PROBLEMS[each.kind], "; ".join(each.examples)) for each in problems
        )
        yield Table("Problems with the predictions", ("problem", "number", "treatment", "first of them"), rows)


def _rule_table(evaluation: Evaluation) -> Iterator[Table]:
    from reasonknee_datasets.bench.answers import RULES

    if evaluation.predictions.rules:
        found = sorted(evaluation.predictions.rules.items(), key=lambda item: -item[1])
        rows = tuple((name, format_count(times), RULES[name]) for name, times in found)
        yield Table("How answers were read", ("rule", "slots", "what it does"), rows, folded=True)
