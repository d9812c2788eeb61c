"""Draw all planned scans, over several processes, and write each with its mask; or only predict their boxes.

To predict boxes, one knee is drawn, at size tiny and square to its grid, for each grade of effusion; its boxes, as
lengths around the knee's middle, are scaled to a patient and placed on a scan's grid. Nothing but the effusion's own
box depends on a grade.
"""

from __future__ import annotations

import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from reasonknee_datasets.boxes import world_bounds
from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.phantom.grade_sampling import RECORD_SLOTS, as_mapping, slot_column
from reasonknee_datasets.phantom.knee import KneeSpec, draw_knee
from reasonknee_datasets.phantom.record_writer import RECORD_QUESTIONS
from reasonknee_datasets.phantom.scan_grids import SIZES
from reasonknee_datasets.phantom.study_plan import PlannedVolume, Stream, StudyPlan, stream
from reasonknee_datasets.volumes.reference import Geometry

_BUILD = 0.05  # standard deviation of a patient's size
_SHIFT_MM = 2.0  # of a knee's position in its scan
EFFUSION = slot_column(43, "grade")  # place, in a row of grades, of the one grade that a box depends on


@cache
def _regions(effusion: int) -> NDArray[np.float64]:
    """Bounds of all regions of a right knee in mm around the grid's middle, (62, 2, 3)."""
    grid = SIZES["tiny"]
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = -np.array(grid.spacing) * (np.array(grid.counts) - 1) / 2
    row = np.zeros(len(RECORD_SLOTS), np.int8)
    row[EFFUSION] = effusion
    spec = KneeSpec(0, 0, 0, "right", as_mapping(row), Geometry(grid.counts, affine), noise=False)
    boxes = draw_knee(spec).boxes
    return np.stack([world_bounds(boxes[question], affine) for question in RECORD_QUESTIONS])


def usual_boxes(seed: int, volume: PlannedVolume, effusion: int) -> NDArray[np.int16]:
    """Place the usual regions on a scan's grid.

    `seed`: the plan's. `effusion`: its true grade of effusion-synovitis, 0 to 3. Returns (62, 6) int16 array: i0 j0 k0
    i1 j1 k1, half-open, inside the grid, none empty.
    """
    bounds = _regions(effusion).copy()
    patient, visit, side = volume.key
    bounds *= 1 + _BUILD * stream(seed, Stream.BUILD, patient).standard_normal(3)
    bounds += _SHIFT_MM * stream(seed, Stream.BUILD, patient, 1 + side, 1 + visit).standard_normal(3)
    if volume.side == "left":
        bounds[..., 0] *= -1
        bounds[..., 0].sort(axis=1)
    return _to_grid(bounds, volume.geometry)


def _to_grid(bounds: NDArray[np.float64], geometry: Geometry) -> NDArray[np.int16]:
    """Find the voxel boxes that contain the eight corners of bounds around the grid's middle."""
    choice = np.indices((2, 2, 2)).reshape(3, 8)
    corners = bounds[:, choice.T, np.arange(3)]  # (62, 8, 3)
    shape = np.array(geometry.shape)
    voxels = corners @ np.linalg.inv(geometry.matrix[:3, :3]).T + shape / 2  # edges count from the first voxel's face
    start = np.clip(np.floor(voxels.min(axis=1)), 0, shape - 1)
    stop = np.clip(np.ceil(voxels.max(axis=1)), start + 1, shape)
    return np.concatenate([start, stop], axis=1).astype(np.int16)


_DESCRIPTION = b"SYNTHETIC: reasonknee phantom"
_LEVEL = 6  # of zlib's scale, what nibabel and most converters of OAI images use


def draw_scans(plan: StudyPlan, data: Path, workers: int | None) -> NDArray[np.int16]:
    """Draw every volume into ``images`` and ``masks`` of the release's ``data`` folder.

    `workers`: processes (see `count_workers`); the files are the same for any number. Returns (volumes, 62, 6) int16
    array: the boxes, half-open.
    """
    (data / "masks").mkdir()
    for folder in {data / "images" / Path(volume.image_key).parent for volume in plan.volumes}:
        folder.mkdir(parents=True)
    tasks = list(zip(plan.volumes, plan.true_grades, strict=True))
    boxes = np.zeros((len(tasks), len(RECORD_QUESTIONS), 6), np.int16)
    processes = count_workers(workers, len(tasks))
    draw = partial(_draw, plan.seed, data)
    for (volume, _), drawn in each_done(draw, tasks, workers=processes, label="phantom: drawing knees", progress=True):
        boxes[volume.number] = drawn
    return boxes


def predict_boxes(plan: StudyPlan) -> NDArray[np.int16]:
    """Place every volume's boxes without drawing it; returns what `draw_scans` returns."""
    effusions = plan.true_grades[:, EFFUSION].tolist()
    pairs = tqdm(list(zip(plan.volumes, effusions, strict=True)), "phantom: placing boxes", unit="volume", disable=None)
    return np.stack([usual_boxes(plan.seed, volume, effusion) for volume, effusion in pairs])


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


def _draw(seed: int, data: Path, task: tuple[PlannedVolume, NDArray[np.int8]]) -> NDArray[np.int16]:
    """Write one volume with its mask and return its boxes."""
    volume, truth = task
    knee = draw_knee(
        KneeSpec(
            patient_seed=volume.patient_seed,
            knee_seed=volume.knee_seed,
            visit_seed=volume.scan_seed,
            side=volume.side,
            grades=as_mapping(truth),
            geometry=volume.geometry,
            empty_label=volume.empty_label,
            split_meniscus=volume.split_meniscus,
        )
    )
    write_nifti(data / "images" / volume.image_key, knee.voxels, knee.affine)
    write_nifti(data / "masks" / volume.mask_name, knee.mask, knee.affine)
    # A grid of few slices can miss a small region altogether; its record then has the region's usual box.
    if len(knee.boxes) == len(RECORD_QUESTIONS):
        return np.array([knee.boxes[question].to_row() for question in RECORD_QUESTIONS], np.int16)
    boxes = usual_boxes(seed, volume, int(truth[EFFUSION]))
    for place, question in enumerate(RECORD_QUESTIONS):
        if question in knee.boxes:
            boxes[place] = knee.boxes[question].to_row()
    return boxes


def write_nifti(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Write a ``.nii.gz`` that depends only on voxels and affine: no time, no name.

    `path`: in a folder that exists. `voxels` (I, J, K) array: kept in their type. `affine` (4, 4) float array: goes
    into sform and qform alike.
    """
    import deflate
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]  # nibabel types only some of itself
    image.header.set_xyzt_units("mm", "sec")  # type: ignore[no-untyped-call]
    image.header["descrip"] = _DESCRIPTION
    image.set_sform(affine, code="scanner")  # type: ignore[no-untyped-call]
    image.set_qform(affine, code="scanner")  # type: ignore[no-untyped-call]
    path.write_bytes(deflate.gzip_compress(image.to_bytes(), _LEVEL))
