"""Placing volumes: every copy proven, every damage named, and nothing done twice after a kill."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import PrepareError, VolumeError
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.prepare import volume_files
from reasonknee_datasets.prepare.volume_files import VolumesMode, VolumeTask, place_volumes, remove_strangers
from reasonknee_datasets.volumes import DecodeCache, bytes_read, fingerprint, index_hash, open_volume, pack
from reasonknee_datasets.volumes.header import parse_index
from tests.helpers import prepare_content as given


@pytest.fixture
def tasks(tmp_path: Path) -> list[VolumeTask]:
    (tmp_path / "out").mkdir()
    made = given.volumes(tmp_path / "images", {"train": [1, 2]})
    return [VolumeTask(tmp_path / "out", each.path, each.image, "copy") for each in made if each.image]


def place(tasks: list[VolumeTask], workers: int = 1) -> dict[str, VolumeRecord]:
    return place_volumes(tasks, workers=workers, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_copies_equal_their_sources(tasks: list[VolumeTask], workers: int) -> None:
    records = place(tasks, workers)
    assert set(records) == {task.path for task in tasks}
    for task in tasks:
        data = task.source.read_bytes()
        assert task.target.read_bytes() == data
        record = records[task.path]
        assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert record.voxels_sha256 == fingerprint(task.source).voxels_sha256
        assert (record.shape, record.dtype) == (given.SHAPE, "int16")
        np.testing.assert_array_equal(record.affine, nib.load(task.source).affine)


def test_links_share_the_file(tasks: list[VolumeTask]) -> None:
    place([replace(task, mode="link") for task in tasks])
    for task in tasks:
        assert task.target.samefile(task.source)
        assert not task.target.is_symlink()


def test_links_become_symbolic_on_another_disk(tasks: list[VolumeTask], monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    place([replace(task, mode="link") for task in tasks])
    assert all(task.target.is_symlink() and task.target.samefile(task.source) for task in tasks)


def test_none_leaves_the_images(tasks: list[VolumeTask]) -> None:
    records = place([replace(task, mode="none") for task in tasks])
    assert all(record.sha256 for record in records.values())
    assert not any(tasks[0].root.iterdir())


@pytest.mark.parametrize("kept", range(4))
@pytest.mark.parametrize("mode", ["pack", "copy"])
def test_place_volumes_resumes(
    tasks: list[VolumeTask], mode: VolumesMode, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [replace(task, mode=mode) for task in tasks]
    records = place(tasks)
    for task in tasks[kept:]:
        task.target.unlink()
    written = {task.path: task.target.stat().st_ino for task in tasks[:kept]}
    monkeypatch.setattr(volume_files, "_pack" if mode == "pack" else "_copy", counting := Counting(volume_files, mode))
    assert place(tasks) == records
    assert {task.path: task.target.stat().st_ino for task in tasks[:kept]} == written
    assert counting.targets == [task.target for task in tasks[kept:]]


class Counting:
    """Packs or copies as before, and notes which volumes."""

    def __init__(self, module: Any, mode: str) -> None:
        self.function, self.targets = getattr(module, f"_{mode}"), list[Path]()

    def __call__(self, source: Path, target: Path, found: Any) -> Any:
        self.targets.append(target)
        return self.function(source, target, found)


@pytest.mark.parametrize("mode", ["pack", "copy"])
def test_place_volumes_planted_volume(tasks: list[VolumeTask], mode: VolumesMode) -> None:
    tasks = [replace(task, mode=mode) for task in tasks]
    records = place(tasks)
    foreign = tasks[0].root / "foreign.nii.gz"
    nib.save(nib.Nifti1Image(np.full(given.SHAPE, 7, np.int16), given.AFFINE), foreign)
    pack(foreign, tasks[0].target)  # whole, seekable, of the right grid, and not the volume of the release
    shutil.copy(tasks[1].source if mode == "pack" else tasks[2].target, tasks[1].target)  # ordinary; another's
    assert place(tasks) == records
    for task in tasks:
        assert fingerprint(task.target).voxels_sha256 == fingerprint(task.source).voxels_sha256
        assert fingerprint(task.target).sha256 == records[task.path].sha256


def test_place_volumes_planted_temporary_file(tasks: list[VolumeTask], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for task, make in zip(tasks[:2], (os.symlink, os.link), strict=True):
        task.target.parent.mkdir(parents=True, exist_ok=True)
        make(tmp_path / "thesis.tex", f"{task.target}.partial")
    place(tasks)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert all(task.target.read_bytes() == task.source.read_bytes() for task in tasks)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_place_volumes_packed_for_every_reader(tasks: list[VolumeTask], workers: int) -> None:
    checked = place([replace(task, mode="none") for task in tasks])
    records = place([replace(task, mode="pack") for task in tasks], workers)
    for task in tasks:
        data, record = task.target.read_bytes(), records[task.path]
        assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert parse_index(data, len(data)) is not None
        assert record.index_sha256 == index_hash(task.target) is not None
        hashes = {"bytes": None, "sha256": None, "index_sha256": None}
        assert replace(record, **hashes) == replace(checked[task.path], **hashes)
        assert gzip.decompress(data) == gzip.decompress(task.source.read_bytes())
        ours, theirs = nib.load(task.target), nib.load(task.source)
        assert ours.header == theirs.header
        np.testing.assert_array_equal(ours.dataobj, theirs.dataobj)
    assert not list(tasks[0].root.rglob("*.part*"))


def test_an_image_without_compression_is_packed_too(tasks: list[VolumeTask]) -> None:
    task = replace(tasks[0], mode="pack")
    voxels = np.asarray(nib.load(task.source).dataobj)
    task.source.write_bytes(gzip.decompress(task.source.read_bytes()))
    place([task])
    np.testing.assert_array_equal(nib.load(task.target).dataobj, voxels)


def test_place_volumes_region_reads_slabs(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    voxels = np.random.default_rng(0).integers(0, 400, (160, 128, 24)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, given.AFFINE), tmp_path / "knee.nii.gz")
    task = VolumeTask(tmp_path / "out", "volumes/0000001/00M_right.nii.gz", tmp_path / "knee.nii.gz", "pack")
    record = place([task])[task.path]
    volume = open_volume(task.target, cache=(cache := DecodeCache()))
    assert volume.shape == voxels.shape
    before = bytes_read()
    np.testing.assert_array_equal(volume.dataobj[30:60, 20:90, 9:11], voxels[30:60, 20:90, 9:11])
    assert cache.info().inflated == voxels[:, :, 9:11].nbytes  # two slabs of one plane
    assert record.bytes is not None
    assert 0.9 * record.bytes / 12 < bytes_read() - before < 1.1 * record.bytes / 12


def test_place_volumes_changed_image(tasks: list[VolumeTask]) -> None:
    task = replace(tasks[0], mode="pack")
    found = volume_files.check_volume(task)
    assert isinstance(found, volume_files.CheckedImage)
    found = found.record
    nib.save(nib.Nifti1Image(np.zeros(given.SHAPE, np.int16), given.AFFINE), task.source)
    with pytest.raises(PrepareError, match=rf"after packing, and had {found.voxels_sha256} before.*disk"):
        volume_files.place_volume(replace(task, found=found))
    task.source.write_bytes(b"not an image")
    with pytest.raises(VolumeError, match=str(task.source)):
        volume_files.place_volume(replace(task, found=found))


@pytest.mark.parametrize("mode", ["pack", "copy"])
def test_a_resumed_file_is_verified(tasks: list[VolumeTask], mode: VolumesMode) -> None:
    tasks = [replace(task, mode=mode) for task in tasks]
    records = place(tasks)
    whole = [task.target.read_bytes() for task in tasks]
    damaged = bytearray(tasks[0].target.read_bytes())
    damaged[-20] ^= 1  # same size, one bit
    tasks[0].target.write_bytes(bytes(damaged))
    tasks[1].target.unlink()
    assert place(tasks) == records
    assert [task.target.read_bytes() for task in tasks] == whole


@pytest.mark.parametrize("mode", ["pack", "copy", "link", "none"])
def test_a_source_that_changed_is_read_again(tasks: list[VolumeTask], mode: VolumesMode) -> None:
    tasks = [replace(task, mode=mode) for task in tasks]
    before = place(tasks)
    nib.save(nib.Nifti1Image(np.zeros(given.SHAPE, np.int16), given.AFFINE), tasks[0].source)
    after = place(tasks)
    assert before[tasks[0].path] != after[tasks[0].path]
    file = tasks[0].source if mode == "none" else tasks[0].target
    assert after[tasks[0].path].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert after[tasks[0].path].voxels_sha256 == fingerprint(tasks[0].source).voxels_sha256
    assert {key: value for key, value in before.items() if key != tasks[0].path} == {
        key: value for key, value in after.items() if key != tasks[0].path
    }


def test_another_mode_places_every_volume_again(tasks: list[VolumeTask]) -> None:
    place([replace(task, mode="none") for task in tasks])
    place(tasks)
    assert all(task.target.exists() for task in tasks)
    sources = [task.source.read_bytes() for task in tasks]
    place([replace(task, mode="link") for task in tasks])
    records = place([replace(task, mode="pack") for task in tasks])  # over hard links: the images must not change
    assert [task.source.read_bytes() for task in tasks] == sources
    assert all(record.sha256 == fingerprint(tasks[0].root / path).sha256 for path, record in records.items())


@pytest.mark.parametrize("mode", ["pack", "copy", "link"])
def test_place_volumes_names_all_broken_images_first(tasks: list[VolumeTask], mode: VolumesMode) -> None:
    tasks = [replace(task, mode=mode) for task in tasks]
    whole = tasks[0].source.read_bytes()
    tasks[0].source.write_bytes(whole[: len(whole) // 2])
    tasks[1].source.write_bytes(gzip.compress(gzip.decompress(tasks[1].source.read_bytes())[:500]))
    tasks[2].source.write_bytes(b"not an image")
    with pytest.raises(PrepareError, match=r"3 of \d+ images cannot be read. Convert them again") as caught:
        place(tasks)
    for task in tasks[:3]:
        assert str(task.source) in str(caught.value)
    assert not any(tasks[0].root.iterdir())


def test_four_axes_are_refused(tasks: list[VolumeTask]) -> None:
    nib.save(nib.Nifti1Image(np.zeros((*given.SHAPE, 2), np.int16), given.AFFINE), tasks[0].source)
    with pytest.raises(PrepareError, match=r"has shape \(6, 8, 10, 2\), but must have three axes"):
        place(tasks)


def test_a_copy_that_differs_is_refused(tasks: list[VolumeTask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_files, "hash_file", lambda path: "0" * 64)
    with pytest.raises(PrepareError, match=r"has SHA-256 0000.*Check the disk"):
        place(tasks)


def test_strangers_are_removed(tasks: list[VolumeTask]) -> None:
    place(tasks)
    root, kept = tasks[0].root, tasks[0].path
    remove_strangers(root, {kept})
    assert [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()] == [kept]
    remove_strangers(root, set())
    assert not any(root.iterdir())
