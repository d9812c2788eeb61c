"""The example that fine-tunes Qwen2.5-VL: what enters the model, what it learns, and what it saves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the extra `torch`")
pytest.importorskip("trl", reason="needs the extra `train`")

import torch

from reasonknee_datasets import load_dataset
from reasonknee_datasets.transforms import ToFrames
from tests.helpers.paths import ROOT
from tests.helpers.torchvision_on_cpu import FOLDER
from tests.helpers.vlm_run import DEVIATION, MEAN, PHANTOM, RUNS, SIZE, STEPS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("train_vlm")]  # one process, so that the runs run once

PATCH, MERGED, PAIR = 14, 2, 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the runs of `tests.helpers.vlm_run` wrote into."""
    if importlib.util.find_spec("torchvision") is None and not FOLDER.exists():
        pytest.skip(f"needs torchvision, which Qwen2.5-VL's processors import, in {FOLDER}: see torchvision_on_cpu.py")
    folder = tmp_path_factory.mktemp("vlm")
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.vlm_run", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        # One thread: the machine of the tests has few cores.
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
        cwd=ROOT,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


def called(runs: Path, name: str, when: str = "first") -> Any:
    return torch.load(runs / f"{name}.pt", weights_only=True)[when]


def expected_frames(runs: Path, count: int) -> NDArray[np.uint8]:
    row = load_dataset(split="train", data_dir=runs / PHANTOM)[0]
    frames = ToFrames(count=count, size=(SIZE, SIZE))(row)["frames"]
    assert len({frame.tobytes() for frame in frames}) == count  # each is told from every other
    return np.asarray(frames)


def read_frames(patches: Any, grids: Any) -> list[NDArray[np.float64]]:
    """Put the patches of pictures together again: for each an array (frames, rows, columns) of what was seen."""
    found = []
    for part, (time, high, wide) in zip(patches.split(grids.prod(dim=1).tolist()), grids.tolist(), strict=True):
        shape = (time, high // MERGED, wide // MERGED, MERGED, MERGED, 3, PAIR, PATCH, PATCH)
        #        time, rows, columns and again rows and columns of patches, colours, frames, rows, columns
        pixels = part.double().numpy().reshape(shape).transpose(0, 6, 5, 1, 3, 7, 2, 4, 8)
        pixels = pixels.reshape(time * PAIR, 3, high * PATCH, wide * PATCH)
        colours = (pixels * np.reshape(DEVIATION, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))) * 255
        assert np.ptp(colours, axis=1).max() < 1e-3  # grey
        found.append(colours.mean(axis=1))
    return found


def pads(runs: Path, name: str, ids: Any) -> list[int]:
    """Return the number of placeholders in each row."""
    config = json.loads((runs / name / "config.json").read_text())
    token = config["image_token_id" if name == "images" else "video_token_id"]
    return [int((row == token).sum()) for row in ids]


