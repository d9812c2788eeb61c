"""Files that appear whole or not at all: they are written under another name next to their target, and then renamed."""

from __future__ import annotations

import re
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_PART = re.compile(r"\..*\.[0-9a-f]{12}\.part")


def part_path(path: Path) -> Path:
    """Return a new hidden name in the folder of a file, for writing it until it is complete."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def is_part(path: Path) -> bool:
    """Check whether a file has a name of `part_path`: it was left by a killed process."""
    return _PART.fullmatch(path.name) is not None


def remove_stale_parts(folder: Path, seconds: float = 3600) -> None:
    """Remove the temporary files of `part_path` that killed processes left: none has written to them for some time.

    A younger one may belong to a process that is writing now. With 0, all are removed.
    """
    with suppress(OSError):
        for path in filter(is_part, folder.iterdir()):
            with suppress(OSError):  # another run removed it
                if not seconds or time.time() - path.lstat().st_mtime > seconds:
                    path.unlink()


def check_writable(folder: Path) -> None:
    """Make a folder where it is missing, and check that files can be written in it.

    Raises
    ------
    OSError
        If they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made where it is missing; earlier files of these names are replaced.

    All are complete before the first gets its name, and they get their names in the order of the mapping.

    Parameters
    ----------
    folder : Path
        Where they are written.
    contents : mapping of str to bytes
        Content of each file, by its name.

    Raises
    ------
    OSError
        If one cannot be written. No temporary file is left.
    """
    parts: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(folder)
        for name, content in contents.items():
            path = folder / name
            part = part_path(path)
            parts[part] = path
            part.write_bytes(content)
        for part, path in parts.items():
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
