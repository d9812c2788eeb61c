"""A knee as the measurer sees it: clean voxels and labels in one frame for both sides, every layout and obliquity.

The frame's axes are medial, anterior and superior in mm. Arrays are permuted and flipped so that their indices grow the
same way; the obliquity that is left is in `View.to_mm`, and nothing is resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from reasonknee_datasets.phantom.mask_labels import FINDINGS, LABELS

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

COARSE_MM = 1.0


@dataclass(frozen=True, slots=True)
class View:
    """Voxels and labels, indices growing to medial, anterior, superior: `to_mm` @ index + `origin` is a place in mm."""

    clean: NDArray[np.float32]
    mask: NDArray[np.uint8]
    to_mm: Floats
    origin: Floats
    boxes: tuple[tuple[slice, slice, slice] | None, ...]  # of label 1, 2, ...

    @classmethod
    def build(cls, clean: NDArray[np.float32], mask: NDArray[np.uint8], to_mm: Floats, origin: Floats) -> View:
        return cls(clean, mask, to_mm, origin, tuple(ndimage.find_objects(mask, max(LABELS.values()))))

    @classmethod
    def of(cls, clean: NDArray[Any], mask: NDArray[Any], affine: NDArray[Any], side: str) -> View:
        """Turn a drawn knee; world x grows to the patient's right, so a right knee's medial side is -x."""
        # A measurer finds osteophytes, cysts and extrusion by itself: their labels would give them away.
        told = [label for name, label in FINDINGS.items() if name != "joint_effusion"]
        mask = np.where(np.isin(mask, told), np.uint8(0), mask)
        mirror = np.array([-1.0 if side == "right" else 1.0, 1.0, 1.0])
        to_mm = np.asarray(affine, float)[:3, :3] * mirror[:, None]
        origin = np.asarray(affine, float)[:3, 3] * mirror
        order = _best_order(to_mm)
        clean, mask, to_mm = clean.transpose(order), mask.transpose(order), to_mm[:, order]
        for axis in range(3):
            if to_mm[axis, axis] < 0:
                origin = origin + to_mm[:, axis] * (clean.shape[axis] - 1)
                to_mm = to_mm * np.where(np.arange(3) == axis, -1.0, 1.0)
                clean, mask = np.flip(clean, axis), np.flip(mask, axis)
        return cls.build(np.ascontiguousarray(clean), np.ascontiguousarray(mask), to_mm, origin)

    @property
    def spacing(self) -> Floats:
        """Voxel size along each index in mm."""
        return np.asarray(np.linalg.norm(self.to_mm, axis=0), float)

    @property
    def coarse(self) -> bool:
        """Whether voxels are as large as the cartilage is thick, as those of a tiny knee are."""
        return bool(self.spacing.max() > COARSE_MM)

    @property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.to_mm)))

    def label(self, *names: str) -> Bools:
        """Voxels of any of the named labels."""
        chosen = np.zeros(256, bool)
        chosen[[LABELS[name] for name in names]] = True
        inside: Bools = chosen[self.mask]
        return inside

    def height(self) -> Floats:
        """How far up every voxel's centre is in mm."""
        i, j, k = (np.arange(count) * step for count, step in zip(self.mask.shape, self.to_mm[2], strict=True))
        return np.asarray(i[:, None, None] + j[:, None] + k + self.origin[2], float)

    def mm(self, where: Bools) -> Floats:
        """Centres of the chosen voxels in mm, (n, 3)."""
        return np.asarray(np.argwhere(where) @ self.to_mm.T + self.origin, float)

    def index(self, points: Floats) -> Floats:
        """Fractional indices of places in mm."""
        return np.asarray(np.linalg.solve(self.to_mm, (points - self.origin).T).T, float)

    def at(self, points: Floats) -> Floats:
        """Signal at places in mm, interpolated between voxel centres."""
        found = ndimage.map_coordinates(self.clean, self.index(points).T, order=1, mode="nearest")
        return np.asarray(found, float)

    def label_at(self, points: Floats) -> NDArray[np.uint8]:
        """Label of the voxel that holds each place in mm."""
        found = ndimage.map_coordinates(self.mask, self.index(points).T, order=0, mode="constant")
        return np.asarray(found, np.uint8)

    def place(self, names: Collection[str], margin: float) -> tuple[slice, slice, slice]:
        """Find the labels' common box with a margin in mm, as slices of the arrays."""
        found = [box for name in names if (box := self.boxes[LABELS[name] - 1])]
        if len(found) < len(set(names)):
            message = f"the mask must hold {', '.join(names)}"
            raise LookupError(message)
        pad = np.ceil(margin / self.spacing).astype(int)
        start = np.maximum(np.min([[part.start for part in box] for box in found], axis=0) - pad, 0)
        stop = np.minimum(np.max([[part.stop for part in box] for box in found], axis=0) + pad, self.mask.shape)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return i, j, k

    def around(self, names: Collection[str], margin: float) -> View:
        """Cut out the labels' common box and a margin in mm."""
        place = self.place(names, margin)
        origin = self.origin + self.to_mm @ np.array([part.start for part in place])
        return View.build(self.clean[place], self.mask[place], self.to_mm, origin)

    def coarser(self, least: float) -> View:
        """Average pairs of voxels along every axis whose spacing is below `least` mm; a pair's label is its first's."""
        clean, mask, to_mm, origin = self.clean, self.mask, self.to_mm, self.origin
        for axis in range(3):
            if self.spacing[axis] < least:
                even = clean.shape[axis] // 2 * 2
                first = tuple(slice(0, even, 2) if other == axis else slice(None) for other in range(3))
                second = tuple(slice(1, even, 2) if other == axis else slice(None) for other in range(3))
                clean, mask = np.asarray((clean[first] + clean[second]) / 2, np.float32), mask[first]
                origin = origin + to_mm[:, axis] / 2
                to_mm = to_mm * np.where(np.arange(3) == axis, 2.0, 1.0)
        return View.build(clean, mask, to_mm, origin)


def _best_order(to_mm: Floats) -> tuple[int, ...]:
    """Find which array axis runs along each frame axis."""
    strength = np.abs(to_mm) / np.linalg.norm(to_mm, axis=0)
    free = [0, 1, 2]
    order = []
    for axis in range(3):
        best = max(free, key=lambda column: strength[axis, column])
        order.append(best)
        free.remove(best)
    return tuple(order)


def largest(inside: Bools) -> Bools:
    """Keep the largest piece (voxels that share a face)."""
    pieces, count = ndimage.label(inside)
    if count <= 1:
        return inside
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())
