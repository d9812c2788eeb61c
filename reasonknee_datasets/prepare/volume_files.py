"""Volumes and masks of a prepared repository.

Volumes are packed, copied, linked or left, after all of them have been decoded. All images are decoded and hashed,
which takes a tenth of the time of packing, before the first one is written: one damaged image must not cost hours. A
volume that an interrupted run has written is used again after it has been decoded too and has the voxels of its source;
no record of that run is believed. Masks are label maps on the grids of their images.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from reasonknee_datasets.atomic_files import part_path, remove_stale_parts
from reasonknee_datasets.errors import PrepareError, ReasonKneeError, VolumeError
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.parallel import each_done
from reasonknee_datasets.prepare.staging import DISK_ERRORS, WORK, hash_file
from reasonknee_datasets.quality import ImageStatistics, measure_image
from reasonknee_datasets.safe_paths import open_regular
from reasonknee_datasets.volumes import Geometry, open_volume, pack
from reasonknee_datasets.volumes.fingerprints import VolumeFingerprint, fingerprint, read_with_fingerprint

VolumesMode = Literal["pack", "copy", "link", "none"]
_EXAMPLES = 10
_LABELS = {"pack": "packing volumes (3 s a full one)", "copy": "copying volumes", "link": "linking volumes"}


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that was decoded: its record, and its statistics for the data checks."""

    record: VolumeRecord
    statistics: ImageStatistics


@dataclass(frozen=True, slots=True)
class VolumeTask:
    """One volume to place: from where, to where (relative to the repository), and what is known of it."""

    # The repository, the volume's place in it, the image, and what becomes of it.
    root: Path
    path: str
    source: Path
    mode: VolumesMode
    found: VolumeRecord | None = None  # record of the image

    @property
    def target(self) -> Path:
        """The file in the repository."""
        return self.root / self.path


def place_volumes(
    tasks: Sequence[VolumeTask],
    *,
    workers: int,
    progress: bool,
    executor: Executor | None = None,
    inspect: Callable[[Mapping[str, CheckedImage]], None] | None = None,
) -> dict[str, VolumeRecord]:
    """Decode all volumes, then place them, in parallel.

    Parameters
    ----------
    workers : int
        Processes.
    executor : concurrent.futures.Executor, optional
        Executor that reads and writes volumes, instead of local processes.
    inspect : callable, optional
        Called with what was decoded, by path in the repository, before a volume is written; it may raise.

    Returns
    -------
    dict of str to VolumeRecord
        By path in the repository.

    Raises
    ------
    PrepareError
        If volumes cannot be read; all of them are named together, and none is written.
    """
    checked = _check(tasks, workers=workers, progress=progress, executor=executor)
    if inspect is not None:
        inspect(checked)
    found = {path: each.record for path, each in checked.items()}
    if all(task.mode == "none" for task in tasks):
        return found
    tasks = [replace(task, found=found[task.path]) for task in tasks]
    label = _LABELS[tasks[0].mode]
    placed = each_done(place_volume, tasks, workers=workers, label=label, progress=progress, executor=executor)
    records = {task.path: record for task, record in placed}
    for folder in {task.target.parent for task in tasks}:
        remove_stale_parts(folder, 0)  # the staging folder is this run's alone
    return records


def _check(
    tasks: Sequence[VolumeTask], *, workers: int, progress: bool, executor: Executor | None
) -> dict[str, CheckedImage]:
    """Decode every image; all that are broken are named together."""
    found: dict[str, CheckedImage] = {}
    broken: list[str] = []
    label = "checking volumes"
    checked = each_done(check_volume, tasks, workers=workers, label=label, progress=progress, executor=executor)
    for task, result in checked:
        if isinstance(result, str):
            broken.append(result)
        else:
            found[task.path] = result
    if broken:
        head = (
            f"{len(broken):,} of {len(tasks):,} images cannot be read. Convert them again from DICOM, or remove them "
            "and pass --allow missing-image."
        )
        more = [f"... and {len(broken) - _EXAMPLES:,} more"] if len(broken) > _EXAMPLES else []
        raise PrepareError("\n  ".join([head, *sorted(broken)[:_EXAMPLES], *more]))
    return found


def check_volume(task: VolumeTask) -> CheckedImage | str:
    """Decode and measure one image, or return why it cannot be read."""
    try:
        found, voxels = read_with_fingerprint(task.source)
    except ReasonKneeError as error:
        return str(error)
    if len(found.shape) != 3:
        return f"The image {task.source} has shape {found.shape}, but must have three axes. Convert the series again."
    return CheckedImage(record_of(found), measure_image(voxels, np.array(found.affine)))


