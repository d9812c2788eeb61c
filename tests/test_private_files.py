"""Files and folders are checked before they are trusted."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.private_files import create_private, make_private_folder, open_private, open_regular


def test_open_regular(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"knee")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with os.fdopen(open_regular(tmp_path / name), "rb") as file:
            assert file.read() == b"knee"


def test_open_regular_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match=r"socket"):
            open_regular(tmp_path / "socket")
    with pytest.raises(OSError, match=r"Not a regular file but a named pipe: '.*pipe'"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"Not a regular file but a character device: '/dev/zero'"):
        open_regular("/dev/zero")
    with pytest.raises(IsADirectoryError, match=r"Is a directory"):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


def test_open_regular_closes_what_it_refuses(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(OSError, match="named pipe"):
            open_regular(tmp_path / "pipe")
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_open_private(tmp_path: Path) -> None:
    os.close(create_private(tmp_path / "file"))
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    os.close(open_private(tmp_path / "file"))
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match=r"link"):
        open_private(tmp_path / "link")
    (tmp_path / "file").chmod(0o604)
    with pytest.raises(PermissionError, match=r"Not private: a file of user \d+ with mode 0604"):
        open_private(tmp_path / "file")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "file")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "link")


def test_make_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        make_private_folder(folder, LoaderError, "Remove it.", setting="shared", parents=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o770)
    with pytest.raises(LoaderError, match=r"\(shared\) .* a folder of user \d+ with mode 0770\. Remove it\."):
        make_private_folder(folder, LoaderError, "Remove it.", setting="shared")
