"""Read a remote Parquet file in ranges, and compare each column chunk with its hash before Arrow parses it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.manifest import chunk_ranges


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
