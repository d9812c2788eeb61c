"""Draw many examples as a grid of slices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.figures.example_figure import cut_example, write_figure
from reasonknee_datasets.figures.example_text import example_text
from reasonknee_datasets.figures.looks import FigureError, LookName, find_look
from reasonknee_datasets.figures.planes import Panel, grey_window

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def gallery(
    rows: Iterable[Mapping[str, Any]],
    *,
    count: int = 12,
    columns: int = 4,
    out: str | os.PathLike[str] | None = None,
    look: LookName = "dark",
) -> Figure:
    """Draw the first examples of a dataset as a grid: of each the slice in which its question is read, with the box.

    Parameters
    ----------
    rows : iterable of mapping
        A dataset of `load_dataset`, or any rows with a ``volume``; no more than `count` are taken from it.
    count, columns : int
        How many examples, and how many in a line.
    out : path, optional
        Also write the figure there; the suffix chooses the format.
    look : str
        ``"dark"`` or ``"light"``.

    Returns
    -------
    matplotlib.figure.Figure
        One axes an example, labelled with its id. In a notebook it shows itself.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    FigureError
        If there are no rows, or `count` or `columns` is less than 1.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> volume = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4))
    >>> figure = gallery([{"id": "a", "volume": volume}, {"id": "b", "volume": volume}], count=2)
    >>> [axes.get_label() for axes in figure.axes]
    ['a', 'b']
    """
    try:
        from reasonknee_datasets.figures.figure_layout import lay_out_gallery
    except ModuleNotFoundError as error:
        raise missing_extra((error.name or "matplotlib").split(".")[0], "figures", "figures.gallery") from error

    colours = find_look(look)
    if count < 1 or columns < 1:
        raise FigureError(f"A gallery needs count and columns of 1 or more, not {count} and {columns}.")
    cells = [(example_text(row), *_slice(row)) for row in islice(rows, count)]
    if not cells:
        raise FigureError("The dataset has no rows to draw. Choose another split or filter.")
    figure = lay_out_gallery(cells, columns, colours)
    if out is not None:
        write_figure(figure, Path(out))
    return figure


def _slice(row: Mapping[str, Any]) -> tuple[Panel, tuple[float, float]]:
    _, _, panels, plane = cut_example(row)
    return panels[plane], grey_window(panels.values())
