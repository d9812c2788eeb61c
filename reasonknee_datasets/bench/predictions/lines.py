"""Predictions one by one, each with its place: from the lines of a file, or from Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reasonknee_datasets.bench.predictions.problems import Ledger
from reasonknee_datasets.errors import BenchError, explain

Line = Mapping[str, Any]
Source = str | os.PathLike[str] | Iterable[Line]

_BOM = b"\xef\xbb\xbf"


def each_line(source: Source, ledger: Ledger) -> Iterator[tuple[str, Line]]:
    """Go through predictions with their places.

    Parameters
    ----------
    source : path, or iterable of mappings
        A file of JSON objects, one a line, or the objects themselves.
    ledger : Ledger
        Learns of what is no object.

    Raises
    ------
    BenchError
        If there is no such file.
    """
    if isinstance(source, (str, os.PathLike)):
        yield from _lines_of(Path(source), ledger)
        return
    for number, item in enumerate(source):
        place = f"prediction {number}"
        if isinstance(item, Mapping):
            yield place, item
        else:
            ledger.note("malformed", f"{place}: {type(item).__name__}")


def name_source(source: Source) -> str:
    """Name where predictions come from, for messages."""
    return f"in {os.fspath(source)}" if isinstance(source, (str, os.PathLike)) else "from Python"


def _lines_of(path: Path, ledger: Ledger) -> Iterator[tuple[str, Line]]:
    try:
        file = path.open("rb")
    except OSError as error:
        remedy = "Give the file that reasonknee bench run wrote, or one of your own with an id and a text a line"
        got = f"{path} ({error.strerror or error})"
        raise BenchError(explain("predictions", "be a readable file", got, remedy)) from error
    with file:
        for number, data in enumerate(file, start=1):
            text = data.removeprefix(_BOM) if number == 1 else data
            if not text.strip():
                continue
            place = f"line {number}"
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
