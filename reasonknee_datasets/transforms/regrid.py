"""Laying a new grid over an example: the volume, its box and its values together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import shown
from reasonknee_datasets.orientation import Reorientation, to_canonical
from reasonknee_datasets.transforms.base import Example, Transform, TransformError, require
from reasonknee_datasets.volumes import LazyVolume
from reasonknee_datasets.volumes.grid_view import View, ViewProxy, read_view, view_image

# Made from the box or the voxels as they were: they would not follow.
_WRITTEN = ("frames", "input_ids", "messages")


def current_grid(volume: Any) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return a volume's shape and affine; a volume of a dataset is not opened for them."""
    if isinstance(volume, LazyVolume):
        return volume.grid
    if not hasattr(volume, "dataobj") or not hasattr(volume, "affine"):
        raise TransformError(
            f"The volume of an example must be a nibabel image, not {shown(volume)}. Take it from open_volume or from "
            'the volume column, before with_format("numpy") or with_format("torch").'
        )
    shape = tuple(int(size) for size in volume.shape)
    if len(shape) != 3:
        raise TransformError(
            f"The volume of an example has the shape {shape}, but must have three axes. Choose one volume of a series, "
            "for example image.slicer[..., 0]."
        )
    return (shape[0], shape[1], shape[2]), np.asarray(volume.affine, dtype=np.float64)


def canonical_turn(affine: NDArray[np.float64]) -> Reorientation:
    """Return `orientation.to_canonical` of an affine, found once for all the crops of a volume."""
    return _canonical_turn(affine[:3, :3].tobytes())


@lru_cache(maxsize=4096)
def _canonical_turn(linear: bytes) -> Reorientation:
    affine = np.eye(4)
    affine[:3, :3] = np.frombuffer(linear).reshape(3, 3)
    return to_canonical(affine)


def current_view(volume: Any) -> View:
    """Return the view that leads from a volume's grid to the stored array."""
    view = volume.view if isinstance(volume, LazyVolume) else getattr(volume.dataobj, "view", None)
    return view if isinstance(view, View) else View.whole(current_grid(volume)[0])


def is_whole(volume: Any, shape: tuple[int, int, int]) -> bool:
    """Return whether a volume of this shape shows its whole stored array unchanged."""
    view = volume.view if isinstance(volume, LazyVolume) else getattr(volume.dataobj, "view", None)
    return not isinstance(view, View) or view == View.whole(shape)


def stored_volume(volume: Any) -> Any:
    """Return a volume without its view: something with ``shape`` that numpy can read and slice."""
    if isinstance(volume, LazyVolume) and volume.path is not None:
        return volume.whole.dataobj
    return volume.dataobj.source if isinstance(volume.dataobj, ViewProxy) else volume.dataobj


def read_voxels(example: Example) -> NDArray[Any]:
    """Read an example's values on its current grid: ``voxels`` where there are some, else the volume's region.

    Examples
    --------
    >>> import nibabel as nib
    >>> from reasonknee_datasets.transforms import CropToBox
    >>> volume = nib.Nifti1Image(np.arange(64, dtype=np.int16).reshape(4, 4, 4), np.eye(4))
    >>> read_voxels(CropToBox()({"volume": volume, "box": [1, 2, 0, 2, 3, 4]}))
    array([[[24, 25, 26, 27]]], dtype=int16)
    """
    voxels = example.get("voxels")
    return np.asarray(require(example, "volume", "its voxels").dataobj) if voxels is None else np.asarray(voxels)


def regrid(example: Example, relative: View) -> dict[str, Any]:
    """Lay a view of the current grid over an example.

    `example`: with ``volume``, and ``mask``, ``box`` and ``voxels`` where it has them. `relative`: view of the current
    grid. Returns dict: the keys that change.
    """
    for key in _WRITTEN:
        if example.get(key) is not None:
            raise TransformError(
                f"The example already has {key}, made from its present grid, so that the grid cannot be changed any "
                f"more. Put transforms of the grid before the one that makes {key}."
            )
    volume = require(example, "volume", "a change of its grid")
    old = current_view(volume)
    seen = volume.through(relative) if isinstance(volume, LazyVolume) else view_image(volume, relative)
    new = current_view(seen)
    changes: dict[str, Any] = {"volume": seen, "region": new.region.to_row()}
    if example.get("mask") is not None:
        mask, labels = checked_mask(example["mask"], volume), of_labels(relative)
        changes["mask"] = mask.through(labels) if isinstance(mask, LazyVolume) else view_image(mask, labels)
    if example.get("voxels") is not None:
        changes["voxels"] = read_view(relative, np.asarray(example["voxels"]))
    if example.get("box") is not None:
        changes |= _move_box(example, relative, old, new)
    return changes


