"""Decoded volumes are shared by processes: each decoded once, bounded, never wrong, and gone afterwards."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from reasonknee_datasets.errors import LoaderError, VolumeError
from reasonknee_datasets.loader.shared import SharedVolumes
from reasonknee_datasets.loader.shared_folder import Session, open_session
from reasonknee_datasets.loader.slots import SharedSlot, SlotRecords, Use
from reasonknee_datasets.volumes import open_volume, pack, use_cache
from reasonknee_datasets.volumes.lending import LentVolume
from tests.helpers.volumes_files import knee, save

SLAB = 1000
SIZE = 4500


def truth(name: str, size: int = SIZE) -> np.ndarray:
    return np.frombuffer((name.encode() * size)[:size], np.uint8)


def filler(name: str, done: list[Any] | None = None, size: int = SIZE) -> Callable[[Any, np.ndarray], None]:
    """Stand for the inflater of one volume, and note what it was asked for."""

    def fill(wanted: Any, voxels: np.ndarray) -> None:
        for slab in wanted:
            part = slice(slab * SLAB, min((slab + 1) * SLAB, size))
            voxels[part] = truth(name, size)[part]
        if done is not None:
            done.append((name, list(wanted)))

    return fill


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedVolumes]:
    volumes = SharedVolumes(str(tmp_path), max_bytes=3 * SIZE)
    yield volumes
    volumes.close()


def read(volumes: SharedVolumes, name: str, wanted: list[int], done: list[Any] | None = None) -> np.ndarray:
    found = volumes.get_slabs(name, np.array(wanted), SIZE, SLAB, filler(name, done))
    for slab in wanted:
        part = slice(slab * SLAB, (slab + 1) * SLAB)
        assert (found[part] == truth(name)[part]).all()
    return found


def test_slabs_are_inflated_once(shared: SharedVolumes, tmp_path: Path) -> None:
    done: list[Any] = []
    read(shared, "a", [0, 1], done)
    read(shared, "a", [1, 4], done)
    other = SharedVolumes(str(tmp_path), 3 * SIZE)
    read(other, "a", [0, 1, 4], done)
    read(other, "a", [0, 2], done)
    assert done == [("a", [0, 1]), ("a", [4]), ("a", [2])]
    info = shared.totals()
    assert (info.decodes, info.inflated, info.entries, info.bytes) == (1, 3500, 1, SIZE)
    other.close()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_ordinary_volume_is_decoded_once(tmp_path: Path, suffix: str) -> None:
    array = np.asfortranarray(np.arange(24, dtype=">i2").reshape(2, 3, 4))
    path = save(tmp_path / f"knee{suffix}", array)
    first, other = (SharedVolumes(str(tmp_path), 10_000) for _ in range(2))
    for volumes in (first, other):
        with use_cache(volumes):
            found = np.asarray(LentVolume(open_volume(path)).lend([open_volume(path)])[0])
        assert (found == array).all()
        assert found.dtype == array.dtype
        assert found.flags.f_contiguous
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0, 0] = 1
    assert first.totals().decodes == (suffix == ".nii.gz")  # the other is mapped
    for volumes in (first, other):
        volumes.close()


def test_slots_evict_least_recently_used(shared: SharedVolumes) -> None:
    done: list[Any] = []
    for name in "abcabd":  # c is the one that was used longest ago
        read(shared, name, [0], done)
        shared.release()
    read(shared, "a", [0], done)
    read(shared, "b", [0], done)
    assert [name for name, _ in done] == list("abcd")
    assert shared.totals().bytes <= shared.max_bytes
    shared.release()
    read(shared, "c", [0], done)
    assert done[-1] == ("c", [0])


class Named(str):
    """A key with the name of its file, as a volume's identity has it."""

    @property
    def name(self) -> str:
        return str(self)


