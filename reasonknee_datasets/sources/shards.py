"""Reading one Parquet shard: only the columns and row groups that are asked for, from any place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from reasonknee_datasets.errors import RepositoryError, explain
from reasonknee_datasets.manifest import Shard
from reasonknee_datasets.plain_paths import is_url
from reasonknee_datasets.sources.places import reading
from reasonknee_datasets.sources.selection import Selection
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import limit_body, open_filesystem

# About 4 MB of text: enough to amortise Arrow's overhead, and little to throw away when only the first row is wanted.
_ROWS = 1000
# A remote shard up to this size comes in one request, which beats several for parts of it; a server that cannot send
# ranges then does too.
_WHOLE = 4_000_000
_AGAIN = "The shard is not the one in the manifest: copy the repository whole, or prepare it again"


def read_shard(url: str, shard: Shard, selection: Selection) -> Iterator[pa.Table]:
    """Read a shard in tables of at most a thousand rows; empty ones are left out.

    Row groups whose statistics exclude the filter are never read, nor are columns that were not chosen.

    Raises
    ------
    RepositoryError
        If the shard is missing, damaged, or not the one that the manifest lists.
    """
    with _naming(url):
        file = _open(url, shard)
    with file:
        batches = _read_batches(url, file, shard, selection)
        while True:
            # Nothing is caught while a table is with the caller: at exit, generators are closed after their modules.
            with _naming(url):
                batch = next(batches, None)
            if batch is None:
                return
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).cast(selection.stored_schema)


def _read_batches(url: str, file: Any, shard: Shard, selection: Selection) -> Iterator[pa.RecordBatch]:
    fragment = ds.ParquetFileFormat().make_fragment(file)
    _check(url, fragment, shard, selection)
    size = file.size() if callable(file.size) else file.size
    if size not in (None, shard.bytes):  # a server may not tell
        raise RepositoryError(explain("shard", f"have {shard.bytes} bytes", size, _AGAIN, where=f"in {url}"))
    schema = fragment.physical_schema
    # One row group after the other: Arrow fetches all that it is given before it hands out the first row.
    for group in fragment.split_by_row_group(selection.expression, schema):
        yield from group.to_batches(
            schema=schema,
            columns=selection.stored,
            filter=selection.expression,
            batch_size=_ROWS,
            batch_readahead=0,
            fragment_readahead=0,
            use_threads=False,
        )


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """Turn what Arrow and stores raise into an error that names the shard."""
    with reading(url, "shard"):
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            # For broken pages pyarrow raises a bare OSError; what a store raises is a subclass or has a number.
            if not isinstance(error, pa.ArrowException) and (type(error) is not OSError or error.errno is not None):
                raise
            found = " ".join(str(error).split()).rstrip(".")
            message = explain("shard", "be readable Parquet", found, _AGAIN, where=f"in {url}")
            raise RepositoryError(message) from error


def _open(url: str, shard: Shard) -> Any:
    if not is_url(url):
        return pa.OSFile(url, "rb")  # native: no Python call for each read
    filesystem, path = open_filesystem(url, find_credentials(url))
    if shard.bytes <= _WHOLE:
        return pa.BufferReader(filesystem.cat_file(path, **limit_body(filesystem, shard.bytes)))
    # Arrow asks for the column chunks that it needs, and coalesces them; reading ahead would fetch the others too.
    return filesystem.open(path, "rb", cache_type="none")


def _check(url: str, fragment: Any, shard: Shard, selection: Selection) -> None:
    rows, schema = fragment.metadata.num_rows, fragment.physical_schema
    if rows != shard.rows:
        raise RepositoryError(explain("shard", f"hold {shard.rows} rows", rows, _AGAIN, where=f"in {url}"))
    for field in selection.stored_schema:
        found = schema.field(field.name).type if field.name in schema.names else "no such column"
        if found != field.type:
            rule = f"hold column {field.name!r} as {field.type}"
            raise RepositoryError(explain("shard", rule, str(found), _AGAIN, where=f"in {url}"))
