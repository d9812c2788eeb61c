"""`run` with a Python function: resuming, a real kill, failures, counts, and what a dry run says of all that."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.bench.conditions import CONDITIONS, GUIDED, JITTERED_REGION, OWN_REGION, Condition
from reasonknee_datasets.bench.identity import Identity
from reasonknee_datasets.bench.prompts import Prompts
from reasonknee_datasets.bench.runner import (
    AskError,
    CallableModel,
    Generation,
    Pace,
    Price,
    Reply,
    Request,
    Retry,
    dry_run,
    make_study,
    run,
)
from reasonknee_datasets.bench.runner.pace import ask_again
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.transforms import ToFrames

_BOX = '{"bounding_box": [0, 1, 4, 20, 4, 20]}'
_TINY = ToFrames("sagittal", count=2, size=32)


def _small(condition: Condition) -> Condition:
    if condition.script == "o1":
        return replace(condition, frames=replace(condition.frames, count=4, ends=(0, 7)))
    return condition if condition.script else replace(condition, frames=_TINY, region_frames=_TINY)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _quick(**options: Any) -> dict[str, Any]:
    """Give options of a small run that never waits."""
    small = {"patients": 1, "questions": [19, 60], "progress": False, "retry": Retry(first=0, most=0)}
    return small | options


def test_a_run_answers_every_record_once(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = CallableModel(lambda request: Reply(f"about {request.id}", "stop", {"prompt_tokens": 3}), "m", "r1")
    summary = run(prepared, model, _small(GUIDED), path, seed=5, progress=False, patients=1)
    truth = read_truth(prepared, "test", patients=1, seed=5)
    first, *rest = _lines(path)
    assert [line["id"] for line in rest] == list(truth.ids)
    assert all(line["text"] == f"about {line['id']}" and line["error"] is None for line in rest)
    assert all(len(line["prompt"]) == 64 and line["usage"] == {"prompt_tokens": 3} for line in rest)
    assert (summary.answered, summary.resumed, summary.records) == (len(truth), 0, len(truth))
    assert summary.usage == {"prompt_tokens": 3 * len(truth)}
    identity = Identity.from_json(first["run"])
    assert (identity.model, identity.model_revision, identity.seed, identity.condition) == ("m", "r1", 5, "guided")
    assert (identity.records, identity.patients, identity.synthetic) == (len(truth), 1, True)
    assert identity.prompts == Prompts.own("guided").hashes(range(1, 63))
    assert identity.frames == repr(_TINY)
    assert identity.generation == {"max_tokens": 1024, "media": "images", "temperature": 0.0}
    again = run(prepared, model, _small(GUIDED), path, seed=5, progress=False, patients=1)
    assert (again.answered, again.resumed, again.requests) == (0, len(truth), 0)


_KILLED = """
import itertools, os, sys, time
from reasonknee_datasets.bench.conditions import get_condition
from reasonknee_datasets.bench.runner import CallableModel, run
from tests.test_runner import _TINY
from dataclasses import replace

