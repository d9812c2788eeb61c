"""Writing a report's files: all of them or none, and never over anything that is no report."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from reasonknee_datasets.errors import BenchError, explain


def check_folder(out: Path, marker: str, *, overwrite: bool = False) -> None:
    """Check that a report can be written into a folder, before any work is done.

    Parameters
    ----------
    out : Path
    marker : str
        The file by which a report of this kind is known.
    overwrite : bool
        Accept the folder of an earlier report of this kind.

    Raises
    ------
    BenchError
        If ``out`` is a file, holds other files, or holds a report that may not be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise BenchError(f"{out} is a file, not a folder for a report. Choose another name.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / marker).is_file():
        raise BenchError(
            f"{out} holds files, and {marker} is not among them, so it is no report. Choose another folder."
        )
    if not overwrite:
        raise BenchError(
            f"{out} already holds a report ({marker}). Choose another folder, or replace it: overwrite=True "
            "(--overwrite)."
        )


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
