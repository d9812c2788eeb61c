"""Notebook display: pictures of examples, lazy volumes and datasets at the end of a cell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from reasonknee_datasets.errors import MissingExtraError
from reasonknee_datasets.figures.example_figure import gallery, show
from reasonknee_datasets.volumes import LazyVolume

_GALLERY = 8


def register_notebook_display() -> bool:
    """Register pictures of examples, lazy volumes and datasets in a running notebook or IPython.

    Imports nothing and does nothing where no IPython runs, so that loaders may call it every time. An example is a dict
    whose ``volume`` is a lazy volume, and a dataset is shown if its rows are examples; all others show as before.

    Returns
    -------
    bool
        Whether there is a notebook.

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
    formatter.for_type(LazyVolume, _draw_volume)
    if dict not in formatter.type_printers:  # a formatter of the user's own is kept
        formatter.for_type(dict, _draw_example)
    for module, name in (("datasets.arrow_dataset", "Dataset"), ("datasets.iterable_dataset", "IterableDataset")):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and kind not in formatter.type_printers:
            formatter.for_type(kind, _draw_dataset)
    return True


def _draw_volume(volume: LazyVolume) -> bytes | None:
    return _as_png(lambda: show({"volume": volume}))


def _draw_example(example: dict[Any, Any]) -> bytes | None:
    return _as_png(lambda: show(example)) if _is_example(example) else None


def _draw_dataset(rows: Any) -> bytes | None:
    # The type of the column decides, before anything is read: other datasets have a volume column too.
    feature = (rows.features or {}).get("volume")
    if type(feature).__module__ != "reasonknee_datasets.feature":
        return None
    first = [row for _, row in zip(range(_GALLERY), rows, strict=False)]
    return _as_png(lambda: gallery(first)) if first and all(map(_is_example, first)) else None


def _is_example(row: Any) -> bool:
    from reasonknee_datasets.volumes import LazyVolume

    return isinstance(row.get("volume"), LazyVolume)


def _as_png(draw: Callable[[], Any]) -> bytes | None:
    try:
        figure = draw()
    except MissingExtraError:
        return None  # the notebook falls back to the text, which needs no extra
    return bytes(figure._repr_png_())
