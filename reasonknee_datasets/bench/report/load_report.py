"""`read_report`: an earlier report's folder, as what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.bench.arrays import NONE, WIDTH, Answers
from reasonknee_datasets.bench.attribute_filter import keep_attributes
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.predictions import Predictions
from reasonknee_datasets.bench.report.names import OUTCOMES, RESULTS
from reasonknee_datasets.bench.results import Results
from reasonknee_datasets.bench.run_metadata import Identity
from reasonknee_datasets.bench.truth import Data, identify, open_data, read_truth, take
from reasonknee_datasets.errors import BenchError, explain

_AGAIN = "Score the predictions again: reasonknee evaluate --predictions FILE --out FOLDER"


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
    where = f"at {place}"
    try:
        results = Results.from_json(json.loads((place / RESULTS).read_bytes()))
        table = pq.read_table(place / OUTCOMES)
        names, answers = table["id"].to_pylist(), _answers(table)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise BenchError(explain("report", f"hold {RESULTS} and {OUTCOMES}", got, _AGAIN, where=where)) from error
    identity = results.identity or Identity()
    repository = open_data(data, storage_options=storage_options, token=token)
    if identity.dataset_revision not in (None, repository.manifest.digest):
        rule = f"be of this repository, whose manifest has digest {repository.manifest.digest}"
        raise BenchError(explain("report", rule, str(identity.dataset_revision), _AGAIN, where=where))
    truth = read_truth(repository, identity.split or "test")
    row = {name: number for number, name in enumerate(truth.ids)}
    unknown = [name for name in names if name not in row]
    if unknown:
        got = f"{len(unknown)} others, such as {unknown[0]}"
        raise BenchError(explain("report's records", "be of this repository", got, _AGAIN, where=where))
    scored = take(truth, [row[name] for name in names])
    own = identify(repository, identity.split or "test", scored)
    if identity.records_sha256 not in (None, own.records_sha256):
        rule, got = f"be those of {RESULTS}", f"{len(names)} others in {OUTCOMES}"
        raise BenchError(explain("report's records", rule, got, _AGAIN, where=where))
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
        # Why there is no box is not compared; that one was asked for is.
        box_reasons=np.where(has_box | (not asked), NONE, 0).astype(np.int8),
    )


def _wide(table: pa.Table, name: str, width: int) -> np.ndarray[Any, Any]:
    flat = table[name].combine_chunks().flatten()
    return np.asarray(flat).reshape(table.num_rows, width)
