"""Reading one Parquet shard: only the columns and row groups that are asked for, from any place, and verified."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from reasonknee_datasets.errors import ReasonKneeError, RepositoryError
from reasonknee_datasets.manifest import FOOTER_END, Shard, chunk_ranges
from reasonknee_datasets.read_errors import read_error
from reasonknee_datasets.safe_paths import is_url, open_regular
from reasonknee_datasets.sources.selection import Selection
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.credentials import redact
from reasonknee_datasets.volumes.filesystems import fetch_bounded, open_filesystem

# About 4 MB of text: enough to amortise Arrow's overhead, and little to throw away when only the first row is wanted.
_ROWS = 1000
# A remote shard up to this size comes in one request, which beats several for parts of it; a server that cannot send
# ranges then does too.
_WHOLE = 4_000_000
_FOOTER_BYTES = 64_000_000
_LIMITS = {"thrift_string_size_limit": _FOOTER_BYTES, "thrift_container_size_limit": 1_000_000}
# Bounds that rows of text never reach: values of a list in one row, bytes of a row, of one column in a row group, and
# of the rows that are decoded at once.
_VALUES = 10_000
_ROW_BYTES = 100_000
_CHUNK_BYTES = 500_000_000
_BATCH_BYTES = 256_000_000
# Files that `_check_local` has hashed in this process and its forks.
_hashed: set[tuple[object, ...]] = set()
_AGAIN = "Copy the repository whole, or prepare it again."


def read_shard(url: str, shard: Shard, selection: Selection) -> Iterator[pa.Table]:
    """Read a shard in tables of at most a thousand rows; empty ones are left out.

    Row groups whose statistics exclude the filter are never read, nor are columns that were not chosen. The file is
    compared with its size and hashes in the manifest, every page with its checksum.

    Raises
    ------
    RepositoryError
        If the shard is missing, damaged, or not the one that the manifest lists, or takes more memory than rows of
        text do.
    """
    with _naming(url):
        file = _open(url, shard)
    with file:
        tables = _read_tables(url, file, shard, selection)
        while True:
            # Nothing is caught while a table is with the caller: at exit, generators are closed after their modules.
            with _naming(url):
                table = next(tables, None)
            if table is None:
                return
            yield table.cast(selection.stored_schema)


def _read_tables(url: str, file: Any, shard: Shard, selection: Selection) -> Iterator[pa.Table]:
    # ParquetFile decodes as many rows as requested; a scan of a dataset decodes whole row groups.
    checked = isinstance(file, CheckedChunks)
    parquet = pq.ParquetFile(
        file,
        metadata=file.metadata if checked else None,
        pre_buffer=True,  # one request for the columns of a row group
        page_checksum_verification=True,
        **_LIMITS,
    )
    _check(url, parquet, shard, selection)
    for group in _choose_groups(file.footer if checked else file, parquet, selection):
        columns = [*selection.stored, *(name for name in selection.filtered if name not in selection.stored)]
        rows = _batch_rows(url, parquet.metadata.row_group(group), columns)
        # One row group after the other: Arrow fetches all that it is given before it hands out the first row.
        batches = parquet.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
        waiting: list[pa.Table] = []
        for batch in batches:
            _check_memory(url, batch)
            table = pa.Table.from_batches([batch])
            table = table if selection.expression is None else table.filter(selection.expression)
            if table.num_rows:
                waiting.append(table.select(selection.stored))
            if waiting and sum(each.num_rows for each in waiting) + rows > _ROWS:
                yield pa.concat_tables(waiting)
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting)


def _choose_groups(file: Any, parquet: pq.ParquetFile, selection: Selection) -> list[int]:
    """List the row groups that may hold a row of the selection, by their statistics."""
    if selection.expression is None:
        return list(range(parquet.num_row_groups))
    fragment = ds.ParquetFileFormat().make_fragment(file)
    parts = fragment.split_by_row_group(selection.expression, parquet.schema_arrow)
    return [group.id for part in parts for group in part.row_groups]


def _check_ends(url: str, file: Any, shard: Shard) -> Any:
    """Compare size and footer with the manifest's, before Arrow uses the footer; wrap the file."""
    size = file.size() if callable(file.size) else file.size
    if size is None:  # without a size there are no ranges
        raise ValueError("the server states no size")
    if size != shard.bytes:
        raise _other_shard(url, f"it has {size:,} bytes, not {shard.bytes:,}")
    file.seek(max(0, size - FOOTER_END))  # also where no hash is known: a server without ranges shows itself here
    length = int.from_bytes(file.read(4), "little") + FOOTER_END
    if shard.footer_sha256 is None:
        file.seek(0)
        return file
    found, footer = f"a footer of {length:,} bytes", b""
    if length <= min(size, _FOOTER_BYTES):
        file.seek(size - length)
        footer = file.read(length)
        found = hashlib.sha256(footer).hexdigest()
    file.seek(0)
    if found != shard.footer_sha256:
        raise _other_shard(url, f"the SHA-256 of its footer is {found}, not {shard.footer_sha256}")
    if shard.chunk_sha256 is None:
        return file
    return CheckedChunks(file, footer, shard.chunk_sha256, lambda differs: _other_shard(url, differs), **_LIMITS)


