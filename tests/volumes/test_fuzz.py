"""500 mutated files, and the proof that the check would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import deflate
import pytest

from reasonknee_datasets.volumes.slab_reader import Slabs
from tests.helpers.fuzz_volumes import fuzz
from tests.helpers.paths import ROOT


@pytest.mark.slow
def test_500_mutated_files() -> None:
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.helpers.fuzz_volumes",
        "--count",
        "500",
        "--seed",
        "2510",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "500 files" in run.stdout
    assert ": right right right" in run.stdout
    assert ": error error error" in run.stdout


def test_fuzz_check_finds_trusting_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unverified(self: Any, piece: tuple[int, int], packed: bytes) -> Any:
        first, stop = (min(slab * self.index.slab_bytes, self.index.voxel_bytes) for slab in piece)
        try:
            return deflate.deflate_decompress(packed + b"\3\0", stop - first)
        except deflate.DeflateError:
            return bytearray(stop - first)

    monkeypatch.setattr(Slabs, "_verified", unverified)
    with pytest.raises(AssertionError, match="wrong voxels"):
        fuzz(500, 2510, tmp_path)
