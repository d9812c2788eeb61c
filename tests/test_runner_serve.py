"""A real model on a real server: `transformers serve` with a tiny LLaVA, and the same model in this process."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.bench.conditions import BOX_FIRST, GUIDED, OFFICIAL, Condition
from reasonknee_datasets.bench.prompts import Prompts
from reasonknee_datasets.bench.runner import (
    AskError,
    Frames,
    Generation,
    OpenAIModel,
    Request,
    Task,
    TransformersModel,
    run,
)
from reasonknee_datasets.bench.runner.asking import ask, ask_after_box, ask_for_box
from reasonknee_datasets.bench.table import Truth
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.cli import main
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.transforms import ToFrames
from tests.tiny_vlm import make_tiny_qwen, write_tiny_vlm
from tests.torchvision_on_cpu import FOLDER

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL")

pytestmark = pytest.mark.slow

_TINY = ToFrames("sagittal", count=3, size=32)
_GUIDED = replace(GUIDED, frames=_TINY)
_FEW = Generation(max_tokens=6)
_ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_vlm(tmp_path_factory.mktemp("model") / "tiny-llava")


@pytest.fixture(scope="module")
def local(folder: Path) -> TransformersModel:
    return TransformersModel(str(folder), device="cpu")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    pytest.importorskip("openai")
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


def _requests() -> list[Request]:
    """One of each kind: pictures and a question, and a conversation about a box."""
    frames = Frames(np.random.default_rng(0).integers(0, 256, (3, 32, 28)).astype(np.uint8))
    task = Task("9016403/00M/right/q60", "volumes/a.nii.gz", "right", 60, (0, 0, 0, 1, 1, 1))
    prompts = Prompts.own("zeroshot")
    first = ask_for_box(task, BOX_FIRST, frames)
    return [ask(task, GUIDED, prompts, frames), first, ask_after_box(first, "[1, 2, 3]", task, prompts)]


def test_the_server_and_the_local_model_say_the_same(url: str, folder: Path, local: TransformersModel) -> None:
    """One set of weights, asked through PNGs in data URLs and through PIL images: word for word, token for token."""
    remote = OpenAIModel(str(folder), url)
    for request in _requests():
        one, two = remote.ask(request, _FEW), local.ask(request, _FEW)
        assert one.text == two.text
        assert one.finish_reason == two.finish_reason
        assert one.usage == two.usage
        assert two.usage["completion_tokens"] <= 6


def test_the_pictures_reach_the_model(local: TransformersModel) -> None:
    """Every frame takes its four tokens, and other pixels change what is said."""
    tokens = []
    for count in (1, 2, 5):
        frames = Frames(np.zeros((count, 28, 28), np.uint8))
        task = Task("a/q60", "a", "left", 60, (0, 0, 0, 1, 1, 1))
        tokens.append(local.ask(ask(task, GUIDED, Prompts.own("zeroshot"), frames), _FEW).usage["prompt_tokens"])
    assert tokens[1] - tokens[0] == 4
    assert tokens[2] - tokens[1] == 12
    inputs = []
    for value in (0, 255):
        frames = Frames(np.full((2, 28, 28), value, np.uint8))
        inputs.append(local._inputs(ask(task, GUIDED, Prompts.own("zeroshot"), frames))["pixel_values"].numpy())
    assert inputs[0].shape == (2, 3, 28, 28)
    assert (inputs[1] > inputs[0]).all()


def test_a_local_model_is_asked_alone(local: TransformersModel, prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    options: dict[str, Any] = {"patients": 1, "questions": [60], "progress": False, "generation": _FEW}
    summary = run(prepared, local, _GUIDED, path, concurrency=8, **options)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == summary.records + 1
    assert all(line["usage"]["prompt_tokens"] > 12 for line in lines[1:])
    assert lines[0]["run"]["model"] == local.name
    with pytest.raises(AskError, match="a local model must be asked for text"):
        local.ask(_requests()[0], Generation(response_format="json_object"))


def test_killed_half_way_it_resumes_and_reports(url: str, folder: Path, prepared: Path, tmp_path: Path) -> None:
    """As its user does it: `reasonknee bench run`, kill -9, the same command again, `reasonknee evaluate`."""
    path = tmp_path / "run.jsonl"
    words = ["bench", "run", "--data", prepared, "--model", folder, "--base-url", url, "--journal", path]
    words += ["--condition", "guided", "--patients", "1", "--questions", "42-49", "--concurrency", "2"]
    words += ["--frames", "3", "--size", "32", "--max-tokens", "6", "--attempts", "2"]
    command = [str(word) for word in words]
    process = subprocess.Popen([sys.executable, "-m", "reasonknee_datasets", *command], cwd=_ROOT)
    try:
        while not path.exists() or path.read_bytes().count(b"\n") < 5:
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    before = path.read_bytes()
    kept = before[: before.rfind(b"\n") + 1]
    truth = read_truth(prepared, "test", patients=1, filters=[("question_id", "in", list(range(42, 50)))])
    assert kept.count(b"\n") <= len(truth)
    assert main(command) == 0
    assert path.read_bytes().startswith(kept)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["id"] for line in lines[1:]) == sorted(truth.ids)
    assert all(line["text"] is not None and line["error"] is None for line in lines[1:])
    _check_report(path, prepared, tmp_path / "report", truth, [line["text"] for line in lines[1:]])


def _check_report(journal: Path, data: Path, out: Path, truth: Truth, texts: list[str]) -> None:
    """Report a journal, and find in the report what was asked: random weights grade nothing, and that is told."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    words = ["evaluate", "--data", data, "--predictions", journal, "--out", out, "--resamples", "20", "--pictures", "1"]
    assert main([str(word) for word in words]) == 0
    assert {path.name for path in out.iterdir()} == {"results.json", "report.md", "report.html", "outcomes.parquet"}
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    identity, everything = results["identity"], results["groups"][0]
    assert (identity["records"], identity["patients"]) == (len(truth), 1)
    assert (identity["condition"], identity["synthetic"]) == ("guided", True)
    assert identity["frames"] == repr(replace(GUIDED.frames, count=3, size=32))
    coverage, true = everything["coverage"], truth.grades[truth.slots >= 0]
    assert everything["by"] == "all"
    assert (coverage["records"], coverage["given"]) == (len(truth), len(truth))
    assert coverage["slots"] == int((true >= 0).sum())
    assert coverage["parsed"] + sum(coverage["reasons"].values()) == coverage["slots"]
    assert coverage["strict"] == sum(map(_is_object, texts))
    asked = {QUESTIONS[int(number)].category for number in truth.question}
    assert {group["value"] for group in results["groups"] if group["by"] == "category"} == asked
    words = (out / "report.md").read_text(encoding="utf-8")
    assert f"| records | {len(truth)} |" in words
    assert "SYNTHETIC" in words


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("condition", [BOX_FIRST])
def test_a_conversation_about_a_box_runs_on_the_server(
    condition: Condition, url: str, folder: Path, prepared: Path, tmp_path: Path
) -> None:
    small = replace(condition, frames=_TINY, region_frames=_TINY)
    options: dict[str, Any] = {"patients": 1, "questions": [60], "progress": False, "generation": _FEW}
    summary = run(prepared, OpenAIModel(str(folder), url), small, tmp_path / "a.jsonl", **options)
    assert summary.requests == 2 * summary.records
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    # Random weights name no region; why there is none is told.
    assert all((line["box"] is None) == (line["box_reason"] is not None) for line in lines[1:])


