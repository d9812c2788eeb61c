"""A user's type checker sees the types of the package: planted mistakes are found, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SCRIPT = """
import numpy as np
from reasonknee_datasets import (
    Box,
    Compose,
    CropToBox,
    QuintupleCollator,
    ToFrames,
    Window,
    load_dataset,
    make_dataloader,
    open_volume,
)

from reasonknee_datasets.bench import ReadOptions, compare, evaluate

box = Box((0, 0, 0), (8, 8, 8))
volume = open_volume("knee.nii.gz")
voxels = volume.read_region(box)
crop = CropToBox(margin_mm=5.0)
rows = load_dataset(data_dir="3dreasonknee", split="train")
loader = make_dataloader(rows, batch_size=8, transform=crop)
scored = evaluate("answers.jsonl", "3dreasonknee", options=ReadOptions(split="test"))
compared = compare(scored, scored, resamples=100)

CropToBox(sise=3)  # mistake
CropToBox(margin_mm="wide")  # mistake
Window(lo=1)  # mistake
box.volume_of()  # mistake
Box("000", (8, 8, 8))  # mistake
Compose(crop)  # mistake
open_volume("knee.nii.gz", cash=None)  # mistake
volume.read_region((0, 0, 0))  # mistake
make_dataloader(rows, batch_size=8, sufle=True)  # mistake
ToFrames(frames=16)  # mistake
QuintupleCollator(pad="left")  # mistake
ReadOptions(splt="test")  # mistake
evaluate("answers.jsonl", resample=100)  # mistake
compared.diferences  # mistake
"""
MISTAKES = {number for number, line in enumerate(SCRIPT.splitlines(), 1) if "# mistake" in line}


pytestmark = pytest.mark.slow


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "user_script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_mypy_finds_planted_mistakes(script: Path) -> None:
    pytest.importorskip("mypy")
    # The project's settings and cache: checking torch's own types again would take two minutes.
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(script)]
    lines = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout.splitlines()
    found = {int(line.split(":")[1]) for line in lines if script.name in line and ": error:" in line}
    assert found == MISTAKES, "\n".join(lines)


def test_pyright_finds_planted_mistakes(script: Path) -> None:
    pytest.importorskip("pyright")
    if shutil.which("node") is None:
        pytest.skip("pyright needs node")
    (script.parent / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=script.parent)
    messages = json.loads(done.stdout)["generalDiagnostics"]
    errors = [message for message in messages if message["severity"] == "error"]
    assert {error["range"]["start"]["line"] + 1 for error in errors} == MISTAKES, done.stdout