def of_labels(view: View) -> View:
    """Return a view for label maps: the nearest label where it resamples, the background (0) outside."""
    return replace(view, nearest=True, pad=0.0)


def checked_mask(mask: Any, volume: Any) -> Any:
    """Return a mask that is on the grid of its volume.

    Raises TransformError if it has another shape.
    """
    own, shape = current_grid(mask)[0], current_grid(volume)[0]
    if own != shape:
        raise TransformError(
            f"The mask has shape {own}, but the volume {shape}: a mask must have the grid of its volume. Load both "
            "with load_dataset(..., masks=True), and change the grid of neither by itself."
        )
    return mask


def kept_box(example: Example, view: View) -> Box | None:
    """Return the box as it was in the stored volume, from which rounding of an earlier resampling does not add up.

    `example`: with ``box``. `view`: view of its volume. Returns Box or None: None where no ``box_volume`` was kept, or
    ``box`` was changed since.
    """
    if example.get("box_volume") is None:
        return None
    kept = Box.from_row(example["box_volume"])
    return kept if view.box_from_source(kept) == Box.from_row(example["box"]) else None


class GridTransform(Transform):
    """Base of the transforms that lay a new grid over an example."""

    __slots__ = ()

    def added_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the feature types of ``region``, ``box_volume`` and ``box``."""
        from datasets import List, Value  # at use: importing datasets takes a second

        six = List(Value("int32"), length=6)
        return {"region": six} | ({"box_volume": six, "box": six} if "box" in features else {})


def random_stream(name: str, seed: int, example: Example) -> np.random.Generator:
    """Return the random stream of one example: of (transform, seed, epoch, id), and of nothing else."""
    epoch = example.get("epoch")
    words = (name, seed, 0 if epoch is None else int(epoch), str(require(example, "id", f"the draws of {name}")))
    digest = hashlib.blake2b("|".join(map(str, words)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def draw_moves(
    random: np.random.Generator, millimetres: Any, affine: NDArray[np.float64], low: Sequence[int], high: Sequence[int]
) -> NDArray[np.intp]:
    """Draw a move in whole voxels along each axis, evenly over what is allowed.

    `millimetres`: the most, either way. `affine` (4, 4) float array: for the spacing. `low`, `high`: other allowed
    range; an axis on which `low` is above `high` has no such bounds.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # A hair more than the quotient, so that 0.7 mm at 0.7 mm spacing is one voxel whatever the rounding.
    most = np.floor(np.array(spread(millimetres)) / spacing + 1e-6).astype(np.intp)
    bounded = np.less_equal(low, high)
    least = np.where(bounded, np.maximum(-most, np.minimum(low, most)), -most)
    greatest = np.where(bounded, np.minimum(most, np.maximum(high, -most)), most)
    return np.asarray(random.integers(least, greatest, endpoint=True), dtype=np.intp)


def set_numbers(owner: Any, *names: str, kind: type, least: float | None = None, axes: bool = False) -> None:
    """Replace fields of a frozen dataclass by plain numbers of Python, which print and hash the same everywhere.

    `axes`: whether a field may have three numbers, one for each array axis. None is kept where the field's type has it.
    """
    for name in names:
        value = getattr(owner, name)
        if value is None and "None" in owner.__dataclass_fields__[name].type:
            continue
        several = axes and isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
        numbers = plain_numbers(list(value) if several else [value], kind, least)
        if len(numbers) not in ((1, 3) if axes else (1,)):
            what = "a whole number" if kind is int else "a number"
            what += ", or three (one for each array axis)" if axes else ""
            bound = "" if least is None else f", at least {least:g}"
            raise TransformError(f"{name} must be {what}{bound}, not {shown(value)}.")
        object.__setattr__(owner, name, tuple(numbers) if len(numbers) == 3 else numbers[0])


def plain_numbers(given: Sequence[Any], kind: type, least: float | None) -> list[Any]:
    """Return plain numbers, or none if one of them has another type."""
    try:
        numbers = [kind(number) for number in given]
        good = all(a == b and np.isfinite(a) for a, b in zip(numbers, given, strict=True))
        good = good and not any(isinstance(number, bool | np.bool_) for number in given)  # True is not a size of 1
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if good and (least is None or min(numbers, default=least) >= least) else []


def spread(value: Any) -> tuple[Any, Any, Any]:
    """Return three numbers for one, or the three."""
    return value if isinstance(value, tuple) else (value, value, value)


def _move_box(example: Example, relative: View, old: View, new: View) -> dict[str, Any]:
    box, kept = Box.from_row(example["box"]), kept_box(example, old)
    if kept is not None:
        return {"box": new.box_from_source(kept).to_row(), "box_volume": kept.to_row()}
    return {"box": relative.box_from_source(box).to_row(), "box_volume": old.box_to_source(box).to_row()}
