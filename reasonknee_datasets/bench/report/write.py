"""Write reports of results, comparisons and error decompositions, and read a report back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.atomic_files import is_part, write_files
from reasonknee_datasets.bench.answers import RULES
from reasonknee_datasets.bench.arrays import NONE, WIDTH, Answers, keep_attributes, take
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.group_results import HEADLINE
from reasonknee_datasets.bench.predictions import Predictions
from reasonknee_datasets.bench.problem_log import PROBLEMS, Problem
from reasonknee_datasets.bench.report.export import to_csv, to_eval_results, to_html, to_latex, to_markdown
from reasonknee_datasets.bench.report.group_tables import (
    Table,
    about_intervals,
    comparison_tables,
    decomposition_tables,
    format_estimate,
    format_number,
    missing_intervals,
    plural,
    signed,
)
from reasonknee_datasets.bench.report.plots import CasePicture, Plot, draw_plots, draw_worst
from reasonknee_datasets.bench.report.result_tables import first_estimates, identity_table, result_tables
from reasonknee_datasets.bench.results import Comparison, ErrorDecomposition, Results
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.truth import Data, identify, open_data, read_truth
from reasonknee_datasets.errors import BenchError

RESULTS = "results.json"
OUTCOMES = "outcomes.parquet"
COMPARISON = "comparison.json"
DECOMPOSITION = "error_decomposition.json"

_AGAIN = "Score the predictions again: reasonknee evaluate --predictions FILE --out FOLDER."


def check_report(out: str | Path, marker: str = RESULTS, *, overwrite: bool = False) -> None:
    """Check that a report can be written into a folder, before anything is scored.

    Parameters
    ----------
    out : path
    marker : {"results.json", "comparison.json", "error_decomposition.json"}
        The file that identifies a report of this kind.
    overwrite : bool
        Accept the folder of an earlier report of this kind.

    Raises
    ------
    BenchError
        If ``out`` is a file, holds other files, or holds a report that may not be overwritten.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise BenchError(f"{out} is a file, not a folder for a report. Choose another name.")
    if not out.is_dir() or all(is_part(path) for path in out.iterdir()):
        return
    if not (out / marker).is_file():
        raise BenchError(
            f"{out} holds files, and {marker} is not among them, so it is not a report. Choose another folder."
        )
    if not overwrite:
        raise BenchError(
            f"{out} already holds a report ({marker}). Choose another folder, or replace it: overwrite=True "
            "(--overwrite)."
        )


