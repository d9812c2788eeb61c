"""The example that trains with the reward: what it measures, killed and resumed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `torch`")
pytest.importorskip("trl", reason="needs the extra `train`")
pytest.importorskip("matplotlib", reason="needs the extra `figures`")

from tests.helpers.paths import ROOT
from tests.helpers.torchvision_on_cpu import FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("train_grpo")]  # one process, so that the example runs once

STEPS, EVERY = 4, 2
SHORT = ["--sft-steps", "10", "--steps", str(STEPS), "--every", str(EVERY), "--prompts", "2", "--generations", "4"]


def start(out: Path, prepared: Path) -> subprocess.Popen[str]:
    if importlib.util.find_spec("torchvision") is None and not FOLDER.exists():
        pytest.skip(f"needs torchvision, which Qwen2.5-VL's processors import, in {FOLDER}: see torchvision_on_cpu.py")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.grpo_run", "--data", str(prepared), "--out", str(out), *SHORT],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # One thread: the machine of the tests has few cores.
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
        cwd=ROOT,
    )


def state(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "trainer_state.json").read_text())
    return read


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> tuple[Path, dict[str, Any], str]:
    """Folder and output of a run killed after its first checkpoint and resumed, and that checkpoint's state."""
    out = tmp_path_factory.mktemp("grpo") / "out"
    first = out / f"checkpoint-{EVERY}"
    said = []
    with start(out, prepared) as run:
        assert run.stdout is not None
        for line in run.stdout:  # it writes at least a line a step
            said.append(line)
            if (first / "trainer_state.json").exists():
                break
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL, "".join(said)
    assert not (out / "reward.json").exists()
    saved = state(first)
    with start(out, prepared) as run:
        output, _ = run.communicate(timeout=500)
    assert run.returncode == 0, output
    return out, saved, output


def test_resume_continues_from_the_checkpoint(resumed: tuple[Path, dict[str, Any], str]) -> None:
    out, saved, output = resumed
    assert saved["global_step"] == EVERY
    assert "resume   from a checkpoint" in output
    after = state(out / f"checkpoint-{STEPS}")
    known = saved["log_history"]
    assert after["log_history"][: len(known)] == known  # nothing is trained or measured again
    trained = [entry["step"] for entry in after["log_history"] if "reward" in entry]
    assert trained == list(range(1, STEPS + 1))


def test_curve_has_a_point_for_every_evaluation(resumed: tuple[Path, dict[str, Any], str]) -> None:
    out, saved, output = resumed
    points = json.loads((out / "reward.json").read_text())
    assert points["step"] == list(range(0, STEPS + 1, EVERY))
    logged = [entry["eval_reward"] for entry in saved["log_history"] if "eval_reward" in entry]
    assert points["reward"][: len(logged)] == logged
    for reward, form, skill in zip(points["reward"], points["format"], points["skill"], strict=True):
        assert reward == pytest.approx((0.1 * form + 0.6 * skill) / 0.7, abs=1e-5)
    assert (out / "reward.png").read_bytes().startswith(b"\x89PNG")
    assert f"{points['reward'][0]:.3f} at first, {points['reward'][-1]:.3f} after {STEPS} steps" in output


def test_saved_model_loads_with_its_processor(resumed: tuple[Path, dict[str, Any], str]) -> None:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    out, _, _ = resumed
    model = AutoModelForImageTextToText.from_pretrained(out)
    assert model.config.model_type == "qwen2_5_vl"
    assert model.config.get_text_config().vocab_size == len(AutoTokenizer.from_pretrained(out))
