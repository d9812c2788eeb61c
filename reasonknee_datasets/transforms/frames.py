"""`ToFrames`: slices as 8-bit pictures for models that look at video or at several images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import shown
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.transforms.base import Example, Transform, TransformError, check_choice, require
from reasonknee_datasets.transforms.intensity import Window, volume_statistics
from reasonknee_datasets.transforms.regrid import (
    canonical_turn,
    checked_mask,
    current_grid,
    current_view,
    kept_box,
    of_labels,
    plain_numbers,
    set_numbers,
)
from reasonknee_datasets.volumes.grid_view import View, read_view

# World axes (RAS+) that the frames, the rows and the columns run along. Frames run with RAS+; rows and columns against
# it, as radiologists look at knees: superior on top, anterior at the left of a sagittal slice and on top of an axial
# one, the patient's right at the viewer's left.
_PLANES = {"sagittal": (0, 2, 1), "coronal": (1, 2, 0), "axial": (2, 1, 0)}
_SCALINGS = ("window", "slice", "volume")

# How many numbers a field has, of which type, their lowest value, and the rule for the message.
_RULES: dict[str, tuple[tuple[int, ...], type, int, str]] = {
    "count": ((1,), int, 1, "be a whole number, at least 1"),
    "size": ((1, 2), int, 1, "be a whole number of pixels, or two"),
    "span": ((2,), float, 0, "be two shares, rising from 0 to 1"),
    "ends": ((2,), int, 0, "be two rising slice numbers"),
}


@dataclass(frozen=True, slots=True)
class ToFrames(Transform):
    """Convert slices to 8-bit frames and compute the box in them.

    Adds ``frames`` ((frames, rows, columns) array of uint8), ``frame_box`` (first frame, row and column, and one past
    the last, where the example has a box) and ``frame_fps``; where the example has a ``mask``, also ``frame_mask``: its
    labels in the pixels of the frames, an array like ``frames``. ``volume``, ``box`` and ``mask`` stay. `view` maps
    boxes between frames and the stored volume, both ways.

    Frames are cells of equal thickness; each shows the slice in its middle. A frame box contains the frames whose slice
    is in the box. Like every box it is never cut: it may reach beyond frames that show only a part of the volume.

    Parameters
    ----------
    plane : {"sagittal", "coronal", "axial", "axis0"}
        The slices, shown as radiologists look at them, whatever the array's order; ``axis0`` takes the array as it is.
    count : int, optional
        Number of frames; by default one per slice. More frames than slices show slices twice.
    window : Window or (low, high)
        Intensities that become black (0) and white (255), in the volume's own units.
    size : int or (rows, columns), optional
        Pixels of a frame. One number is the longer side, and pixels are then square in millimetres (slices are often
        anisotropic); two are taken unchanged. By default one pixel per voxel.
    span : (float, float)
        First and last share of the slices that the frames cover, 0 to 1.
    ends : (int, int), optional
        Instead: the first and the last slice, and ``count`` between them as ``np.linspace(..., dtype=int)`` gives them.
    scaling : {"window", "slice", "volume"}
        ``window`` brings all frames to one range. The other two are the authors': clip, then scale each slice by its
        own lowest and highest value, or by those of the whole volume before clipping.
    fps : float
        Frames per second, for models that use it.

    Raises
    ------
    TransformError
        If a parameter is out of range, the example has no ``volume`` or already has ``voxels``, or the volume has fewer
        slices than ``ends`` needs.

    Notes
    -----
    `FRAME_RECIPES` has four recipes by name. ``official_qwen`` and ``official_o1`` make the frames of the authors'
    scripts pixel for pixel. The first scales every slice by itself, so that the same tissue is bright in one slice and
    dark in the next; the second is dark throughout where any voxel of the volume is bright, and takes slices 32 to 128
    of whatever array axis comes first; both show the knee lying on its side. ``clean_qwen`` and ``clean_o1`` show as
    many slices of the same part of the volume with one window, upright.

    Examples
    --------
    >>> import nibabel as nib
    >>> volume = nib.Nifti1Image(np.zeros((160, 384, 352), np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
    >>> example = {"volume": volume, "box": [40, 100, 60, 50, 200, 80]}
    >>> shown = ToFrames("sagittal", count=32, size=192)(example)
    >>> shown["frames"].shape, shown["frame_box"]
    ((32, 176, 192), [8, 136, 92, 10, 146, 142])
    >>> ToFrames("sagittal", count=32, size=192).view(volume).box_to_source(Box.from_row(shown["frame_box"]))
    Box(start=(40, 100, 60), stop=(50, 200, 80))
    >>> FRAME_RECIPES["official_qwen"](example)["frames"].shape
    (160, 384, 352)
    """

    plane: str = "sagittal"
    _: KW_ONLY
    count: int | None = None
    window: Window = field(default_factory=Window)
    size: int | tuple[int, int] | None = None
    span: tuple[float, float] = (0.0, 1.0)
    ends: tuple[int, int] | None = None
    scaling: str = "window"
    fps: float = 4.0

    def __post_init__(self) -> None:
        check_choice("plane", self.plane, (*_PLANES, "axis0"))
        check_choice("scaling", self.scaling, _SCALINGS)
        if not isinstance(self.window, Window):
            if not isinstance(self.window, tuple | list) or len(self.window) != 2:
                raise TransformError(f"window must be a Window or (low, high), not {shown(self.window)}.")
            object.__setattr__(self, "window", Window(*self.window))
        methods = ("clip", "percentiles") if self.scaling == "window" else ("clip",)
        if self.window.method not in methods:
            known = " or ".join(map(repr, methods))
            raise TransformError(
                f"With scaling={self.scaling!r} the window of frames must have method {known}, "
                f"which state black and white, not {self.window.method!r}. For example window=(0, 400)."
            )
        for name in _RULES:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _checked(name, value))
        set_numbers(self, "fps", kind=float, least=0.0)
        if self.ends is not None and (self.count is None or self.count < 2):
            raise TransformError(f"ends needs a count of at least 2, for example count=32, not count={self.count}.")

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Read an example's slices and make them frames."""
        if example.get("voxels") is not None:
            raise TransformError(
                "ToFrames reads stored values, but a Window before it has made voxels of them. Leave it out, and "
                "pass it as ToFrames(window=...)."
            )
        volume = require(example, "volume", "ToFrames")
        slab, picks = self._lay(volume)
        slices = read_view(slab, volume.dataobj)[picks]
        pixels = View.whole(slices.shape).rescale((len(picks), *self._pixels(volume, self._turned(volume))))
        changes: dict[str, Any] = {
            "frames": self._to_8_bit(example, _resize(pixels, slices)),
            "frame_fps": self.fps,
        }
        if example.get("mask") is not None:
            labels = read_view(of_labels(slab), checked_mask(example["mask"], volume).dataobj)[picks]
            changes["frame_mask"] = np.ascontiguousarray(_resize(of_labels(pixels), labels))
        if example.get("box") is not None:
            changes["frame_box"] = self.box(example).to_row()
        return changes

    def added_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the feature types of ``frames``, ``frame_fps``, ``frame_mask`` and ``frame_box``."""
        from datasets import List, Value  # at use: importing datasets takes a second

        added = {"frames": List(List(List(Value("uint8")))), "frame_fps": Value("float64")}
        added |= {"frame_mask": List(List(List(Value("uint8"))))} if "mask" in features else {}
        return added | ({"frame_box": List(Value("int32"), length=6)} if "box" in features else {})

    def view(self, volume: Any) -> View:
        """Return the frames' grid (frame, row, column) as a view of the stored volume.

        Parameters
        ----------
        volume : nibabel image
            The example's.

        Returns
        -------
        View
            `View.box_to_source` and `View.faces_to_source` lead from frames to the stored voxels, and
            `View.box_from_source` back.
        """
        return current_view(volume).then(self._relative(volume))

    def box(self, example: Example) -> Box:
        """Return an example's box in the frames; it is rounded once, also where the grid was resampled before."""
        volume = require(example, "volume", "its box in the frames")
        row = require(example, "box", "its box in the frames")
        kept = kept_box(example, current_view(volume))
        if kept is not None:
            return self.view(volume).box_from_source(kept)
        return self._relative(volume).box_from_source(Box.from_row(row))

    def slices(self, volume: Any) -> list[int]:
        """Return the slice that each frame shows, counted along the frames' axis of the volume's current grid."""
        turned = self._turned(volume)
        if self.ends is not None:
            assert self.count is not None
            first, last = self.ends
            if last >= turned.shape[0]:
                raise TransformError(
                    f"The official frames need slice {last}, but a volume of shape {current_grid(volume)[0]} has "
                    f"{turned.shape[0]} slices. Choose the recipe clean_o1, which takes any number."
                )
            return [int(index) for index in np.linspace(first, last, self.count, dtype=int)]
        count, start, step = self._cells(turned.shape[0])
        middles = np.floor(start + step * (np.arange(count) + 0.5) + 1e-9).astype(int)
        return [int(index) for index in np.clip(middles, 0, turned.shape[0] - 1)]

    def _turned(self, volume: Any) -> View:
        """Return the current grid turned to (frames, rows, columns)."""
        shape, affine = current_grid(volume)
        whole = View.whole(shape)
        if self.plane == "axis0":
            return whole
        canonical = canonical_turn(affine)
        frames, rows, columns = _PLANES[self.plane]
        axes = (canonical.axes[frames], canonical.axes[rows], canonical.axes[columns])
        flips = (canonical.flips[frames], not canonical.flips[rows], not canonical.flips[columns])
        return whole.turn(Reorientation(axes, flips))

    def _cells(self, length: int) -> tuple[int, float, float]:
        """Return how many frames there are, where the first begins and how thick each is, in slices."""
        if self.ends is not None:
            assert self.count is not None
            step = (self.ends[1] - self.ends[0]) / (self.count - 1)
            return self.count, self.ends[0] - step / 2, step
        first, last = self.span[0] * length, self.span[1] * length
        if self.count is None:
            start = min(int(np.ceil(first - 0.5)), length - 1)
            return max(1, int(np.ceil(last - 0.5)) - start), float(start), 1.0
        return self.count, first, (last - first) / self.count

    def _relative(self, volume: Any) -> View:
        """Return the frames' grid as a view of the volume's current grid."""
        turned = self._turned(volume)
        count, start, step = self._cells(turned.shape[0])
        rows, columns = self._pixels(volume, turned)
        steps = (step, turned.shape[1] / rows, turned.shape[2] / columns)
        return turned.then(View((count, rows, columns), (0, 1, 2), (start, 0.0, 0.0), steps))

    def _pixels(self, volume: Any, turned: View) -> tuple[int, int]:
        _, height, width = turned.shape
        if self.size is None:
            return height, width
        if not isinstance(self.size, int):
            return self.size
        _, affine = current_grid(volume)
        spacing = np.linalg.norm(turned.affine(affine)[:3, :3], axis=0)
        millimetres = np.array([height * spacing[1], width * spacing[2]])
        rows, columns = (max(1, round(side)) for side in (self.size * millimetres / millimetres.max()).tolist())
        return rows, columns

    def _lay(self, volume: Any) -> tuple[View, NDArray[np.intp]]:
        """Return the view of the slices to read, and which of them each frame shows."""
        turned, picks = self._turned(volume), np.array(self.slices(volume), dtype=np.intp)
        low, high = int(picks.min()), int(picks.max()) + 1
        return turned.crop(Box((low, 0, 0), (high, *turned.shape[1:]))), picks - low

    def _to_8_bit(self, example: Example, slices: NDArray[Any]) -> NDArray[np.uint8]:
        if self.scaling == "window":
            window = replace(self.window, dtype="uint8")
            frames = window.scale(slices, *window.limits(example, slices))
            return np.ascontiguousarray(frames)
        assert self.window.low is not None
        assert self.window.high is not None
        frames = np.empty(slices.shape, np.uint8)
        whole = volume_statistics(example["volume"], "range") if self.scaling == "volume" else None
        for frame, stored in zip(frames, slices, strict=True):
            clipped = np.clip(stored.astype(np.float64), self.window.low, self.window.high)
            low, high = (clipped.min(), clipped.max()) if whole is None else whole
            # The authors divide by zero where a slice is all alike, and the pixels come out 0.
            scaled = (clipped - low) / (high - low) * 255 if high > low else np.zeros_like(clipped)
            frame[...] = scaled.astype(np.int64).astype(np.uint8)
        return frames


def _resize(pixels: View, slices: NDArray[Any]) -> NDArray[Any]:
    return slices if pixels.shape == slices.shape else read_view(pixels, slices)


def as_frames(frames: Any) -> ToFrames | None:
    """Take a recipe as it is, or a number as that many sagittal frames."""
    if frames is None or isinstance(frames, ToFrames):
        return frames
    if isinstance(frames, int | np.integer) and not isinstance(frames, bool):
        return ToFrames(count=int(frames))
    raise TransformError(
        f"frames must be a ToFrames, a number of frames or None, not {shown(frames)}. For example frames=16, or "
        "frames=ToFrames('sagittal', count=16, size=(224, 224))."
    )


def _checked(name: str, value: Any) -> Any:
    """Return the plain number or numbers of a field of `ToFrames`."""
    lengths, kind, least, rule = _RULES[name]
    numbers = plain_numbers(list(value) if isinstance(value, tuple | list) else [value], kind, least)
    good = len(numbers) in lengths and max(numbers) < 2**31
    if good and name in ("span", "ends"):
        good = numbers[0] < numbers[1] <= (1 if name == "span" else 2**31)
    if not good:
        raise TransformError(f"{name} must {rule}, not {shown(value)}.")
    return tuple(numbers) if isinstance(value, tuple | list) else numbers[0]


FRAME_RECIPES: dict[str, ToFrames] = {
    "official_qwen": ToFrames("axis0", scaling="slice"),
    "official_o1": ToFrames("axis0", count=32, ends=(32, 128), scaling="volume"),
    "clean_qwen": ToFrames("sagittal"),
    "clean_o1": ToFrames("sagittal", count=32, span=(0.2, 0.8)),
}
"""Recipes by name: the frames that the authors sent to Qwen2.5-VL and to o1, and upright ones with one window."""
