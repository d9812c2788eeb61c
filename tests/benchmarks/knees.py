"""Knees of the phantom as files for the benchmarks: drawn once a run, and varied by flips where many are needed."""

from __future__ import annotations

import gzip
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.phantom import KneeSpec
from reasonknee_datasets.phantom.knee import draw_knee
from reasonknee_datasets.phantom.scan_grids import SIZES, Size, sample_geometry
from reasonknee_datasets.volumes import Geometry, pack

Slices = tuple[slice, slice, slice]

_LEVEL = 6  # what the converters of OAI's DICOM use, and the phantom itself


@dataclass(frozen=True, slots=True)
class Knee:
    """One volume as three files with the same voxels, and the boxes that are read out of it.

    ``plain`` (.nii) is the truth that every reader is held to, ``ordinary`` an ordinary .nii.gz, ``seekable`` a packed
    one.
    """

    plain: Path
    ordinary: Path
    seekable: Path
    boxes: tuple[Slices, ...]

    def truth(self) -> NDArray[Any]:
        """Map the voxels as they were drawn."""
        return np.asarray(nib.load(self.plain, mmap="r").dataobj)


def make_knees(folder: Path, *, size: Size, box: tuple[int, int, int], count: int, drawn: int) -> list[Knee]:
    """Write `count` knees: `drawn` of them are drawn, the others are these with some of their axes flipped.

    Flipped voxels compress and read as the others do, and no two files have the same ones, so that a reader which
    gave one for another would be found out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    knees: list[Knee] = []
    flips = list(itertools.product((False, True), repeat=3))
    if count > drawn * len(flips):
        raise ValueError(f"{drawn} drawn knees make at most {drawn * len(flips)}, not {count}")
    originals = [_draw(seed, size, SIZES[size].counts) for seed in range(drawn)]
    for flip, (voxels, geometry, boxes) in itertools.islice(itertools.product(flips, originals), count):
        axes = tuple(axis for axis, flipped in enumerate(flip) if flipped)
        crops = tuple(_crop(_flip(found, flip, voxels.shape), voxels.shape, box) for found in boxes)
        knees.append(_write(folder, f"knee{len(knees):02d}", np.flip(voxels, axes), geometry, crops))
    return knees


def make_sagittal(folder: Path, *, size: Size, box: tuple[int, int, int]) -> Knee:
    """Write one knee in the other layout of the OAI's conversions, whose slowest axis runs across the slices."""
    slices, columns, rows = SIZES[size].counts
    across, along, up = box
    voxels, geometry, boxes = _draw(0, size, (columns, rows, slices))
    crops = tuple(_crop(found, voxels.shape, (along, up, across)) for found in boxes)
    return _write(folder, "sagittal", voxels, geometry, crops)


def _draw(seed: int, size: Size, shape: tuple[int, ...]) -> tuple[NDArray[np.int16], Geometry, list[Box]]:
    rng = np.random.default_rng(seed)
    geometry = next(grid for grid in _geometries(rng, size) if grid.shape == shape)
    knee = draw_knee(KneeSpec(seed, seed, seed, "right", {}, geometry))
    return knee.voxels, geometry, list(knee.boxes.values())


def _geometries(rng: np.random.Generator, size: Size) -> Iterator[Geometry]:
    while True:
        yield sample_geometry(rng, SIZES[size], "right")


def _flip(box: Box, flip: tuple[bool, ...], shape: tuple[int, ...]) -> Box:
    spans = zip(box.start, box.stop, shape, flip, strict=True)
    turned = [(size - stop, size - start) if flipped else (start, stop) for start, stop, size, flipped in spans]
    return Box.from_row([start for start, _ in turned] + [stop for _, stop in turned])


def _crop(box: Box, shape: tuple[int, ...], size: tuple[int, int, int]) -> Slices:
    """Centre a crop of a fixed size on a box, inside the volume."""
    starts = [
        min(max(0, round(middle - edge / 2)), extent - edge)
        for middle, edge, extent in zip(box.center, size, shape, strict=True)
    ]
    i, j, k = (slice(start, start + edge) for start, edge in zip(starts, size, strict=True))
    return i, j, k


def _write(folder: Path, name: str, voxels: NDArray[np.int16], geometry: Geometry, boxes: tuple[Slices, ...]) -> Knee:
    # Apart, because ITK reads x.nii where it is asked for x.nii.gz and finds both.
    plain = folder / "plain" / f"{name}.nii"
    plain.parent.mkdir(exist_ok=True)
    knee = Knee(plain, folder / f"{name}.nii.gz", folder / f"{name}_seekable.nii.gz", boxes)
    nib.Nifti1Image(np.asfortranarray(voxels), np.array(geometry.affine)).to_filename(knee.plain)
    with knee.plain.open("rb") as source, gzip.open(knee.ordinary, "wb", _LEVEL) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    pack(knee.plain, knee.seekable)
    return knee