def _batch_rows(url: str, group: Any, columns: Sequence[str]) -> int:
    """Choose how many rows are decoded at once, so that memory stays bounded for a page of one repeated value.

    A dictionary page serves all rows that refer to it: 12 kB of Parquet can be 3 GB of rows.
    """
    largest = 1
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema.partition(".")[0] not in columns:
            continue
        if column.num_values > _VALUES * max(1, group.num_rows) or column.total_uncompressed_size > _CHUNK_BYTES:
            raise RepositoryError(
                f"The shard {redact(url)} has a row group with {column.num_values:,} values in "
                f"{column.total_uncompressed_size:,} bytes of one column; rows have at most {_VALUES:,} values, and "
                f"columns {_CHUNK_BYTES:,} bytes. It is damaged. {_AGAIN}"
            )
        largest = max(largest, column.total_uncompressed_size)
    return max(1, min(_ROWS, _BATCH_BYTES // largest))


def _check_memory(url: str, batch: pa.RecordBatch) -> None:
    if batch.nbytes > max(_BATCH_BYTES // 16, _ROW_BYTES * batch.num_rows):
        raise RepositoryError(
            f"The shard {redact(url)} takes {batch.nbytes:,} bytes of memory for {batch.num_rows} rows, and may take "
            f"{_ROW_BYTES:,} for each. It is damaged. {_AGAIN}"
        )


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """Raise what Arrow and stores raise as an error that names the shard."""
    try:
        yield
    except Exception as error:
        # For broken pages pyarrow raises a bare OSError; what a store raises is a subclass or has a number.
        if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
            found = " ".join(str(error).split()).rstrip(".")
            raise RepositoryError(f"The shard {redact(url)} is not readable Parquet: {found}. {_AGAIN}") from error
        raise read_error(error, url, "shard", find_credentials(url))  # noqa: B904 (it has its cause)


def _open(url: str, shard: Shard) -> Any:
    """Open a shard that has proven to be the manifest's.

    Page checksums do not cover the headers of pages, so the whole file is hashed where that costs no transfer: on this
    machine once in a process, and remotely where all bytes come in one request. Of a large remote shard, which is read
    in parts, size, footer and each column chunk that is read are checked.
    """
    if not is_url(url):
        _check_local(url, shard)
        return pa.OSFile(url, "rb")  # native: no Python call for each read
    filesystem, path = open_filesystem(url, find_credentials(url))
    if shard.bytes > _WHOLE:
        # Arrow asks for the column chunks that it needs, and coalesces them; reading ahead would fetch the others too.
        file = filesystem.open(path, "rb", cache_type="none")
        try:
            return _check_ends(url, file, shard)
        except ValueError as error:  # raised by fsspec where a server sends no ranges
            if isinstance(error, ReasonKneeError | pa.ArrowException):
                raise
            warnings.warn(
                f"The server of {redact(url)} does not send ranges, or no size: each shard is downloaded whole to read "
                "a part of it. Serve the repository from a store with range requests, or download it.",
                RuntimeWarning,
                stacklevel=2,
            )
    data = fetch_bounded(filesystem, path, shard.bytes)
    if len(data) > shard.bytes:
        raise _other_shard(url, f"it has more than {shard.bytes:,} bytes")
    _compare(url, shard, len(data), hashlib.sha256(data))
    return pa.BufferReader(data)


def _check_local(url: str, shard: Shard) -> None:
    """Hash a file once in this process, for as long as it is the same file."""
    with os.fdopen(open_regular(url), "rb") as file:  # a named pipe would block for ever
        found = os.fstat(file.fileno())
        key = (url, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, shard.sha256)
        if key in _hashed:
            return
        digest = hashlib.sha256()
        while found.st_size == shard.bytes and (block := file.read(1 << 20)):
            digest.update(block)
    _compare(url, shard, found.st_size, digest)
    _hashed.add(key)


def _compare(url: str, shard: Shard, size: int, digest: Any) -> None:
    if size != shard.bytes:
        raise _other_shard(url, f"it has {size:,} bytes, not {shard.bytes:,}")
    if digest.hexdigest() != shard.sha256:
        raise _other_shard(url, f"its SHA-256 is {digest.hexdigest()}, not {shard.sha256}")


def _other_shard(url: str, differs: str) -> RepositoryError:
    """Build the error for a file that is not the shard of the manifest."""
    return RepositoryError(
        f"{redact(url)} is not the shard that the manifest lists: {differs}. It is damaged, or shards and manifest are "
        f"of two revisions. {_AGAIN}"
    )


def _check(url: str, parquet: pq.ParquetFile, shard: Shard, selection: Selection) -> None:
    rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
    if rows != shard.rows:
        raise _other_shard(url, f"it has {rows:,} rows, not {shard.rows:,}")
    for field in selection.stored_schema:
        found = schema.field(field.name).type if field.name in schema.names else "missing"
        if found != field.type:
            raise _other_shard(url, f"its column {field.name!r} is {found}, not {field.type}")


class CheckedChunks(io.RawIOBase):
    """A Parquet file of which Arrow receives verified bytes only.

    Checksums of pages do not cover the pages' headers: with some flipped bits in a header, Arrow returns other values
    without an error. A read that touches a column chunk therefore fetches the chunk whole and compares its SHA-256.

    Parameters
    ----------
    file : binary file
        The shard, seekable.
    footer : bytes
        The end of the file, verified: metadata, their length and the closing magic.
    hashes : sequence of str
        The SHA-256 of each column chunk, in the order of `chunk_ranges`.
    fail : callable
        Builds the error from what differs.
    limits : mapping
        Bounds that ``pyarrow.parquet.ParquetFile`` applies to the footer.
    """

    def __init__(
        self,
        file: Any,
        footer: bytes,
        hashes: Sequence[str],
        fail: Callable[[str], Exception],
        **limits: int,
    ) -> None:
        super().__init__()
        self._file, self._fail, self._at = file, fail, 0  # first: `close` runs on an object that could not be made, too
        self.footer = pa.BufferReader(footer)
        """All that planning a read needs, so that it costs no request."""
        self.metadata: pq.FileMetaData = pq.ParquetFile(self.footer, **limits).metadata
        ranges = chunk_ranges(self.metadata)
        if len(ranges) != len(hashes):
            raise fail(f"it has {len(ranges)} column chunks, but the manifest has hashes of {len(hashes)}")
        self._chunks = list(zip(ranges, hashes, strict=True))
        self._size: int = file.size() if callable(file.size) else file.size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in bytes."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read bytes; those of column chunks are verified."""
        start = self._at
        stop = self._size if size < 0 else min(start + size, self._size)
        touched = [each for each in self._chunks if each[0][0] < stop and start < each[0][1]]
        first = min([start, *(begin for (begin, _), _ in touched)])
        last = max([stop, *(end for (_, end), _ in touched)])
        self._file.seek(first)
        data = memoryview(self._file.read(last - first))
        for (begin, end), expected in touched:
            found = hashlib.sha256(data[begin - first : end - first]).hexdigest()
            if found != expected:
                raise self._fail(f"the SHA-256 of its bytes {begin:,} to {end - 1:,} is {found}, not {expected}")
        self._at = stop
        return bytes(data[start - first : stop - first])

    def close(self) -> None:
        """Close the file underneath too."""
        self._file.close()
        super().close()