def _ask_about_a_video() -> None:
    """Ask a tiny Qwen2.5-VL as the authors' script does, and print what its eyes were given and what it cost."""
    model = TransformersModel("tiny-qwen", loaded=make_tiny_qwen(56 * 56))
    # Frame n is all of brightness 10 n.
    pixels = np.repeat(np.arange(8, dtype=np.uint8) * 10, 56 * 56).reshape(8, 56, 56)
    task = Task("a/q60", "a", "left", 60, (0, 0, 0, 1, 1, 1))
    request = ask(task, OFFICIAL, Prompts.own("guided", "keep"), Frames(pixels, 4.0, "video"))
    inputs = model._inputs(request)
    # Each row of patches holds two moments of three channels of 14x14 pixels.
    seen = inputs["pixel_values_videos"].reshape(4, 16, 3, 2, 14 * 14)
    reply = model.ask(request, Generation(max_tokens=5, temperature=None))
    print(
        json.dumps(
            {
                "brightness": seen[:, :, 0].mean(dim=(1, 3)).flatten().tolist(),
                "spread": float(seen[:, :, 0].std(dim=(1, 3)).max()),
                "grid": inputs["video_grid_thw"].tolist(),
                "seconds": [float(each) for each in inputs["second_per_grid_ts"]],
                "usage": dict(reply.usage),
                "order": model._processor.batch_decode(inputs["input_ids"])[0],
            }
        )
    )


def test_a_video_reaches_qwen_frame_by_frame_at_its_pace() -> None:
    if importlib.util.find_spec("torchvision") is None and not FOLDER.exists():
        pytest.skip(f"needs torchvision, which Qwen2.5-VL's processors import, in {FOLDER}: see torchvision_on_cpu.py")
    # This module looks for transformers, which looks for torchvision once.
    first = "from tests.torchvision_on_cpu import admit; admit()"
    code = f"{first}; from tests.test_runner_serve import _ask_about_a_video; _ask_about_a_video()"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["grid"] == [[4, 4, 4]]
    assert found["seconds"] == [0.5]
    # As Qwen's processor normalizes its first channel.
    expected = (np.arange(8) * 10 / 255 - 0.48145466) / 0.26862954
    np.testing.assert_allclose(found["brightness"], expected, atol=1e-4)
    assert found["spread"] < 1e-4
    assert found["usage"]["completion_tokens"] <= 5
    words = found["order"]
    assert words.count("<|video_pad|>") == 4 * 2 * 2
    system, video, question = (words.index(part) for part in ("You are a radiologist", "<|video_pad|>", "Assess"))
    assert system < video < question
