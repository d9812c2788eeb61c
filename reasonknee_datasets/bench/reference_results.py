"""The result files of the authors' scripts: one JSON object, an answer under each knee and question.

What their scripts did, and what is made of it here (``code/zero_shot`` of github.com/rajpurkarlab/3DReasonKnee):

- A key is ``{patient}_{time}_{study}_{series}_{side}_{question}``; side 1 is right, 2 left. Patients went through a
  table that drops leading zeros.
- All 69 questions were asked. No record answers 63 to 69, which are counted and left out.
- Answers were kept as ``json.loads`` gave them, under ``o1_result`` or ``qwen25vl_result``. Where it failed, the Qwen
  scripts kept ``{"response": text}``: the text is read by the parser, or counts as ``not_json`` where ``official`` is
  asked for. Where the request failed they kept ``{"error": ...}``.
- Where a request failed, ``o1.py`` stored whatever the variables still held: the previous question's answer and its
  token counts. Such an answer is flagged as stale and counts as an error of the provider. Where only ``json.loads``
  failed, the token counts are the question's own, and the answer names another question's subject, which the
  parser notices.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reasonknee_datasets.bench.arrays import Truth
from reasonknee_datasets.bench.collect import Collector
from reasonknee_datasets.bench.predictions import ARRAY_ORDER, Predictions, check_records
from reasonknee_datasets.bench.problem_log import ProblemLog
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.errors import BenchError, nearest
from reasonknee_datasets.schema import quintuple_id, volume_id
from reasonknee_datasets.sources import Repository

MODELS: Mapping[str, str] = {"o1": "o1", "qwen25vl": "Qwen2.5-VL"}
"""Prefix of ``_result``, and the model that it names."""

_KEY = re.compile(
    r"(?P<patient>[0-9]+)_(?P<visit>[0-9]{2}M)_(?P<study>[^_]+)_(?P<series>[^_]+)_(?P<side>[12])_(?P<question>[0-9]{1,2})"
)
_SIDES = {"1": "right", "2": "left"}
_TOKENS = ("total_tokens", "completion_tokens", "prompt_tokens", "reasoning_tokens")


def is_official_file(path: str | os.PathLike[str]) -> bool:
    r"""Check by its first bytes whether a file is a result of the authors' scripts or JSON lines.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "results_o1_zeroshot.json"
    >>> _ = file.write_text('{\n  "9016403_00M_20041118_10329009_1_1": {')
    >>> is_official_file(file)
    True
    """
    with Path(path).open("rb") as file:
        start = file.read(400).decode(errors="replace").lstrip("\ufeff \r\n\t")
    return re.match(rf'\{{\s*"{_KEY.pattern}"\s*:', start) is not None


def read_official_results(
    path: str | os.PathLike[str],
    truth: Truth,
    *,
    data: Repository | None = None,
    split: str = "test",
    model: str | None = None,
    official: bool = False,
    strict: bool = True,
    each_text: Callable[[int, str], None] | None = None,
) -> Predictions:
    """Read a result file of the authors' scripts.

    Parameters
    ----------
    path : path
    truth : Truth
        The records that are scored.
    data : Repository, optional
        Where the truth is from, as for `read_predictions`.
    split : str
        Of the truth.
    model : str, optional
        Prefix of ``_result``, where a file has answers of several models; by default the only one.
    official : bool
        Count an answer that the script's own ``json.loads`` could not read as one without JSON, instead of reading it.
    strict : bool
    each_text : callable, optional
        As for `read_predictions`.

    Raises
    ------
    BenchError
        If the file is not such a file, or, where ``strict``, anything is wrong with it.
    """
    log, usage = ProblemLog(), Counter[str]()
    entries = _load(Path(path), log)
    name = _choose_model(entries, model, path)
    collector = Collector(
        truth, log, data=data, split=split, convention=ARRAY_ORDER, official=official, each_text=each_text
    )
    if not entries:
        log.note("empty", str(path))
    previous: tuple[Any, Any] | None = None
    for key, entry in entries:
        place = f"key {key[:80]}"
        kept = entry if isinstance(entry, Mapping) else {}
        result, tokens = kept.get(f"{name}_result"), _tokens(kept, name)
        stale = bool(tokens) and not _is_error(result) and previous == (result, tokens)
        previous = result, tokens
        found = _find(key, collector)
        if found is None:
            log.note("malformed", place)
        elif f"{name}_result" not in kept and kept:
            log.note("malformed", f"{place} (no {name}_result)")
        elif found not in collector.row:
            collector.add(found, {}, place)  # noted as not scored
        else:
            if stale:
                log.note("stale", found)
            usage.update({what: count for what, count in tokens.items() if not stale})
            collector.add(found, _line(result, stale=stale), place)
    answers = collector.finish()
    run = RunMetadata(model=MODELS.get(name, name), condition="official_o1" if name == "o1" else "official")
    identity = check_records(run, truth, data, split, log)
    problems = log.close(f"in {os.fspath(path)}", strict=strict)
    return Predictions(answers, problems, identity, dict(collector.rules), dict(usage))


def _load(path: Path, log: ProblemLog) -> list[tuple[str, Any]]:
    """Read the entries one by one: duplicates are noticed, and the first half of a cut file is used."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(
            f"The result file {path} cannot be read as text: {error}. Name the file that the script wrote."
        ) from error
    if not text.lstrip().startswith("{"):
        if text.strip():
            raise BenchError(
                f"{path} does not hold a JSON object, but begins with {text.lstrip()[:40]}. Files of JSON lines are "
                "read by read_predictions."
            )
        return []
    entries: list[tuple[str, Any]] = []
    at = _skip(text, text.index("{") + 1)
    try:
        while text[at : at + 1] != "}":
            if entries:
                at = _skip(text, _expect(text, at, ","))
            key, at = _DECODER.raw_decode(text, at)
            value, at = _DECODER.raw_decode(text, _skip(text, _expect(text, _skip(text, at), ":")))
            entries.append((str(key), value))
            at = _skip(text, at)
        if text[at + 1 :].strip():
            log.note("not_json", f"text after the end of the object, at character {at + 1}")
    except (ValueError, RecursionError) as error:
        log.note("half_line", f"after {len(entries)} whole entries ({str(error)[:60]})")
    return entries


