"""The folder of a report: check, write and read back its files."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.bench.arrays import NONE, WIDTH, Answers, keep_attributes
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.predictions import Predictions
from reasonknee_datasets.bench.results import Results
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.truth import Data, identify, open_data, read_truth, take
from reasonknee_datasets.errors import BenchError

RESULTS = "results.json"
OUTCOMES = "outcomes.parquet"
COMPARISON = "comparison.json"
DECOMPOSITION = "error_decomposition.json"

_AGAIN = "Score the predictions again: reasonknee evaluate --predictions FILE --out FOLDER."


def check_folder(out: Path, marker: str, *, overwrite: bool = False) -> None:
    """Check that a report can be written into a folder, before any work is done.

    Parameters
    ----------
    out : Path
    marker : str
        The file that identifies a report of this kind.
    overwrite : bool
        Accept the folder of an earlier report of this kind.

    Raises
    ------
    BenchError
        If ``out`` is a file, holds other files, or holds a report that may not be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise BenchError(f"{out} is a file, not a folder for a report. Choose another name.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / marker).is_file():
        raise BenchError(
            f"{out} holds files, and {marker} is not among them, so it is no report. Choose another folder."
        )
    if not overwrite:
        raise BenchError(
            f"{out} already holds a report ({marker}). Choose another folder, or replace it: overwrite=True "
            "(--overwrite)."
        )


def write_folder(out: Path, marker: str, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder: all of them or none, the marker last.

    Raises
    ------
    BenchError
        If a file cannot be written; what this call wrote is removed.
    """
    parts: dict[Path, Path] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(contents, key=lambda name: name == marker):
            part = out / f".{name}.{secrets.token_hex(4)}.part"
            parts[part] = out / name
            part.write_bytes(contents[name])
        for part, path in parts.items():
            part.replace(path)
    except OSError as error:
        for part in parts:
            part.unlink(missing_ok=True)
        raise BenchError(
            f"The report cannot be written to {out}: {error}. Choose another folder, or free space there."
        ) from error


def read_report(
    folder: str | Path,
    data: Data | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Evaluation:
    """Read a report back, so that it can be compared with another.

    Parameters
    ----------
    folder : path
        What `write_report` wrote.
    data : str, path or Repository, optional
        The repository that it was scored against.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Raises
    ------
    BenchError
        If it is no report, a damaged one, or of another revision of the data.
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
