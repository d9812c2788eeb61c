"""Packing of many files by name; existing files are replaced only on request."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from reasonknee_datasets.errors import VolumeError, os_remedy
from reasonknee_datasets.volumes.packing import LEVEL, PackReport, pack


def pack_files(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None, *, level: int = LEVEL
) -> Iterator[PackReport]:
    """Write files as seekable ``.nii.gz``, into a folder or in place, and yield a report of each.

    Each result appears whole, after it has been read back. All names are checked before the first file is written; an
    error in a file stops there, and leaves that file alone and those before it packed.

    Parameters
    ----------
    paths : sequence of str or path
        Files that end in ``.nii`` or ``.nii.gz``.
    out : str or path, or None
        A folder, made where it is missing: ``knee.nii`` and ``knee.nii.gz`` become ``knee.nii.gz`` in it, and nothing
        existing is replaced. None replaces each file, which must be a ``.nii.gz``, by its seekable form.
    level : int
        Level of zlib, 0 to 9.

    Yields
    ------
    PackReport

    Raises
    ------
    VolumeError
        If a name does not fit, would be written twice or exists already; if a file would be replaced in a prepared
        repository; if a file is damaged or cannot be written.
    """
    targets = [_target(os.fspath(path), None if out is None else Path(out)) for path in paths]
    twice = [str(target) for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise VolumeError(
            f"Two of the files would be packed as {twice[0]}. Pack them into different folders, one command for each."
        )
    made = None
    if out is None:
        for target in targets:
            _refuse_in_repository(target)
    else:
        _refuse_replacing(targets)
        made = None if Path(out).exists() else Path(out)
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = os_remedy(error, "Choose another folder")
            raise VolumeError(
                f"Cannot write into the folder {out} ({type(error).__name__}: {error}). {remedy}."
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
    if out is None and not name.endswith(".nii.gz"):
        raise VolumeError(
            f"{path} cannot be packed in place: only a .nii.gz can be replaced by its seekable form. Name a folder for "
            "the packed files with --out."
        )
    if not name.endswith((".nii", ".nii.gz")):
        raise VolumeError(
            f"{path} cannot be packed: its name does not end in .nii or .nii.gz. Name the volume files themselves, as "
            "in FOLDER/*.nii.gz."
        )
    return Path(path) if out is None else out / f"{name.removesuffix('.gz').removesuffix('.nii')}.nii.gz"


def _refuse_in_repository(path: Path) -> None:
    """Raise if a file is a volume of a prepared repository: the manifest states its size and hash."""
    for place in {path.absolute(), path.parent.resolve() / path.name}:
        for root in place.parents:
            if (root / "manifest.json").is_file() and place.relative_to(root).parts[0] == "volumes":
                raise VolumeError(
                    f"{path} is a volume of the prepared repository {root}, whose manifest.json states its size and "
                    "hash: packed in place, it would no longer load. Nothing was changed. Prepare the repository again "
                    "with `reasonknee prepare --volumes pack`, or pack copies with --out DIR."
                )


def _refuse_replacing(targets: Sequence[Path]) -> None:
    there = [str(target) for target in targets if target.exists()]
    if there:
        more = "" if len(there) == 1 else f" (and {len(there) - 1} more)"
        raise VolumeError(
            f"{there[0]} exists already{more}, and packing into a folder replaces nothing. Choose another folder, "
            "remove what is there, or replace the files themselves with --in-place."
        )
