"""Few open files are enough, and an error of the operating system is translated by its errno."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from reasonknee_datasets.errors import VolumeError, os_remedy
from reasonknee_datasets.loader.shared import SharedVolumes
from reasonknee_datasets.phantom import PhantomError, write_release
from reasonknee_datasets.volumes import open_volume, pack
from reasonknee_datasets.volumes.disk import DiskCache, Target, open_entry
from tests.helpers.prepared_repository import write_repository
from tests.helpers.volumes_files import save
from tests.loader.test_shared import SIZE, SLAB, filler

# Trains over 24 volumes at once with few open files, and then counts those that it has.
TRAINING = """
import os, resource, sys
repository, folder, workers = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from reasonknee_datasets import load_dataset
from reasonknee_datasets.loader import make_dataloader
from reasonknee_datasets.transforms import CropToBox

rows = load_dataset(split="train", data_dir=repository, cache_dir=folder + "/cache").remove_columns("grades")
loader = make_dataloader(
    rows, batch_size=4, shuffle=True, volumes_in_flight=24, num_workers=int(workers), share_volumes=folder,
    transform=CropToBox(margin_voxels=20),
)
print(sum(len(batch["id"]) for batch in loader), loader.shared_info().decodes)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_training_with_64_open_files(tmp_path: Path, workers: int) -> None:
    counts = {"train": 40, "validation": 1, "test": 1}
    repository = write_repository(tmp_path / "3dreasonknee", questions=3, volumes=counts)
    run = subprocess.run(
        [sys.executable, "-c", TRAINING, str(repository), str(tmp_path), str(workers)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["120", "40"]


def test_slots_keep_few_descriptors_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reasonknee_datasets.loader.shared._most_open", lambda: 4)
    volumes = SharedVolumes(str(tmp_path), 40 * SIZE)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for turn in range(2):
        for number in range(30):
            read = volumes.get_slabs(str(number), np.array([0]), SIZE, SLAB, filler(chr(65 + number)))
            assert bytes(read[:SLAB]) == chr(65 + number).encode() * SLAB, turn
            del read
            volumes.release()
    assert volumes.totals().decodes == 30
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 1 + 4 * 2
    volumes.close()


# Errors by their errno.

REMEDIES = {
    errno.EMFILE: r"ulimit -n",
    errno.ENFILE: "whole system has too many files open",
    errno.ENOSPC: "Make room on that disk",
    errno.EFBIG: r"ulimit -f",
    errno.EDQUOT: "quota there is used up",
    errno.EROFS: "file system is read-only",
    errno.EACCES: "Check the permissions",
    errno.ENOMEM: "memory is used up",
    errno.EIO: "disk fails to read or write",
}


def raiser(code: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(("code", "remedy"), REMEDIES.items())
def test_os_remedy_of_each_errno(code: int, remedy: str) -> None:
    assert remedy in os_remedy(OSError(code, os.strerror(code)), "Check the path")


@pytest.mark.parametrize("error", [OSError("no errno"), ValueError("none at all"), FileNotFoundError(errno.ENOENT, "")])
def test_os_remedy_of_anything_else(error: Exception) -> None:
    assert os_remedy(error, "Check the path") == "Check the path"


@pytest.mark.parametrize(("code", "remedy"), REMEDIES.items())
def test_errors_of_the_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str) -> None:
    monkeypatch.setattr(os, "posix_fallocate", raiser(code))
    if code in (errno.ENOSPC, errno.EDQUOT):
        remedy = "share_volumes= folder with room"
    with pytest.raises(VolumeError, match=f"{os.strerror(code)}.*{remedy}.*share_volumes=False"):
        SharedVolumes(str(tmp_path), 10 * SIZE).get_slabs("a", np.array([0]), SIZE, SLAB, filler("a"))


@pytest.mark.parametrize(("code", "remedy"), REMEDIES.items())
def test_errors_of_reading_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str) -> None:
    path = save(tmp_path / "knee.nii.gz", np.zeros((4, 5, 6), np.int16))
    monkeypatch.setattr("reasonknee_datasets.volumes.byte_source.FileIO", raiser(code))
    with pytest.raises(VolumeError, match=remedy):
        np.asarray(open_volume(path).dataobj)


@pytest.mark.parametrize(("code", "remedy"), REMEDIES.items())
def test_errors_of_mapping_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str) -> None:
    volume = open_volume(save(tmp_path / "knee.nii", np.zeros((4, 5, 6), np.int16)))
    assert volume.shape == (4, 5, 6)
    monkeypatch.setattr(np, "memmap", raiser(code))
    with pytest.raises(VolumeError, match=remedy):
        np.asarray(volume.dataobj)


@pytest.mark.parametrize(("code", "remedy"), REMEDIES.items())
def test_errors_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str) -> None:
    path = save(tmp_path / "knee.nii.gz", np.zeros((4, 5, 6), np.int16))
    monkeypatch.setattr(os, "fsync", raiser(code))
    with pytest.raises(VolumeError, match=f"{remedy}.*Nothing was left behind"):
        pack(path, tmp_path / "packed.nii.gz")
    assert not (tmp_path / "packed.nii.gz").exists()
    monkeypatch.setattr(Path, "mkdir", raiser(code))
    for write, kind in ((lambda: DiskCache(str(tmp_path / "cache")), VolumeError), (_phantom(tmp_path), PhantomError)):
        with pytest.raises(kind, match=remedy):
            write()


def _phantom(folder: Path) -> Any:
    return lambda: write_release(folder / "release", patients=1, annotations_only=True)


def test_disk_cache_entry_survives_emfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "knee.nii.gz", np.zeros((4, 5, 6), np.int16))
    pytest.importorskip("blosc2")
    np.asarray(open_volume(path, cache=None, cache_dir=tmp_path / "cache").dataobj)
    (entry,) = (tmp_path / "cache").glob("*.rkv")
    target = Target(entry, b"", (6, 5, 4), np.dtype(np.int16))
    with monkeypatch.context() as patch:
        patch.setattr("mmap.mmap", raiser(errno.EMFILE))
        assert open_entry(target) is None
    assert entry.exists()
