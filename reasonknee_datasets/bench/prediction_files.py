"""Read predictions one by one, each with its place: JSON lines, logs of inspect_ai (``LOG.eval``), Python objects."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile, ZipFile

from reasonknee_datasets.bench.problem_log import ProblemLog
from reasonknee_datasets.bench.run_metadata import RunMetadata, identity_digest
from reasonknee_datasets.errors import BenchError, MissingExtraError

Line = Mapping[str, Any]
Place = str | os.PathLike[str]
Source = Place | Sequence[Place] | Iterable[Line]

METADATA = "reasonknee"
"""Key of a task's metadata under which `reasonknee_bench` states its run."""

# Settings of inspect_ai that change when or how often a request is sent, not its content; headers may hold keys.
_OPERATIONAL = frozenset(
    {
        *("max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections"),
        *("adaptive_connections", "cache", "cache_prompt", "batch", "extra_headers"),
    }
)
# inspect_ai's finish reasons of a reply that was cut, and the parser's.
_CUT = {"max_tokens": "length", "model_length": "length"}
# The entry of a sample in a log. Read as JSON it takes 0.7 ms; through inspect_ai's own classes, 17 ms.
_ENTRY = re.compile(r"samples/.+_epoch_[0-9]+\.json")
# The entry of a long sample that inspect_ai cut into pieces, which only its own reader puts together.
_PIECE = re.compile(r"samples/.+_epoch_[0-9]+/sample\.json")
_BOM = b"\xef\xbb\xbf"


def split_source(source: Source) -> tuple[list[Path], Iterable[Line]]:
    """Return the files of a source, or the predictions of one that has no files."""
    if isinstance(source, (str, os.PathLike)):
        return [Path(source)], ()
    if isinstance(source, Sequence) and source and all(isinstance(each, (str, os.PathLike)) for each in source):
        return [Path(each) for each in cast(Sequence[Place], source)], ()
    return [], cast(Iterable[Line], source)


def iterate_predictions(source: Source, problems: ProblemLog) -> Iterator[tuple[str, Line]]:
    """Iterate over predictions with their places.

    Parameters
    ----------
    source : path, sequence of paths, or iterable of mappings
        Files of JSON objects, one a line; logs of inspect_ai; or the objects themselves.
    problems : ProblemLog
        Receives everything that is not a JSON object.

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
                problems.note("malformed", f"{place}: {type(item).__name__}")
        return
    logs = [file for file in files if is_inspect_log(file)]
    for file in files:
        if not file.is_file():
            raise _missing_file(file)
        if file not in logs:
            yield from _lines_of(file, problems, named=len(files) > 1)
    if logs:
        yield from _iterate_logs(logs, problems)


def _missing_file(file: Path) -> BenchError:
    if file.is_dir():
        return BenchError(f"{file} is a folder. Name the files in it: predictions are .eval logs, or JSON lines.")
    known = [each.name for each in file.parent.glob("*") if each.is_file()]
    near = get_close_matches(file.name, known, n=1)
    remedy = f"Did you mean {str(file.with_name(near[0]))!r}? " if near else ""
    return BenchError(
        f"There is no file {file}. {remedy}Predictions are an .eval log of reasonknee_bench, or JSON lines with an id "
        "and a text (or slots) each."
    )


def name_source(source: Source) -> str:
    """Return the place of predictions for messages: ``in FILE``, or ``from Python``."""
    files, _ = split_source(source)
    return "from Python" if not files else f"in {', '.join(map(str, files))}"


def _lines_of(path: Path, problems: ProblemLog, *, named: bool) -> Iterator[tuple[str, Line]]:
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
                why = str(error)[:60] or "nested too deeply"
                problems.note("half_line" if torn else "not_json", f"{place} ({why})")
                continue
            if isinstance(item, dict):
                yield place, item
            else:
                problems.note("not_json", f"{place} ({type(item).__name__})")


def is_inspect_log(path: Path) -> bool:
    """Report whether a file is a log of inspect_ai: a ZIP archive named ``.eval``."""
    return path.suffix == ".eval"


def read_output(output: Mapping[str, Any]) -> dict[str, str | None]:
    """Return text, finish reason and error of an inspect_ai ModelOutput (as a mapping), for `parse_answer`."""
    if not output["choices"]:
        return {"text": None, "finish_reason": None, "error": None}
    reason = output["choices"][0]["stop_reason"]
    return {"text": output["completion"], "finish_reason": _CUT.get(reason, reason), "error": None}


def read_identity(path: Path) -> RunMetadata:
    """Return the run metadata that a log states, with its model and generation settings.

    Raises
    ------
    BenchError
        If the file is not a log of `reasonknee_bench`.
    MissingExtraError
        If inspect_ai is not installed.
    """
    header, stated = _read_stated(path)
    settings = header.plan.config.model_dump(exclude_none=True, exclude=_OPERATIONAL, mode="json")
    return replace(stated, model=header.eval.model, generation={**stated.generation, **settings})


def _iterate_logs(paths: Sequence[Path], problems: ProblemLog) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read the logs of one run: for each its metadata, then its answers as lines of a JSON lines file.

    Samples that failed come last, and only where no other log has their answer: so the log of a killed run can be named
    together with those of its retries. Noted are records that were asked again, answers of another run, and replies of
    more than one model.
    """
    answered: dict[str, str | None] = {}
    failed: dict[str, tuple[str, Mapping[str, Any]]] = {}
    again: set[str] = set()
    models: dict[str, str] = {}
    for path in paths:
        yield str(path), {"run": read_identity(path).to_json()}
        run = identity_digest(_read_stated(path)[1])
        for sample in _samples(path):
            name = str(sample["id"])
            place = f"{path.name}, sample {name}"
            if name in failed or sample["error_retries"]:
                again.add(name)
            if sample["error"] is not None:
                again |= {name} & answered.keys()
                failed[name] = place, _line(sample)
                continue
            if answered.get(name) == sample["uuid"] is not None:
                continue  # a retry copies the answers that it does not ask for
            answered[name] = sample["uuid"]
            if sample["metadata"].get("study") != run:
                problems.note("mixed_conditions", f"recorded by another run ({place})")
            if sample["output"]["choices"]:
                models.setdefault(sample["output"]["model"], place)
            yield place, _line(sample)
    for name, (place, line) in failed.items():
        if name not in answered:
            yield place, line
    for name in sorted(again):
        problems.note("asked_again", name)
    for model, place in models.items() if len(models) > 1 else ():
        problems.note("several_models", f"{model} ({place})")


