"""Files that appear whole or not at all: they are written under another name next to their target, and then renamed."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path


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
        for name, content in contents.items():
            part = folder / f".{name}.{secrets.token_hex(6)}.part"
            parts[part] = folder / name
            part.write_bytes(content)
        for part, path in parts.items():
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
