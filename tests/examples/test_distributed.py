"""Two gloo ranks under torchrun, interrupted, and one that goes on: the example itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from reasonknee_datasets import load_dataset
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "distributed.py"


def launch(*arguments: str, ranks: int = 1) -> str:
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    # One thread each: the machine of the tests has few cores.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    run = subprocess.run(
        [*start, str(EXAMPLE), *arguments], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.cluster
def test_two_ranks_then_one_make_an_epoch(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--data", str(prepared), "--out", str(out))
    first = launch(*options, "--stop-after", "30", "--workers", "1", ranks=2)
    seen = [json.loads(line) for line in (out / "seen.jsonl").read_text().splitlines()]
    assert "2 ranks took 240 examples" in first
    assert "next: epoch 0, position 240; all ranks agree: True" in first
    second = launch(*options, "--batch-size", "16")
    rows = load_dataset(split="train", data_dir=prepared, columns=["id", "volume_path"])
    assert f"1 ranks took {len(rows) - 240} examples" in second
    assert "next: epoch 1, position 0" in second
    whole = [json.loads(line) for line in (out / "seen.jsonl").read_text().splitlines()]
    assert whole[:240] == seen
    assert sorted(whole) == sorted(rows["id"])
    volumes = {name.rpartition("/")[0] for name in seen}
    (decodes,) = map(int, re.findall(r"decoded (\d+) volumes", first))
    assert decodes == pytest.approx(len(volumes), abs=2)  # what was prefetched and not handed out counts too
