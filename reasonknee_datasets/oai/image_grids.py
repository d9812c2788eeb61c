"""A volume put on its mask's grid by a permutation and flips of its axes, written, and read back for proof."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import GeometryError, VolumeError
from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.orientation import TOLERANCE_MM, between, corner_distance, describe_geometry, to_canonical
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.packing import pack_bytes

PROOF_MM = 0.001  # greatest distance between the written grid and the intended one, in mm


@dataclass(frozen=True, slots=True, eq=False)
class TargetGrid:
    """The grid that a volume must have, from the header of its mask, and where that is."""

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64]


def read_mask_grid(mask: Path) -> TargetGrid | None:
    """Read the grid of a mask; None without a mask.

    Raises Refusal if the file is not a readable volume of three axes.
    """
    try:
        image = open_volume(mask, cache=None)
        shape, affine = tuple(map(int, image.shape)), np.asarray(image.affine, float)
    except FileNotFoundError:
        return None
    except VolumeError as error:
        raise Refusal("bad-mask", str(error)) from error
    if len(shape) != 3:
        raise Refusal("bad-mask", f"{mask} has shape {shape}, but a mask has three axes. Download or write it again.")
    return TargetGrid(mask, shape, affine)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Voxels on their final grid."""

    voxels: NDArray[Any]  # (i, j, k) array: a view
    affine: NDArray[np.float64]  # (4, 4) float array: the mask's own, where there is a mask
    distance: float | None  # how far the corners of the source's grid lay from the mask's, in mm; None without a mask


def place_on_grid(voxels: NDArray[Any], affine: NDArray[np.float64], target: TargetGrid | None, place: str) -> Placed:
    """Turn a volume to its mask's grid, or without a mask to the axes closest to RAS+.

    Nothing is resampled, cropped or padded. Grids match up to 0.05 mm at their corners, far less than a voxel and more
    than the digits that DICOM and NIfTI round away; the result then has the mask's own affine.

    Raises Refusal if the grids differ by more.
    """
    shape = voxels.shape
    try:
        if target is None:
            turn = to_canonical(affine)
            turned = turn.apply_affine(affine, shape)
            return Placed(turn.apply_array(voxels), turned, None)
        turn = between(affine, shape, target.affine, target.shape, TOLERANCE_MM)
    except GeometryError as error:
        got = describe_geometry(affine, shape)
        wanted = "" if target is None else f", the mask {describe_geometry(target.affine, target.shape)}"
        reason = _explain_mismatch(shape, target)
        raise Refusal("grid", f"{place} has the grid {got}{wanted}. {reason}") from error
    turned = turn.apply_affine(affine, shape)
    distance = corner_distance(turned, target.shape, target.affine, target.shape)
    return Placed(turn.apply_array(voxels), target.affine, distance)


def _explain_mismatch(shape: tuple[int, ...], target: TargetGrid | None) -> str:
    if target is None:
        return "Its affine cannot be inverted."
    if sorted(shape) != sorted(target.shape):
        return "They differ in the number of voxels: slices may be missing or added, or it is another series."
    return "They are in different places: it is another series of the same size, or it was moved or resampled."


def write_volume(
    out: Path,
    placed: Placed,
    description: str,
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> None:
    """Write a seekable ``.nii.gz`` under its final name when it is complete, and prove its grid.

    Parameters
    ----------
    out : Path
        The file; missing folders above it are made.
    placed : Placed
        Volume to write.
    description : str
        For the NIfTI header, at most 79 characters of ASCII.
    slope, intercept : float
        Rescaling for the NIfTI header.

    Raises
    ------
    Refusal
        If it cannot be written, or does not read back on the same grid.
    """
    import nibabel

    image = nibabel.Nifti1Image(placed.voxels, placed.affine)  # type: ignore[no-untyped-call]
    header: Any = image.header
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = description.encode("ascii", "replace")[:79]
    image.set_sform(placed.affine, code="scanner")  # type: ignore[no-untyped-call]
    image.set_qform(placed.affine, code="scanner")  # type: ignore[no-untyped-call]
    head = _head(header, slope, intercept)
    plain = head + placed.voxels.tobytes(order="F")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        i, j, _ = placed.voxels.shape
        pack_bytes(plain, out, head_bytes=len(head), plane=i * j * placed.voxels.itemsize)
        written = open_volume(out, cache=None)
    except OSError as error:  # VolumeError is one
        raise Refusal("unwritable", f"{out} cannot be written: {error}. Check the disk.") from error
    apart = corner_distance(written.affine, written.shape, placed.affine, placed.voxels.shape)
    if tuple(written.shape) != placed.voxels.shape or apart > PROOF_MM:
        out.unlink()
        got = describe_geometry(written.affine, written.shape)
        raise Refusal("unwritable", f"{out} reads back on the grid {got}, {apart:.3g} mm off. Check the disk.")


def _head(header: Any, slope: float, intercept: float) -> bytes:
    """Write a NIfTI-1 header with its 4 bytes of no extension; nibabel itself writes slopes only when it rescales."""
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.structarr.tobytes()) + b"\0\0\0\0"
