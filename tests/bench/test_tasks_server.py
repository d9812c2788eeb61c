"""`reasonknee_bench` against real servers: one that fails in every way, one that counts, and `transformers serve`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.bench.evaluation import evaluate
from reasonknee_datasets.bench.run_spec import make_study
from reasonknee_datasets.cli import main
from tests.helpers.model_server import Action, Cut, Garbage, Hang, ModelServer, Say, Script, Seen, Status

pytest.importorskip("inspect_ai", minversion="0.3.285", reason="the task needs it, and it needs Python 3.11")
pytest.importorskip("openai", minversion="3.4.0")

from inspect_ai import eval as inspect_eval
from inspect_ai import eval_retry
from inspect_ai.log import EvalLog, read_eval_log

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

_TASK = "reasonknee_datasets/reasonknee_bench"
_SMALL = {"condition": "guided", "patients": 1, "frames": 2, "size": 32}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", "sk-test")
    # Where inspect_ai keeps what a killed run had recorded.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _script(*actions: Action) -> Script:
    """Do these, one after the other, and answer everything after."""
    return lambda number, body: actions[number] if number < len(actions) else Say()


def _key_of(seen: Seen) -> str:
    """Identify a record by what is asked about it: every record of a run has other text or other pixels."""
    return hashlib.sha256(json.dumps(seen.body["messages"]).encode()).hexdigest()


def _run(server: ModelServer, data: Path, folder: Path, questions: str = "19,60", **options: Any) -> EvalLog:
    arguments = _SMALL | {"data": str(data), "questions": questions}
    options = {"max_connections": 1, "max_samples": 1} | options
    (log,) = inspect_eval(
        _TASK,
        model="openai-api/local/tiny",
        model_base_url=server.url,
        task_args=arguments,
        log_dir=str(folder),
        display="none",
        **options,
    )
    return log


def _records(data: Path, questions: list[int]) -> int:
    return len(make_study(data, "guided", patients=1, questions=questions).records)


@pytest.mark.parametrize(
    "fault",
    [
        Status(429, {"Retry-After": "0"}),
        Status(500),
        Status(503),
        Cut(),
        Cut(after=80),
        Hang(),
        Garbage(b"<html>Bad gateway</html>", "text/html"),
        Garbage(b"{", "application/json"),
        Garbage(b"{}", "application/json"),
        Garbage(b"null", "application/json"),
        Garbage(b'{"choices": []}', "application/json"),
        Garbage(b"", "application/json"),
        Status(400, message="too many images"),
        Status(401, message="bad key"),
    ],
    ids=str,
)
def test_a_fault_costs_no_answer(fault: Action, prepared: Path, tmp_path: Path) -> None:
    """The record is asked again, at once or by `eval-retry`, and no other one is; then the run is whole."""
    records = _records(prepared, [19, 60])
    with ModelServer(_script(Say("first"), fault)) as server:
        log = _run(server, prepared, tmp_path, attempt_timeout=2)
        for _ in range(2):
            if log.status != "success":
                (log,) = eval_retry(log, log_dir=str(tmp_path), display="none")
        asked = Counter(map(_key_of, server.seen))
    assert log.status == "success"
    assert len(asked) == records
    assert sorted(asked.values()) == [1] * (records - 1) + [2]
    done = evaluate(Path(log.location), prepared, resamples=0)
    assert done.predictions.answers.given.all()
    assert {each.kind for each in done.problems} <= {"asked_again"}
    assert log.samples is not None
    assert sorted(sample.output.completion for sample in log.samples) == ["first"] + [Say().text] * (records - 1)


def test_reasonknee_bench_counts_failures_as_provider_errors(prepared: Path, tmp_path: Path) -> None:
    with ModelServer(_script(Status(400, message="too many images"))) as server:
        log = _run(server, prepared, tmp_path)
    assert log.status == "error"
    done = evaluate(Path(log.location), prepared, resamples=0)
    assert done.results.group().coverage.reasons["provider_error"] >= 1
    assert done.predictions.answers.given.all()


def test_evaluate_keeps_finish_reasons(prepared: Path, tmp_path: Path) -> None:
    with ModelServer(_script(Say("", "content_filter"), Say("Let me think", "length"))) as server:
        log = _run(server, prepared, tmp_path, questions="60")
    reasons = evaluate(Path(log.location), prepared, resamples=0).results.group().coverage.reasons
    assert reasons.keys() >= {"refusal", "truncated"}


def test_a_dead_endpoint_ends_the_run(prepared: Path, tmp_path: Path) -> None:
    """With a wrong key every request fails: after twenty in a row no more are sent, and all are left to a retry."""
    records = _records(prepared, list(range(1, 63)))
    assert records > 100
    with ModelServer(lambda number, body: Status(401, message="Incorrect API key")) as server:
        log = _run(server, prepared, tmp_path, questions="1-62")
        assert 20 <= len(server.seen) <= 22
        assert log.status == "error"
        assert log.samples is not None
        assert (
            sum("Not asked: the last" in (sample.error.message if sample.error else "") for sample in log.samples) > 50
        )
        server.script = _script()
        (log,) = eval_retry(log, log_dir=str(tmp_path), display="none")
    assert log.status == "success"


def test_reasonknee_bench_respects_max_connections(prepared: Path, tmp_path: Path) -> None:
    with ModelServer(_script()) as server:
        _run(server, prepared, tmp_path, questions="1-12", max_connections=3, max_samples=10)
        assert server.most_at_once <= 3


_IN_FLIGHT = 3


def test_eval_retry_resumes_a_killed_run(prepared: Path, tmp_path: Path) -> None:
    """As its user does it: `inspect eval`, SIGKILL, `inspect log recover`, `inspect eval-retry`, `evaluate`.

    Nothing had been flushed to the log when the kill came: what is kept comes from inspect_ai's buffer of the run.
    """
    inspect = [sys.executable, "-m", "inspect_ai"]
    limits = ["--max-samples", _IN_FLIGHT, "--max-connections", _IN_FLIGHT]
    common = ["--log-dir", tmp_path / "logs", "--display", "none"]
    arguments = _SMALL | {"data": prepared, "questions": "1-12"}
    given = [word for name, value in arguments.items() for word in ("-T", f"{name}={value}")]
    start = [*inspect, "eval", _TASK, "--model", "openai-api/local/tiny", *given, *limits, *common]
    records = _records(prepared, list(range(1, 13)))

    def slow(number: int, body: dict[str, Any]) -> Action:
        time.sleep(0.2)
        return Say(f'{{"n": {number}}}')

    with ModelServer(slow) as server:
        environment = os.environ | {"LOCAL_BASE_URL": server.url}
        options: dict[str, Any] = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL}
        process = subprocess.Popen([*map(str, start), "--log-buffer", "1000"], **options)
        try:
            while len(server.seen) < records // 2:
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait()
        before = {_key_of(seen) for seen in server.seen}
        (killed,) = (tmp_path / "logs").glob("*.eval")
        subprocess.run([*inspect, "log", "recover", str(killed)], check=True, **options)
        recovered = killed.with_name(f"{killed.stem}-recovered.eval")
        subprocess.run([*map(str, [*inspect, "eval-retry", recovered, *limits, *common])], check=True, **options)
        asked = Counter(map(_key_of, server.seen))
    log = max((tmp_path / "logs").glob("*.eval"), key=lambda path: path.stat().st_mtime_ns)
    assert read_eval_log(str(log), header_only=True).status == "success"
    twice = [key for key, times in asked.items() if times > 1]
    assert len(asked) == records
    assert max(asked.values()) <= 2
    assert len(before) >= records // 2
    assert 1 <= len(twice) <= _IN_FLIGHT
    # inspect_ai does not carry a kill over into the retry's log; the recovered one has what was in flight.
    done = evaluate([recovered, log], prepared, resamples=0)
    assert done.predictions.answers.given.all()
    assert done.predictions.identity.records == records
    (noted,) = done.problems
    assert noted.kind == "asked_again"
    assert len(twice) <= noted.count <= _IN_FLIGHT
    alone = evaluate(log, prepared, resamples=0)
    assert alone.problems == ()
    assert alone.predictions.usage == done.predictions.usage
    np.testing.assert_array_equal(alone.predictions.answers.grades, done.predictions.answers.grades)
    words = ["evaluate", "--data", prepared, "--predictions", recovered, log, "--out", tmp_path / "report"]
    pytest.importorskip("matplotlib")
    assert main([str(word) for word in words]) == 0
    assert f"| asked_again | {noted.count} |" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


# A real model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.helpers.tiny_vlm import write_tiny_vlm

    return write_tiny_vlm(tmp_path_factory.mktemp("model") / "tiny-llava")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    pytest.importorskip("fastapi", reason="transformers serve needs it")
    pytest.importorskip("uvicorn", reason="transformers serve needs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = (folder.parent / "serve.log").open("wb")
    process = subprocess.Popen([*command, "--device", "cpu"], env=environment, stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", folder.parent / "serve.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"transformers serve ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"transformers serve did not start: {log.read_text()[-2000:]}")


def _generate(folder: Path, study: Any, record: Any) -> str:
    """Ask the same weights in this process, about the frames as arrays: no PNG, no HTTP."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from reasonknee_datasets.bench.model_requests import ask

    frames = study.render(record, study.region(record))
    request = ask(record, study.condition, study.prompts, frames)
    chat = [
        {
            "role": message.role,
            "content": [
                block
                for part in message.parts
                for block in (
                    [{"type": "text", "text": part}] if isinstance(part, str) else [{"type": "image"}] * len(part)
                )
            ],
        }
        for message in request.messages
    ]
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    images = [Image.fromarray(np.repeat(frame[..., None], 3, axis=-1)) for frame in frames.pixels]
    inputs = processor(text=[text], images=[images], return_tensors="pt")
    with torch.inference_mode():
        written = model.eval().generate(**inputs, max_new_tokens=6, do_sample=False)
    tokens = written[:, inputs["input_ids"].shape[1] :]
    return str(processor.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)[0])


