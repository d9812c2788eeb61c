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
from reasonknee_datasets.volumes.disk import Target, open_entry, pack_head
from tests.helpers.volumes_files import count_opens, fresh, knee, same, save, stored_volumes

pytest.importorskip("blosc2", reason="needs blosc2")


@pytest.fixture(autouse=True)
def _forget() -> None:
    disk._entries.clear()
    disk._trouble.clear()


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rkv"))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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


def test_disk_cache_decodes_once(tmp_path: Path) -> None:
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


def test_disk_cache_after_file_changed(tmp_path: Path) -> None:
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
        entry.write_bytes(data)  # in place: the mode stays
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
    folder.mkdir(mode=0o700)
    old, new = folder / "a.1.part", folder / "b.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    open_volume(save(tmp_path / "knee.nii.gz", knee()), cache_dir=folder).dataobj[1]
    assert not old.exists()
    assert new.exists()


def _read(path: Path, folder: Path, queue: Any) -> None:
    queue.put([int(open_volume(path, cache=None, cache_dir=folder).dataobj[start, 2, 3]) for start in range(20)])


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "fork"])
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
def test_disk_cache_works_in_read_only_folder(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.warns(UserWarning, match="cache in .* was not written: "):
        same(open_volume(path, cache=DecodeCache(), cache_dir=folder).dataobj[1], array[1])


def test_disk_cache_on_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(VolumeError, match="cannot be compressed with codec='gzip'"):
        DiskCache(str(tmp_path), codec="gzip")  # type: ignore[arg-type]
    monkeypatch.setenv("REASONKNEE_CACHE_DIR_BYTES", "much")
    with pytest.raises(
        VolumeError, match="REASONKNEE_CACHE_DIR_BYTES must be a whole number of bytes, but it is 'much'"
    ):
        DiskCache(str(tmp_path))
    with pytest.raises(VolumeError, match=r"\(cache_dir\) is for patients' voxels and .* is a file of user \d+"):
        DiskCache(str(path), max_bytes=1)
    with pytest.raises(VolumeError, match=r"cannot be used as cache_dir \(NotADirectoryError"):
        DiskCache(str(path / "below"), max_bytes=1)


def planted(path: Path, folder: Path, frame: bytes | None = None) -> Path:
    """Replace the entry of a volume by one with a right header, and voxels that are all 7 or another frame."""
    blosc2 = disk.find_blosc2()
    targets: list[Target] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "open_entry", lambda target: targets.append(target) or open_entry(target))
        open_volume(path, cache=None, cache_dir=folder).dataobj[1]
    disk._entries.clear()
    target = targets[0]
    if frame is None:
        frame = blosc2.asarray(np.full(target.shape, 7, target.dtype)).to_cframe()
    target.path.write_bytes(pack_head(target, frame) + frame)
    return target.path


