"""Executors and dask clusters: the same results and bytes as one process, also when workers are killed."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.atomic_files import part_path, remove_stale_parts
from reasonknee_datasets.cli import main
from reasonknee_datasets.cluster import cluster_executor
from reasonknee_datasets.errors import VolumeError, WorkerError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.oai import convert
from reasonknee_datasets.parallel import each_done
from reasonknee_datasets.prepare import prepare
from tests.helpers.dicom_files import facts_of, save, slices, write_release
from tests.test_parallel import fail, square

distributed = pytest.importorskip("distributed", reason="a cluster needs the cluster extra")
pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def cluster(started: Any) -> Any:
    """The scheduler, when both workers are there again after an earlier test has killed one."""
    with distributed.Client(started.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=240)  # a new worker took over 60 s on two busy cores
    return started


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """A real scheduler with two worker processes on the loopback; a killed one is started again by its nanny."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as cluster:
        yield cluster


def die_once(task: tuple[str, int]) -> int:
    """Write half of a file and be killed; the second time, write it whole."""
    folder, number = Path(task[0]), task[1]
    before = folder / f"killed-{number}"
    if number == 3 and not before.exists():
        before.touch()
        part_path(folder / str(number)).write_text("half", encoding="ascii")
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / str(number)).write_text("whole", encoding="ascii")
    return number


def die(task: tuple[str, int]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_done_on_threads() -> None:
    with ThreadPoolExecutor(2) as executor:
        done = each_done(square, [1, 2, 3], workers=1, label="jobs", progress=False, executor=executor)
        assert sorted(done) == [(1, 1), (2, 4), (3, 9)]
        assert executor.submit(square, 4).result() == 16, "the caller's executor stays open"


@pytest.mark.slow
@pytest.mark.cluster
def test_each_done_on_cluster_passes_errors_on(cluster: Any, tmp_path: Path) -> None:
    with cluster_executor(cluster.scheduler_address, tmp_path) as executor:
        assert list(each_done(square, [5, 5], workers=1, label="", progress=False, executor=executor)) == [(5, 25)] * 2
        with pytest.raises(VolumeError, match="number 3 is damaged"):
            list(each_done(fail, [3], workers=1, label="jobs", progress=False, executor=executor))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.cluster
def test_each_done_repeats_task_of_killed_worker(cluster: Any, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(6)]
    with cluster_executor(cluster.scheduler_address, tmp_path) as executor:
        done = list(each_done(die_once, tasks, workers=1, label="jobs", progress=False, executor=executor))
    assert sorted(number for _, number in done) == list(range(6))
    assert {(tmp_path / str(number)).read_text(encoding="ascii") for number in range(6)} == {"whole"}
    remove_stale_parts(tmp_path, 60)  # it may be of a process that is writing
    assert len(list(tmp_path.glob(".*.part"))) == 1
    remove_stale_parts(tmp_path, 0)
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.slow
@pytest.mark.cluster
def test_each_done_task_that_kills_workers(cluster: Any, tmp_path: Path) -> None:
    with (
        cluster_executor(cluster.scheduler_address, tmp_path) as executor,
        pytest.raises(WorkerError, match=r"The executor lost a task \(KilledWorker: .*finished volumes are kept"),
    ):
        list(each_done(die, [("", 1)], workers=1, label="jobs", progress=False, executor=executor))


@pytest.mark.slow
@pytest.mark.cluster
def test_convert_on_cluster_writes_same_bytes(cluster: Any, tmp_path: Path) -> None:
    facts = [facts_of(number) for number in range(8)]
    release = write_release(tmp_path / "release", facts)
    for each in facts:
        save(slices(each), tmp_path / f"oai/{each.patient}/{each.date}/{each.series}")
    convert(tmp_path / "one", oai=tmp_path / "oai", release=release, workers=1, progress=False)
    watch = threading.Thread(target=kill_a_worker, args=(cluster, tmp_path / "many/images"))
    watch.start()
    arguments = ["convert", "--oai", str(tmp_path / "oai"), "--release", str(release)]
    assert main([*arguments, "--out", str(tmp_path / "many"), "--cluster", cluster.scheduler_address]) == 0
    watch.join()
    expected = files(tmp_path / "one/images")
    assert len(expected) == 8
    assert files(tmp_path / "many/images") == expected


def kill_a_worker(cluster: Any, images: Path) -> None:
    """Kill the worker processes as soon as the first image has been written."""
    while not any(path.is_file() for path in images.rglob("*")):
        pass
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
            return


@pytest.mark.slow
@pytest.mark.cluster
def test_prepare_on_cluster_writes_same_bytes(
    cluster: Any, phantom_release: Path, prepared: Path, tmp_path: Path
) -> None:
    with cluster_executor(cluster.scheduler_address, tmp_path) as executor:
        prepare(phantom_release, tmp_path / "many", progress=False, executor=executor)
    assert files(tmp_path / "many") == files(prepared)


@pytest.mark.slow
@pytest.mark.cluster
def test_cluster_executor_refuses_workers_without_the_files(cluster: Any, tmp_path: Path) -> None:
    link = Path("/proc/self/environ")  # a file that every process sees with other contents
    with (
        pytest.raises(WorkerError, match=r"cannot read the files of /proc/self. Mount the same"),
        cluster_executor(cluster.scheduler_address, link),
    ):
        pass


@pytest.mark.slow
@pytest.mark.cluster
def test_check_on_cluster_reports_the_same(
    cluster: Any, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(prepared), "--workers", "1"]) == 0
    alone = capsys.readouterr().out
    assert main(["check", str(prepared), "--cluster", cluster.scheduler_address]) == 0
    assert capsys.readouterr().out == alone


@pytest.mark.slow
@pytest.mark.cluster
def test_previews_on_cluster_writes_same_bytes(cluster: Any, prepared: Path, tmp_path: Path) -> None:
    for name in ("one", "many"):
        shutil.copytree(prepared, tmp_path / name)
    assert main(["previews", str(tmp_path / "one"), "--workers", "1"]) == 0
    assert main(["previews", str(tmp_path / "many"), "--cluster", cluster.scheduler_address]) == 0
    assert Manifest.load(tmp_path / "many").has_previews
    assert files(tmp_path / "many") == files(tmp_path / "one")


def test_cluster_executor_refuses_a_wrong_address(tmp_path: Path) -> None:
    with (
        pytest.raises(WorkerError, match="No dask scheduler answers at nowhere://x"),
        cluster_executor("nowhere://x", tmp_path),
    ):
        pass


@pytest.mark.slow
@pytest.mark.cluster
def test_cluster_executor_refuses_no_workers(tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as empty,
        pytest.raises(WorkerError, match=r"has no workers. Start some"),
        cluster_executor(empty.scheduler_address, tmp_path / "new/folder"),
    ):
        pass
    assert list(tmp_path.iterdir()) == [], "the probe's folders are removed"
