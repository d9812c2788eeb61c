"""Reading one Parquet shard: only the columns and row groups that are asked for, from any place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from fsspec.core import url_to_fs

from reasonknee_datasets.errors import RepositoryError, explain
from reasonknee_datasets.manifest import Shard
from reasonknee_datasets.sources.places import is_url, reading
from reasonknee_datasets.sources.selection import Selection
from reasonknee_datasets.volumes import find_credentials

# About 4 MB of text: enough to amortise Arrow's overhead, and little to throw away when only the first row is wanted.
_ROWS = 1000
_AGAIN = "The shard is not the one in the manifest: copy the repository whole, or prepare it again"


def read_shard(url: str, shard: Shard, selection: Selection) -> Iterator[pa.Table]:
    """Read a shard in tables of at most a thousand rows; empty ones are left out.

    Row groups whose statistics exclude the filter are never read, nor are columns that were not chosen.

    Raises
    ------
    RepositoryError
        If the shard is missing, damaged, or not the one that the manifest lists.
    """
    with reading(url, "shard"), _open(url) as file:
        try:
            fragment = ds.ParquetFileFormat().make_fragment(file)
            _check(url, fragment, shard, selection)
            # Read ahead would start the next row group while the caller still looks at the first row.
            for batch in fragment.to_batches(
                schema=fragment.physical_schema,
                columns=selection.stored,
                filter=selection.expression,
                batch_size=_ROWS,
                batch_readahead=0,
                fragment_readahead=0,
                use_threads=False,
            ):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch]).cast(selection.stored_schema)
        except pa.ArrowException as error:
            message = explain("shard", "be readable Parquet", str(error), _AGAIN, where=f"in {url}")
            raise RepositoryError(message) from error


def _open(url: str) -> Any:
    if not is_url(url):
        return pa.OSFile(url, "rb")  # native: no Python call for each read
    filesystem, path = url_to_fs(url, **find_credentials(url))
    return filesystem.open(path, "rb")


def _check(url: str, fragment: Any, shard: Shard, selection: Selection) -> None:
    rows, schema = fragment.metadata.num_rows, fragment.physical_schema
    if rows != shard.rows:
        raise RepositoryError(explain("shard", f"hold {shard.rows} rows", rows, _AGAIN, where=f"in {url}"))
    for field in selection.stored_schema:
        found = schema.field(field.name).type if field.name in schema.names else "no such column"
        if found != field.type:
            rule = f"hold column {field.name!r} as {field.type}"
            raise RepositoryError(explain("shard", rule, str(found), _AGAIN, where=f"in {url}"))
