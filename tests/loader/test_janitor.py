"""No folder in shared memory and no worker is left behind by a training process, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import pytest

pytest.importorskip("torch")

from reasonknee_datasets.loader import janitor
from reasonknee_datasets.loader.shared_folder import Session, open_session

# Trains with workers that always have more to send than a pipe holds, and says who takes part.
TRAINING = """
import signal
import sys
from pathlib import Path
from reasonknee_datasets.loader import make_dataloader
from reasonknee_datasets.volumes import open_volume

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which tests may run, ignores it
folder, path, workers, method = sys.argv[1:]
row = {"volume": open_volume(path), "box": [0, 0, 0, 1, 1, 1], "text": "x" * 300_000}
rows = [row | {"id": str(n)} for n in range(99)]
loader = make_dataloader(
    rows, batch_size=1, num_workers=int(workers), share_volumes=folder,
    multiprocessing_context=method if int(workers) else None, prefetch_factor=4 if int(workers) else None,
)
batches = iter(loader)
next(batches)
workers = loader._loader._iterator._workers if loader.num_workers else []
print(loader.dataset.shared.folder, *(worker.pid for worker in workers), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    from tests.helpers.volumes_files import save

    return save(tmp_path_factory.mktemp("janitor") / "knee.nii.gz", np.zeros((8, 9, 10), np.int16))


def start(folder: Path, volume: Path, workers: int, method: str = "fork") -> tuple[Any, Path, list[int]]:
    """Start training, and tell its shared folder and the processes of its workers."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder), str(volume), str(workers), method],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    out: IO[str] | None = process.stdout
    assert out is not None
    shared, *pids = out.readline().split()
    assert Path(shared).is_dir()
    return process, Path(shared), [int(pid) for pid in pids]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any) -> None:
    """Wait for what happens in other processes; pytest's time limit ends it."""
    while not condition():
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("number", "workers", "method"),
    [
        (signal.SIGTERM, 0, "fork"),
        (signal.SIGTERM, 2, "fork"),
        (signal.SIGKILL, 0, "fork"),
        (signal.SIGKILL, 2, "fork"),
        (signal.SIGHUP, 0, "fork"),
        (signal.SIGKILL, 1, "spawn"),
        (signal.SIGKILL, 1, "forkserver"),
    ],
)
def test_janitor_removes_folder_after_signal(
    tmp_path: Path, volume: Path, number: signal.Signals, workers: int, method: str
) -> None:
    process, shared, pids = start(tmp_path, volume, workers, method)
    assert len(pids) == workers
    process.send_signal(number)
    assert process.wait() == -number
    wait_until(lambda: not shared.exists())
    wait_until(lambda: not any(map(is_alive, pids)))
    wait_until(lambda: not list(tmp_path.iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_janitor_leaves_folder_in_use(tmp_path: Path) -> None:
    code = (
        "import os, signal; from reasonknee_datasets.loader.shared_folder import open_session;"
        f"session = open_session(10, folder={str(tmp_path)!r}, job=('one',)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ours = open_session(10, folder=tmp_path, job=("one",))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert ours.folder.is_dir()
    ours.leave()
    assert not ours.folder.exists()


def test_leave_removes_folder_during_writes(tmp_path: Path) -> None:
    """A loader is forgotten before its workers have ended: what they write must not keep the folder."""
    session, stop, written = Session(tmp_path / "base", "one"), threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                (session.folder / f"{number}.voxels").touch()
            except FileNotFoundError:
                break
            if number == 2000:
                written.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    assert written.wait(60)
    session.leave()
    stop.set()
    for writer in writers:
        writer.join()
    assert not (tmp_path / "base").exists()


def test_without_a_janitor_the_loader_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    one = janitor.Janitor()
    before = len(list(Path("/proc/self/fd").iterdir()))
    one.watch(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
