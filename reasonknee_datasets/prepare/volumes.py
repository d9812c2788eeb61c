"""The volumes of a prepared repository: copied, linked or left, and each one decoded once to prove that it is whole.

An hour of copying must not be lost to a reboot: every volume that is done is written to a journal, and a later run uses
it again after comparing the copy with its hash.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from reasonknee_datasets.errors import PrepareError, ReasonKneeError, explain
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.prepare.pool import each_done
from reasonknee_datasets.prepare.staging import hash_file
from reasonknee_datasets.volumes.fingerprint import fingerprint

VolumesMode = Literal["copy", "link", "none"]
_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class VolumeTask:
    """One volume to place: from where, to where (relative to the repository), and what an earlier run knew of it."""

    root: Path
    path: str
    source: Path
    mode: VolumesMode
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
    """Place all volumes and take their fingerprints, in parallel.

    Parameters
    ----------
    tasks : sequence of VolumeTask
        The volumes.
    journal : Path
        One line of JSON for every volume that is done; what an earlier run wrote there is used again.

    Raises
    ------
    PrepareError
        If volumes cannot be read; all of them are named together.
    """
    done: dict[str, VolumeRecord] = {}
    broken: list[str] = []
    stamps = {task.path: task.stamp() for task in tasks}
    tasks = _remember(tasks, stamps, journal)
    with journal.open("a", encoding="utf-8") as lines:
        for task, result in each_done(place_volume, tasks, workers=workers, label="volumes", progress=progress):
            if isinstance(result, str):
                broken.append(result)
                continue
            done[task.path] = result
            entry = {"path": task.path, "mode": task.mode, "stamp": stamps[task.path], "record": asdict(result)}
            lines.write(json.dumps(entry) + "\n")
            lines.flush()
    if broken:
        found = f"{len(broken)} that are not:\n  " + "\n  ".join(sorted(broken)[:_EXAMPLES])
        remedy = "Convert these again from DICOM, or remove them and pass --allow missing-image"
        raise PrepareError(explain("images", "be whole NIfTI files", found + "\n", remedy))
    return done


def place_volume(task: VolumeTask) -> VolumeRecord | str:
    """Place one volume and give its record, or say in words why it cannot be read."""
    if task.known is not None and _is_placed(task, task.known):
        return task.known
    try:
        found = fingerprint(task.source)
    except ReasonKneeError as error:
        return str(error)
    if len(found.shape) != 3:
        remedy = "Convert the series again"
        return explain("image", "have three axes", f"shape {found.shape}", remedy, where=f"at {task.source}")
    if task.mode == "copy":
        _copy(task.source, task.target, found.sha256)
    elif task.mode == "link":
        _link(task.source, task.target)
    a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in found.affine)
    i, j, k = found.shape
    return VolumeRecord((i, j, k), (a, b, c, d), found.dtype, found.bytes, found.sha256, found.voxels_sha256)


def _is_placed(task: VolumeTask, known: VolumeRecord) -> bool:
    """Check what an interrupted run left: a copy by its hash, a link by where it leads."""
    if task.mode == "none":
        return True
    if not task.target.exists():
        return False
    if task.mode == "link":
        return task.target.samefile(task.source)
    return task.target.stat().st_size == known.bytes and hash_file(task.target) == known.sha256


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file under another name until it is proven whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.copyfile(source, partial)
    copied = hash_file(partial)
    if copied != sha256:
        remedy = "Check the disk, and that nothing writes to the images meanwhile"
        raise PrepareError(explain("copy", f"have SHA-256 {sha256}", copied, remedy, where=f"at {source}"))
    partial.replace(target)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or where that cannot be (another disk, a file system without), link it symbolically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        target.symlink_to(source.resolve())


def _remember(tasks: Sequence[VolumeTask], stamps: Mapping[str, list[int]], journal: Path) -> list[VolumeTask]:
    """Give each task what the journal knows of it, if its source has not changed since."""
    known: dict[str, tuple[str, list[int], VolumeRecord]] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                known[entry["path"]] = entry["mode"], entry["stamp"], VolumeRecord.from_json(entry["record"])
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written at the kill
    remembered = []
    for task in tasks:
        mode, stamp, record = known.get(task.path, ("", [], None))
        same = mode == task.mode and stamp == stamps[task.path]
        remembered.append(VolumeTask(task.root, task.path, task.source, task.mode, record if same else None))
    return remembered


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
