"""Predictions one by one, each with its place: from JSON lines, from logs of inspect_ai, or from Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from reasonknee_datasets.bench.predictions.inspect_logs import each_answer, is_inspect_log
from reasonknee_datasets.bench.predictions.problems import Ledger
from reasonknee_datasets.errors import BenchError

Line = Mapping[str, Any]
Place = str | os.PathLike[str]
Source = Place | Sequence[Place] | Iterable[Line]

_BOM = b"\xef\xbb\xbf"


def split_source(source: Source) -> tuple[list[Path], Iterable[Line]]:
    """Return the files of a source, or the predictions of one that has no files."""
    if isinstance(source, (str, os.PathLike)):
        return [Path(source)], ()
    if isinstance(source, Sequence) and source and all(isinstance(each, (str, os.PathLike)) for each in source):
        return [Path(each) for each in cast(Sequence[Place], source)], ()
    return [], cast(Iterable[Line], source)


def each_line(source: Source, ledger: Ledger) -> Iterator[tuple[str, Line]]:
    """Iterate over predictions with their places.

    Parameters
    ----------
    source : path, sequence of paths, or iterable of mappings
        Files of JSON objects, one a line; logs of inspect_ai; or the objects themselves.
    ledger : Ledger
        Notes what is no object.

    Raises
    ------
    BenchError
        If there is no such file.
    """
    files, items = split_source(source)
    if not files:
        for number, item in enumerate(items):
            place = f"prediction {number}"
            if isinstance(item, Mapping):
                yield place, item
            else:
                ledger.note("malformed", f"{place}: {type(item).__name__}")
        return
    logs = [file for file in files if is_inspect_log(file)]
    for file in files:
        if not file.is_file():
            raise BenchError(
                f"{file} is not a readable file. Predictions are an .eval log of reasonknee_bench, or JSON lines with "
                "an id and a text (or slots) each."
            )
        if file not in logs:
            yield from _lines_of(file, ledger, named=len(files) > 1)
    if logs:
        yield from each_answer(logs, ledger)


def name_source(source: Source) -> str:
    """Name where predictions come from, for messages."""
    files, _ = split_source(source)
    return "from Python" if not files else f"in {', '.join(map(str, files))}"


def _lines_of(path: Path, ledger: Ledger, *, named: bool) -> Iterator[tuple[str, Line]]:
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            text = data.removeprefix(_BOM) if number == 1 else data
            if not text.strip():
                continue
            place = f"{path.name}, line {number}" if named else f"line {number}"
            try:
                item = json.loads(text)
            except (ValueError, RecursionError) as error:
                # A file that ends within a line was cut off there: a whole object ends with its brace.
                torn = not data.endswith(b"\n")
                ledger.note("half_line" if torn else "not_json", f"{place} ({str(error)[:60] or 'nested too deeply'})")
                continue
            if isinstance(item, dict):
                yield place, item
            else:
                ledger.note("not_json", f"{place} ({type(item).__name__})")
