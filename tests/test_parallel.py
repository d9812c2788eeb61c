"""Jobs over processes: every result once, and no process left when something goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reasonknee_datasets.errors import VolumeError, WorkerError
from reasonknee_datasets.parallel import cores, each_done
from tests.helpers.paths import ROOT


def square(number: int) -> int:
    return number * number


def die(number: int) -> int:
    os._exit(number)


def fail(number: int) -> int:
    raise VolumeError(f"number {number} is damaged")


def wait(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(120)


def run(function: object, tasks: list, workers: int) -> list:
    return list(each_done(function, tasks, workers=workers, label="jobs", progress=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_task_is_done_once(workers: int, count: int) -> None:
    assert sorted(run(square, list(range(count)), workers)) == [(number, number**2) for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_through(workers: int) -> None:
    with pytest.raises(VolumeError, match="number 3 is damaged"):
        run(fail, [3, 3], workers)


def test_a_sudden_death_is_explained() -> None:
    with pytest.raises(WorkerError, match=r"A worker process died unexpectedly.*Use fewer workers"):
        run(die, [1, 2, 3], 2)


def test_workers_of_a_killed_run_end_too(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to tell the living from the dead")
    code = (
        "import sys\n"
        "from tests.test_parallel import run, wait\n"
        "if __name__ == '__main__':\n"
        "    run(wait, [sys.argv[1]] * 4, 2)\n"
    )
    (tmp_path / "main.py").write_text(code)
    (tmp_path / "pids").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, tmp_path / "main.py", tmp_path / "pids"], env=environment)
    deadline = time.monotonic() + 60
    while len(pids := [int(path.name) for path in (tmp_path / "pids").iterdir()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_cores_counts_what_this_process_may_use() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
