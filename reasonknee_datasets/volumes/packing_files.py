"""Packing of many files by name; existing files are replaced only on request."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from reasonknee_datasets.errors import VolumeError, explain, os_remedy
from reasonknee_datasets.volumes.packing import LEVEL, PackReport, pack


def pack_files(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None, *, level: int = LEVEL
) -> Iterator[PackReport]:
    """Write files as seekable ``.nii.gz``, into a folder or in their own place, and report each one when it is done.

    Each result appears whole, after it has been read back. All names are checked before the first file is written; an
    error in a file stops there, and leaves that file alone and those before it packed.

    Parameters
    ----------
    paths : sequence of str or path
        Files that end in ``.nii`` or ``.nii.gz``.
    out : str or path, or None
        A folder, made where it is missing: ``knee.nii`` and ``knee.nii.gz`` become ``knee.nii.gz`` in it, and nothing
        that stands there is replaced. None replaces each file, which must be a ``.nii.gz``, by its seekable form.
    level : int
        Of zlib, 0 to 9.

    Yields
    ------
    PackReport

    Raises
    ------
    VolumeError
        If a name does not fit, would be written twice or stands there already; if a file is damaged or cannot be
        written.
    """
    targets = [_target(os.fspath(path), None if out is None else Path(out)) for path in paths]
    twice = [str(target) for target, count in Counter(targets).items() if count > 1]
    if twice:
        remedy = "Pack them into different folders"
        raise VolumeError(explain("packed files", "have names of their own", f"{twice[0]} twice", remedy))
    made = None
    if out is not None:
        _refuse_replacing(targets)
        made = None if Path(out).exists() else Path(out)
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            got = f"{type(error).__name__}: {error}"
            raise VolumeError(
                explain("folder of packed files", "be there to write into", got, os_remedy(error, "Choose another"))
            ) from error
    try:
        for path, target in zip(paths, targets, strict=True):
            yield pack(path, target, level=level)
    finally:
        if made is not None:
            with suppress(OSError):  # not empty, as it should be
                made.rmdir()


def _target(path: str, out: Path | None) -> Path:
    name = Path(path).name
    if not name.endswith((".nii", ".nii.gz") if out is not None else ".nii.gz"):
        rule, remedy = "end in .nii or .nii.gz", "Name the volume files themselves, as in FOLDER/*.nii.gz"
        if out is None:
            rule = "be a .nii.gz to be replaced by its seekable form"
            remedy = "Name a folder for the packed files with --out"
        raise VolumeError(explain("file to pack", rule, path, remedy))
    return Path(path) if out is None else out / f"{name.removesuffix('.gz').removesuffix('.nii')}.nii.gz"


def _refuse_replacing(targets: Sequence[Path]) -> None:
    there = [str(target) for target in targets if target.exists()]
    if there:
        got = f"{len(there)} that are, such as {there[0]}"
        remedy = "Choose another folder, remove them, or replace the files themselves with --in-place"
        raise VolumeError(explain("packed files", "not be there yet", got, remedy))
