"""Draw one example as a figure of three planes with its text, or many examples as a grid of slices."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.atomic_files import part_path
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import add_note, missing_extra, os_remedy, shown
from reasonknee_datasets.figures.example_text import example_text, take_volume
from reasonknee_datasets.figures.looks import FigureError, LookName, find_look
from reasonknee_datasets.figures.planes import Panel, Plane, choose_plane, cut_planes, grey_window

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(
    example: Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None = None,
    window: tuple[float, float] | None = None,
    look: LookName = "dark",
) -> Figure:
    """Draw an example: three planes through the box, with question, reasoning and grades.

    Slices are in radiological display whatever the array's order: superior up, anterior at the left of the sagittal
    slice, the patient's right at the viewer's left. The plane that the question is read in is the large one (see
    `reasonknee_datasets.figures.planes`). Only the three slices are read from the volume. A row that says
    ``synthetic`` makes a figure that says so, on every slice.

    Parameters
    ----------
    example : mapping
        A row of `load_dataset`. Only ``volume`` (a nibabel image) is needed; without a ``box`` the slices go through
        the middle, and other columns are left out where they are absent.
    out : path, optional
        Also write the figure there; the suffix chooses the format.
    window : (float, float), optional
        Values drawn black and white; ``(0, 400)`` suits OAI's DESS. By default 0 to the 99th percentile of the
        three slices.
    look : str
        ``"dark"`` or ``"light"``: the ground and the text. Slices stay black.

    Returns
    -------
    matplotlib.figure.Figure
        One axes a plane, labelled with its name. In a notebook it shows itself.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    BoxError
        If the box reaches out of the volume.
    FigureError
        If `window` is not two rising numbers, `look` is unknown, or `out` cannot be written.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> volume = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4))
    >>> figure = show({"volume": volume, "box": [2, 2, 2, 6, 6, 6], "finding": "meniscal_root_tear"})
    >>> [axes.get_label() for axes in figure.axes]
    ['coronal', 'sagittal', 'axial']
    """
    try:
        from reasonknee_datasets.figures.figure_layout import lay_out_figure
    except ModuleNotFoundError as error:
        raise missing_extra((error.name or "matplotlib").split(".")[0], "figures", "figures.show") from error

    colours = find_look(look)
    fixed = None if window is None else _check_window(window)
    volume, box, panels, first = cut_example(example)
    limits = grey_window(panels.values()) if fixed is None else fixed
    notes = _notes(volume, box, panels.values(), limits)
    figure = lay_out_figure(panels, first, limits, example_text(example), notes, colours)
    if out is not None:
        write_figure(figure, Path(out))
    return figure


def cut_example(example: Mapping[str, Any]) -> tuple[Any, Box | None, dict[Plane, Panel], Plane]:
    """Return an example's volume, its box, its slices, and the plane that its question is read in."""
    try:
        volume = take_volume(example)
        box = Box.from_row(example["box"]) if example.get("box") is not None else None
        panels = cut_planes(volume, box)
    except Exception as error:
        if isinstance(example, Mapping) and example.get("id"):
            add_note(error, f"while drawing {example['id']}")
        raise
    named = (str(example.get(column) or "") for column in ("finding", "subregion", "question"))
    return volume, box, panels, choose_plane(*named)


def _check_window(window: Any) -> tuple[float, float]:
    """Check the values for black and white before anything is read."""
    try:
        low, high = window
        if isinstance(window, str) or not all(math.isfinite(value) for value in (low, high)) or not low < high:
            raise ValueError
    except (TypeError, ValueError):
        raise FigureError(
            f"window must be two finite numbers, black below white, not {shown(window)}. For example window=(0, 400), "
            "which suits OAI's DESS."
        ) from None
    return float(low), float(high)


def _notes(volume: Any, box: Box | None, panels: Iterable[Panel], window: tuple[float, float]) -> tuple[str, ...]:
    """Write the notes below the pictures: size and place of the box in voxels and millimetres, and grey values."""
    spacing: dict[int, float] = {}
    for panel in panels:
        spacing |= {axis: mm for (axis, _), mm in zip(panel.screen, panel.spacing, strict=True)}
    grid = " × ".join(str(count) for count in volume.shape[:3])
    sizes = " × ".join(f"{spacing[axis]:.3g}" for axis in range(3))
    notes = [f"Volume {grid} voxels of {sizes} mm; black {_short(window[0])}, white {_short(window[1])}"]
    if box is not None:
        ranges = ", ".join(f"{low}–{high}" for low, high in zip(box.start, box.stop, strict=True))
        extent = " × ".join(f"{(box.stop[axis] - box.start[axis]) * spacing[axis]:.1f}" for axis in range(3))
        notes.append(f"Box {ranges} (half-open voxels i, j, k), {extent} mm")
    return tuple(notes)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix chooses the format, and a failed write leaves no part of a file."""
    formats = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lstrip(".").lower()
    if kind not in formats:
        raise FigureError(
            f"The figure cannot be written as {path.name}: matplotlib has no format {kind!r}. Name it .png, or one of "
            f"{', '.join(sorted(formats))}."
        )
    # Drawn in memory first, then moved into place: a full disk leaves no half a picture.
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    part = part_path(path)
    try:
        try:
            part.write_bytes(buffer.getvalue())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        remedy = os_remedy(error, "Name a file in a folder that exists")
        raise FigureError(f"The figure {path} cannot be written: {error.strerror or error}. {remedy}.") from error


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