def order(epoch: int, stop: int, until: dict[str, int], *, began: int = 1) -> tuple[Use, dict[str, Use]]:
    """Return the uses of a few volumes in an order."""
    return Use(began, epoch, stop, stop), {name: Use(began, epoch, stop, last) for name, last in until.items()}


def test_slots_evict_first_finished_volume(shared: SharedVolumes, caplog: pytest.LogCaptureFixture) -> None:
    done: list[Any] = []
    until = {"a": 90, "b": 4, "c": 80, "d": 85, "e": 95}
    for stop, name in enumerate("abcbdaceac", 1):
        shared.expect(*order(0, stop, until))
        read(shared, Named(name), [0], done)
        shared.release()
    # b goes for d, although a was used longer ago; c for e, although it is wanted: three slots are too few, by then.
    assert [name for name, _ in done] == list("abcdec")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_slots_of_earlier_pass_are_reassigned_first(shared: SharedVolumes) -> None:
    done: list[Any] = []
    for name in "abc":
        shared.expect(*order(3, 100, {name: 100}))
        read(shared, Named(name), [0])
        shared.release()
    began = time.monotonic_ns()
    for stop, name in enumerate("dedede", 1):  # the same epoch once more, as an evaluation has it
        shared.expect(*order(3, stop, {"d": 9, "e": 10}, began=began))
        read(shared, Named(name), [0], done)
        shared.release()
    assert [name for name, _ in done] == ["d", "e"]


def test_slot_in_use_is_not_reassigned(shared: SharedVolumes, tmp_path: Path) -> None:
    held = [read(shared, name, [0, 1, 2, 3, 4]) for name in "abc"]
    other = SharedVolumes(str(tmp_path), 3 * SIZE)
    read(other, "d", [0])  # alone, since every slot is being read
    assert [bytes(array) for array in held] == [bytes(truth(name)) for name in "abc"]
    shared.release()
    read(other, "d", [0, 1])
    done: list[Any] = []
    read(other, "d", [1], done)
    assert done == []
    other.close()


def test_slot_reassigned_to_another_volume(tmp_path: Path) -> None:
    """A process that knows slabs of a volume must notice that the volume left and came back without them."""
    one, other = (SharedVolumes(str(tmp_path), SIZE) for _ in range(2))
    read(one, "a", [0, 1, 2, 3, 4])
    one.release()
    read(other, "b", [0, 1, 2, 3, 4])
    other.release()
    read(other, "a", [0])
    other.release()
    read(one, "a", [0, 1, 2, 3, 4])
    one.close()
    other.close()


def test_a_larger_volume_makes_room_for_itself(shared: SharedVolumes) -> None:
    for name in "abc":
        read(shared, name, [0])
        shared.release()
    big = 2 * SIZE + 10
    for name in ("big", "other"):
        found = shared.get_slabs(name, np.arange(10), big, SLAB, filler(name, size=big))
        assert (found == truth(name, big)).all()
        shared.release()
        assert shared.totals().bytes <= shared.max_bytes
    read(shared, "a", [3])


def test_volume_larger_than_bound_is_not_kept(shared: SharedVolumes) -> None:
    huge = 4 * SIZE
    found = shared.get_slabs("huge", np.array([17]), huge, SLAB, filler("huge", size=huge))
    assert (found[17_000:] == truth("huge", huge)[17_000:]).all()
    assert shared.totals().entries == 0
    assert not shared.can_hold(huge)


def test_get_slabs_after_failed_inflate(shared: SharedVolumes) -> None:
    def broken(wanted: Any, voxels: np.ndarray) -> None:
        voxels[:] = 7
        raise OSError("no such slab")

    with pytest.raises(OSError, match="no such slab"):
        shared.get_slabs("a", np.array([0]), SIZE, SLAB, broken)
    done: list[Any] = []
    read(shared, "a", [0], done)
    assert done == [("a", [0])]


