"""Checks of the Parquet files: what the Hub's viewer and ``datasets`` can show and convert.

The viewer answers ``first-rows`` with the features and the first rows as JSON: up to 100 rows; as many of them as fit
into 200,000 bytes; if not even 10 do, their cells are cut to 100 bytes each; and if that does not help, the page shows
an error (TooBigContentError). Images count as the URL under which the viewer stores them. The rules are those of the
source of huggingface/dataset-viewer (libs/libcommon/src/libcommon/viewer_utils), read in November 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.publish.inspected import Diagnostic, Inspected

if TYPE_CHECKING:
    from datasets import Features


FIRST_ROWS_BYTES, FIRST_ROWS, LEAST_ROWS, CELL_BYTES = 200_000, 100, 10, 100
MOST_COLUMNS = 1_000
SCAN_BYTES = 300_000_000  # bytes of Parquet that the viewer reads for one page
ROW_GROUP_BYTES = 100_000_000  # recommended size of a row group
CONVERSION_BYTES = 5_000_000_000
"""Bytes of a split that the viewer shows where it cannot use the Parquet files as they are."""
FOLDER_FILES, REPOSITORY_FILES = 10_000, 100_000  # files that the Hub accepts in one folder and in one repository


@dataclass(frozen=True, slots=True)
class FirstPage:
    """The first page of a split in the viewer."""

    rows: int  # rows on the page
    bytes: int  # size of the response, before cells are cut
    cut: bool  # whether cells are cut to 100 bytes
    fails: bool  # whether the page shows an error


def first_page(features: Features, rows: Iterable[Mapping[str, Any]], config: str, split: str) -> FirstPage:
    """Compute the first page of a split by the viewer's rules.

    `features`: features of the split. `rows`: at least its first 100 rows, images undecoded. `config`, `split`: their
    names, which are part of the response.
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


# Feature types of `datasets` that the viewer shows. A Nifti column shows no cell, and a class of another package none.
_STOCK = {"Value", "List", "LargeList", "Sequence", "Image", "Audio", "Video", "ClassLabel", "Array2D", "Array3D"}
_PREPARE = "Prepare the repository again: reasonknee prepare."