_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark!r} at character {at}")
    return at + 1


def _choose_model(entries: list[tuple[str, Any]], model: str | None, path: str | os.PathLike[str]) -> str:
    """Find whose answers a file holds."""
    there = Counter(
        key.removesuffix("_result")
        for _, entry in entries
        if isinstance(entry, Mapping)
        for key in entry
        if key.endswith("_result")
    )
    if model is not None:
        if model not in there and entries:
            raise BenchError(f"The file has no answers of model {model!r}. {nearest(model, there)}.")
        return model
    if len(there) != 1 and entries:
        if not there:
            raise BenchError(
                f"{os.fspath(path)} holds no answers as o1_result or qwen25vl_result. Name the file that the authors' "
                "script wrote."
            )
        models = ", ".join(f"{name}_result ({count})" for name, count in there.items())
        raise BenchError(
            f"{os.fspath(path)} holds answers of several models: {models}. Name one: "
            'read_official_results(..., model="o1").'
        )
    return next(iter(there), "o1")


def _tokens(entry: Mapping[str, Any], name: str) -> dict[str, int]:
    return {each: entry[f"{name}_{each}"] for each in _TOKENS if isinstance(entry.get(f"{name}_{each}"), int)}


def _is_error(result: object) -> bool:
    return isinstance(result, Mapping) and set(result) == {"error"}


def _line(result: Any, *, stale: bool) -> dict[str, Any]:
    """Return a kept answer as a line of predictions."""
    if stale:
        return {"text": None, "error": "the previous question's answer"}
    if _is_error(result):
        return {"text": None, "error": str(result["error"])}
    if isinstance(result, Mapping) and set(result) == {"response"} and isinstance(result["response"], str):
        return {"text": result["response"]}
    if result is None or isinstance(result, str):
        return {"text": result}
    return {"text": json.dumps(result)}


def _find(key: str, collector: Collector) -> str | None:
    """Return the id that a key means; None where it is not a key.

    A volume's id holds its series only where one visit has two of one knee, and a key may have lost leading zeros.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    side, question = _SIDES[match["side"]], int(match["question"])
    scan = None
    for patient in dict.fromkeys((match["patient"], match["patient"].zfill(7))):
        for series in (None, match["series"]):
            volume = volume_id(patient, match["visit"], side, series)
            scan = collector.scans.get(volume)
            if scan is not None and scan[1] != match["series"]:
                continue  # another scan of the same knee
            name = quintuple_id(volume, question)
            if scan is not None or name in collector.row:
                return name
    return quintuple_id(volume_id(match["patient"], match["visit"], side, match["series"]), question)
