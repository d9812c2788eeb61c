"""DICOM series that tests make, small and of known geometry."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.phantom.dicom_series import SeriesFacts, make_slices, write_bytes

FACTS = SeriesFacts("0000001", "00M", "20050926", "90000016", "right")
SHAPE = (9, 12, 10)


def oblique_affine() -> np.ndarray:
    """Return the affine of a slightly oblique sagittal series, with slices 0.7 mm apart, on axes close to RAS+."""
    angle = np.deg2rad(7.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.4, 0.5])
    affine[:3, 3] = (60.0, -30.0, -25.0)
    return affine


def voxels(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return voxels of which no two are the same."""
    return np.arange(int(np.prod(shape)), dtype=np.int16).reshape(shape)


def slices(facts: SeriesFacts = FACTS, shape: Sequence[int] = SHAPE) -> list:
    """Make one data set a slice, in order of position."""
    return make_slices(voxels(shape), oblique_affine(), facts)


def save(datasets: Sequence, folder: Path) -> Path:
    """Write data sets as files 001, 002 ... without an extension."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets, start=1):
        (folder / f"{number:03d}").write_bytes(write_bytes(dataset))
    return folder


COLUMNS = "patient_id,time,study_folder,series_folder,knee_side,path,image_filepath,label_filepath"


def facts_of(number: int, *, side: str = "right", visit: str = "00M") -> SeriesFacts:
    """Return the identity of the series that belongs to a row of `write_release`."""
    return SeriesFacts(f"900000{number}", visit, "20050926", f"1059381{number}", side)


def write_release(root: Path, rows: Sequence[SeriesFacts], grids: Mapping[int, Reorientation] | None = None) -> Path:
    """Write the split files and masks of a small release; masks lie on `oblique_affine`, turned where asked."""
    lines = []
    (root / "data/split_files").mkdir(parents=True)
    (root / "data/masks").mkdir()
    for number, facts in enumerate(rows):
        code = 1 if facts.side == "right" else 2
        key = f"{facts.patient}/{facts.date}/{facts.series}"
        image = f"../data/images/{facts.patient}/{facts.visit}/{facts.date}_{facts.series}_{code}.nii.gz"
        mask = f"../data/masks/knee_{number:03d}.nii.gz"
        lines.append(
            f"{facts.patient},{facts.visit},{facts.date},{facts.series},{code},"
            f"../data/OAI/00mDESS/0.C.2/{key},{image},{mask}"
        )
        turn = (grids or {}).get(number, Reorientation())
        labels = np.ascontiguousarray(turn.apply_array((voxels() % 5 == 0).astype(np.uint8)))
        saved = nib.Nifti1Image(labels, turn.apply_affine(oblique_affine(), SHAPE))
        nib.save(saved, root / "data" / mask.removeprefix("../data/"))
    for split in ("train", "val", "test"):
        content = [COLUMNS, *(lines if split == "train" else [])]
        (root / f"data/split_files/{split}_split.csv").write_text("\n".join(content) + "\n")
    return root


def tar(folder: Path, path: Path, *, prefix: str = "./", mode: str = "w:gz") -> Path:
    """Pack a folder as NDA packs a series."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"{prefix}{file.name}")
    return path
