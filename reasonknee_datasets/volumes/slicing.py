"""Crops and turns of lazy volumes: from nibabel's slices, and from the geometry in a manifest, to views."""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialFirstSlicer

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError, add_note
from reasonknee_datasets.orientation import Reorientation, between
from reasonknee_datasets.volumes.geometry import Geometry, spatial_shape
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.header import VolumeHeader


class ViewSlicer(SpatialFirstSlicer[Any]):
    """nibabel's slicer, with views in place of reads."""

    def __getitem__(self, slicer: Any) -> Any:
        volume = self.img
        try:
            canonical = self.check_slicing(slicer)
        except ValueError as error:
            raise IndexError(*error.args) from None
        parts = [part for part in canonical if isinstance(part, slice)]
        if volume.ndim != 3 or len(parts) != len(canonical) or any(part.step not in (None, 1, -1) for part in parts):
            return super().__getitem__(slicer)
        touched = [range(size)[part] for part, size in zip(parts, volume.shape, strict=True)]
        if not all(touched):
            raise IndexError("Empty slice requested")
        box = Box.from_row([*(min(part) for part in touched), *(max(part) + 1 for part in touched)])
        i, j, k = (part.step < 0 for part in touched)
        return volume.cut(View.whole(volume.shape).crop(box).turn(Reorientation(flips=(i, j, k))))


def find_turn(stored: VolumeHeader, geometry: Geometry | None, label: str) -> Reorientation | None:
    """Find how the stored array is turned into the expected geometry; None where it stays as it is."""
    if geometry is None:
        return None
    shape = spatial_shape(stored.shape)
    if shape == geometry.shape and np.array_equal(stored.affine, geometry.matrix):
        return None
    try:
        if len(shape) != 3:
            raise GeometryError(
                f"The volume {label} has the shape {stored.shape}, and the manifest states three axes. Convert the "
                "file to a 3D volume, or prepare the repository again."
            )
        turn = between(stored.affine, shape, geometry.matrix, geometry.shape, where=f"in {label} and its manifest")
    except GeometryError as error:
        remedy = "put back the file that was prepared, or prepare the repository again"
        add_note(error, f"while comparing {label} with the geometry in the manifest: {remedy}")
        raise
    return None if turn.is_identity else turn