def place_volume(task: VolumeTask) -> VolumeRecord:
    """Place one volume that has been checked, and return the record of the file in the repository."""
    assert task.found is not None
    if (placed := _find_placed(task, task.found)) is not None:
        return placed
    task.target.parent.mkdir(parents=True, exist_ok=True)
    if task.mode == "pack":
        return _pack(task.source, task.target, task.found)
    if task.mode == "copy":
        _copy(task.source, task.target, task.found.sha256)
    elif task.mode == "link":
        _link(task.source, task.target)
    return task.found


def record_of(found: VolumeFingerprint) -> VolumeRecord:
    """Return the record of a file for the manifest."""
    a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in found.affine)
    i, j, k = found.shape
    hashes = found.sha256, found.voxels_sha256, found.index_sha256
    return VolumeRecord((i, j, k), (a, b, c, d), found.dtype, found.bytes, *hashes)


def _find_placed(task: VolumeTask, found: VolumeRecord) -> VolumeRecord | None:
    """Return the record of an interrupted run's file, if it is the volume that this run would write."""
    if task.mode not in {"pack", "copy"} or not task.target.is_file():
        return None  # a link costs nothing to make again
    try:
        placed = record_of(fingerprint(task.target))
    except VolumeError:
        return None
    if task.mode == "copy":
        return placed if placed == found else None
    # The same voxels in an ordinary .nii.gz are not packed.
    return placed if placed.index_sha256 is not None and _same_voxels(placed, found) else None


def _same_voxels(packed: VolumeRecord, found: VolumeRecord) -> bool:
    """Compare grid and voxels; the bytes of a packed file differ from those of its source."""
    return replace(packed, bytes=found.bytes, sha256=found.sha256, index_sha256=found.index_sha256) == found


def _pack(source: Path, target: Path, found: VolumeRecord) -> VolumeRecord:
    """Write the seekable form, and read it as every later reader will: it must be the volume that was checked."""
    try:
        pack(source, target)
    except VolumeError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_ERRORS:
            raise error.__cause__ from None  # the repository's disk, for which the caller raises a better error
        raise
    packed = record_of(fingerprint(target))
    if not _same_voxels(packed, found):
        remedy = "Check the disk, and that nothing writes to the images meanwhile"
        raise PrepareError(
            f"The voxels of {source} have SHA-256 {packed.voxels_sha256} after packing, and had {found.voxels_sha256} "
            f"before. {remedy}."
        )
    return packed


def _copy(source: Path, target: Path, sha256: str | None) -> None:
    """Copy a file under another name until it is proven whole."""
    # A unique name, since a cluster may run a task again while a worker that it lost contact with still writes.
    partial = part_path(target)
    try:
        with os.fdopen(open_regular(source), "rb") as file, partial.open("xb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        copied = hash_file(partial)
        if copied != sha256:
            raise PrepareError(
                f"The copy of {source} has SHA-256 {copied}, but the image had {sha256}. Check the disk, and that no "
                "program writes to the images meanwhile."
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or where that cannot be (another disk, a file system without), link it symbolically."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        target.symlink_to(source.resolve())


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


@dataclass(frozen=True, slots=True)
class MaskTask:
    """One mask to write: from where, to where (relative to the repository), and on which grid."""

    # The repository, the mask's place in it, and the official mask.
    root: Path
    path: str
    source: Path
    geometry: Geometry | None  # grid of the image; None without an image: the mask keeps its own


def write_masks(tasks: Sequence[MaskTask], *, workers: int, progress: bool) -> dict[str, VolumeRecord]:
    """Write all masks, in parallel, and return their records by path.

    Raises PrepareError, VolumeError if a mask cannot be read, or is not on the grid of its image.
    """
    done = each_done(write_mask, tasks, workers=workers, label="packing masks", progress=progress)
    return {task.path: record for task, record in done}


def write_mask(task: MaskTask) -> VolumeRecord:
    """Write one mask on the grid of its image, compare its voxels with the official ones, and return its record."""
    mask = open_volume(task.source, cache=None, geometry=task.geometry)
    labels = np.asarray(mask.dataobj)
    labels = labels.reshape(labels.shape[:3])
    if labels.min() < 0 or (labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels))):
        raise PrepareError(f"The mask {task.source} is not a label map: labels are whole numbers from 0.")
    small = labels.astype(np.min_scalar_type(int(labels.max())))
    target = task.root / task.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=task.root / WORK, prefix="mask-") as folder:
        plain = Path(folder) / target.name.removesuffix(".gz")
        matrix = mask.affine if task.geometry is None else task.geometry.matrix
        image: Any = nib.Nifti1Image  # nibabel's constructors are untyped
        nib.save(image(small, matrix), plain)
        pack(plain, target)
    try:
        written = np.asarray(open_volume(target, cache=None, geometry=task.geometry).dataobj)
    except ReasonKneeError as error:
        raise PrepareError(f"The mask {task.path} cannot be read again after it was written: {error}") from error
    if not np.array_equal(written, labels):
        raise PrepareError(f"The mask {task.path} differs from {task.source} after it was written. Check the disk.")
    return record_of(fingerprint(target))
