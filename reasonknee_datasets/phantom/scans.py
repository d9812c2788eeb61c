"""Draw all planned scans, over several processes, and write each with its mask."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.phantom.grade_sampling import as_mapping
from reasonknee_datasets.phantom.knee import draw_knee
from reasonknee_datasets.phantom.record_writer import RECORD_QUESTIONS
from reasonknee_datasets.phantom.spec import KneeSpec
from reasonknee_datasets.phantom.typical_boxes import EFFUSION, usual_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.planned_scan import PlannedVolume
    from reasonknee_datasets.phantom.study_plan import StudyPlan

_DESCRIPTION = b"SYNTHETIC: reasonknee phantom"
_LEVEL = 6  # of zlib's scale, what nibabel and most converters of OAI images use


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """One scan to draw; all that a worker needs."""

    seed: int
    volume: PlannedVolume
    truth: NDArray[np.int8]
    effusion: int
    data: Path


def draw_scans(plan: StudyPlan, data: Path, workers: int | None, tick: Callable[[], object]) -> NDArray[np.int16]:
    """Draw every volume into ``data/images`` and ``data/masks``.

    Parameters
    ----------
    plan : StudyPlan
        Knee to draw.
    data : Path
        The release's ``data`` folder.
    workers : int or None
        Processes; see `count_workers`. The files are the same for any number.
    tick : callable
        Called once a volume.

    Returns
    -------
    (volumes, 62, 6) int16 array
        The boxes, half-open.
    """
    (data / "masks").mkdir()
    for folder in {data / "images" / Path(volume.image_key).parent for volume in plan.volumes}:
        folder.mkdir(parents=True)
    tasks = [
        _Task(plan.seed, volume, row, int(row[EFFUSION]), data)
        for volume, row in zip(plan.volumes, plan.true_grades, strict=True)
    ]
    boxes = np.zeros((len(tasks), len(RECORD_QUESTIONS), 6), np.int16)
    processes = count_workers(workers, len(tasks))
    for task, drawn in each_done(_draw, tasks, workers=processes, label="scans", progress=False):
        boxes[task.volume.number] = drawn
        tick()
    return boxes


def predict_boxes(plan: StudyPlan, tick: Callable[[], object]) -> NDArray[np.int16]:
    """Place every volume's boxes without drawing it; as `draw_scans`, but for the files."""
    boxes = np.zeros((len(plan.volumes), len(RECORD_QUESTIONS), 6), np.int16)
    for volume in plan.volumes:
        boxes[volume.number] = usual_boxes(plan.seed, volume, int(plan.true_grades[volume.number, EFFUSION]))
        tick()
    return boxes


def count_workers(asked: int | None, tasks: int) -> int:
    """Choose how many processes draw: as many as requested, else one a core, and one where more cannot be started.

    Workers are spawned, since forking a process with threads can hang; a spawned worker imports the caller's script
    again, which must therefore not start again by itself. Without the guard ``if __name__ == "__main__":`` in the
    script, only an explicit ``workers`` brings more than one.
    """
    if asked is not None:
        return min(asked, tasks)
    return min(cores(), tasks) if _can_spawn() else 1


def _can_spawn() -> bool:
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:  # a notebook or an interactive session: there is nothing to import again
        return True
    try:
        return "__main__" in Path(script).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _draw(task: _Task) -> NDArray[np.int16]:
    volume = task.volume
    knee = draw_knee(
        KneeSpec(
            patient_seed=volume.patient_seed,
            knee_seed=volume.knee_seed,
            visit_seed=volume.scan_seed,
            side=volume.side,
            grades=as_mapping(task.truth),
            geometry=volume.geometry,
            empty_label=volume.empty_label,
            split_meniscus=volume.split_meniscus,
        )
    )
    write_nifti(task.data / "images" / volume.image_key, knee.voxels, knee.affine)
    write_nifti(task.data / "masks" / volume.mask_name, knee.mask, knee.affine)
    if len(knee.boxes) == len(RECORD_QUESTIONS):
        return np.array([knee.boxes[question].to_row() for question in RECORD_QUESTIONS], np.int16)
    # A grid of few slices can miss a small region altogether; its record then tells where the region would be.
    boxes = usual_boxes(task.seed, volume, task.effusion)
    for place, question in enumerate(RECORD_QUESTIONS):
        if question in knee.boxes:
            boxes[place] = knee.boxes[question].to_row()
    return boxes


def write_nifti(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Write a ``.nii.gz`` that depends only on voxels and affine: no time, no name.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    voxels : (I, J, K) array
        Kept in their type.
    affine : (4, 4) float array
        Goes into sform and qform alike.
    """
    import deflate
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]  # nibabel types only some of itself
    image.header.set_xyzt_units("mm", "sec")  # type: ignore[no-untyped-call]
    image.header["descrip"] = _DESCRIPTION
    image.set_sform(affine, code="scanner")  # type: ignore[no-untyped-call]
    image.set_qform(affine, code="scanner")  # type: ignore[no-untyped-call]
    path.write_bytes(deflate.gzip_compress(image.to_bytes(), _LEVEL))
