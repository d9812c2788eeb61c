"""Examples print their help, and refuse arguments, where what they train with cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Modules that a base installation lacks, or that a torchvision for another torch breaks.
HEAVY = ("torch", "torchvision", "transformers", "trl", "accelerate", "matplotlib", "PIL")


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing any of the heavy packages fails."""
    for name in HEAVY:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('{name} was built for something else')")
    # The warnings that tox asks for are about other packages' code, and would stand in stderr.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONWARNDEFAULTENCODING"}
    return {**kept, "PYTHONPATH": str(tmp_path)}


def run(example: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(example), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_help_needs_nothing_heavy(example: Path, broken: dict[str, str]) -> None:
    done = run(example, "--help", env=broken)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {example.name}")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_unknown_arguments_need_nothing_heavy(example: Path, broken: dict[str, str]) -> None:
    done = run(example, "--no-such-option", env=broken)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {example.name}")


def test_train_vlm_names_a_wrong_torchvision(broken: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `torch`")
    for name in HEAVY:
        if name != "torchvision":
            (tmp_path / name / "__init__.py").unlink()
            (tmp_path / name).rmdir()
    example = next(path for path in EXAMPLES if path.stem == "train_vlm")
    done = run(example, "--out", str(tmp_path / "out"), env=broken)
    assert done.returncode == 1
    assert "needs a torchvision that fits torch 2" in done.stderr
    assert "torchvision was built for something else. Install both from the same index" in done.stderr
