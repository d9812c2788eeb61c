"""The masks of a prepared repository: label maps on the grids of their images, as seekable ``.nii.gz``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from reasonknee_datasets.errors import PrepareError, ReasonKneeError
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.parallel import each_done
from reasonknee_datasets.prepare.staging import WORK
from reasonknee_datasets.prepare.volume_files import record_of
from reasonknee_datasets.volumes import Geometry, open_volume, pack
from reasonknee_datasets.volumes.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class MaskTask:
    """One mask to write: from where, to where (relative to the repository), and on which grid.

    Attributes
    ----------
    root, path, source
        The repository, the mask's place in it, and the official mask.
    geometry : Geometry or None
        Grid of the image; None without an image: the mask keeps its own.
    """

    root: Path
    path: str
    source: Path
    geometry: Geometry | None


def write_masks(tasks: Sequence[MaskTask], *, workers: int, progress: bool) -> dict[str, VolumeRecord]:
    """Write all masks, in parallel, and return their records by path.

    Raises
    ------
    PrepareError, VolumeError
        If a mask cannot be read, or is not on the grid of its image.
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
