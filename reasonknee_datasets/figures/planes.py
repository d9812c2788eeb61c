"""Slices of a volume in radiological display, for any order of the stored array, and the plane of a question.

Superior is up; anterior is at the left of a sagittal slice and at the top of an axial one; the patient's right is at
the viewer's left on coronal and axial slices. Nothing is resampled: axes are permuted and flipped, so an oblique scan
is shown along its own axes, with its tilt in degrees.

The plane in which a question is read is shown large. It comes from the question's own text where it names one (the
official extrusion prompts do: "It is measured in the coronal view"), else from this table, which follows how the
finding is read in the clinic, else it is sagittal, the plane that DESS is acquired in:

==========================================  ========
finding and subregion                       plane
==========================================  ========
anything of the medial or lateral patella   axial
effusion-synovitis                          axial
iliotibial band, pes anserine bursa         coronal
meniscal body: extrusion or morphology      coronal
meniscal root tear                          coronal
osteophyte of the tibia, central femur      coronal
everything else                             sagittal
==========================================  ========
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError
from reasonknee_datasets.orientation import axcodes, to_canonical

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, ...] = get_args(Plane)

_NAMED = re.compile(r"\b(?:mid)?(sagittal|coronal|axial)(?:ly)?\b", re.IGNORECASE)

# The first pattern that matches "finding subregion" names the plane.
_READ_IN: tuple[tuple[re.Pattern[str], Plane], ...] = (
    (re.compile(r"\bpatella_(medial|lateral)"), "axial"),
    (re.compile(r"^effusion"), "axial"),
    (re.compile(r"^(iliotibial|pes_anserine)"), "coronal"),
    (re.compile(r"^meniscal_extrusion .*_(medial|lateral|body)$"), "coronal"),
    (re.compile(r"^meniscal_morphology .*_body$"), "coronal"),
    (re.compile(r"^meniscal_root_tear"), "coronal"),
    (re.compile(r"^osteophyte (tibia_|femur_(medial|lateral)_central)"), "coronal"),
)


def choose_plane(finding: str = "", subregion: str = "", question: str = "") -> Plane:
    """Choose the plane that a question is read in: the first that its text names, else the table above.

    Examples
    --------
    >>> choose_plane("meniscal_extrusion", "medial_meniscus_medial", "It is measured in the coronal view.")
    'coronal'
    >>> choose_plane("cartilage_lesion", "patella_lateral")
    'axial'
    >>> choose_plane()
    'sagittal'
    """
    named = _NAMED.search(question)
    if named:
        word = named.group(1).lower()
        return next(plane for plane in PLANES if plane == word)
    subject = f"{finding} {subregion}"
    return next((plane for pattern, plane in _READ_IN if pattern.search(subject)), "sagittal")


# World axes (RAS+): the one that is cut, the one that runs down the screen, the one that runs across it. Both screen
# axes run against RAS+: from superior or anterior down, from the patient's right or from anterior across.
_SCREEN: dict[Plane, tuple[int, int, int]] = {"sagittal": (0, 2, 1), "coronal": (1, 2, 0), "axial": (2, 1, 0)}
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One slice as it is drawn."""

    plane: Plane  # "sagittal", "coronal" or "axial"
    image: NDArray[Any]  # (rows, columns) array: row 0 is drawn on top, column 0 at the left
    spacing: tuple[float, float]  # millimetres per row and per column
    cut: tuple[int, int, int]  # array axis that is cut, the index of the slice on it, and how many slices there are
    # Array axis that runs down the screen and whether it is flipped; the same for across.
    screen: tuple[tuple[int, bool], tuple[int, bool]]
    edges: tuple[str, str, str, str]  # letters of the left, right, top and bottom edge, read from the affine
    # Where the slice cuts the box: left, top, right, bottom in millimetres from the panel's upper left corner.
    outline: tuple[float, float, float, float] | None
    tilt: float  # degrees between the slice and the anatomical plane

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in millimetres."""
        rows, columns = self.image.shape
        return rows * self.spacing[0], columns * self.spacing[1]

    def pixel(self, voxel: Iterable[int]) -> tuple[int, int]:
        """Find the row and column that a voxel (i, j, k) of the stored array is drawn at."""
        place = tuple(voxel)
        row, column = (
            count - 1 - place[axis] if flipped else place[axis]
            for (axis, flipped), count in zip(self.screen, self.image.shape, strict=True)
        )
        return row, column


def cut_planes(image: Any, box: Box | None = None) -> dict[Plane, Panel]:
    """Read the three slices through a box's centre.

    `image`: only its three slices are read (``dataobj[...]``). `box`: in the array order of `image`; without one the
    slices go through the middle of the volume. Returns dict of str to Panel: keyed "sagittal", "coronal" and "axial".
    """
    shape = _check_grid(image)
    affine = np.asarray(image.affine, dtype=np.float64)
    if box is not None:
        box.check_inside(shape)
    return {plane: _cut(image, shape, affine, box, plane) for plane in PLANES}


def grey_window(panels: Iterable[Panel]) -> tuple[float, float]:
    """Choose the values drawn black and white: 0 (or the lowest, where some are negative) to the 99th percentile."""
    values = np.concatenate([panel.image.ravel() for panel in panels]).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    # The 99th comes out near 400 for DESS, the usual window; at the 99.5th, vessels and fluid darken all the rest.
    low, high = np.percentile(values, (0.5, 99.0))
    low = min(0.0, float(low))
    return low, float(high) if high > low else low + 1.0


def _check_grid(image: Any) -> tuple[int, int, int]:
    shape = tuple(int(count) for count in image.shape)
    if len(shape) < 3 or any(count != 1 for count in shape[3:]) or 0 in shape:
        raise GeometryError(
            f"A volume of shape {shape} cannot be drawn: it needs three axes with voxels on each. Choose one volume of "
            "a series, for example image.slicer[..., 0]."
        )
    return shape[0], shape[1], shape[2]


def _cut(image: Any, shape: tuple[int, int, int], affine: NDArray[np.float64], box: Box | None, plane: Plane) -> Panel:
    canonical, codes = to_canonical(affine), axcodes(affine)
    # The screen runs against RAS+, hence "not": what needs no flip to be RAS+ is flipped for the screen.
    (cut, _), down, across = ((canonical.axes[world], not canonical.flips[world]) for world in _SCREEN[plane])
    start, stop = (box.start, box.stop) if box is not None else ((0, 0, 0), shape)
    index = (start[cut] + stop[cut]) // 2
    spacing = np.linalg.norm(affine[:3, :3], axis=0)

    def extent(axis: int, flipped: bool) -> tuple[float, float]:
        low, high = (shape[axis] - stop[axis], shape[axis] - start[axis]) if flipped else (start[axis], stop[axis])
        return float(low * spacing[axis]), float(high * spacing[axis])

    (top, bottom), (left, right) = extent(*down), extent(*across)
    return Panel(
        plane=plane,
        image=_read_slice(image, cut, index, down, across),
        spacing=(float(spacing[down[0]]), float(spacing[across[0]])),
        cut=(cut, index, shape[cut]),
        screen=(down, across),
        edges=(*_letters(codes, across), *_letters(codes, down)),
        outline=(left, top, right, bottom) if box is not None else None,
        tilt=_tilt(affine, down[0], across[0], _SCREEN[plane][0]),
    )


def _read_slice(image: Any, cut: int, index: int, down: tuple[int, bool], across: tuple[int, bool]) -> NDArray[Any]:
    region: list[Any] = [slice(None)] * 3 + [0] * (len(image.shape) - 3)
    region[cut] = index
    # Only this slice is read: for a lazy volume nothing else is decoded or copied.
    pixels = np.asarray(image.dataobj[tuple(region)])
    if pixels.dtype.kind not in "biuf":
        raise GeometryError(
            f"A volume of type {pixels.dtype} cannot be drawn: each voxel must be one real number. Convert colour or "
            "complex images first."
        )
    pixels = pixels if down[0] < across[0] else pixels.T
    return pixels[:: -1 if down[1] else 1, :: -1 if across[1] else 1]


def _letters(codes: tuple[str, str, str], screen: tuple[int, bool]) -> tuple[str, str]:
    """Name the sides of the patient at the first and last pixel along a screen axis."""
    axis, flipped = screen
    ends = _OPPOSITE[codes[axis]], codes[axis]
    return ends[::-1] if flipped else ends


def _tilt(affine: NDArray[np.float64], down: int, across: int, world: int) -> float:
    normal = np.cross(affine[:3, down], affine[:3, across])
    return math.degrees(math.acos(min(1.0, abs(float(normal[world])) / float(np.linalg.norm(normal)))))
