"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reasonknee_datasets.atomic_files import check_writable, part_path, write_files


def test_write_files_replaces_earlier_files(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write_files(folder, {"x.txt": b"old"})
    write_files(folder, {"x.txt": b"new", "y.txt": b""})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"x.txt": b"new", "y.txt": b""}


@pytest.mark.parametrize("name", ["z.txt", "a.txt"])
def test_write_files_writes_all_or_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_bytes(b"old")
    with pytest.raises(OSError, match="File name too long"):
        write_files(tmp_path, dict.fromkeys(sorted(["m.txt", name + "x" * 300]), b"new"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"m.txt": b"old"}


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "made")
    assert not list((tmp_path / "made").iterdir())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        check_writable(tmp_path / "file")


def test_write_files_removes_what_killed_processes_left(tmp_path: Path) -> None:
    """Only temporary files of this package that are old: a younger one may be written by a process at this moment."""
    old, young, other = part_path(tmp_path / "x.txt"), part_path(tmp_path / "x.txt"), tmp_path / ".mine.part"
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    write_files(tmp_path, {"x.txt": b"whole"})
    assert {path.name for path in tmp_path.iterdir()} == {"x.txt", young.name, other.name}
