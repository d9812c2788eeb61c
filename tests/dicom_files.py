"""DICOM series that tests make, small and of known geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