def _write_folder(out: Path, marker: str, contents: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write files into a folder: all of them or none, the marker last."""
    try:
        write_files(out, {name: contents[name] for name in sorted(contents, key=lambda name: name == marker)})
    except OSError as error:
        raise BenchError(
            f"The report cannot be written to {out}: {error}. Choose another folder, or free space there."
        ) from error
    return tuple(out / name for name in contents)


def read_report(
    folder: str | Path,
    data: Data | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Evaluation:
    """Read a report back, to compare it with another.

    Parameters
    ----------
    folder : path
        Folder that `write_report` wrote.
    data : str, path or Repository, optional
        Repository that the predictions were scored against.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Returns
    -------
    Evaluation

    Raises
    ------
    BenchError
        If the folder holds no report, a damaged one, or one of another revision of the data.
    """
    place = Path(folder)
    try:
        results = Results.from_json(json.loads((place / RESULTS).read_bytes()))
        table = pq.read_table(place / OUTCOMES)
        names, answers = table["id"].to_pylist(), _answers(table)
    except BenchError as error:
        raise BenchError(f"{place / RESULTS}: {error}") from error
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise BenchError(
            f"{place} is not a report with a readable {RESULTS} and {OUTCOMES} ({type(error).__name__}: {error}). "
            f"{_AGAIN}"
        ) from error
    identity = results.identity or RunMetadata()
    repository = open_data(data, storage_options=storage_options, token=token)
    if identity.dataset_revision not in (None, repository.manifest.digest):
        raise BenchError(
            f"The report in {place} is of a repository with manifest {identity.dataset_revision}, and the manifest of "
            f"{repository.root} has digest {repository.manifest.digest}. {_AGAIN}"
        )
    truth = read_truth(repository, identity.split or "test")
    row = {name: number for number, name in enumerate(truth.ids)}
    unknown = [name for name in names if name not in row]
    if unknown:
        raise BenchError(
            f"{len(unknown)} records of the report in {place} are not in {repository.root}, such as {unknown[0]}. "
            f"{_AGAIN}"
        )
    scored = take(truth, [row[name] for name in names])
    own = identify(repository, identity.split or "test", scored)
    if identity.records_sha256 not in (None, own.records_sha256):
        raise BenchError(f"The {len(names)} records in {OUTCOMES} of {place} are not those of its {RESULTS}. {_AGAIN}")
    if identity.attributes is not None:
        scored = keep_attributes(scored, identity.attributes.split(", "))
    return Evaluation(results, Predictions(answers, (), identity, {}, {}), scored, repository)


def _answers(table: pa.Table) -> Answers:
    has_box = np.asarray(table["has_box"])
    asked = ~np.isnan(np.asarray(table["iou"].to_pandas(), dtype=np.float64)).all()
    return Answers(
        given=np.ones(table.num_rows, dtype=np.bool_),
        grades=_wide(table, "answers", WIDTH).astype(np.int8),
        reasons=_wide(table, "reasons", WIDTH).astype(np.int8),
        strict=np.asarray(table["parsed"]),
        boxes=_wide(table, "boxes", 6).astype(np.int32),
        has_box=has_box,
        # The reason for a missing box is not compared, but whether boxes were asked for is.
        box_reasons=np.where(has_box | (not asked), NONE, 0).astype(np.int8),
    )


def _wide(table: pa.Table, name: str, width: int) -> np.ndarray[Any, Any]:
    flat = table[name].combine_chunks().flatten()
    return np.asarray(flat).reshape(table.num_rows, width)


SYNTHETIC = "SYNTHETIC data, drawn by a program: these numbers say nothing about any patient"


def write_report(
    evaluation: Evaluation,
    out: str | Path,
    *,
    pictures: int = 6,
    volumes_dir: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write the report of an evaluation into a folder.

    The files are ``results.json`` (see `reasonknee_datasets.bench.results`), ``report.md``, ``report.html``,
    ``report.csv``, ``report.tex`` and ``outcomes.parquet`` (every record). For real data ``eval_results.yaml`` is
    added, for the repository of a model on the Hub.

    Parameters
    ----------
    evaluation : Evaluation
        Evaluation to report.
    out : path
        New or empty folder.
    pictures : int
        Number of worst cases to draw if their volumes are available; 0 reads no image.
    volumes_dir : str, optional
        Where the voxels are, if not next to the annotations; as for `reasonknee_datasets.load_dataset`.
    overwrite : bool
        Replace an earlier report in the folder.

    Returns
    -------
    tuple of Path
        Paths of the files that were written.

    Raises
    ------
    BenchError
        If the folder holds other files, or cannot be written. No partial report is left.
    MissingExtraError
        If jinja2 or matplotlib is not installed.
    """
    folder = Path(out)
    check_report(folder, RESULTS, overwrite=overwrite)
    results = evaluation.results
    tables = [*result_tables(results), *_problem_table(evaluation.problems), *_rule_table(evaluation)]
    lead = list(_lead(results))
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
    return _write_folder(folder, RESULTS, contents)


def write_comparison(comparison: Comparison, out: str | Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write ``comparison.json`` and its Markdown, HTML, CSV and LaTeX.

    Parameters
    ----------
    comparison : Comparison
        Comparison to report.
    out : path
        New or empty folder.
    overwrite : bool
        Replace an earlier comparison in the folder.

    Raises
    ------
    BenchError, MissingExtraError
        As `write_report` does.
    """
    folder = Path(out)
    check_report(folder, COMPARISON, overwrite=overwrite)
    one, other = comparison.first or RunMetadata(), comparison.second or RunMetadata()
    title = f"ReasonKnee-Bench: {one.model or 'first'} less {other.model or 'second'}"
    tables = [*comparison_tables(comparison), identity_table(one, other, names=("first", "second"))]
    headline = comparison.total()
    lead = [
        f"{HEADLINE}: {format_number(headline.first)} and {format_number(headline.second)}; difference "
        f"{signed(headline.difference).replace('**', '')} over {plural(headline.patients, 'patient')}.",
        f"{about_intervals(comparison.sampling)} Both have the same resamples.",
        *missing_intervals(
            comparison.sampling, (row.difference for row in comparison.differences if row.by in ("all", "category"))
        ),
        comparison.about_totals,
    ]
    if comparison.tolerated:
        lead.append(f"Besides the model they differ in {', '.join(comparison.tolerated)}, which was allowed.")
    lacking = [name for name, run in (("first", one), ("second", other)) if run.box_convention is None]
    if len(lacking) == 1:
        lead.append(f"Boxes are not compared: the {lacking[0]} run has none.")
    banners = [SYNTHETIC] if one.synthetic or other.synthetic else []
    contents = {
        COMPARISON: (json.dumps(comparison.to_json(), allow_nan=False) + "\n").encode(),
        **_render("comparison", title, banners, lead, tables, draw_plots(comparison)),
    }
    return _write_folder(folder, COMPARISON, contents)


def write_error_decomposition(
    decomposition: ErrorDecomposition, out: str | Path, *, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write ``error_decomposition.json`` and its Markdown, HTML, CSV and LaTeX.

    Parameters
    ----------
    decomposition : ErrorDecomposition
        Error decomposition to report.
    out : path
        New or empty folder.
    overwrite : bool
        Replace an earlier error decomposition in the folder.

    Raises
    ------
    BenchError, MissingExtraError
        As `write_report` does.
    """
    folder = Path(out)
    check_report(folder, DECOMPOSITION, overwrite=overwrite)
    given, others = decomposition.given, decomposition.others
    title = f"ReasonKnee-Bench: error decomposition of {given.model or 'a model'}"
    lead = [
        f"Shares of records that are not right ({HEADLINE}; missing answers count as wrong). What is lost with the "
        "true region given is lost by grading; what a run loses beyond that, it loses because of the region that it "
        "saw. Below 0: it lost less than with the true region.",
        f"{about_intervals(decomposition.sampling)} All runs have the same resamples.",
        *missing_intervals(
            decomposition.sampling, (value for row in decomposition.rows for value in (row.grading, row.region))
        ),
    ]
    names = (given.condition or "", *(str(each.condition) for each in others))
    tables = [*decomposition_tables(decomposition), identity_table(given, *others, names=names)]
    banners = [SYNTHETIC] if given.synthetic else []
    contents = {
        DECOMPOSITION: (json.dumps(decomposition.to_json(), allow_nan=False) + "\n").encode(),
        **_render("error_decomposition", title, banners, lead, tables, draw_plots(decomposition)),
    }
    return _write_folder(folder, DECOMPOSITION, contents)


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
        f"{counts.positives:,} of them with a finding. {covered.parsed:,} of "
        f"{plural(covered.slots, 'slot')} were answered with a grade; missing answers count as wrong here."
    )
    yield (
        f"Not scored: {plural(covered.missing_truth_records, 'record')}, because a true grade is missing. Scored as "
        f"wrong: {plural(covered.records - covered.given, 'record')} without a prediction."
    )
    yield about_intervals(results.sampling)
    yield from missing_intervals(results.sampling, first_estimates(results))


def _banners(results: Results) -> Iterator[str]:
    if results.identity is not None and results.identity.synthetic:
        yield SYNTHETIC
    yield from results.warnings


def _problem_table(problems: Sequence[Problem]) -> Iterator[Table]:
    if problems:
        rows = tuple((each.kind, f"{each.count:,}", PROBLEMS[each.kind], "; ".join(each.examples)) for each in problems)
        yield Table("Problems with the predictions", ("problem", "number", "treatment", "first of them"), rows)


def _rule_table(evaluation: Evaluation) -> Iterator[Table]:
    if evaluation.predictions.rules:
        found = sorted(evaluation.predictions.rules.items(), key=lambda item: -item[1])
        rows = tuple((name, f"{times:,}", RULES[name]) for name, times in found)
        yield Table("How answers were read", ("rule", "slots", "what it does"), rows, folded=True, detail=True)