class TestFrames:
    @pytest.mark.parametrize("name", ["video", "again"])  # the latter's model is laid out as on the hub
    @pytest.mark.parametrize("when", ["first", "asked"])
    def test_video_frames_reach_model_in_order(self, runs: Path, name: str, when: str) -> None:
        seen = called(runs, name, when)
        batch = 2 if when == "first" else 1
        grids = seen["eyes"]["grid_thw"]
        assert grids.tolist() == [[12 // PAIR, SIZE // PATCH, SIZE // PATCH]] * batch
        for frames in read_frames(seen["eyes"]["0"], grids):
            np.testing.assert_allclose(frames, expected_frames(runs, 12), atol=1e-3)
        assert pads(runs, name, seen["model"]["input_ids"]) == [12 // PAIR * (SIZE // 28) ** 2] * batch

    @pytest.mark.parametrize("when", ["first", "asked"])
    def test_image_frames_reach_model_in_order(self, runs: Path, when: str) -> None:
        seen = called(runs, "images", when)
        batch = 2 if when == "first" else 1
        grids = seen["eyes"]["grid_thw"]
        assert grids.tolist() == [[1, SIZE // PATCH, SIZE // PATCH]] * 6 * batch
        images = read_frames(seen["eyes"]["0"], grids)
        assert all(np.array_equal(one, two) for one, two in images)  # one picture for both frames of a pair
        shown = np.stack([image[0] for image in images]).reshape(batch, 6, SIZE, SIZE)
        np.testing.assert_allclose(shown, [expected_frames(runs, 6)] * batch, atol=1e-3)
        assert pads(runs, "images", seen["model"]["input_ids"]) == [6 * (SIZE // 28) ** 2] * batch

    def test_are_kept_by_a_sampling_processor(self, runs: Path) -> None:
        plain, sampling = json.loads((runs / "sampled.json").read_text())
        for made in (plain, sampling):
            assert made["grids"] == [[4, 4, 6]] * 2  # seven frames, in pairs
            assert made["fps"] == [4.0, 4.0]
        assert plain["without"] == [[4, 4, 6]] * 2
        assert sampling["without"] != plain["without"]  # what processor_kwargs keeps from happening

    def test_come_with_the_time_between_them(self, runs: Path) -> None:
        assert called(runs, "video")["model"]["second_per_grid_ts"] == [PAIR / 4.0] * 2  # four frames a second


class TestLoss:
    @pytest.mark.parametrize("name", ["video", "images"])
    def test_falls_by_at_least_half(self, runs: Path, name: str) -> None:
        losses = json.loads((runs / "losses.json").read_text())[name]
        assert len(losses) == STEPS
        assert losses[-1] <= losses[0] / 2

    def test_goes_on_from_what_was_saved(self, runs: Path) -> None:
        losses = json.loads((runs / "losses.json").read_text())
        assert losses["again"][0] == pytest.approx(losses["video"][-1], rel=0.1)
        assert losses["again"][0] <= losses["video"][0] / 2

    @pytest.mark.parametrize(("name", "answers"), [("video", 1), ("images", 2)])
    def test_runs_over_the_answers_alone(self, runs: Path, name: str, answers: int) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(runs / name)
        rows = load_dataset(split="train", data_dir=runs / PHANTOM, columns=["id", "reasoning", "answer"])
        said = set()
        for ids, labels in zip(*(called(runs, name)["model"][key] for key in ("input_ids", "labels")), strict=True):
            taken = labels != -100
            assert torch.equal(labels[taken], ids[taken])
            texts = tokenizer.decode(ids[taken]).split("<|im_end|>")
            assert texts.pop() == ""
            assert len(texts) == answers
            said |= set(texts)
        known = [("\n".join(row["reasoning"]), row["answer"]) for row in rows.select(range(2 * answers))]
        assert len(said) == len(known)
        for steps, answer in known:
            assert any(text.startswith(steps) and text.endswith(f"Final diagnosis: {answer}") for text in said)

    def test_is_masked_as_trl_does_it(self, runs: Path) -> None:
        made = torch.load(runs / "collated.pt", weights_only=True)
        ours, theirs, masked = made["ours"], made["theirs"], made["masked"]
        for key in ("input_ids", "attention_mask", "pixel_values", "image_grid_thw"):
            assert torch.equal(ours[key], theirs[key])
            assert torch.equal(ours[key], masked[key])
        # TRL also has the line break learned that the chat template writes after the end of a turn.
        more = (ours["labels"] == -100) & (masked["labels"] != -100)
        assert more.sum(dim=1).tolist() == [1, 1]
        assert torch.equal(torch.where(more, -100, masked["labels"]), ours["labels"])


def test_generation_runs_from_the_prompt_alone(runs: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(runs / "video")
    prompt = tokenizer.decode(called(runs, "video", "asked")["model"]["input_ids"][0])
    row = load_dataset(split="train", data_dir=runs / PHANTOM, columns=["id", "question", "reasoning"])[0]
    before, after = prompt.split("<|video_pad|>" * 24)
    assert before.endswith("<|im_start|>user\n<|vision_start|>")
    assert after == f"<|vision_end|>{row['question']}<|im_end|>\n<|im_start|>assistant\n"
    said = (runs / "said.txt").read_text()
    assert said.count("\nanswered '") == len(RUNS)
    assert said.count("model    a tiny one with random weights") == 2


def test_refuses_what_would_change_the_frames(runs: Path) -> None:
    size, odd = json.loads((runs / "refusals.json").read_text())
    assert "argument --size: must be a multiple of 28, or the processor would resize the frames" in size
    assert "argument --frames: must be even for a video, whose frames are taken in pairs" in odd
