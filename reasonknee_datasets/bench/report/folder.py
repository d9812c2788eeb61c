"""Writing a report's files: all of them or none, and never over anything that is no report."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from reasonknee_datasets.errors import BenchError, explain


def check_folder(out: Path, marker: str) -> None:
    """Refuse a folder that holds something else than a report, before any work is done.

    Parameters
    ----------
    out : Path
    marker : str
        The file by which a report of this kind is known.

    Raises
    ------
    BenchError
        If ``out`` is a file, or holds files but not the marker.
    """
    if out.exists() and not out.is_dir():
        raise BenchError(explain("out", "be a folder", "a file", "Choose another name", where=f"at {out}"))
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        rule, got = "be new, empty or an earlier report", f"a folder without {marker}"
        raise BenchError(explain("out", rule, got, "Choose another folder", where=f"at {out}"))


def write_folder(out: Path, marker: str, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder; each appears whole, the marker last.

    Raises
    ------
    BenchError
        If the disk refuses; what was written by this call is gone again.
    """
    parts: dict[Path, Path] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(contents, key=lambda name: name == marker):
            part = out / f".{name}.{secrets.token_hex(4)}.part"
            parts[part] = out / name
            part.write_bytes(contents[name])
        for part, path in parts.items():
            part.replace(path)
    except OSError as error:
        for part in parts:
            part.unlink(missing_ok=True)
        remedy = "Choose another folder, or make room there"
        raise BenchError(explain("out", "be writable", str(error), remedy, where=f"at {out}")) from error
