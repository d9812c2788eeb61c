"""Packing by name: what becomes of which file, and what is refused before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.atomic_files import part_path
from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import open_volume, pack_files
from tests.helpers.prepared_repository import write_repository
from tests.helpers.volumes_files import knee, save
from tests.helpers.volumes_server import serve


def test_pack_files_and_urls(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.nii", knee(seed=1))
    with serve(tmp_path) as server:
        save(tmp_path / "far.nii.gz", knee(seed=2))
        reports = pack_files([plain, f"{server.url}/far.nii.gz"], tmp_path / "out", level=1)
        assert next(reports).bytes_before == plain.stat().st_size
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["plain.nii.gz"]
        assert [report.path for report in reports] == [str(tmp_path / "out" / "far.nii.gz")]
    for name, seed in (("plain", 1), ("far", 2)):
        np.testing.assert_array_equal(open_volume(tmp_path / "out" / f"{name}.nii.gz").dataobj, knee(seed=seed))


@pytest.mark.parametrize("name", ["knee.gz", "knee.nii.bz2", "knee.mgz", "knee", "."])
def test_pack_files_refuses_other_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(VolumeError, match=r"does not end in \.nii or \.nii\.gz"):
        next(pack_files([save(tmp_path / "knee.nii", knee()), tmp_path / name], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_stops_there(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.nii.gz", knee()) for name in "abc"]
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    with pytest.raises(VolumeError, match=r"b\.nii\.gz"):
        list(pack_files(paths, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]
    with pytest.raises(VolumeError, match=r"b\.nii\.gz"):
        list(pack_files(paths[1:], tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_pack_in_place_refuses_prepared_repository(tmp_path: Path, linked: bool) -> None:
    root = write_repository(tmp_path / "knees")
    if linked:
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    path = sorted((root / "volumes").rglob("*.nii.gz"))[0]
    apart = save(tmp_path / "apart.nii.gz", knee())
    before = path.read_bytes(), apart.read_bytes()
    with pytest.raises(VolumeError, match=r"is a volume of the prepared repository .* Nothing was changed.*prepare"):
        list(pack_files([apart, path], None))
    assert (path.read_bytes(), apart.read_bytes()) == before
    list(pack_files([path], tmp_path / "copies"))
    assert (tmp_path / "copies" / path.name).is_file()
    (root / "masks").mkdir()
    other = save(root / "masks" / "other.nii.gz", knee())  # nothing that the manifest lists
    assert [report.path for report in pack_files([other], None)] == [str(other)]


@pytest.mark.parametrize("in_place", [False, True])
def test_packing_removes_what_killed_processes_left(tmp_path: Path, in_place: bool) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    folder = tmp_path if in_place else tmp_path / "out"
    folder.mkdir(exist_ok=True)
    left = part_path(folder / "other.nii.gz")
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    list(pack_files([path], None if in_place else folder))
    assert [each.name for each in folder.iterdir() if each.is_file()] == ["knee.nii.gz"]
