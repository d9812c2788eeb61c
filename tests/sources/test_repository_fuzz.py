"""2,500 damaged repositories, and the proof that the check would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reasonknee_datasets import manifest
from reasonknee_datasets.sources import shard_reader
from tests.helpers.fuzz_repository import fuzz
from tests.helpers.paths import ROOT


@pytest.mark.slow
def test_2500_damaged_repositories() -> None:
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.helpers.fuzz_repository",
        "--count",
        "2500",
        "--seed",
        "9",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for name in ("manifest.json", "priors.json", "data/train", "index/train", "balanced/train"):
        assert f'"{name}' in run.stdout


@pytest.mark.parametrize("unchecked", ["pages", "checksum"])
def test_fuzz_notices_unchecked_reader(unchecked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(*arguments: Any, **options: Any) -> Any:
        return parquet_file(*arguments, **options | {"page_checksum_verification": False})

    parquet_file, parse = pq.ParquetFile, manifest._parse
    if unchecked == "pages":
        monkeypatch.setattr(shard_reader.pq, "ParquetFile", trusting)
        monkeypatch.setattr(shard_reader, "_compare", lambda *_: None)
    else:
        monkeypatch.setattr(manifest, "_parse", lambda data: _without_checksum(parse, data))
    with pytest.raises((AssertionError, UnicodeDecodeError), match=r"changed values in silence|invalid"):
        fuzz(2500, 9, tmp_path)


def _without_checksum(parse: Any, data: bytes) -> Any:
    body, _, _ = data.rpartition(b',\n"checksum"')
    return parse(body + b"}\n")
