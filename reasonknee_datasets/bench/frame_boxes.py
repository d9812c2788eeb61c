"""Convert a model's box from the numbers of the frames that it saw to voxels of the stored volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.bench.answers import parse_box
from reasonknee_datasets.bench.prompts import FRAME_CONVENTION
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError
from reasonknee_datasets.transforms import ToFrames


@dataclass(frozen=True, slots=True)
class PredictedBox:
    """A box in the stored volume with the codec's rules that read it, or the reason why there is none."""

    box: Box | None
    reason: str | None
    rules: tuple[str, ...] = ()


def read_box(text: str | None, recipe: ToFrames, volume: Any, finish_reason: str | None = None) -> PredictedBox:
    """Read the box of a reply.

    Parameters
    ----------
    text : str or None
        The reply.
    recipe : ToFrames
        What made the frames that the model saw.
    volume : nibabel image
        What they were made of.
    finish_reason : str, optional
        As the model gave it.

    Returns
    -------
    PredictedBox
        Cut at the volume's faces, where frames are thicker than what is left of it.
    """
    view = recipe.view(volume)
    parsed = parse_box(text, convention=FRAME_CONVENTION, shape=view.shape, finish_reason=finish_reason)
    if parsed.box is None:
        return PredictedBox(None, parsed.reason)
    try:
        return PredictedBox(view.box_to_source(parsed.box).clip(volume.shape), None, parsed.rules)
    except BoxError:
        return PredictedBox(None, "out_of_range")
