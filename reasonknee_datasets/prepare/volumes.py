"""The volumes of a prepared repository: packed, copied, linked or left, after all of them have proven to be whole.

Hours of packing must not be lost to a reboot: every volume that has been checked or placed is written to a journal, and
a later run uses it again after comparing the file with its hash. Nor must they be lost to one damaged image: all are
checked, which takes a tenth of that time, before the first is written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from reasonknee_datasets.errors import PrepareError, ReasonKneeError, VolumeError, explain
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.pool import each_done
from reasonknee_datasets.prepare.staging import DISK_RULES, hash_file
from reasonknee_datasets.volumes import pack
from reasonknee_datasets.volumes.fingerprint import VolumeFingerprint, fingerprint

VolumesMode = Literal["pack", "copy", "link", "none"]
_CHECKED = "checked"
_EXAMPLES = 10
_LABELS = {"pack": "packing volumes (3 s a full one)", "copy": "copying volumes", "link": "linking volumes"}


@dataclass(frozen=True, slots=True)
class VolumeTask:
    """One volume to place: from where, to where (relative to the repository), and what is known of it.

    Attributes
    ----------
    root, path, source, mode
        The repository, the volume's place in it, the image, and what becomes of it.
    found : VolumeRecord, optional
        What the image proved to be.
    known : VolumeRecord, optional
        What an earlier run placed.
    """

    root: Path
    path: str
    source: Path
    mode: VolumesMode
    found: VolumeRecord | None = None
    known: VolumeRecord | None = None

    @property
    def target(self) -> Path:
        """The file in the repository."""
        return self.root / self.path

    def stamp(self) -> list[int]:
        """Give what changes with the source file: size and time of change."""
        status = self.source.stat()
        return [status.st_size, status.st_mtime_ns]


def place_volumes(
    tasks: Sequence[VolumeTask], journal: Path, *, workers: int, progress: bool
) -> dict[str, VolumeRecord]:
    """Check all volumes, then place them, in parallel.

    Parameters
    ----------
    tasks : sequence of VolumeTask
        The volumes.
    journal : Path
        One line of JSON for every volume that is checked, and one more when it is placed; what an earlier run wrote
        there is used again.

    Raises
    ------
    PrepareError
        If volumes cannot be read; all of them are named together, and none is written.
    """
    stamps = {task.path: task.stamp() for task in tasks}
    tasks = _remember(tasks, stamps, journal)
    with journal.open("a", encoding="utf-8") as lines:

        def note(task: VolumeTask, step: str, record: VolumeRecord) -> None:
            entry = {"path": task.path, "step": step, "stamp": stamps[task.path], "record": asdict(record)}
            lines.write(json.dumps(entry) + "\n")
            lines.flush()

        found = _check(tasks, note, workers=workers, progress=progress)
        if all(task.mode == "none" for task in tasks):
            return found
        tasks, placed = [replace(task, found=found[task.path]) for task in tasks], {}
        label = _LABELS[tasks[0].mode]
        for task, record in each_done(place_volume, tasks, workers=workers, label=label, progress=progress):
            placed[task.path] = record
            if record != task.known:
                note(task, task.mode, record)
    return placed


def _check(
    tasks: Sequence[VolumeTask], note: Callable[[VolumeTask, str, VolumeRecord], None], *, workers: int, progress: bool
) -> dict[str, VolumeRecord]:
    """Decode every volume that no earlier run has decoded; all that are broken are named together."""
    found = {task.path: task.found for task in tasks if task.found is not None}
    unknown = [task for task in tasks if task.found is None]
    broken: list[str] = []
    for task, result in each_done(check_volume, unknown, workers=workers, label="checking volumes", progress=progress):
        if isinstance(result, str):
            broken.append(result)
        else:
            found[task.path] = result
            note(task, _CHECKED, result)
    if broken:
        remedy = "Convert these again from DICOM, or remove them and pass --allow missing-image"
        head = explain(
            "images", "be whole NIfTI files", f"{len(broken):,} of {len(tasks):,} that cannot be read", remedy
        )
        more = [f"... and {len(broken) - _EXAMPLES:,} more"] if len(broken) > _EXAMPLES else []
        raise PrepareError("\n  ".join([head, *sorted(broken)[:_EXAMPLES], *more]))
    return found


def check_volume(task: VolumeTask) -> VolumeRecord | str:
    """Decode one image and give its record, or say in words why it cannot be read."""
    try:
        found = fingerprint(task.source)
    except ReasonKneeError as error:
        return str(error)
    if len(found.shape) != 3:
        remedy = "Convert the series again"
        return explain("image", "have three axes", f"shape {found.shape}", remedy, where=f"at {task.source}")
    return _record(found)


def place_volume(task: VolumeTask) -> VolumeRecord:
    """Place one volume that has been checked, and give the record of the file in the repository."""
    assert task.found is not None
    if task.known is not None and _is_placed(task, task.known):
        return task.known
    task.target.parent.mkdir(parents=True, exist_ok=True)
    if task.mode == "pack":
        return _pack(task.source, task.target, task.found)
    if task.mode == "copy":
        _copy(task.source, task.target, task.found.sha256)
    elif task.mode == "link":
        _link(task.source, task.target)
    return task.found


def _record(found: VolumeFingerprint) -> VolumeRecord:
    a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in found.affine)
    i, j, k = found.shape
    return VolumeRecord((i, j, k), (a, b, c, d), found.dtype, found.bytes, found.sha256, found.voxels_sha256)


def _is_placed(task: VolumeTask, known: VolumeRecord) -> bool:
    """Check what an interrupted run left: a file by its hash, a link by where it leads."""
    if not task.target.exists():
        return False
    if task.mode == "link":
        return task.target.samefile(task.source)
    return task.target.stat().st_size == known.bytes and hash_file(task.target) == known.sha256


def _pack(source: Path, target: Path, found: VolumeRecord) -> VolumeRecord:
    """Write the seekable form, and read it as every later reader will: it must be the volume that was checked."""
    try:
        pack(source, target)
    except VolumeError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_RULES:
            raise error.__cause__ from None  # the repository's disk, of which the caller has more to say
        raise
    packed = _record(fingerprint(target))
    if replace(packed, bytes=found.bytes, sha256=found.sha256) != found:
        remedy = "Check the disk, and that nothing writes to the images meanwhile"
        rule, got = f"hold voxels with SHA-256 {found.voxels_sha256}", packed.voxels_sha256
        raise PrepareError(explain("packed volume", rule, got, remedy, where=f"from {source}"))
    return packed


def _copy(source: Path, target: Path, sha256: str | None) -> None:
    """Copy a file under another name until it is proven whole."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.copyfile(source, partial)
    copied = hash_file(partial)
    if copied != sha256:
        remedy = "Check the disk, and that nothing writes to the images meanwhile"
        raise PrepareError(explain("copy", f"have SHA-256 {sha256}", copied, remedy, where=f"at {source}"))
    partial.replace(target)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or where that cannot be (another disk, a file system without), link it symbolically."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        target.symlink_to(source.resolve())


def _remember(tasks: Sequence[VolumeTask], stamps: Mapping[str, list[int]], journal: Path) -> list[VolumeTask]:
    """Give each task what the journal knows of it, if its source has not changed since."""
    known: dict[tuple[str, str], tuple[list[int], VolumeRecord]] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                known[entry["path"], entry["step"]] = entry["stamp"], VolumeRecord.from_json(entry["record"])
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written at the kill

    def recall(task: VolumeTask, step: str) -> VolumeRecord | None:
        stamp, record = known.get((task.path, step), ([], None))
        return record if stamp == stamps[task.path] else None

    return [replace(task, found=recall(task, _CHECKED), known=recall(task, task.mode)) for task in tasks]


def remove_strangers(root: Path, wanted: set[str]) -> None:
    """Remove volumes that an interrupted run of other input left in the folder."""
    folder = root / "volumes"
    for path in sorted(folder.rglob("*"), reverse=True):  # files before the folders that hold them
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(root).as_posix() not in wanted:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
