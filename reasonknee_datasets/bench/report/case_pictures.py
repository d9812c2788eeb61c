"""Pictures of single records: the true box and the answered one on the same slice."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.figures.planes import Panel, cut_planes, grey_window
from reasonknee_datasets.figures.reading import choose_plane
from reasonknee_datasets.moaks import Question

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRUE, _ANSWERED, _PAPER = "#ffd23f", "#4cc9f0", "#101418"


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, or the sentence that says why there is none."""

    jpeg: bytes | None
    problem: str | None = None


def draw_case(volume: Any, question: Question, true_box: Box, answered: Box | None, *, synthetic: bool) -> Picture:
    """Draw the slice through the true box's middle in the plane that the question is read in.

    Parameters
    ----------
    volume : nibabel image
        Only three slices are read.
    question : Question
    true_box, answered : Box
        Half-open voxels in the array order of `volume`; the answered one is dashed where it misses the slice.
    synthetic : bool
        The picture then says so.
    """
    from matplotlib.figure import Figure

    try:
        panels = cut_planes(volume, true_box.clip(volume.shape))
    except ReasonKneeError as error:
        return Picture(None, str(error))
    panel = panels[choose_plane(question.finding, question.subregion)]
    height, width = panel.size
    figure = Figure(figsize=(3.2 * width / height, 3.2), dpi=110, facecolor=_PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = grey_window(panels.values())
    axes.imshow(panel.image, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0))
    _outline(axes, panel, true_box, _TRUE)
    if answered is not None:
        _outline(axes, panel, answered, _ANSWERED)
    if synthetic:
        axes.text(width / 2, height - 2, "SYNTHETIC", color="white", ha="center", va="bottom", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", facecolor=_PAPER, pil_kwargs={"quality": 85})
    return Picture(buffer.getvalue())


def _outline(axes: Axes, panel: Panel, box: Box, colour: str) -> None:
    from matplotlib.patches import Rectangle

    (down, up_side_down), (across, mirrored) = panel.screen
    rows, columns = panel.image.shape
    top, bottom = _span(box.start[down], box.stop[down], rows, up_side_down)
    left, right = _span(box.start[across], box.stop[across], columns, mirrored)
    axis, index, _ = panel.cut
    style = "-" if box.start[axis] <= index < box.stop[axis] else "--"
    corner = (left * panel.spacing[1], top * panel.spacing[0])
    size = ((right - left) * panel.spacing[1], (bottom - top) * panel.spacing[0])
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.4, linestyle=style))


def _span(start: int, stop: int, count: int, flipped: bool) -> tuple[int, int]:
    return (count - stop, count - start) if flipped else (start, stop)
