"""Notebook display: a lazy volume at the end of a cell shows its three middle slices."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.errors import MissingExtraError
from reasonknee_datasets.figures.picture import show

if TYPE_CHECKING:
    from reasonknee_datasets.volumes import LazyVolume


def register_notebook_display() -> bool:
    """Teach a running notebook or IPython to show lazy volumes as pictures.

    Imports nothing and does nothing where no IPython runs, so that loaders may call it every time.

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

    shell.display_formatter.formatters["image/png"].for_type(LazyVolume, _draw)
    return True


def _draw(volume: LazyVolume) -> bytes | None:
    try:
        figure: Any = show({"volume": volume})
    except MissingExtraError:
        return None  # the notebook falls back to the volume's text, which needs no extra
    return bytes(figure._repr_png_())
