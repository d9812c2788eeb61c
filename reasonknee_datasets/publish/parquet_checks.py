"""Checks of the Parquet files: what the Hub's viewer and ``datasets`` can show and convert."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.publish.inspected import Diagnostic, Inspected
from reasonknee_datasets.publish.viewer_rules import (
    CONVERSION_BYTES,
    FIRST_ROWS,
    ROW_GROUP_BYTES,
    SCAN_BYTES,
    first_page,
)

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