@pytest.mark.parametrize("condition", ["guided", "region_given", "box_first"])
def test_a_model_on_transformers_serve(condition: str, url: str, folder: Path, prepared: Path, tmp_path: Path) -> None:
    arguments = _SMALL | {"data": str(prepared), "questions": "60", "condition": condition}
    (log,) = inspect_eval(
        _TASK,
        model=f"openai-api/local/{folder}",
        model_base_url=url,
        task_args=arguments,
        log_dir=str(tmp_path),
        display="none",
        max_tokens=6,
        max_connections=2,
    )
    assert log.status == "success", log.error
    assert log.samples is not None
    study = make_study(prepared, condition, patients=1, questions=[60], frames=2, size=32)
    records = {record.id: record for record in study.records}
    assert {sample.id for sample in log.samples} == records.keys()
    done = evaluate(Path(log.location), prepared, resamples=0)
    assert done.predictions.usage["completion_tokens"] <= 6 * len(records) * (2 if condition == "box_first" else 1)
    assert str(folder) in (done.predictions.identity.model or "")
    for sample in log.samples:
        if condition != "box_first":
            assert sample.output.completion == _generate(folder, study, records[str(sample.id)])
        else:  # random weights name no region, and the log says why there is none
            assert (sample.metadata["box"] is None) == (sample.metadata["box_reason"] is not None)
