"""`read_predictions`: read predictions from files or Python objects into `Answers`, and list their problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets import __version__
from reasonknee_datasets.bench.answers import CODEC_VERSION
from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.collect import Collector
from reasonknee_datasets.bench.prediction_files import Line, Source, iterate_predictions, name_source
from reasonknee_datasets.bench.problem_log import Problem, ProblemLog
from reasonknee_datasets.bench.run_metadata import RunMetadata, differences
from reasonknee_datasets.bench.truth import identify
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.sources import Repository

ARRAY_ORDER = BoxConvention(layout="corners")
"""The convention of boxes where none is stated: i0 j0 k0 i1 j1 k1, half-open, as in the ``box`` column."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one run.

    Attributes
    ----------
    answers : Answers
        One row a record, as in the truth.
    problems : tuple of Problem
        Problems with them, and notes.
    identity : RunMetadata
        As the file states it, with these records, and the versions of parser and package.
    rules : mapping of str to int
        How many slots each rule of the parser was the gravest for.
    usage : mapping of str to int
        Tokens and the like, summed over the lines that state them.
    convention : BoxConvention or None
        Convention of the boxes; None where there are none.
    numbers : (N, 6) float array or None
        The six numbers as answered, NaN where there are none: ``score`` looks for a convention that fits them better.
    """

    answers: Answers
    problems: tuple[Problem, ...]
    identity: RunMetadata
    rules: Mapping[str, int]
    usage: Mapping[str, int]
    convention: BoxConvention | None = None
    numbers: NDArray[np.float64] | None = None


def read_predictions(
    source: Source,
    truth: Truth,
    *,
    data: Repository | None = None,
    split: str = "test",
    convention: BoxConvention | str | None = None,
    official: bool | None = None,
    strict: bool = True,
    each_text: Callable[[int, str], None] | None = None,
) -> Predictions:
    """Read predictions of a split's records.

    Parameters
    ----------
    source : path, sequence of paths, or iterable of mappings
        JSON objects, one a line: ``id``, and ``text`` (of the model) or ``slots`` (attribute to grade); perhaps
        ``box`` (six numbers, null, or the model's own words), ``box_reason``, ``finish_reason``, ``error``, ``usage``,
        and ``reasoning`` (of a reasoning model, where the provider returns it apart from the text).
        A line ``{"run": {...}}`` states the `RunMetadata`. Logs of inspect_ai (``.eval``) state it in their metadata.
        From Python, the same objects.
    truth : Truth
        The records that are scored.
    data : Repository, optional
        Repository of the truth; with it, ids of another split or revision are distinguished from unknown ids.
    split : str
        Split of the truth.
    convention : BoxConvention or str, optional
        Convention of the boxes; by default as the file states, else i0 j0 k0 i1 j1 k1, half-open. Where one is stated,
        the text of a line without a ``box`` is searched for one.
    official : bool, optional
        Read texts as the authors' scripts do; by default where the file states an official condition.
    strict : bool
        Stop at any problem that is more than a note; otherwise continue as described in `PROBLEMS`.
    each_text : callable, optional
        Called with the row in the truth and the text of each prediction that has one, its ``reasoning``
        before it in think tags.

    Raises
    ------
    BenchError
        If there is no prediction, or, where ``strict``, anything is wrong: every problem is named, with its count and
        the first examples.

    Examples
    --------
    A model's answers without any file::

        truth = read_truth("3dreasonknee", "test")
        predictions = read_predictions(({"id": name, "text": ask(name)} for name in truth.ids), truth)
    """
    log, usage = ProblemLog(), Counter[str]()
    run, collector = _StatedRun(log), None

    def begin() -> Collector:
        stated = convention if convention is not None else run.metadata.box_convention
        return Collector(
            truth,
            log,
            data=data,
            split=split,
            convention=BoxConvention.parse(stated) if isinstance(stated, str) else stated or ARRAY_ORDER,
            boxes=stated is not None,
            official=(run.metadata.condition or "").startswith("official") if official is None else official,
            each_text=each_text,
        )

    for place, line in iterate_predictions(source, log):
        if "run" in line and "id" not in line:
            run.add(RunMetadata.from_json(line["run"]), place)
            continue
        collector = collector or begin()  # after the first lines, which may state the convention
        run.add_condition(line.get("condition"), place)
        wrong = _find_fault(line)
        if wrong is not None:
            log.note("malformed", f"{place} ({wrong})")
            continue
        usage.update(_counts_in(line.get("usage")))
        collector.add(line["id"], line, place)
    if collector is None:
        log.note("empty", name_source(source))
        collector = begin()
    identity = check_records(run.metadata, truth, data, split, log)
    answers = collector.finish()
    problems = log.close(name_source(source), strict=strict)
    read = Predictions(answers, problems, identity, dict(collector.rules), dict(usage))
    if not collector.asked_boxes:
        return read
    identity = replace(identity, box_convention=str(collector.convention))
    return replace(read, identity=identity, convention=collector.convention, numbers=collector.numbers)


def _find_fault(line: Line) -> str | None:
    """Return the reason why a line is not a prediction; None where it is one."""
    name, text, slots = line.get("id"), line.get("text"), line.get("slots")
    if not isinstance(name, str):
        return "no id" if name is None else f"id {str(name)[:40]!r} is not a text"
    if ("text" in line or line.get("error") is not None) == ("slots" in line):
        return "both text and slots" if "slots" in line else f"neither text nor slots, but {_keys(line)}"
    if text is not None and not isinstance(text, str):
        return f"text is {type(text).__name__}"
    if "slots" in line and not isinstance(slots, Mapping):
        return f"slots is {type(slots).__name__}"
    return None


def _keys(line: Line) -> str:
    """Name the keys of a line that could be meant for another one."""
    return ", ".join(sorted(repr(str(key)[:20]) for key in line if key != "id")[:4]) or "only an id"


def _counts_in(usage: Any) -> dict[str, int]:
    if not isinstance(usage, Mapping):
        return {}
    return {str(name): value for name, value in usage.items() if isinstance(value, int) and not isinstance(value, bool)}


class _StatedRun:
    """Metadata of the run as the lines state it; a second run or condition is a problem."""

    def __init__(self, log: ProblemLog) -> None:
        self.metadata = RunMetadata()
        self._log, self._stated = log, False

    def add(self, run: RunMetadata, place: str) -> None:
        if not self._stated:
            self.metadata, self._stated = run, True
        for each in differences(self.metadata, run):
            self._log.note("mixed_conditions", f"{each} ({place})")

    def add_condition(self, condition: object, place: str) -> None:
        if not isinstance(condition, str):
            return
        if self.metadata.condition is None:
            self.metadata = replace(self.metadata, condition=condition)
        if condition != self.metadata.condition:
            self._log.note("mixed_conditions", f"condition {condition!r} and {self.metadata.condition!r} ({place})")


def check_records(run: RunMetadata, truth: Truth, data: Repository | None, split: str, log: ProblemLog) -> RunMetadata:
    """Check the records that the file states against those that are scored; return the metadata of the result."""
    identity = replace(run, codec_version=CODEC_VERSION, package_version=__version__)
    if data is None:
        return identity
    own = identify(data, split, truth)
    kinds = {
        "dataset_revision": "other_revision",
        "split": "other_split",
        "records_sha256": "other_records",
        "synthetic": "other_revision",
    }
    for field, kind in kinds.items():
        stated, found = getattr(run, field), getattr(own, field)
        if stated is not None and stated != found:
            log.note(kind, f"{field} {str(stated)[:16]}, where {str(found)[:16]} is scored")
    fields = ("dataset_revision", "split", "records", "patients", "records_sha256", "voxels_sha256", "synthetic")
    return replace(identity, **{field: getattr(own, field) for field in fields})
