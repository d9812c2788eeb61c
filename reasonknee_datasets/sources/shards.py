"""Reading one Parquet shard: only the columns and row groups that are asked for, from any place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from reasonknee_datasets.errors import RepositoryError, explain
from reasonknee_datasets.manifest import FOOTER_END, Shard
from reasonknee_datasets.plain_paths import is_url
from reasonknee_datasets.private_files import open_regular
from reasonknee_datasets.sources.places import reading
from reasonknee_datasets.sources.selection import Selection
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import limit_body, open_filesystem

# About 4 MB of text: enough to amortise Arrow's overhead, and little to throw away when only the first row is wanted.
_ROWS = 1000
# A remote shard up to this size comes in one request, which beats several for parts of it; a server that cannot send
# ranges then does too.
_WHOLE = 4_000_000
_FOOTER_BYTES = 64_000_000
# Bounds that rows of text never reach: values of a list in one row, bytes of a row, of one column in a row group, and
# of the rows that are decoded at once.
_VALUES = 10_000
_ROW_BYTES = 100_000
_CHUNK_BYTES = 500_000_000
_BATCH_BYTES = 256_000_000
_AGAIN = "The shard is not the one in the manifest: copy the repository whole, or prepare it again"


def read_shard(url: str, shard: Shard, selection: Selection) -> Iterator[pa.Table]:
    """Read a shard in tables of at most a thousand rows; empty ones are left out.

    Row groups whose statistics exclude the filter are never read, nor are columns that were not chosen. Size, footer
    and number of rows are compared with the manifest, every page with its checksum.

    Raises
    ------
    RepositoryError
        If the shard is missing, damaged, or not the one that the manifest lists, or takes more memory than rows of
        text do.
    """
    with _naming(url):
        file = _open(url, shard)
    with file:
        batches = _read_batches(url, file, shard, selection)
        waiting: list[pa.RecordBatch] = []
        while True:
            # Nothing is caught while a table is with the caller: at exit, generators are closed after their modules.
            with _naming(url):
                batch = next(batches, None)
            if batch is not None and batch.num_rows:
                _check_memory(url, batch)
                waiting.append(batch)
            held = sum(each.num_rows for each in waiting)
            if waiting and (batch is None or held + batch.num_rows > _ROWS):
                yield pa.Table.from_batches(waiting).cast(selection.stored_schema)
                waiting = []
            if batch is None:
                return


def _read_batches(url: str, file: Any, shard: Shard, selection: Selection) -> Iterator[pa.RecordBatch]:
    _check_ends(url, file, shard)
    options = ds.ParquetFragmentScanOptions(
        page_checksum_verification=True, thrift_string_size_limit=_FOOTER_BYTES, thrift_container_size_limit=1_000_000
    )
    fragment = ds.ParquetFileFormat(default_fragment_scan_options=options).make_fragment(file)
    _check(url, fragment, shard, selection)
    schema = fragment.physical_schema
    # One row group after the other: Arrow fetches all that it is given before it hands out the first row.
    for group in fragment.split_by_row_group(selection.expression, schema):
        yield from group.to_batches(
            schema=schema,
            columns=selection.stored,
            filter=selection.expression,
            batch_size=_batch_rows(url, group.metadata, group.row_groups, selection),
            batch_readahead=0,
            fragment_readahead=0,
            use_threads=False,
        )


def _check_ends(url: str, file: Any, shard: Shard) -> None:
    """Compare size and footer with the manifest's, before Arrow believes what the footer says."""
    size = file.size() if callable(file.size) else file.size
    if size is None:  # a server may not tell
        return
    if size != shard.bytes:
        raise RepositoryError(explain("shard", f"have {shard.bytes} bytes", size, _AGAIN, where=f"in {url}"))
    if shard.footer_sha256 is None or size < FOOTER_END:
        return
    file.seek(size - FOOTER_END)
    length = int.from_bytes(file.read(4), "little") + FOOTER_END
    found = f"a footer of {length:,} bytes"
    if length <= min(size, _FOOTER_BYTES):
        file.seek(size - length)
        found = hashlib.sha256(file.read(length)).hexdigest()
    file.seek(0)
    if found != shard.footer_sha256:
        rule = f"have a footer with SHA-256 {shard.footer_sha256}"
        raise RepositoryError(explain("shard", rule, found, _AGAIN, where=f"in {url}"))


def _batch_rows(url: str, metadata: Any, groups: Sequence[Any], selection: Selection) -> int:
    """Choose how many rows are decoded at once, so that even a page of one value repeated for ever stays in memory.

    A dictionary page stands for all rows that refer to it: 12 kB of Parquet can be 3 GB of rows.
    """
    most = 1
    for group in groups:
        rows = metadata.row_group(group.id)
        for number in range(rows.num_columns):
            column = rows.column(number)
            if column.path_in_schema.partition(".")[0] not in selection.stored:
                continue
            if column.num_values > _VALUES * max(1, rows.num_rows) or column.total_uncompressed_size > _CHUNK_BYTES:
                found = f"{column.num_values:,} values in {column.total_uncompressed_size:,} bytes of one column"
                rule = f"hold at most {_VALUES} values a row and {_CHUNK_BYTES:,} bytes a column in a row group"
                raise RepositoryError(explain("shard", rule, found, _AGAIN, where=f"in {url}"))
            most = max(most, column.total_uncompressed_size)
    return max(1, min(_ROWS, _BATCH_BYTES // most))


def _check_memory(url: str, batch: pa.RecordBatch) -> None:
    if batch.nbytes > max(_BATCH_BYTES // 16, _ROW_BYTES * batch.num_rows):
        found = f"{batch.nbytes:,} bytes in {batch.num_rows} rows"
        rule = f"take at most {_ROW_BYTES:,} bytes a row"
        raise RepositoryError(explain("shard", rule, found, _AGAIN, where=f"in {url}"))


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
        os.close(open_regular(url))  # a named pipe would block for ever
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