class TestStrangers:
    """Files that another user could have written are not read, and no other user can read the cache."""

    @pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o701, 0o1777])
    def test_folder_mode(self, tmp_path: Path, mode: int) -> None:
        folder = tmp_path / "cache"
        folder.mkdir()
        folder.chmod(mode)
        with pytest.raises(
            VolumeError, match=rf"\(cache_dir\).*mode {mode:04o}\. Run chmod 700 .*cache if it is yours"
        ):
            open_volume(save(tmp_path / "knee.nii.gz", knee()), cache_dir=folder).dataobj[1]
        assert not list(folder.iterdir())

    def test_folder_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "real" / "old.part").touch()
        os.utime(tmp_path / "real" / "old.part", (0, 0))
        (tmp_path / "cache").symlink_to(tmp_path / "real")
        with pytest.raises(VolumeError, match=r"\(cache_dir\) .* it is a link"):
            DiskCache(str(tmp_path / "cache"))
        assert (tmp_path / "real" / "old.part").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_folder_owner(self, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir(mode=0o700)
        os.chown(tmp_path / "cache", 65534, 65534)
        with pytest.raises(VolumeError, match=r"a folder of user 65534 with mode 0700"):
            DiskCache(str(tmp_path / "cache"))

    def test_modes_of_what_is_written(self, tmp_path: Path) -> None:
        path, before = save(tmp_path / "knee.nii.gz", knee()), os.umask(0)
        try:
            open_volume(path, cache=None, cache_dir=tmp_path / "a" / "cache").dataobj[1]
        finally:
            os.umask(before)
        (entry,) = entries(tmp_path / "a" / "cache")
        assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600

    def test_an_entry_of_this_user_is_read(self, tmp_path: Path) -> None:
        """The control of the tests below: what is planted would be read if it were private."""
        path = save(tmp_path / "knee.nii.gz", array := knee())
        planted(path, tmp_path / "cache")
        found = np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache"))
        assert (found == 7).all()
        assert not np.array_equal(found, array)

    @pytest.mark.parametrize("mode", [0o666, 0o644, 0o640, 0o602])
    def test_entry_mode(self, tmp_path: Path, mode: int) -> None:
        path = save(tmp_path / "knee.nii.gz", array := knee())
        planted(path, tmp_path / "cache").chmod(mode)
        same(np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache")), array)
        assert stat.S_IMODE(entries(tmp_path / "cache")[0].stat().st_mode) == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_entry_owner(self, tmp_path: Path) -> None:
        path = save(tmp_path / "knee.nii.gz", array := knee())
        os.chown(planted(path, tmp_path / "cache"), 65534, 65534)
        same(np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache")), array)

    def test_entry_link(self, tmp_path: Path) -> None:
        path = save(tmp_path / "knee.nii.gz", array := knee())
        entry = planted(path, tmp_path / "cache")
        entry.rename(tmp_path / "elsewhere")
        entry.symlink_to(tmp_path / "elsewhere")
        same(np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache")), array)
        assert not entry.is_symlink()
        assert (tmp_path / "elsewhere").exists()

    def test_entry_named_pipe(self, tmp_path: Path) -> None:
        path = save(tmp_path / "knee.nii.gz", array := knee())
        entry = planted(path, tmp_path / "cache")
        entry.unlink()
        os.mkfifo(entry, 0o600)
        same(np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache")), array)
        assert entry.is_file()

    def test_entry_of_another_volume(self, tmp_path: Path) -> None:
        paths = [save(tmp_path / f"{seed}.nii.gz", knee(seed=seed)) for seed in range(2)]
        ours, theirs = (planted(path, tmp_path / "cache") for path in paths)
        theirs.replace(ours)
        same(np.asarray(open_volume(paths[0], cache=None, cache_dir=tmp_path / "cache")), knee(seed=0))

    @pytest.mark.parametrize("kind", ["UDF", "Expr", "b2o", "vlmeta"])
    def test_entry_metadata_that_hold_code(self, tmp_path: Path, kind: str) -> None:
        blosc2, mark = disk.find_blosc2(), tmp_path / "ran"
        # blosc2 up to 4.14.0 runs this when it opens the array, with few builtins, which does not hinder it.
        reach = (
            "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"
        )
        code = f"{reach}['mkdir']({str(mark)!r})\ndef f(inputs, output, offset): output[:] = 7\n"
        meta = {"UDF": {"LazyArray": 1}, "Expr": {"LazyArray": 0}, "b2o": {"b2o": {"kind": "lazyudf", "version": 1}}}
        path = save(tmp_path / "knee.nii.gz", array := knee())
        bad = blosc2.full(array.shape[::-1], 7, dtype=f"u{array.itemsize}", meta=meta.get(kind, {}))
        lazy = {"UDF": code, "expression": f"[{code!r}]", "operands": {}, "name": "f", "func_name": "f"}
        bad.schunk.vlmeta["_LazyArray"] = lazy
        planted(path, tmp_path / "cache", bad.to_cframe())
        same(np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache")), array)
        assert not mark.exists()
