"""Limits of the Hub and its dataset viewer, and the viewer's own rules for the first page of a split.

The viewer answers ``first-rows`` with the features and the first rows as JSON: up to 100 rows; as many of them as fit
into 200,000 bytes; if not even 10 do, their cells are cut to 100 bytes each; and if that does not help, the page shows
an error (TooBigContentError). Images count as the URL under which the viewer stores them. The rules are those of the
source of huggingface/dataset-viewer (libs/libcommon/src/libcommon/viewer_utils), read in November 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Features

FIRST_ROWS_BYTES, FIRST_ROWS, LEAST_ROWS, CELL_BYTES = 200_000, 100, 10, 100
MOST_COLUMNS = 1_000
SCAN_BYTES = 300_000_000
"""Bytes of Parquet that the viewer reads for one page."""
ROW_GROUP_BYTES = 100_000_000
"""Recommended size of a row group."""
CONVERSION_BYTES = 5_000_000_000
"""Bytes of a split that the viewer shows where it cannot use the Parquet files as they are."""
FOLDER_FILES, REPOSITORY_FILES = 10_000, 100_000
"""Files that the Hub accepts in one folder and in one repository."""


@dataclass(frozen=True, slots=True)
class FirstPage:
    """The first page of a split in the viewer.

    Attributes
    ----------
    rows : int
        Rows on the page.
    bytes : int
        Size of the response, before cells are cut.
    cut : bool
        Whether cells are cut to 100 bytes.
    fails : bool
        Whether the page shows an error.
    """

    rows: int
    bytes: int
    cut: bool
    fails: bool


def first_page(features: Features, rows: Iterable[Mapping[str, Any]], config: str, split: str) -> FirstPage:
    """Compute the first page of a split by the viewer's rules.

    Parameters
    ----------
    features : Features
        Features of the split.
    rows : iterable of mapping
        At least its first 100 rows, images undecoded.
    config, split : str
        Their names, which are part of the response.
    """
    from datasets import Image

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    listed = [
        {"feature_idx": i, "name": name, "type": kind} for i, (name, kind) in enumerate(features.to_dict().items())
    ]
    frame = {"dataset": "owner/3dreasonknee", "config": config, "split": split, "features": listed, "rows": []}
    size = _count_bytes({**frame, "truncated": False})
    items: list[int] = []
    least = size  # with cells cut
    for number, row in zip(range(FIRST_ROWS), rows, strict=False):
        cells = {**row, **{name: _stored_image(config, split, number, name) for name in images}}
        item = _count_bytes({"row_idx": number, "row": cells, "truncated_cells": []}) + 1
        if number >= LEAST_ROWS and size + item >= FIRST_ROWS_BYTES:
            break
        size += item
        items.append(item)
        least += min(item, _count_cut(cells, images))
    cut = size >= FIRST_ROWS_BYTES
    return FirstPage(len(items), size, cut, len(features) > MOST_COLUMNS or (cut and least >= FIRST_ROWS_BYTES))


def _count_bytes(value: Any) -> int:
    """Count the bytes of JSON as orjson writes it: no spaces, no escapes but JSON's own."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode())


def _count_cut(cells: Mapping[str, Any], images: Iterable[str]) -> int:
    """Count the bytes of a row after its cells, except images, are cut to 100 bytes and listed as cut."""
    sizes = {name: _count_bytes(cell) for name, cell in cells.items()}
    kept = {name: min(size, size if name in images else CELL_BYTES + 2) for name, size in sizes.items()}
    names = sum(2 * len(name.encode()) + 8 for name in cells)  # as keys, and in the list of cut cells
    return sum(kept.values()) + names + len('{"row_idx":00,"row":{},"truncated_cells":[]},')


def _stored_image(config: str, split: str, row: int, column: str) -> dict[str, Any]:
    # The response is measured before URLs are signed.
    folder = f"owner/3dreasonknee/--/{'0' * 40}/--/{config}/{split}/{row}/{column}"
    return {
        "src": f"https://datasets-server.huggingface.co/cached-assets/{folder}/image.jpg",
        "height": 999,
        "width": 999,
    }
