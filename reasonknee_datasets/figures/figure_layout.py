"""Layout of an example's figure: one large slice, two small ones, and the text at the right."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reasonknee_datasets.figures.example_text import ExampleText
from reasonknee_datasets.figures.looks import Look
from reasonknee_datasets.figures.planes import PLANES, Panel, Plane
from reasonknee_datasets.figures.slice_drawing import draw_panel
from reasonknee_datasets.figures.text_column import draw_column, layout_caption, set_column

# Inches.
_HEIGHT, _TEXT, _MARGIN, _GAP = 7.3, 5.1, 0.22, 0.07
_MAIN = (2.6, 8.0)  # narrowest and widest large panel; the slice is centred in what it cannot fill
_REST = (2.1, 4.4)
_CELL = 2.9  # one slice of a gallery


class KneeFigure(Figure):
    """A matplotlib figure with notebook display, made without pyplot."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure on its own ground, whatever the user's style says."""
        super().savefig(fname, **({"facecolor": self.get_facecolor()} | options))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def lay_out_figure(
    panels: Mapping[Plane, Panel],
    first: Plane,
    window: tuple[float, float],
    page: ExampleText,
    notes: tuple[str, ...],
    look: Look,
) -> KneeFigure:
    """Draw three slices and the text; the figure becomes as tall as the text needs."""
    order = [panels[first], *(panels[plane] for plane in PLANES if plane != first)]
    cells, right = _arrange(order)
    if page.brief:  # a short text is placed below the slices
        column = set_column(page, right - _MARGIN, notes, _HEIGHT, look)
        corner = (_MARGIN, _HEIGHT + 1.5 * _MARGIN)
        width, height = right + _MARGIN, corner[1] + column.height + _MARGIN
    else:
        column = set_column(page, _TEXT, notes, _HEIGHT, look)
        corner = (right + 1.5 * _MARGIN, _MARGIN)
        width, height = corner[0] + _TEXT + 1.5 * _MARGIN, max(_HEIGHT, column.height) + 2 * _MARGIN
    figure = KneeFigure(figsize=(width, height), dpi=110, facecolor=look.paper)
    figure.set_layout_engine("none")  # a user's style may ask for one, which would move the axes
    FigureCanvasAgg(figure)
    for panel, (left, top, wide, high) in zip(order, cells, strict=True):
        axes = figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))
        axes.set_label(panel.plane)
        draw_panel(axes, panel, window, side=page.side, synthetic=page.synthetic)
    draw_column(figure, column, *corner)
    return figure


def lay_out_gallery(
    cells: Sequence[tuple[ExampleText, Panel, tuple[float, float]]], columns: int, look: Look
) -> KneeFigure:
    """Draw a grid of slices, each with two or three lines of text below it."""
    columns = min(columns, len(cells))
    lines = -(-len(cells) // columns)
    texts = [layout_caption(text, _CELL, look) for text, _, _ in cells]
    tall = max(text.height for text in texts) + _CELL + 2 * _GAP
    width, height = columns * (_CELL + _MARGIN) + _MARGIN, lines * (tall + _MARGIN) + _MARGIN
    figure = KneeFigure(figsize=(width, height), dpi=110, facecolor=look.paper)
    figure.set_layout_engine("none")
    FigureCanvasAgg(figure)
    for place, ((text, panel, window), caption) in enumerate(zip(cells, texts, strict=True)):
        left = _MARGIN + place % columns * (_CELL + _MARGIN)
        top = _MARGIN + place // columns * (tall + _MARGIN)
        axes = figure.add_axes((left / width, 1 - (top + _CELL) / height, _CELL / width, _CELL / height))
        axes.set_label(text.identity.split(" · ")[0])
        draw_panel(axes, panel, window, side=text.side, synthetic=text.synthetic)
        draw_column(figure, caption, left, top + _CELL + 2 * _GAP)
    return figure


def _arrange(order: list[Panel]) -> tuple[list[tuple[float, float, float, float]], float]:
    """Place the panels: left, top, width, height of each in inches, and where the last one ends."""
    main, *rest = (panel.size for panel in order)
    main_width = _clamp(_HEIGHT * main[1] / main[0], _MAIN)
    cells = [(_MARGIN, _MARGIN, main_width, _HEIGHT)]
    free = _HEIGHT - _GAP * (len(rest) - 1)
    unit = free / sum(height for height, _ in rest)
    rest_width = _clamp(unit * max(width for _, width in rest), _REST)
    unit = min(unit, rest_width / max(width for _, width in rest))
    spare = (free - unit * sum(height for height, _ in rest)) / len(rest)
    left, top = _MARGIN + main_width + _GAP, _MARGIN
    for height, _ in rest:
        cells.append((left, top, rest_width, height * unit + spare))
        top += height * unit + spare + _GAP
    return cells, left + rest_width


def _clamp(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])
