"""The extents of marked voxels, as rows i0 j0 k0 i1 j1 k1: projections, so that a volume's masks cost milliseconds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import BoxError

HIGHEST_LABEL = 65_535


def marked_extent(mask: NDArray[Any], label: int | Collection[int] | None) -> list[int] | None:
    """Find the extent of a mask's non-zero voxels, or of those with a label; None where there are none."""
    if mask.ndim != 3:
        raise BoxError(
            f"The mask has shape {mask.shape}, but must have three axes. Drop axes of length 1: mask[..., 0]."
        )
    if label is None:
        marked = mask.astype(bool, copy=False)
    else:
        marked = np.isin(mask, list(label)) if isinstance(label, Collection) else mask == label
    # Not argwhere, which would make 24 bytes for every marked voxel.
    plane = np.any(marked, axis=0)
    profiles = [np.asarray(np.any(*reduced)) for reduced in ((marked, (1, 2)), (plane, 1), (plane, 0))]
    return _row(profiles) if profiles[0].any() else None


def label_extents(labels: NDArray[Any]) -> dict[int, list[int]]:
    """Find the extent of each label above 0 in one pass."""
    if labels.ndim != 3 or labels.dtype.kind not in "bui" or labels.size == 0:
        got = f"{labels.dtype} of shape {labels.shape}"
        raise BoxError(f"A label map must have three axes and whole numbers, not {got}. Cast it to uint8 first.")
    if labels.min() < 0 or labels.max() > HIGHEST_LABEL:
        got = f"{labels.min()} to {labels.max()}"
        raise BoxError(f"A label map has labels from 0 to {HIGHEST_LABEL}, but this one has {got}. Check the file.")
    slow = int(np.argmax(np.abs(labels.strides)))  # walk the array in the order of memory, C or Fortran order
    moved = np.moveaxis(labels, slow, 0)
    # For each axis: which planes hold which label. A plane at a time keeps the scratch small (a volume is 24 million).
    seen = [np.zeros((int(moved.max()) + 1, length), dtype=bool) for length in moved.shape]
    for number, plane in enumerate(moved):
        rows, columns = np.nonzero(plane)
        found = plane[rows, columns].astype(np.intp)  # a bool array would be taken as a mask
        seen[0][found, number] = True
        seen[1][found, rows] = True
        seen[2][found, columns] = True
    seen.insert(slow, seen.pop(0))
    present = np.flatnonzero(seen[0].any(axis=1)).tolist()
    return {label: _row([profiles[label] for profiles in seen]) for label in present}


def _row(profiles: Collection[NDArray[np.bool_]]) -> list[int]:
    starts = [int(profile.argmax()) for profile in profiles]
    return starts + [len(profile) - int(profile[::-1].argmax()) for profile in profiles]
