"""Placing volumes: every copy proven, every damage named, and nothing done twice after a kill."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import PrepareError
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.prepare import volumes
from reasonknee_datasets.prepare.volumes import VolumeTask, place_volumes, remove_strangers
from reasonknee_datasets.volumes import fingerprint
from tests import prepare_content as given


@pytest.fixture
def tasks(tmp_path: Path) -> list[VolumeTask]:
    (tmp_path / "out").mkdir()
    made = given.volumes(tmp_path / "images", {"train": [1, 2]})
    return [VolumeTask(tmp_path / "out", each.path, each.image, "copy") for each in made if each.image]


def place(tasks: list[VolumeTask], workers: int = 1) -> dict[str, VolumeRecord]:
    return place_volumes(tasks, tasks[0].root.parent / "journal.jsonl", workers=workers, progress=False)


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


def test_an_interrupted_run_is_gone_on_from(tasks: list[VolumeTask], monkeypatch: pytest.MonkeyPatch) -> None:
    records = place(tasks)
    journal = tasks[0].root.parent / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])  # the kill came while the third was written
    kept = {json.loads(line)["path"] for line in lines[:2]}
    read: list[Path] = []

    def counting(path: Path) -> object:
        read.append(path)
        return fingerprint(path)

    monkeypatch.setattr(volumes, "fingerprint", counting)
    assert place(tasks) == records
    assert set(read) == {task.source for task in tasks if task.path not in kept}


def test_a_resumed_copy_is_verified(tasks: list[VolumeTask]) -> None:
    records = place(tasks)
    damaged = bytearray(tasks[0].target.read_bytes())
    damaged[-20] ^= 1  # same size, one bit
    tasks[0].target.write_bytes(bytes(damaged))
    tasks[1].target.unlink()
    assert place(tasks) == records
    assert all(task.target.read_bytes() == task.source.read_bytes() for task in tasks)


@pytest.mark.parametrize("mode", ["copy", "link", "none"])
def test_a_source_that_changed_is_read_again(tasks: list[VolumeTask], mode: str) -> None:
    tasks = [replace(task, mode=mode) for task in tasks]  # type: ignore[arg-type]
    before = place(tasks)
    nib.save(nib.Nifti1Image(np.zeros(given.SHAPE, np.int16), given.AFFINE), tasks[0].source)
    after = place(tasks)
    assert before[tasks[0].path] != after[tasks[0].path]
    assert after[tasks[0].path].sha256 == hashlib.sha256(tasks[0].source.read_bytes()).hexdigest()
    assert {key: value for key, value in before.items() if key != tasks[0].path} == {
        key: value for key, value in after.items() if key != tasks[0].path
    }


def test_another_mode_does_not_trust_the_journal(tasks: list[VolumeTask]) -> None:
    place([replace(task, mode="none") for task in tasks])
    place(tasks)
    assert all(task.target.exists() for task in tasks)


def test_all_broken_images_are_named_together(tasks: list[VolumeTask]) -> None:
    whole = tasks[0].source.read_bytes()
    tasks[0].source.write_bytes(whole[: len(whole) // 2])
    tasks[1].source.write_bytes(gzip.compress(gzip.decompress(tasks[1].source.read_bytes())[:500]))
    tasks[2].source.write_bytes(b"not an image")
    with pytest.raises(PrepareError, match=r"images must be whole NIfTI files, got 3 that are not") as caught:
        place(tasks)
    for task in tasks[:3]:
        assert str(task.source) in str(caught.value)
        assert not task.target.exists()


def test_four_axes_are_refused(tasks: list[VolumeTask]) -> None:
    nib.save(nib.Nifti1Image(np.zeros((*given.SHAPE, 2), np.int16), given.AFFINE), tasks[0].source)
    with pytest.raises(PrepareError, match=r"must have three axes, got shape \(6, 8, 10, 2\)"):
        place(tasks)


def test_a_copy_that_differs_is_refused(tasks: list[VolumeTask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "fingerprint", lambda path: replace(fingerprint(path), sha256="0" * 64))
    with pytest.raises(PrepareError, match=r"copy must have SHA-256 0000.*Check the disk"):
        place(tasks)


def test_strangers_are_removed(tasks: list[VolumeTask]) -> None:
    place(tasks)
    root, kept = tasks[0].root, tasks[0].path
    remove_strangers(root, {kept})
    assert [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()] == [kept]
    remove_strangers(root, set())
    assert not any(root.iterdir())
