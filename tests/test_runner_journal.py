"""The journal: cut anywhere, it goes on without asking twice; damaged, it says so."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.bench.conditions import GUIDED, OWN_REGION
from reasonknee_datasets.bench.identity import Identity
from reasonknee_datasets.bench.runner import CallableModel, Generation, Journal, Request, make_study, run
from reasonknee_datasets.bench.runner.study import Study
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.transforms import ToFrames

_RUN = Identity(split="test", model="m", generation={"max_tokens": 8})
_LINES = [
    {"id": f"9016403/00M/right/q{number:02d}", "text": text, "finish_reason": "stop"}
    for number, text in enumerate(('{"a": 1}', "two\nlines", "≥3 \u2028 π", "\ud800 half", ""), start=1)
]
_TINY = ToFrames("sagittal", count=2, size=32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "run.jsonl"


def _write(path: Path, lines: list[dict[str, Any]]) -> bytes:
    with Journal(path, _RUN) as journal:
        for line in lines:
            journal.append(line)
    return path.read_bytes()


def test_what_was_written_is_read(path: Path) -> None:
    data = _write(path, _LINES)
    assert [json.loads(line) for line in data.decode().splitlines()] == [{"run": _RUN.to_json()}, *_LINES]
    with Journal(path, _RUN) as journal:
        assert list(journal.answers.values()) == _LINES
        assert journal.cut == 0
    assert path.read_bytes() == data


def test_cut_at_every_byte_it_keeps_each_whole_line_and_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _write(path, _LINES)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # thousands of them take half a minute
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        whole = data[:end].count(b"\n")
        with Journal(path, _RUN) as journal:
            assert list(journal.answers.values()) == _LINES[: max(0, whole - 1)]
            assert journal.cut == end - (data[:end].rfind(b"\n") + 1)
            for line in _LINES:
                if line["id"] not in journal.answers:
                    journal.append(line)
        assert path.read_bytes() == data


def test_a_journal_of_another_run_is_refused_and_left_alone(path: Path) -> None:
    data = _write(path, _LINES[:1]) + b'{"id": "torn'
    path.write_bytes(data)
    other = Identity(split="train", model="m", generation={"max_tokens": 9})
    match = (
        "journal must be of the run that is asked for, got split: 'test' and 'train'; generation.max_tokens: 8 and 9"
    )
    with pytest.raises(BenchError, match=match):
        Journal(path, other)
    assert path.read_bytes() == data
    with Journal(path, _RUN):  # the refusal let go of it
        pass


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b'{"id": "a", "text": ""}\n', 'journal must begin with {"run": ...}, got a line with id, text in'),
        (b"my notes, without an end of line", 'journal must begin with {"run": ...}, got something else in'),
        (b"a,b\n1,2", "journal must hold JSON, got .* in line 1 of"),
        (b'{"run": RUN}\nnonsense\n{"id": "torn', "journal must hold JSON, got .* in line 2 of"),
        (b'{"run": {"modell": 1}}\n', "identity must hold known fields only, got modell"),
        (b"\n", "journal must hold JSON, got .* in line 1 of"),
        (b'{"run": RUN}\n{"id": "a"}\nnonsense\n{"id": "b"}\n', "journal must hold JSON, got .* in line 3 of"),
        (b'{"run": RUN}\n[]\n', r"journal must hold JSON objects, got \[\] in line 2 of"),
        (b'{"run": RUN}\n{"id": "a"}\n{"id": "a"}\n', "journal must hold each id once, got one twice in line 3 of"),
        (b'{"run": RUN}\n{"text": "a"}\n', "journal must hold each id once, got None in line 2 of"),
        (b'{"run": RUN}\n\0\0\0\0\n', "journal must hold JSON, got .* in line 2 of"),
    ],
)
def test_damage_is_named(data: bytes, match: str, path: Path) -> None:
    path.parent.mkdir()
    written = data.replace(b"RUN", json.dumps(_RUN.to_json()).encode())
    path.write_bytes(written)
    with pytest.raises(BenchError, match=match.replace("{", r"\{").replace("}", r"\}")):
        Journal(path, _RUN)
    assert path.read_bytes() == written


def test_two_runs_cannot_write_one_journal(path: Path) -> None:
    with Journal(path, _RUN), pytest.raises(BenchError, match="journal must be open in one run at a time"):
        Journal(path, _RUN)
    with Journal(path, _RUN):
        pass


def test_an_answer_is_journaled_once(path: Path) -> None:
    with Journal(path, _RUN) as journal:
        journal.append(_LINES[0])
        with pytest.raises(BenchError, match="an answer must be journaled once, got 9016403/00M/right/q01"):
            journal.append(_LINES[0])


def test_a_full_disk_leaves_no_torn_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _write(path, _LINES[:1])
    real = os.write

    def write(descriptor: int, text: bytes) -> int:
        if len(text) > 10:
            return real(descriptor, text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path, _RUN) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(OSError, match="No space left"):
                journal.append(_LINES[1])
        assert path.read_bytes() == data
        journal.append(_LINES[1])
    with Journal(path, _RUN) as journal:
        assert list(journal.answers.values()) == _LINES[:2]


def test_each_line_is_on_the_disk_before_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with Journal(path, _RUN) as journal:
        for line in _LINES:
            journal.append(line)
            assert synced[-1] == path.stat().st_size


def _study(prepared: Path, condition: Any) -> Study:
    small = replace(condition, frames=_TINY, region_frames=_TINY)
    return make_study(prepared, small, patients=1, questions=[19, 60])


def _cuts(data: bytes) -> list[int]:
    """Choose where a run is cut: around each end of line, and every few bytes between."""
    ends = [place for place, byte in enumerate(data) if byte == 10]
    near = {end + shift for end in ends for shift in (-1, 0, 1, 2)}
    return sorted(cut for cut in near | set(range(0, len(data), 97)) if 0 <= cut <= len(data))


def _answer(asked: list[tuple[str, str]]) -> Callable[[Request], str]:
    def answer(request: Request) -> str:
        asked.append((request.id, request.step))
        return '{"bounding_box": [0, 1, 4, 20, 4, 20]}' if request.step == "box" else f"{request.id} of {request.step}"

    return answer


def test_a_run_that_is_cut_anywhere_asks_only_for_what_is_missing(prepared: Path, tmp_path: Path) -> None:
    study, path = _study(prepared, GUIDED), tmp_path / "run.jsonl"
    names = [task.id for task in study.records.tasks]

    def again() -> list[tuple[str, str]]:
        asked: list[tuple[str, str]] = []
        run(study, CallableModel(_answer(asked), "m"), journal=path, progress=False)
        return asked

    assert [name for name, _ in again()] == names
    data = path.read_bytes()
    for cut in _cuts(data):
        path.write_bytes(data[:cut])
        there = max(0, data[:cut].count(b"\n") - 1)
        assert [name for name, _ in again()] == names[there:]
        assert path.read_bytes() == data


def test_a_box_that_was_given_before_the_cut_is_not_asked_for_again(prepared: Path, tmp_path: Path) -> None:
    study, path = _study(prepared, OWN_REGION), tmp_path / "run.jsonl"
    boxes = tmp_path / "run.boxes.jsonl"
    names = [task.id for task in study.records.tasks]
    asked: list[tuple[str, str]] = []
    run(study, CallableModel(_answer(asked), "m"), journal=path, progress=False)
    assert asked == [(name, step) for name in names for step in ("box", "answer")]
    data, located = path.read_bytes(), boxes.read_bytes()
    assert located.count(b"\n") == len(names) + 1
    for done in range(len(names)):
        # Killed after the box of the next record, and before its answer.
        path.write_bytes(b"".join(data.splitlines(keepends=True)[: done + 1]))
        boxes.write_bytes(b"".join(located.splitlines(keepends=True)[: done + 2]))
        asked.clear()
        run(study, CallableModel(_answer(asked), "m"), journal=path, progress=False)
        assert asked == [(names[done], "answer")] + [(n, step) for n in names[done + 1 :] for step in ("box", "answer")]
        assert (path.read_bytes(), boxes.read_bytes()) == (data, located)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "seed: 0 and 1"),
        ({"condition": "zero_shot"}, "condition: 'guided' and 'zero_shot'"),
        ({"questions": [1]}, "records"),
        ({"generation": Generation(max_tokens=5)}, "generation.max_tokens: 1024 and 5"),
        ({"name": "another"}, "model: 'm' and 'another'"),
    ],
)
def test_a_run_does_not_go_on_with_another_ones_journal(
    change: dict[str, Any], match: str, prepared: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    options: dict[str, Any] = {"condition": "guided", "patients": 1, "questions": [19], "progress": False}
    run(prepared, CallableModel(lambda request: "{}", "m"), journal=path, **options)
    name = change.pop("name", "m")
    with pytest.raises(BenchError, match=match):
        run(prepared, CallableModel(lambda request: "{}", name), journal=path, **options | change)
