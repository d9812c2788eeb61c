"""Orientation of the arrays of a batch: which anatomical direction each axis runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from reasonknee_datasets.errors import LoaderError, shown
from reasonknee_datasets.orientation import axcodes
from reasonknee_datasets.volumes import Geometry, LazyVolume

# Letters of the two directions of each anatomical axis.
_AXES = ("LR", "PA", "IS")


def check_setting(orientation: str) -> None:
    """Raise a `LoaderError` unless a setting is "same", "any" or three letters such as "RAS"."""
    word = orientation if isinstance(orientation, str) else ""
    letters = sorted(next((axis for axis in _AXES if letter in axis), letter) for letter in word)
    if word not in ("same", "any") and letters != sorted(_AXES):
        raise LoaderError(
            f"orientation must be 'same', 'any' or three letters such as 'RAS', not {shown(orientation)}. The letters "
            "are L or R, P or A, I or S, each pair once."
        )


def find_orientation(example: Mapping[str, Any]) -> str | None:
    """Find the directions in which the axes D, H and W of an example run; None where it has no affine.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> find_orientation({"volume": nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([-1, 1, 1, 1]))})
    'LAS'
    """
    volume = example.get("volume")
    if isinstance(volume, LazyVolume) and volume.geometry is not None:
        view = volume.view
        if view is None or view.world is None:
            return _lazy_codes(volume.geometry, *((None, None) if view is None else (view.axes, view.step)))
    affine = volume.grid[1] if isinstance(volume, LazyVolume) else getattr(volume, "affine", None)
    # Without the translation, which differs from crop to crop.
    return None if affine is None else _codes(np.asarray(affine, np.float64)[:3, :3].tobytes())


def check_orientations(examples: Sequence[Mapping[str, Any]], orientation: str) -> list[str | None]:
    """Find the orientation of each example, and refuse a batch with axes of different directions.

    Parameters
    ----------
    examples : sequence of mappings
        Examples of a batch.
    orientation : str
        "same", "any", or the three letters that all must have.

    Raises
    ------
    LoaderError
        With the names of two examples that differ.
    """
    found = [find_orientation(example) for example in examples]
    known = [(code, example.get("id")) for code, example in zip(found, examples, strict=True) if code is not None]
    if orientation == "any" or not known:
        return found
    wanted, first = known[0] if orientation == "same" else (orientation, None)
    other = next(((code, name) for code, name in known if code != wanted), None)
    if other is not None:
        contrast = "" if first is None else f" while {first} is {wanted}"
        rule = (
            "This batch mixes arrays of different orientation" if first else f"A batch must be {wanted} (orientation=)"
        )
        raise LoaderError(
            f"{rule}: {other[1]} is {other[0]}{contrast}, so that an axis of the batch runs in different anatomical "
            "directions. Put ToCanonical() first in the transform, which turns every volume and box to RAS. For models "
            'that do not mind, pass collate_fn=QuintupleCollator(orientation="any").'
        )
    return found


@lru_cache(maxsize=4096)
def _lazy_codes(geometry: Geometry, axes: Sequence[int] | None, step: Sequence[float] | None) -> str:
    linear = geometry.matrix[:3, :3]
    if axes is not None and step is not None:
        linear = linear[:, axes] * step
    return _codes(np.ascontiguousarray(linear).tobytes())


@lru_cache(maxsize=4096)
def _codes(linear: bytes) -> str:
    affine = np.eye(4)
    affine[:3, :3] = np.frombuffer(linear).reshape(3, 3)
    return "".join(axcodes(affine))
