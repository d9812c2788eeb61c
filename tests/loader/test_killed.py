"""A run that is really killed, again and again, goes on as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.helpers.loader_run import run
from tests.helpers.prepared_repository import write_repository

# Batch size and workers of each life, and the steps after which it is killed: right after a save, just before one, ...
LIVES = [(4, 2, 4), (3, 0, 5), (5, 1, 3), (2, 2, 0)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 12, "validation": 1, "test": 1}
    return write_repository(tmp_path_factory.mktemp("killed") / "3dreasonknee", questions=6, volumes=counts)


def live(repository: Path, folder: Path, batch_size: int, workers: int, steps: int) -> list[Any]:
    """Run in a process of its own until the end or until it is killed, and give what it logged."""
    before = set(folder.glob("log-*.jsonl"))
    # Forked, since a fresh interpreter takes seconds to import torch, once for each life.
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(repository, folder, batch_size, workers, steps)
    )
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGKILL if steps else 0)
    (log,) = set(folder.glob("log-*.jsonl")) - before
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
def test_load_state_dict_after_kill(repository: Path, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    whole = [line for line in live(repository, straight, 4, 0, 0) if line != "saved"]
    assert len({name for name, _ in whole}) == len(whole) == 72
    kept: list[Any] = []
    for life in LIVES:
        logged = live(repository, broken, *life)
        examples = [line for line in logged if line != "saved"]
        # The batches after the last save were repeated, and equal.
        assert examples == whole[len(kept) : len(kept) + len(examples)]
        last = max((at for at, line in enumerate(logged) if line == "saved"), default=-1)
        safe = examples if life[2] == 0 else [line for line in logged[: last + 1] if line != "saved"]
        kept += safe
    assert kept == whole


@pytest.mark.timeout(120)
def test_killed_run_leaves_no_shared_folder(repository: Path, tmp_path: Path) -> None:
    live(repository, tmp_path, 4, 2, 3)
    # The janitor, a process of its own, removes it once it sees the death; pytest's time limit ends the wait.
    while list(tmp_path.glob("reasonknee-*")):
        time.sleep(0.02)
