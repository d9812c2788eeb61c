"""Notebook display: an example at the end of a cell shows its picture, a lazy volume its three middle slices."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.errors import MissingExtraError
from reasonknee_datasets.figures.example_figure import show

if TYPE_CHECKING:
    from reasonknee_datasets.volumes import LazyVolume


def register_notebook_display() -> bool:
    """Teach a running notebook or IPython to show examples and lazy volumes as pictures.

    Imports nothing and does nothing where no IPython runs, so that loaders may call it every time. An example is a dict
    whose ``volume`` is a lazy volume; every other dict shows as before.

    Returns
    -------
    bool
        Whether there was a notebook to teach.

    Examples
    --------
    >>> register_notebook_display()  # not in a notebook here
    False
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return False
    from reasonknee_datasets.volumes import LazyVolume

    formatter = shell.display_formatter.formatters["image/png"]
    formatter.for_type(LazyVolume, _draw)
    if dict not in formatter.type_printers:  # a formatter of the user's own is kept
        formatter.for_type(dict, _draw_example)
    return True


def _draw(volume: LazyVolume) -> bytes | None:
    return _as_png({"volume": volume})


def _draw_example(example: dict[Any, Any]) -> bytes | None:
    from reasonknee_datasets.volumes import LazyVolume

    return _as_png(example) if isinstance(example.get("volume"), LazyVolume) else None


def _as_png(example: dict[str, Any]) -> bytes | None:
    try:
        figure: Any = show(example)
    except MissingExtraError:
        return None  # the notebook falls back to the text, which needs no extra
    return bytes(figure._repr_png_())