class Model:
    """Any interleaving must read right voxels, within the bound."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.views = [SharedVolumes(str(folder), 3 * SIZE) for _ in range(processes)]

    def close(self) -> None:
        for view in self.views:
            view.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.sampled_from("abcdef"), st.sets(st.integers(0, 4), min_size=1)),
            st.integers(0, 2),
        ),
        max_size=25,
    )
)
def test_no_interleaving_gives_a_wrong_voxel(tmp_path: Path, moves: list[Any]) -> None:
    folder = tmp_path / str(time.monotonic_ns())
    folder.mkdir()
    model = Model(folder, 3)
    for move in moves:
        if isinstance(move, int):
            model.views[move].release()
        else:
            view, name, slabs = move
            read(model.views[view], name, sorted(slabs))
    assert model.views[0].totals().bytes <= 3 * SIZE
    model.close()


def hammer(folder: str, seed: int, results: Any) -> None:
    volumes = SharedVolumes(folder, 3 * SIZE)
    rng = np.random.default_rng(seed)
    wrong = 0
    for turn in range(150):
        name = "abcdefg"[rng.integers(7)]
        slabs = sorted({int(slab) for slab in rng.integers(0, 5, 3)})
        found = volumes.get_slabs(name, np.array(slabs), SIZE, SLAB, filler(name))
        for slab in slabs:
            part = slice(slab * SLAB, (slab + 1) * SLAB)
            wrong += int((found[part] != truth(name)[part]).sum())
        if turn % 2:
            volumes.release()
    results.put(wrong)


def test_processes_at_once_see_right_voxels(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=hammer, args=(str(tmp_path), seed, results)) for seed in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [0] * 4
    for process in processes:
        process.join()


def test_get_slabs_inflates_once_for_threads(shared: SharedVolumes) -> None:
    done: list[Any] = []

    def slow(wanted: Any, voxels: np.ndarray) -> None:
        time.sleep(0.05)
        filler("a", done)(wanted, voxels)

    threads = [
        threading.Thread(target=shared.get_slabs, args=("a", np.array([0, 1]), SIZE, SLAB, slow)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [("a", [0, 1])]


def test_decode_continues_after_killed_worker(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()

    def hang(wanted: Any, voxels: np.ndarray) -> None:
        voxels[:500] = 99
        started.set()
        time.sleep(60)

    process = context.Process(
        target=lambda: SharedVolumes(str(tmp_path), SIZE).get_slabs("a", np.array([0]), SIZE, SLAB, hang)
    )
    process.start()
    assert started.wait(30)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    volumes = SharedVolumes(str(tmp_path), SIZE)
    read(volumes, "a", [0])
    volumes.close()


def test_forked_child_leaves_parents_locks(shared: SharedVolumes, tmp_path: Path) -> None:
    held = read(shared, "a", [0, 1, 2, 3, 4])
    child = os.fork()
    if child == 0:
        shared.release()  # would unlock the parent's slots, were the descriptors still the same
        for name in "bcde":
            read(shared, name, [0, 1, 2, 3, 4])
            shared.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(held) == bytes(truth("a"))


def test_it_pickles_as_its_folder(shared: SharedVolumes) -> None:
    copy = pickle.loads(pickle.dumps(shared))
    assert (copy.folder, copy.max_bytes) == (shared.folder, shared.max_bytes)


def test_a_full_folder_is_one_clear_error(shared: SharedVolumes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        VolumeError, match=r"keep 4,500 bytes of a decoded volume in .*: No space left .*a smaller volumes_in_flight="
    ):
        read(shared, "a", [0])


@pytest.mark.skipif(not Path("/sys/fs/cgroup").exists() or os.getuid() != 0, reason="mounts a small file system")
def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=False).returncode:
        pytest.skip("this machine allows no user to mount")
    try:
        volumes = SharedVolumes(str(small), 10_000_000)
        with pytest.raises(VolumeError, match=r"keep 2,000,000 bytes of .*: No space left.*share_volumes=False"):
            volumes.get_slabs("a", np.array([0]), 2_000_000, SLAB * 1000, filler("a", size=2_000_000))
        volumes.close()
        with pytest.raises(LoaderError, match=r"takes 0.002 GB, and there is 0.00\d+ GB free in"):
            open_session(2_000_000, folder=small, job=())
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("packed", [True, False])
def test_real_volumes_read_the_same_through_it(tmp_path: Path, packed: bool) -> None:
    voxels = knee((40, 30, 20))
    path = save(tmp_path / "knee.nii.gz", voxels)
    if packed:
        pack(path, path, planes=4)
    folder = tmp_path / "shared"
    folder.mkdir()
    views = [SharedVolumes(str(folder), 10_000_000) for _ in range(2)]
    rng = np.random.default_rng(0)
    for turn in range(20):
        low = rng.integers(0, (30, 20, 10))
        box = tuple(slice(int(start), int(start + size)) for start, size in zip(low, (9, 8, 7), strict=True))
        with use_cache(views[turn % 2]):
            assert (np.asarray(open_volume(path).dataobj[box]) == voxels[box]).all()
        views[turn % 2].release()
    with use_cache(views[0]):
        assert (np.asarray(open_volume(path).dataobj) == voxels).all()
    info = views[1].totals()
    assert info.decodes == 1
    assert info.inflated == voxels.nbytes + 352 * (not packed)  # an ordinary file with its header
    for view in views:
        view.close()


@pytest.mark.parametrize("packed", [True, False])
def test_lent_arrays_share_slot(tmp_path: Path, packed: bool) -> None:
    voxels = knee((40, 30, 20))
    path = save(tmp_path / "knee.nii.gz", voxels)
    if packed:
        pack(path, path, planes=4)
    folder = tmp_path / "shared"
    folder.mkdir()
    view, box = SharedVolumes(str(folder), 10_000_000), (slice(3, 9), slice(4, 12), slice(2, 17))
    with use_cache(view):
        own = open_volume(path).dataobj[box]
        crop = open_volume(path).slicer[box]
        borrowed, again = LentVolume(crop).lend([crop, crop])
        (folder / "0000.voxels").write_bytes(bytes(voxels.nbytes + 352))  # as when the slot gets another volume
        assert borrowed is not None
        assert again is not None
        assert np.may_share_memory(borrowed, again)
        assert not borrowed.any()
        with pytest.raises(ValueError, match="read-only"):
            borrowed[0, 0, 0] = 1
    assert (own == voxels[box]).all()
    own[0, 0, 0] = 1
    view.close()


def test_pages_of_a_slot_are_used_again(shared: SharedVolumes, tmp_path: Path) -> None:
    read(shared, "a", [0])
    first = (tmp_path / "0000.voxels").stat().st_ino
    for name in "bcdefg":
        shared.release()
        read(shared, name, [0])
    assert (tmp_path / "0000.voxels").stat().st_ino == first
    assert len(list(tmp_path.glob("*.voxels"))) == 3


def test_second_read_of_slot_takes_no_lock(tmp_path: Path) -> None:
    slot = SharedSlot(tmp_path, 0, SlotRecords(tmp_path))
    assert slot.take()
    slot.empty(100)
    slot.give(b"v" * 32, Use())
    slot.pin()
    assert not slot.take()
    slot.unpin()
    assert slot.take()
    slot.let_go()
    slot.close()


# Sessions: the folder itself.


def test_whoever_is_last_removes_the_folder(tmp_path: Path) -> None:
    ours, theirs = (open_session(10, folder=tmp_path, job=("one",)) for _ in range(2))
    assert ours.folder == theirs.folder
    ours.leave()
    assert theirs.folder.is_dir()
    theirs.leave()
    theirs.leave()
    assert not list(tmp_path.iterdir())


def test_sessions_without_a_job_are_apart(tmp_path: Path) -> None:
    one, other = (open_session(10, folder=tmp_path, job=()) for _ in range(2))
    assert one.folder != other.folder
    one.leave()
    assert other.folder.is_dir()
    other.leave()


def test_session_name_follows_address_and_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "1")
    one = open_session(10, folder=tmp_path, job=("data",))
    monkeypatch.setenv("MASTER_PORT", "2")
    other = open_session(10, folder=tmp_path, job=("data",))
    assert one.folder != other.folder
    one.leave()
    other.leave()


@pytest.mark.slow
def test_open_session_removes_crashed_session(tmp_path: Path) -> None:
    """Where its janitor was killed too, as when a whole container is."""
    code = (
        "import os, signal, sys; from reasonknee_datasets.loader import janitor, shared_folder as session;"
        "janitor.Janitor.watch = lambda self, folder: None;"
        f"session = session.open_session(10, folder={str(tmp_path)!r}, job=());"
        "(session.folder / 'voxels').write_bytes(b'v');"
        "print(session.folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL
    left = Path(run.stdout.strip())
    assert left.is_dir()
    session = open_session(10, folder=tmp_path, job=())
    assert not left.exists()
    session.leave()


def test_open_session_leaves_folder_in_use(tmp_path: Path) -> None:
    first = open_session(10, folder=tmp_path, job=())
    second = open_session(10, folder=tmp_path, job=())
    assert first.folder.is_dir()
    first.leave()
    second.leave()


def test_old_session_without_lock_is_removed(tmp_path: Path) -> None:
    base = tmp_path / f"reasonknee-{os.getuid()}"
    young, old = base / "young", base / "old"
    for folder in (young, old):
        folder.mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    os.utime(old, (0, 0))
    session = open_session(10, folder=tmp_path, job=())
    assert (young.exists(), old.exists()) == (True, False)
    session.leave()


def test_session_survives_removal_while_joined(tmp_path: Path) -> None:
    """Another process may remove the folder between making it and locking it."""
    tmp_path.chmod(0o700)
    sessions, stop = [], threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            for folder in tmp_path.iterdir():
                shutil.rmtree(folder, ignore_errors=True)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        sessions = [Session(tmp_path, f"s{number}") for number in range(20)]
    finally:
        stop.set()
        thread.join()
    for session in sessions:
        session.leave()


def test_open_session_refuses_readable_folder(tmp_path: Path) -> None:
    base = tmp_path / f"reasonknee-{os.getuid()}"
    base.mkdir(mode=0o755)
    base.chmod(0o755)
    with pytest.raises(
        LoaderError, match=r"by this user alone, but it is a folder of user \d+ with mode 0755\. Remove"
    ):
        open_session(10, folder=tmp_path, job=())


def test_open_session_without_room_names_sizes(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match=r"takes 1e\+09 GB, and there is [\d.e+]+ GB free in .*share_volumes=False"):
        open_session(10**18, folder=tmp_path, job=())
    with pytest.raises(LoaderError, match="there is no folder that can be written"):
        open_session(1, folder=tmp_path / "missing", job=())


def test_open_session_ignores_leftovers_of_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leftovers of dead processes are removed before space is measured, in every place that a loader may choose."""
    base = tmp_path / f"reasonknee-{os.getuid()}"
    left = base / "1-dead"
    left.mkdir(mode=0o700, parents=True)
    base.chmod(0o700)
    (left / "alive").touch()
    monkeypatch.setattr("reasonknee_datasets.loader.shared_folder._free", lambda place: 0 if left.exists() else 100)
    session = open_session(50, folder=tmp_path, job=())
    assert session.folder.is_dir()
    session.leave()


def test_cleanup_skips_folders_that_are_not_private(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "old").mkdir(parents=True)
    os.utime(other / "old", (0, 0))
    other.chmod(0o700)
    (tmp_path / f"reasonknee-{os.getuid()}").symlink_to(other)
    with pytest.raises(LoaderError, match="by this user alone, but it is a link"):
        open_session(1, folder=tmp_path, job=())
    assert (other / "old").is_dir()