def check_first_rows(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the first page of every split shows whole cells."""
    for config, splits in repository.manifest.configs.items():
        for split, shards in splits.items():
            readable = [each for each in shards if not isinstance(repository.footers[each.path], str)]
            if not readable or _unsupported(repository.open_shard(readable[0].path).schema_arrow):
                continue  # other checks report these
            file = repository.open_shard(readable[0].path)
            rows = next(
                file.iter_batches(FIRST_ROWS, use_threads=False),
                pa.RecordBatch.from_pylist([], schema=file.schema_arrow),
            )
            page = first_page(_features(file.schema_arrow), rows.to_pylist(), config, split)
            if page.fails or page.cut:
                effect = "shows an error instead of" if page.fails else "cuts the cells of"
                yield Diagnostic(
                    "error",
                    f"The first page of {config}/{split} takes {page.bytes:,} bytes, and the viewer {effect} rows "
                    "beyond 200,000.",
                    "Shorten the longest texts, or move them to a config of their own.",
                )


def check_scan_size(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that one page can be read without scanning 300 MB."""
    for path, metadata in repository.sound_footers().items():
        for size, indexed in _groups(metadata):
            if size > SCAN_BYTES and not indexed:
                yield Diagnostic(
                    "error",
                    f"{path} has a row group of {size:,} bytes without a page index: the viewer reads at most "
                    f"{SCAN_BYTES:,} bytes for a page.",
                    "Write it with write_page_index=True and smaller row groups.",
                )
                break


def check_row_groups(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that row groups have the size that the Hub recommends, and a page index."""
    for path, metadata in repository.sound_footers().items():
        groups = list(_groups(metadata))
        largest = max((size for size, _ in groups), default=0)
        if largest > ROW_GROUP_BYTES:
            yield Diagnostic(
                "warning",
                f"{path} has a row group of {largest:,} bytes; the Hub recommends at most {ROW_GROUP_BYTES:,}.",
                "Write smaller row groups.",
            )
        if not all(indexed for _, indexed in groups):
            yield Diagnostic(
                "warning",
                f"{path} has no page index: the viewer reads whole row groups for every page.",
                "Write it with write_page_index=True.",
            )


def check_conversion(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the viewer uses the Parquet files as they are, where a split has more than 5 GB."""
    for config, splits in repository.manifest.configs.items():
        for split, shards in splits.items():
            size = sum(shard.bytes for shard in shards)
            known = repository.sound_footers(config)
            large = [
                s.path for s in shards if s.path in known and any(b > SCAN_BYTES for b, _ in _groups(known[s.path]))
            ]
            if size > CONVERSION_BYTES and large:
                yield Diagnostic(
                    "error",
                    f"{config}/{split} has {size:,} bytes, and {large[0]} has a row group above {SCAN_BYTES:,} bytes: "
                    f"the viewer converts and shows only the first {CONVERSION_BYTES:,} bytes.",
                    "Write row groups below 100 MB, so that the files are used as they are.",
                )


def check_column_types(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that every shard can be read, has the schema of its config, and has types that the viewer shows."""
    for config in repository.manifest.configs:
        schemas: dict[str, pa.Schema] = {}
        for shard in repository.shards(config):
            footer = repository.footers[shard.path]
            if isinstance(footer, str):
                yield Diagnostic("error", f"{shard.path} {footer}.", f"Copy the repository again. {_PREPARE}")
                continue
            schemas[shard.path] = footer.schema.to_arrow_schema()
        first = next(iter(schemas.values()), None)
        for path, schema in schemas.items():
            if first is not None and not schema.equals(first):
                names = sorted({*schema.names} ^ {*first.names}) or [
                    name for name in schema.names if schema.field(name) != first.field(name)
                ]
                yield Diagnostic(
                    "error",
                    f"{path} has another schema than the first shard of {config}: {', '.join(names)}.",
                    f"`datasets` and the viewer stop at it. {_PREPARE}",
                )
        if first is not None and (kinds := _unsupported(first)):
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            yield Diagnostic(
                "error",
                f"Columns of {config} have types that the viewer does not show: {listed}.",
                "Store a path as a string, or a picture as Image.",
            )


def _groups(metadata: pq.FileMetaData) -> Iterator[tuple[int, bool]]:
    """Iterate over row groups: uncompressed bytes, and whether every column has a page index."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        yield group.total_byte_size, all(group.column(column).has_offset_index for column in range(group.num_columns))


def _features(schema: pa.Schema) -> Any:
    from datasets import Features

    return Features.from_arrow_schema(schema)


def _unsupported(schema: pa.Schema) -> Mapping[str, str]:
    """Find the columns with a type that stock ``datasets`` or the viewer does not support."""
    stated = json.loads((schema.metadata or {}).get(b"huggingface", b"{}") or b"{}")
    features = (stated.get("info") or {}).get("features") or {}
    found: dict[str, str] = {name: kind for name, feature in features.items() if (kind := _foreign(feature))}
    for field in schema:
        if isinstance(field.type, pa.BaseExtensionType) or pa.types.is_map(field.type) or pa.types.is_union(field.type):
            found.setdefault(field.name, str(field.type))
        elif pa.types.is_dictionary(field.type):
            found.setdefault(field.name, "dictionary")
    return found


def _foreign(feature: Any) -> str:
    """Return the first feature type that is not stock, or an empty string."""
    if isinstance(feature, list):
        return next((kind for each in feature if (kind := _foreign(each))), "")
    if not isinstance(feature, dict):
        return ""
    named = feature.get("_type")
    if isinstance(named, str):
        return named if named not in _STOCK else _foreign(feature.get("feature"))  # of a list
    return next((kind for each in feature.values() if (kind := _foreign(each))), "")