data, journal, asked, most = sys.argv[1:]
log = os.open(asked, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = itertools.count()

def answer(request):
    if next(number) > int(most):  # however late the kill comes, it comes before the end
        time.sleep(600)
    os.write(log, f"{request.id}\\n".encode())
    time.sleep(0.01)
    return "x" * 50_000

condition = replace(get_condition("guided"), frames=_TINY)
run(data, CallableModel(answer, "m", concurrency=3), condition, journal, patients=1, progress=False)
"""


@pytest.mark.slow
def test_a_real_kill_loses_no_answer_and_asks_none_twice(prepared: Path, tmp_path: Path) -> None:
    path, log = tmp_path / "run.jsonl", tmp_path / "asked.txt"
    command = [sys.executable, "-c", _KILLED, str(prepared), str(path), str(log)]
    everything = list(read_truth(prepared, "test", patients=1).ids)
    before: list[str] = []
    for kill in (5, 30, 50):
        goal = (path.stat().st_size if path.exists() else 0) + kill * 50_000
        process = subprocess.Popen([*command, "60"], cwd=Path(__file__).parents[1])
        try:
            while not path.exists() or path.stat().st_size < goal:
                assert process.poll() is None
                time.sleep(0.002)
        finally:
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait()
        data = path.read_bytes()
        answered = [json.loads(line)["id"] for line in data[: data.rfind(b"\n") + 1].splitlines()[1:]]
        assert answered[: len(before)] == before
        assert len(answered) > len(before)
        asked = log.read_text().splitlines()
        # Whatever was answered before this process began, it did not ask for.
        assert all(asked.count(name) == 1 for name in answered)
        before = answered
        # What was asked and not answered was on its way when the kill came: no more than were asked at once.
        in_flight = set(asked) - set(answered)
        assert len(in_flight) <= 4
        log.write_text("".join(f"{name}\n" for name in answered))
    subprocess.run([*command, "1000"], cwd=Path(__file__).parents[1], check=True)
    assert sorted(line["id"] for line in _lines(path)[1:]) == sorted(everything)
    assert sorted(log.read_text().splitlines()) == sorted(everything)


def test_ctrl_c_keeps_what_is_on_its_way(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.id)
        if len(asked) == 2:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)
        return "{}"

    with pytest.raises(KeyboardInterrupt):
        run(prepared, CallableModel(answer, "m"), _small(GUIDED), path, **_quick(questions=None))
    assert [line["id"] for line in _lines(path)[1:]] == asked
    assert 2 <= len(asked) <= 4


def test_ctrl_c_does_not_wait_for_an_endpoint_that_asks_for_an_hour(prepared: Path, tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        signal.raise_signal(signal.SIGINT)
        raise AskError("busy", retry_after=3600.0)

    with pytest.raises(KeyboardInterrupt):
        run(prepared, CallableModel(answer, "m", concurrency=2), _small(GUIDED), tmp_path / "a.jsonl", **_quick())


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_dry_run_counts_what_a_run_asks(name: str, prepared: Path, tmp_path: Path) -> None:
    condition = _small(CONDITIONS[name])
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return _BOX if request.step == "box" else "{}"

    study = make_study(prepared, condition, patients=1, questions=[19, 60])
    plan = dry_run(study, generation=None, price=Price(1.0, 2.0))
    run(study, CallableModel(answer, "m"), journal=tmp_path / "run.jsonl", progress=False)
    assert plan.requests == len(asked)
    assert plan.images == sum(request.images for request in asked)
    assert plan.records == len(study.records.tasks) == len({request.id for request in asked})
    words = sum(len(request.text) for request in asked)
    # The model's own words stand in the second turn of box_first, and a dry run knows of none.
    spoken = len(_BOX) * plan.records if name == "box_first" else 0
    assert plan.text_tokens == -(-(words - spoken) // 4)
    # A square crop is the most that one's own region can be.
    pixels = sum(request.frames[0].pixels[0].size * request.images for request in asked)
    assert plan.image_tokens * 28 * 28 >= pixels
    assert plan.words.split("\n")[1] == asked[0].text.split("\n")[1]
    assert (plan.cost is None) == (name == "official_o1")
    assert "requests" in str(plan)


def test_a_dry_run_reads_no_voxel(prepared: Path, tmp_path: Path) -> None:
    plan = dry_run(prepared, "guided", volumes_dir=tmp_path, patients=1)
    assert plan.images == 32 * plan.records
    with pytest.raises(FileNotFoundError):
        run(prepared, CallableModel(lambda r: "{}", "m"), "guided", tmp_path / "a.jsonl", volumes_dir=tmp_path)


def test_a_dry_run_leaves_out_what_is_answered(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    run(prepared, CallableModel(lambda request: "{}", "m"), _small(GUIDED), path, **_quick())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:9])
    plan = dry_run(prepared, _small(GUIDED), path, patients=1, questions=[19, 60])
    assert (plan.records, plan.done) == (1, len(lines) - 2)
    assert path.read_bytes().endswith(lines[-1][:9])
    assert dry_run(prepared, _small(GUIDED), tmp_path / "none", patients=1, questions=[19]).done == 0


def test_a_sample_is_of_whole_patients_and_seeded(prepared: Path) -> None:
    def names(**options: Any) -> list[str]:
        return [task.id for task in make_study(prepared, "guided", split="train", **options).records.tasks]

    two = names(patients=2, seed=3)
    patients = {name.split("/")[0] for name in two}
    assert len(patients) == 2
    assert two == [name for name in names() if name.split("/")[0] in patients]
    assert two == names(patients=2, seed=3)
    assert set(names(patients=1, seed=3)) < set(two)
    assert any(names(patients=2, seed=seed) != two for seed in range(10))
    with pytest.raises(BenchError, match="patients must be 1 to 4, got 99"):
        names(patients=99)


def test_damaged_prompts_may_be_left_out(prepared: Path, tmp_path: Path) -> None:
    study = make_study(prepared, "guided", patients=1, damaged="leave_out")
    assert {task.question for task in study.records.tasks} == set(range(1, 63)) - {58, 59}
    assert study.records.identity.records == len(study.records.tasks)
    mended = make_study(prepared, "guided", patients=1)
    assert mended.prompts.repaired == (58, 59)
    official = make_study(prepared, "official", patients=1)
    assert official.prompts.repaired == ()
    with pytest.raises(BenchError, match="a run must ask at least one question"):
        make_study(prepared, "guided", questions=[58], damaged="leave_out")


def test_real_data_need_named_prompts(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    for each in prepared.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / "manifest.json").unlink()
    text = (prepared / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text.replace('"synthetic": true', '"synthetic": false'), encoding="utf-8")
    with pytest.raises(BenchError, match="prompts must be named for real data, got none"):
        make_study(folder, "guided")
    assert make_study(folder, "guided", prompts="project").prompts.source == "project"
    files = tmp_path / "questions_nobbox_guided.json"
    files.write_text('{"19": "Any loss?"}', encoding="utf-8")
    with pytest.raises(BenchError, match="question 1 must have a prompt, got none in the official files"):
        make_study(folder, "guided", prompts=files)


@pytest.mark.parametrize(("name", "file"), [("zero_shot", "zeroshot"), ("guided", "guided"), ("official", "guided")])
def test_the_users_question_files_are_asked_and_hashed(name: str, file: str, prepared: Path, tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "shared" / "real"
    if not folder.is_dir():
        pytest.skip("needs the official question files in ../shared/real")
    raw = json.loads((folder / "question_files" / f"questions_nobbox_{file}.json").read_text(encoding="utf-8"))
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "{}"

    options = _quick(questions=[19, 58], prompts=folder)
    run(prepared, CallableModel(answer, "m"), _small(CONDITIONS[name]), tmp_path / "a.jsonl", **options)
    prompts = Prompts.from_files(folder, file, "keep" if name == "official" else "repair")  # type: ignore[arg-type]
    assert all(request.text.endswith(prompts.texts[int(request.id[-2:])]) for request in asked)
    hashes = _lines(tmp_path / "a.jsonl")[0]["run"]["prompts"]
    assert hashes["19"] == hashlib.sha256(raw["19"].encode()).hexdigest()
    assert (hashes["58"] == hashlib.sha256(raw["58"].encode()).hexdigest()) == (name == "official")


@pytest.mark.parametrize("questions", [[0], [63], [19, 99]])
def test_questions_without_records_are_refused(questions: list[int], prepared: Path) -> None:
    with pytest.raises(BenchError, match="questions must be 1 to 62"):
        make_study(prepared, "guided", questions=questions)


def test_what_is_cropped_to_stands_in_the_journal(prepared: Path, tmp_path: Path) -> None:
    truth = read_truth(prepared, "test", patients=1, filters=[("question_id", "in", [19, 60])])
    true = {name: Box.from_row(box.tolist()) for name, box in zip(truth.ids, truth.boxes, strict=True)}
    for condition in (CONDITIONS["region_given"], JITTERED_REGION):
        path = tmp_path / f"{condition.name}.jsonl"
        run(prepared, CallableModel(lambda request: "{}", "m"), _small(condition), path, **_quick())
        ious = [Box.from_row(line["region"]).iou(true[line["id"]]) for line in _lines(path)[1:]]
        if condition == JITTERED_REGION:
            # A quarter of its length along each axis leaves (3/4)^3 of it in common; rounding moves that a little.
            assert all(0.1 < iou < 0.5 for iou in ious)
        else:
            assert ious == [1.0] * len(true)


def test_ones_own_region_is_the_box_that_was_said(prepared: Path, tmp_path: Path) -> None:
    path, asked = tmp_path / "run.jsonl", []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return Reply(_BOX if request.step == "box" else "{}", "stop", {"prompt_tokens": 10, "completion_tokens": 2})

    summary = run(prepared, CallableModel(answer, "m"), _small(OWN_REGION), path, **_quick())
    first, *lines = _lines(path)
    assert first["run"]["box_convention"] == "slice0-x1-y2-corners-exclusive-voxel"
    assert "box_prompts" in first["run"]["generation"]
    assert [request.step for request in asked] == ["box", "answer"] * len(lines)
    assert summary.requests == 2 * len(lines)
    for line in lines:
        assert line["usage"] == {"prompt_tokens": 20, "completion_tokens": 4}
        assert line["box_text"] == _BOX
        Box.from_row(line["box"])
    assert summary.usage == {"prompt_tokens": 20 * len(lines), "completion_tokens": 4 * len(lines)}


def test_without_a_box_nothing_stands_in_for_it(prepared: Path, tmp_path: Path) -> None:
    path, steps = tmp_path / "run.jsonl", []

    def answer(request: Request) -> str:
        steps.append(request.step)
        return "I cannot see it."

    run(prepared, CallableModel(answer, "m"), _small(OWN_REGION), path, **_quick())
    lines = _lines(path)[1:]
    assert steps == ["box"] * len(lines)
    assert {(line["text"], line["finish_reason"], line["box"]) for line in lines} == {(None, "no_box", None)}
    assert {line["box_reason"] for line in lines} <= {"not_json", "missing", "refusal"}
    # With the whole knee in view, the question can be asked all the same.
    steps.clear()
    run(prepared, CallableModel(answer, "m"), _small(CONDITIONS["box_first"]), tmp_path / "two.jsonl", **_quick())
    assert steps == ["box", "answer"] * len(lines)


def _failing(times: int, error: AskError) -> CallableModel:
    count = iter(range(10_000))

    def answer(request: Request) -> str:
        if next(count) < times:
            raise error
        return "{}"

    return CallableModel(answer, "m")


def test_a_passing_fault_is_asked_again(prepared: Path, tmp_path: Path) -> None:
    summary = run(prepared, _failing(3, AskError("busy")), _small(GUIDED), tmp_path / "a.jsonl", **_quick())
    assert summary.failed == []
    assert summary.requests == summary.answered + 3


def test_what_fails_to_the_end_is_asked_by_the_next_run(prepared: Path, tmp_path: Path) -> None:
    path, retry = tmp_path / "a.jsonl", Retry(attempts=2, first=0, most=0)
    summary = run(prepared, _failing(2, AskError("busy")), _small(GUIDED), path, **_quick(retry=retry))
    first = make_study(prepared, "guided", patients=1, questions=[19, 60]).records.tasks[0].id
    assert summary.failed == [first]
    assert first not in {line.get("id") for line in _lines(path)}
    assert "1 failed, to be asked again" in str(summary)
    again = run(prepared, _failing(0, AskError("")), _small(GUIDED), path, **_quick(retry=retry))
    assert (again.answered, again.failed) == (1, [])


def test_failures_are_recorded_on_request(prepared: Path, tmp_path: Path) -> None:
    path, retry = tmp_path / "a.jsonl", Retry(attempts=1)
    options = _quick(retry=retry, on_failure="record")
    summary = run(prepared, _failing(1, AskError("busy: try later")), _small(GUIDED), path, **options)
    assert summary.failed == []
    assert [line["error"] for line in _lines(path)[1:]].count("busy: try later") == 1


def test_a_refused_request_is_an_answer_once_the_endpoint_answers(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    summary = run(prepared, _failing(1, AskError("too long", "refused")), _small(GUIDED), path, **_quick())
    assert (summary.refused, summary.requests) == (1, summary.records)
    errors = [line["error"] for line in _lines(path)[1:]]
    assert sorted(filter(None, errors)) == ["too long"]
    assert run(prepared, _failing(0, AskError("")), _small(GUIDED), path, **_quick()).requests == 0


def test_many_refusals_do_not_end_a_run_that_gets_answers(prepared: Path, tmp_path: Path) -> None:
    path, number = tmp_path / "a.jsonl", iter(range(10_000))

    def answer(request: Request) -> str:
        if next(number) > 0:
            raise AskError("too many pictures", "refused")
        return "{}"

    options = _quick(questions=None, give_up_after=3)
    summary = run(prepared, CallableModel(answer, "m"), _small(GUIDED), path, **options)
    assert summary.refused == summary.records - 1 > 100
    assert run(prepared, CallableModel(answer, "m"), _small(GUIDED), path, **options).requests == 0


def test_an_endpoint_that_dies_leaves_its_last_records_to_the_next_run(prepared: Path, tmp_path: Path) -> None:
    path, number = tmp_path / "a.jsonl", iter(range(10_000))

    def answer(request: Request) -> str:
        if next(number) > 4:
            raise AskError("gone")
        return "{}"

    options = _quick(questions=None, give_up_after=3, retry=Retry(attempts=1), on_failure="record")
    with pytest.raises(AskError, match="gone"):
        run(prepared, CallableModel(answer, "m"), _small(GUIDED), path, **options)
    assert [line["error"] for line in _lines(path)[1:]] == [None] * 5


def test_an_endpoint_that_refuses_everything_leaves_an_empty_journal(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(AskError, match="every request was refused, so none is journaled; the first: unknown field"):
        run(prepared, _failing(9**9, AskError("unknown field", "refused")), _small(GUIDED), path, **_quick())
    assert len(_lines(path)) == 1


@pytest.mark.parametrize(("kind", "most"), [("fatal", 1), ("refused", 3), ("transient", 3)])
def test_a_dead_endpoint_ends_the_run(kind: Any, most: int, prepared: Path, tmp_path: Path) -> None:
    calls: list[str] = []

    def answer(request: Request) -> str:
        calls.append(request.id)
        raise AskError("no", kind)

    options = _quick(questions=None, give_up_after=3, retry=Retry(attempts=1))
    with pytest.raises(AskError, match="no") as caught:
        run(prepared, CallableModel(answer, "m"), _small(GUIDED), tmp_path / "a.jsonl", **options)
    assert any("0 of" in note and "records are answered in" in note for note in caught.value.__notes__)
    assert len(calls) <= most + 1


def test_a_fault_of_the_function_ends_the_run_with_its_own_error(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = iter(["{}", "{}"])

    def answer(request: Request) -> str:
        return next(answers, None) or str(1 / 0)

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run(prepared, CallableModel(answer, "m"), _small(GUIDED), path, **_quick())
    assert len(_lines(path)) == 3
    with pytest.raises(AskError, match="a model's function must give text, got int"):
        run(prepared, CallableModel(lambda r: 3, "m"), _small(GUIDED), tmp_path / "b.jsonl", **_quick())  # type: ignore[arg-type,return-value]


def test_no_more_are_asked_at_once_than_allowed(prepared: Path, tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), [0], [0]
    meeting = threading.Barrier(3)

    def answer(request: Request) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        meeting.wait(timeout=60)  # three are asked at once, or none is ever answered
        with lock:
            now[0] -= 1
        return "{}"

    model = CallableModel(answer, "m", concurrency=3)
    run(prepared, model, _small(GUIDED), tmp_path / "a.jsonl", **_quick(questions=[1, 2, 3], concurrency=8))
    assert most[0] == 3


class _Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_requests_are_spread_over_the_minute() -> None:
    clock = _Clock()
    pace = Pace(requests_per_minute=30, clock=clock, sleep=clock.sleep)
    times = []
    for _ in range(5):
        pace.take_turn()
        times.append(clock.now - 1000)
    assert times == [0, 2, 4, 6, 8]


def test_tokens_are_paid_for_before_the_next_request() -> None:
    clock = _Clock()
    pace = Pace(tokens_per_minute=6000, clock=clock, sleep=clock.sleep)
    pace.take_turn()
    pace.spend(1500)
    pace.spend(500)
    pace.take_turn()
    assert clock.now - 1000 == 20
    pace.take_turn()
    assert clock.now - 1000 == 20


def test_waits_double_and_are_capped() -> None:
    clock, tries = _Clock(), []

    def once() -> Reply:
        tries.append(clock.now)
        raise AskError("busy")

    with pytest.raises(AskError, match="busy"):
        ask_again(once, Retry(attempts=6, first=1, most=5), Pace(clock=clock, sleep=clock.sleep))
    assert len(tries) == 6
    for slept, wait in zip(clock.slept, (1, 2, 4, 5, 5), strict=True):
        assert wait / 2 <= slept <= wait


def test_a_wait_that_the_endpoint_asks_for_is_everybodys() -> None:
    clock = _Clock()
    pace = Pace(clock=clock, sleep=clock.sleep)
    replies = iter([AskError("busy", retry_after=7.0), Reply("{}")])

    def once() -> Reply:
        reply = next(replies)
        if isinstance(reply, AskError):
            raise reply
        return reply

    assert ask_again(once, Retry(), pace) == (Reply("{}"), 2)
    assert clock.slept == [7.0]


@pytest.mark.parametrize("kind", ["refused", "fatal"])
def test_what_can_never_be_answered_is_asked_once(kind: Any) -> None:
    tries: list[int] = []

    def once() -> Reply:
        tries.append(1)
        raise AskError("no", kind)

    with pytest.raises(AskError, match="no"):
        ask_again(once, Retry(), Pace())
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Retry(attempts=0), "Retry must be possible"),
        (lambda: Retry(first=5, most=1), "Retry must be possible"),
        (lambda: Pace(requests_per_minute=0), "requests_per_minute must be above 0"),
        (lambda: Generation(max_tokens=0), "max_tokens must be at least 1"),
        (lambda: Generation(temperature=3), "temperature must be 0 to 2"),
    ],
)
def test_impossible_settings_are_refused(make: Any, match: str) -> None:
    with pytest.raises(BenchError, match=match):
        make()


def test_the_official_conditions_bring_their_settings(prepared: Path, tmp_path: Path) -> None:
    study = make_study(prepared, _small(CONDITIONS["official_o1"]), patients=1, questions=[60])
    with pytest.raises(BenchError, match="an official condition must generate as the script does"):
        run(study, CallableModel(lambda r: "{}", "m"), journal=tmp_path / "a.jsonl", generation=Generation())
    run(study, CallableModel(lambda r: "{}", "m"), journal=tmp_path / "b.jsonl", progress=False)
    generation = _lines(tmp_path / "b.jsonl")[0]["run"]["generation"]
    assert generation == {"media": "images", "response_format": "json_object"}


def test_a_bar_counts_records(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(prepared, CallableModel(lambda r: "{}", "m"), _small(GUIDED), tmp_path / "a.jsonl", **_quick(progress=True))
    assert "100%" in capsys.readouterr().err
    run(prepared, CallableModel(lambda r: "{}", "m"), _small(GUIDED), tmp_path / "b.jsonl", **_quick())
    assert capsys.readouterr().err == ""


def test_cost_is_counted(prepared: Path, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": 400}
    model = CallableModel(lambda request: Reply("{}", "stop", usage), "m")
    summary = run(prepared, model, _small(GUIDED), tmp_path / "a.jsonl", **_quick(price=Price(2.0, 8.0, 0.5)))
    assert summary.cost == pytest.approx(summary.answered * (600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)
    assert "dollars" in str(summary)
    assert "of them cached" in str(summary)


def test_importing_the_runner_brings_no_torch() -> None:
    code = (
        "import sys, reasonknee_datasets.bench.runner as r; "
        "assert not {'torch', 'transformers', 'openai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
