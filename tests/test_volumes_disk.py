"""The cache on disk gives the same voxels, holds its bound, and mends itself."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import DecodeCache, DiskCache, disk, open_volume, pack
from tests.volumes_files import count_opens, fresh, knee, same, save, stored_volumes

pytest.importorskip("blosc2", reason="needs blosc2")


@pytest.fixture(autouse=True)
def _forget() -> None:
    disk._entries.clear()
    disk._trouble.clear()


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rkv"))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(stored_volumes(), st.booleans(), st.sampled_from(["lz4", "zstd"]), st.data())
def test_every_answer_is_nibabels(tmp_path: Path, layout: Any, packed: bool, codec: Any, data: st.DataObject) -> None:
    fields, shape, dtype, seed = layout
    path = save(fresh(tmp_path), knee(shape, dtype, seed), **fields)
    if packed:
        pack(path, path)
    theirs = nib.load(path)
    ours = open_volume(path, cache_dir=DiskCache(str(tmp_path / "cache"), codec=codec))
    for _ in range(2):
        index = data.draw(basic_indices(shape, min_dims=0, max_dims=6, allow_newaxis=True, allow_ellipsis=True))
        if np.asarray(theirs.dataobj)[index].size:
            same(ours.dataobj[index], theirs.dataobj[index])
    same(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))


def test_colour_goes_past_it(tmp_path: Path) -> None:
    array = knee((3, 4, 15), "u1").reshape(3, 4, 5, 3).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    path = save(tmp_path / "rgb.nii.gz", array)
    same(open_volume(path, cache_dir=tmp_path / "cache").dataobj[1:, 2:], array[1:, 2:])
    assert not entries(tmp_path / "cache")


def test_a_volume_is_decoded_once_for_all_epochs(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee((40, 50, 60)))
    with count_opens(path) as opens:
        for _ in range(3):
            for start in range(0, 30, 5):
                volume = open_volume(path, cache=None, cache_dir=tmp_path / "cache")
                part = np.s_[3:30, start : start + 10, ::2]
                same(volume.dataobj[part], array[part])
        assert opens() == 2  # header, voxels
        disk._entries.clear()  # as in another process
        same(np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache")), array)
        assert opens() == 2
    assert len(entries(tmp_path / "cache")) == 1
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [entries(tmp_path / "cache")[0].name]


def test_results_are_the_callers_own(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    volume = open_volume(path, cache_dir=tmp_path / "cache")
    volume.dataobj[1:4][...] = 0
    np.asarray(volume)[...] = 0
    same(np.asarray(volume), array)


def test_a_file_that_changed_is_not_served_from_before(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    same(open_volume(path, cache_dir=tmp_path / "cache").dataobj[1], knee()[1])
    time.sleep(0.02)  # the clock of mtime is coarse
    save(path, knee(seed=1))
    same(open_volume(path, cache_dir=tmp_path / "cache").dataobj[1], knee(seed=1)[1])


def test_damaged_entries_are_rebuilt(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee((20, 20, 20)))
    folder = tmp_path / "cache"
    same(open_volume(path, cache=None, cache_dir=folder).dataobj[1:5], array[1:5])
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    rng = np.random.default_rng(0)
    for number in range(40):
        data = bytearray(whole)
        if number % 2:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        else:
            del data[int(rng.integers(len(data))) :]
        entry.unlink()
        entry.write_bytes(data)
        disk._entries.clear()
        same(open_volume(path, cache=None, cache_dir=folder).dataobj[1:5], array[1:5])
        assert entry.read_bytes() != data


def test_its_size_is_bounded(tmp_path: Path) -> None:
    arrays = [knee((16, 16, 16), seed=seed) for seed in range(6)]
    paths = [save(tmp_path / f"{seed}.nii.gz", array) for seed, array in enumerate(arrays)]
    cache = DiskCache(str(tmp_path / "cache"), max_bytes=3 * 9000)
    for number in (0, 1, 2, 0, 3, 4, 0, 5, 1, 2):
        disk._entries.clear()
        time.sleep(0.01)
        same(open_volume(paths[number], cache=None, cache_dir=cache).dataobj[2], arrays[number][2])
        info = cache.info()
        assert info.bytes <= cache.max_bytes
        assert info.entries <= 3
    small = DiskCache(str(tmp_path / "small"), max_bytes=100)
    same(open_volume(paths[0], cache=None, cache_dir=small).dataobj[2], arrays[0][2])
    assert small.info().entries == 0


def test_what_killed_processes_left_behind_goes(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    old, new = folder / "a.1.part", folder / "b.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    open_volume(save(tmp_path / "knee.nii.gz", knee()), cache_dir=folder).dataobj[1]
    assert not old.exists()
    assert new.exists()


def _read(path: Path, folder: Path, queue: Any) -> None:
    queue.put([int(open_volume(path, cache=None, cache_dir=folder).dataobj[start, 2, 3]) for start in range(20)])


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_share_it(tmp_path: Path, method: str) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee((20, 20, 20)))
    folder = tmp_path / "cache"
    if method == "fork":
        open_volume(path, cache_dir=folder).dataobj[1]  # with an entry open
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=_read, args=(path, folder, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    for _ in processes:
        assert queue.get(timeout=60) == array[:, 2, 3].tolist()
    for process in processes:
        process.join(30)
    assert len(list(folder.iterdir())) == 1


def test_threads_share_it(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee((30, 30, 30)))
    barrier, wrong = threading.Barrier(6), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        barrier.wait()
        for _ in range(30):
            i, j, k = rng.integers(0, 20, 3)
            part = np.s_[i : i + 9, j : j + 9, k : k + 9]
            if not np.array_equal(open_volume(path, cache_dir=tmp_path / "cache").dataobj[part], array[part]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.warns(UserWarning, match="cache in .* was not written: "):
        same(open_volume(path, cache=DecodeCache(), cache_dir=folder).dataobj[1], array[1])


def test_a_full_disk_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    cache = DiskCache(str(tmp_path / "cache"))

    def full(self: Path, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    volume = open_volume(path, cache=DecodeCache(), cache_dir=cache)
    with pytest.warns(UserWarning, match=r"was not written: .*No space left.*Make room on that disk"):
        same(volume.dataobj[1], array[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(volume.dataobj[2], array[2])  # not tried again at once
    assert list((tmp_path / "cache").iterdir()) == []


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    monkeypatch.setenv("REASONKNEE_CACHE_DIR", str(tmp_path / "environment"))
    open_volume(path, cache_dir=None).dataobj[1]
    assert not (tmp_path / "environment").exists()
    volume = pickle.loads(pickle.dumps(open_volume(path)))
    same(volume.dataobj[1], knee()[1])
    assert len(entries(tmp_path / "environment")) == 1
    with pytest.raises(VolumeError, match="cache_dir must use lz4 or zstd at level 1 to 9, got codec='gzip'"):
        DiskCache(str(tmp_path), codec="gzip")  # type: ignore[arg-type]
    monkeypatch.setenv("REASONKNEE_CACHE_DIR_BYTES", "much")
    with pytest.raises(VolumeError, match="REASONKNEE_CACHE_DIR_BYTES must be a whole number of bytes, got much"):
        DiskCache(str(tmp_path))
    with pytest.raises(VolumeError, match=r"cache_dir must be a folder, got .*Error"):
        DiskCache(str(path), max_bytes=1)
