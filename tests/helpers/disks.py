"""Disks that are full or read-only, and files that are locked: real ones, for root too."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """Return a folder that any user may reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="reasonknee-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Remove the permissions of a file or folder, and run as a user without rights.

    As root, code inside must have imported its modules before: another user may not read them.
    """
    if os.name != "posix":
        pytest.skip("permissions are POSIX's")
    mode = path.stat().st_mode
    path.chmod(0o000)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(_NOBODY)
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(mode)


@contextmanager
def small_disk(folder: Path, size: str, *, read_only: bool = False) -> Iterator[Path]:
    """Mount a disk of so many bytes (as mount takes them, such as 300k)."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("mounting a disk takes root")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}{',ro' if read_only else ''}", "tmpfs", folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this root may not mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Fails if a file is still open there; the second call lets go of it all the same.
        closed = subprocess.run(["umount", folder], check=False).returncode == 0
        if not closed:
            subprocess.run(["umount", "--lazy", folder], check=True)
    assert closed, "a file on the disk was left open"
