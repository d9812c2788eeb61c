"""One slice on a matplotlib axes, in millimetres, with its box, letters and scale bar."""

from __future__ import annotations

from typing import Any

import matplotlib.patheffects as effects
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reasonknee_datasets.figures.looks import BOX, SLICE_CAPTION, SLICE_TEXT, SLICE_WARNING
from reasonknee_datasets.figures.planes import Panel

FONT = "DejaVu Sans"  # ships with matplotlib, so that a figure is the same everywhere

_AXIS_NAMES = "ijk"
_BARS = (100, 50, 20, 10, 5, 2, 1)


def draw_panel(axes: Axes, panel: Panel, window: tuple[float, float], *, side: str | None, synthetic: bool) -> None:
    """Draw a slice at one scale for both axes, with its box, name, letters and scale bar."""
    height, width = panel.size
    axes.imshow(
        panel.image,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        origin="upper",
        extent=(0.0, width, height, 0.0),
        aspect="auto",  # the limits below already give both axes the same scale
        interpolation="bilinear",
    )
    _frame(axes, height, width)
    if panel.outline is not None:
        left, top, right, bottom = panel.outline
        outline = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=BOX, linewidth=1.5)
        outline.set_path_effects([effects.Stroke(linewidth=3.2, foreground="#000000a0"), effects.Normal()])
        axes.add_patch(outline)
    _name(axes, panel)
    _letters(axes, panel, side)
    _scale_bar(axes, width)
    if synthetic:
        _write(
            axes, 0.0, 0.0, "SYNTHETIC", (8, 8), size=8.5, weight="bold", colour=SLICE_WARNING, ha="left", va="bottom"
        )


def _frame(axes: Axes, height: float, width: float) -> None:
    """Set one scale (mm) for both axes by widening the limits around the slice; outside it is black."""
    cell = axes.get_window_extent()
    unit = max(height / cell.height, width / cell.width)
    wide, high = cell.width * unit, cell.height * unit
    axes.set_xlim((width - wide) / 2, (width + wide) / 2)
    axes.set_ylim((height + high) / 2, (height - high) / 2)
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.minorticks_off()
    for spine in axes.spines.values():
        spine.set_visible(False)


def _name(axes: Axes, panel: Panel) -> None:
    axis, index, count = panel.cut
    tilt = f" · {panel.tilt:.0f}° tilted" if panel.tilt >= 0.5 else ""
    _write(axes, 0.0, 1.0, panel.plane.upper(), (8, -8), size=8.5, weight="bold", ha="left", va="top")
    caption = f"{_AXIS_NAMES[axis]} = {index} of {count}{tilt}"
    _write(axes, 0.0, 1.0, caption, (8, -21), size=7.5, colour=SLICE_CAPTION, ha="left", va="top")


def _letters(axes: Axes, panel: Panel, side: str | None) -> None:
    left, right, top, bottom = panel.edges
    _write(axes, 0.0, 0.5, left, (8, 0), size=12, weight="bold", ha="left", va="center")
    _write(axes, 1.0, 0.5, right, (-8, 0), size=12, weight="bold", ha="right", va="center")
    _write(axes, 0.5, 1.0, top, (0, -8), size=12, weight="bold", ha="center", va="top")
    _write(axes, 0.5, 0.0, bottom, (0, 8), size=12, weight="bold", ha="center", va="bottom")
    for place, letter, offset, align in ((0.0, left, 8, "left"), (1.0, right, -8, "right")):
        if side and letter in "LR":
            # The lateral side of a knee is the one away from the other knee.
            word = "lateral" if letter == side[0].upper() else "medial"
            _write(axes, place, 0.5, word, (offset, -16), size=8, colour=SLICE_CAPTION, ha=align, va="center")


def _scale_bar(axes: Axes, width: float) -> None:
    wide = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    length = next((bar for bar in _BARS if bar <= min(wide * 0.3, width)), _BARS[-1])
    fraction, end, base = length / wide, 0.97, 0.018
    for colour, thick in (("black", 4.0), (SLICE_TEXT, 1.6)):
        axes.plot(
            [end - fraction, end], [base, base], color=colour, linewidth=thick, transform=axes.transAxes, zorder=4
        )
    _write(axes, end - fraction / 2, base, f"{length} mm", (0, 4), size=7.5, ha="center", va="bottom")


def _write(
    axes: Axes, x: float, y: float, text: str, offset: tuple[float, float], *, colour: str = SLICE_TEXT, **style: Any
) -> None:
    label = axes.annotate(
        text,
        (x, y),
        xycoords="axes fraction",
        xytext=offset,
        textcoords="offset points",
        color=colour,
        family=FONT,
        parse_math=False,
        usetex=False,
        zorder=5,
        **style,
    )
    # Readable on bright marrow as well as on the black outside.
    label.set_path_effects([effects.withStroke(linewidth=2.2, foreground="#000000c8")])
