"""`RandomFlip` and `RandomShift`: the anatomy moves, the grid stays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import shown
from reasonknee_datasets.transforms.base import Example, TransformError, require
from reasonknee_datasets.transforms.regrid import (
    GridTransform,
    canonical_turn,
    current_grid,
    draw_moves,
    random_stream,
    regrid,
    set_numbers,
)
from reasonknee_datasets.volumes.grid_view import View

Three = tuple[Any, Any, Any]

_OTHER_SIDE = {"left": "right", "right": "left"}
_TEXTS = ("question", "reasoning", "answer", "finding", "subregion", "category")
# Between anything but letters: with an underscore or a number next to it, it is still the same word.
_SIDED = re.compile(r"(?<![a-z])(left|right)(?:[- ]?(?:sided?|hand(?:ed)?|wards?|most))?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RandomFlip(GridTransform):
    """Mirror the anatomy across the sagittal plane at random: a right knee becomes a left knee.

    ``volume``, ``mask`` and ``box`` are mirrored, ``side`` is swapped and ``mirrored`` is true. Everything else stays:
    medial is still medial. The plane is the grid's own sagittal one through its middle, so that no voxel is
    interpolated; ``volume.view`` still leads to the stored voxels.

    Parameters
    ----------
    p : float
        Probability of mirroring, 0 to 1.
    plane : {"sagittal"}
        A knee mirrored across any other plane is not a possible knee.
    seed : int
        Seed of the draw, which also depends on the example's ``id`` and ``epoch``.

    Raises
    ------
    TransformError
        If another plane is named, ``p`` is not from 0 to 1, or a text of the example names left or right, which would
        be wrong afterwards.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> volume = nib.Nifti1Image(np.zeros((160, 384, 384), np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
    >>> example = {"id": "9016403/00M/right/q19", "side": "right", "volume": volume, "box": [0, 0, 0, 10, 20, 30]}
    >>> flipped = RandomFlip(p=1.0)(example)
    >>> flipped["side"], flipped["mirrored"], flipped["box"]
    ('left', True, [150, 0, 0, 160, 20, 30])
    """

    p: float = 0.5
    _: KW_ONLY
    plane: str = "sagittal"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.plane != "sagittal":
            raise TransformError(
                f"plane must be 'sagittal', not {shown(self.plane)}: only that mirror makes a left knee of a right one."
            )
        set_numbers(self, "p", kind=float, least=0.0)
        set_numbers(self, "seed", kind=int)
        if self.p > 1:
            raise TransformError(f"p must be a probability from 0 to 1, not {shown(self.p)}.")

    def make_params(self, example: Example) -> bool:
        """Draw whether to mirror an example."""
        return bool(random_stream("RandomFlip", self.seed, example).random() < self.p)

    def apply(self, example: Example, params: bool = True) -> dict[str, Any]:
        """Mirror an example (by default), or leave it."""
        _check_texts(example)
        shape, affine = current_grid(require(example, "volume", "RandomFlip"))
        view = View.whole(shape)
        changes = regrid(example, view.mirror(canonical_turn(affine).axes[0]) if params else view)
        changes["mirrored"] = bool(example.get("mirrored")) != params
        if params and example.get("side") is not None:
            changes["side"] = _swap(example["side"])
        elif "side" in example:
            changes["side"] = example["side"]
        return changes

    def added_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the feature types of ``mirrored``, ``region``, ``box_volume`` and ``box``."""
        from datasets import Value  # at use: importing datasets takes a second

        # A slotted dataclass is a second class: super() without arguments would name the first one.
        return {**GridTransform.added_features(self, features), "mirrored": Value("bool")}


@dataclass(frozen=True, slots=True)
class RandomShift(GridTransform):
    """Translate the anatomy by a random whole number of voxels along each array axis.

    The grid stays, as if the patient had another position in the scanner. Voxels that move into a crop are read from
    the volume; only what is beyond the volume is padding. A box that is inside the grid stays inside.

    Parameters
    ----------
    max_mm : float or three floats
        Largest translation along each array axis (i, j, k), in millimetres either way.
    pad_value : float, optional
        Fill value beyond the volume (and, after `Window`, beyond the crop); by default that of
        `CropToBox`, else 0.
    seed : int
        Seed of the draw, which also depends on the example's ``id`` and ``epoch``.

    Raises
    ------
    TransformError
        If a parameter is out of range, or the example has no ``volume`` or ``id``.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> volume = nib.Nifti1Image(np.zeros((160, 384, 384), np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
    >>> example = {"id": "9016403/00M/right/q19", "volume": volume, "box": [40, 40, 40, 50, 50, 50]}
    >>> RandomShift(max_mm=10.0)(example)["box"]
    [48, 53, 64, 58, 63, 74]
    """

    _: KW_ONLY
    max_mm: float | Three = 5.0
    pad_value: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        set_numbers(self, "max_mm", kind=float, least=0.0, axes=True)
        set_numbers(self, "pad_value", kind=float)
        set_numbers(self, "seed", kind=int)

    def make_params(self, example: Example) -> tuple[int, int, int]:
        """Draw how many voxels to move an example along each array axis."""
        shape, affine = current_grid(require(example, "volume", "RandomShift"))
        low, high = [1, 1, 1], [0, 0, 0]  # no bounds
        if example.get("box") is not None:
            box = Box.from_row(example["box"])
            # A box that reaches beyond the grid already is neither pushed further nor pulled back.
            inside = [a >= 0 and b <= n for a, b, n in zip(box.start, box.stop, shape, strict=True)]
            low = [-a if ok else 0 for a, ok in zip(box.start, inside, strict=True)]
            high = [n - b if ok else 0 for b, n, ok in zip(box.stop, shape, inside, strict=True)]
        i, j, k = draw_moves(random_stream("RandomShift", self.seed, example), self.max_mm, affine, low, high).tolist()
        return i, j, k

    def apply(self, example: Example, params: tuple[int, int, int] = (0, 0, 0)) -> dict[str, Any]:
        """Move an example's anatomy by a number of voxels along each array axis."""
        shape, _ = current_grid(require(example, "volume", "RandomShift"))
        return regrid(example, View.whole(shape).shift(params, self.pad_value))


def _swap(side: Any) -> str:
    swapped = _OTHER_SIDE.get(str(side))
    if swapped is None:
        raise TransformError(f"side must be 'left' or 'right', as in the column side, not {shown(side)}.")
    return swapped


def _check_texts(example: Example) -> None:
    for key in _TEXTS:
        for text in _strings(example.get(key)):
            found = _find_side(text)
            if found:
                raise TransformError(
                    f"The text in {key} names a side ({found!r}), which would be wrong in a mirrored knee. Leave "
                    "RandomFlip out for such examples, or write medial and lateral."
                )


@lru_cache(maxsize=1 << 14)  # texts repeat thousands of times
def _find_side(text: str) -> str | None:
    found = _SIDED.search(text)
    return None if found is None else text[max(0, found.start() - 30) : found.end() + 20]


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return (str(text) for text in value) if isinstance(value, Iterable) else ()