def _line(sample: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"id": str(sample["id"]), **read_output(sample["output"]), "usage": _usage(sample)}
    thoughts = _read_thoughts(sample["output"])
    if thoughts:
        line["reasoning"] = thoughts
    if sample["error"] is not None:
        line |= {"text": None, "error": sample["error"]["message"]}
    if sample["metadata"].keys() & {"box", "box_reason"}:
        line |= {name: sample["metadata"].get(name) for name in ("box", "box_reason")}
    return line


def _read_thoughts(output: Mapping[str, Any]) -> str:
    """Return the reasoning that inspect_ai keeps apart from the answer, from think tags or a field of the provider."""
    content = output["choices"][0]["message"]["content"] if output["choices"] else ""
    blocks = [block for block in content if block["type"] == "reasoning"] if isinstance(content, list) else []
    texts = (block.get("summary") if block.get("redacted") else block["reasoning"] for block in blocks)
    return "\n".join(text for text in texts if text)


def _usage(sample: Mapping[str, Any]) -> dict[str, int]:
    """Sum the tokens of a sample's requests, in the words of JSON lines."""
    names = {
        "prompt_tokens": ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write"),
        "completion_tokens": ("output_tokens",),
        "cached_tokens": ("input_tokens_cache_read",),
        "reasoning_tokens": ("reasoning_tokens",),
    }
    found = {
        name: sum(usage.get(part) or 0 for usage in sample["model_usage"].values() for part in parts)
        for name, parts in names.items()
    }
    return {name: count for name, count in found.items() if count}


def _read_stated(path: Path) -> tuple[Any, RunMetadata]:
    """Return a log's header, and the run metadata that the task stated before it asked."""
    header = _header(str(path.absolute()), path.stat().st_mtime_ns)
    stated = (header.eval.metadata or {}).get(METADATA)
    if not isinstance(stated, Mapping):
        raise BenchError(
            f"{header.location} is a log of the task {header.eval.task!r}, not of reasonknee_bench: it does not state "
            "which records were asked, and how. Name a log of reasonknee_datasets/reasonknee_bench."
        )
    return header, RunMetadata.from_json(stated)


@cache
def _header(path: str, changed: int) -> Any:
    """Read a log's header; `changed`, the time of its last change, makes a rewritten file another key."""
    try:
        return _library().read_eval_log(path, header_only=True)
    except MissingExtraError:
        raise
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise BenchError(f"{path} cannot be read as a log of inspect_ai: {error}. Name a whole .eval file.") from error


def _samples(path: Path) -> Iterator[Mapping[str, Any]]:
    library = _library()
    with suppress(ImportError):  # a dependency of inspect_ai: it adds zstandard to zipfile, as Python 3.14 has it
        import_module("zipfile_zstd")
    with ZipFile(path) as archive:
        if any(map(_PIECE.fullmatch, archive.namelist())):
            samples = library.read_eval_log_samples(str(path), all_samples_required=False)
            yield from (sample.model_dump(mode="json") for sample in samples)
            return
        # An entry that was written again, as for a sample that was asked again, counts in its last form.
        for name in dict.fromkeys(filter(_ENTRY.fullmatch, archive.namelist())):
            try:
                sample = json.loads(archive.read(name))
                yield {"error": None, "error_retries": [], "uuid": None, "metadata": {}, "model_usage": {}} | sample
            except (ValueError, RecursionError, BadZipFile) as error:
                raise BenchError(f"{name} in {path} cannot be read: {error}. Name a whole .eval file.") from error


def _library() -> Any:
    try:
        return import_module("inspect_ai.log")
    except ImportError as error:
        raise MissingExtraError(
            "inspect_ai is not installed, and .eval logs are read with it. On Python 3.11 or newer, run: "
            'pip install "reasonknee_datasets[bench]".'
        ) from error
