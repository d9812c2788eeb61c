"""Volume files on this machine, and files that have been read already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO

from reasonknee_datasets.private_files import open_regular
from reasonknee_datasets.system import read_at
from reasonknee_datasets.volumes.byte_source import (
    Fetch,
    FileIdentity,
    Range,
    check_lengths,
    check_same,
    count_read,
    unreadable,
)
from reasonknee_datasets.volumes.credentials import redact


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file on this machine; each opener closes it."""

    path: str

    @property
    def label(self) -> str:
        """The path."""
        return self.path

    @property
    def is_local(self) -> bool:
        """Yes."""
        return True

    def identify(self) -> FileIdentity:
        """Find the file's present identity by ``stat``."""
        try:
            return self._identity(os.stat(self.path))  # noqa: PTH116 (called before every read; a Path costs 20 us)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Read the first bytes and the identity from one open file."""
        with self._opened() as file:
            try:
                head = _read_fully(file.fileno(), (0, count))
                count_read([head])
                return self._identity(os.fstat(file.fileno())), head
            except OSError as error:
                raise unreadable(self.path, error) from error

    @contextmanager
    def open(self, identity: FileIdentity) -> Iterator[Fetch]:
        """Open once for many ranges; ``pread`` needs no lock between threads."""

        def fetch(ranges: Sequence[Range]) -> list[bytes]:
            try:
                descriptor = file.fileno()
                chunks = [_read_fully(descriptor, span) for span in ranges]
            except OSError as error:
                raise unreadable(self.path, error) from error
            count_read(chunks)
            return check_lengths(self.label, ranges, chunks)

        with self._opened() as file:
            check_same(self.label, identity, self._identity(os.fstat(file.fileno())))
            yield fetch

    def _opened(self) -> FileIO:
        try:
            return FileIO(open_regular(self.path))
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _identity(self, stat: os.stat_result) -> FileIdentity:
        return FileIdentity(self.path, stat.st_size, f"{stat.st_dev}:{stat.st_ino}:{stat.st_mtime_ns}")


def _read_fully(descriptor: int, span: Range) -> bytes:
    """Read a range; one ``pread`` reads at most 2 GiB, and less on some network file systems."""
    start, stop = span
    chunk = read_at(descriptor, stop - start, start)
    if len(chunk) == stop - start:  # as nearly always
        return chunk
    chunks: list[bytes] = []
    while chunk:
        chunks.append(chunk)
        start += len(chunk)
        chunk = read_at(descriptor, stop - start, start) if start < stop else b""
    return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class HeldSource:
    """A file that has been read already."""

    path: str
    identity: FileIdentity
    data: bytes = field(repr=False)

    @property
    def label(self) -> str:
        """The path or URL, without secrets."""
        return redact(self.path)

    @property
    def is_local(self) -> bool:
        """No: the path may be a URL, or name a newer file by now."""
        return False

    def identify(self) -> FileIdentity:
        """Return the identity that the bytes belong to."""
        return self.identity

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Return the first bytes."""
        return self.identity, self.data[:count]

    @contextmanager
    def open(self, identity: FileIdentity) -> Iterator[Fetch]:
        """Return slices of the bytes; a slice of all of them is not copied."""
        check_same(self.label, identity, self.identity)
        yield lambda ranges: check_lengths(self.label, ranges, [self.data[start:stop] for start, stop in ranges])
