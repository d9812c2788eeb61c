"""Read the bytes of volume files: of those on this machine, and the choice of a source for a path or URL.

A source is a small value without a handle. Everything above it requests byte ranges together with the identity
that the file had when its header was read, so that a file replaced in between is noticed instead of mixed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from io import FileIO
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from reasonknee_datasets.errors import VolumeError, VolumeNotFoundError, os_remedy
from reasonknee_datasets.safe_paths import is_url, join, open_regular, stays_inside
from reasonknee_datasets.system import call_in_forked_child, read_at
from reasonknee_datasets.volumes.credentials import redact, redact_text

Range = tuple[int, int]
"""Half-open range of bytes of a file."""

Fetch = Callable[[Sequence[Range]], list[bytes]]
"""Reads ranges of one open file, each to its full length; may be called from several threads."""


class FileIdentity(NamedTuple):
    """Identity of one state of one file: its name, its size and a tag (mtime and inode, or etag)."""

    name: str
    size: int
    tag: str


class DamagedFileError(VolumeError):
    """Bytes that are missing, or contradict the header: the file is damaged, or was replaced after it was opened."""


class ByteSource(Protocol):
    """Bytes of one file."""

    @property
    def path(self) -> str:
        """Path or URL that opens the same file in another process."""

    @property
    def label(self) -> str:
        """Name for messages, without secrets."""

    @property
    def is_local(self) -> bool:
        """Whether the path can be mapped into memory, and small reads are cheap."""

    def identify(self, *, again: bool = False) -> FileIdentity:
        """Find the file's identity, without opening it where that is possible.

        That of a remote file is found once a process, unless `again` is True.
        """

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Read the first bytes (fewer where the file is shorter) together with the identity that they belong to."""

    def open(self, identity: FileIdentity) -> AbstractContextManager[Fetch]:
        """Open the file with this identity for reading ranges."""


class _ReadCount:
    """Bytes read by all threads of this process."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.total, self.lock = 0, threading.Lock()

    def add(self, count: int) -> None:
        with self.lock:
            self.total += count


_read_count = _ReadCount()
# The lock may be held by a thread that a fork does not copy.
call_in_forked_child(_read_count.renew)


def count_read(chunks: Sequence[bytes]) -> None:
    """Add what a source has just read to `bytes_read`."""
    _read_count.add(sum(map(len, chunks)))


def bytes_read() -> int:
    """Return how many bytes of volume files this process has read, headers and retries included.

    The difference of two calls is what was read in between. An uncompressed local ``.nii`` is mapped into memory, and
    not counted.

    Examples
    --------
    >>> before = bytes_read()
    >>> bytes_read() - before
    0
    """
    return _read_count.total


def read_whole(source: ByteSource, identity: FileIdentity) -> bytes:
    """Read all bytes of a file."""
    with source.open(identity) as fetch:
        return fetch([(0, identity.size)])[0]


def check_same(label: str, expected: FileIdentity, found: FileIdentity) -> None:
    """Refuse a file that has changed since its header was read."""
    if found != expected:
        change = "it has been replaced or rewritten"
        if found.size != expected.size:
            change = f"it has {found.size} bytes, and had {expected.size}"
        raise DamagedFileError(
            f"The volume file {label} changed after it was opened: {change}. Open it again with open_volume."
        )


def check_lengths(label: str, ranges: Sequence[Range], chunks: Sequence[bytes]) -> list[bytes]:
    """Refuse a short read."""
    for (start, stop), chunk in zip(ranges, chunks, strict=True):
        if len(chunk) != stop - start:
            raise DamagedFileError(
                f"Only {len(chunk)} of {stop - start} bytes at byte {start} of {label} could be read. The file is "
                "truncated or changed: copy it again."
            )
    return list(chunks)


def unreadable(path: str, error: BaseException) -> VolumeError:
    """Convert the error of a file system into one that names the file and the setting to use."""
    label = redact(path)
    # fsspec's HTTP raises FileNotFoundError for any fault; its cause is the real error.
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, FileNotFoundError | NotADirectoryError) or getattr(error, "status", None) == 404:
        return VolumeNotFoundError(
            f"The volume file {label} does not exist. Check the path, copy the file there, or name the folder that "
            "contains volumes/ with volumes_dir= or REASONKNEE_VOLUMES."
        )
    remedy = os_remedy(error, "Check its permissions and the store's storage_options (see set_credentials)")
    reason = f"{type(error).__name__}: {redact_text(str(error).replace(path, label))}"
    return VolumeError(f"The volume file {label} cannot be read ({reason}). {remedy}.")


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

    def identify(self, *, again: bool = False) -> FileIdentity:
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

    def identify(self, *, again: bool = False) -> FileIdentity:
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


def find_source(path_or_url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> ByteSource:
    """Choose the source of a path or URL; nothing is opened.

    Examples
    --------
    >>> find_source("s3://bucket/knee.nii.gz").label
    's3://bucket/knee.nii.gz'
    >>> type(find_source("knee.nii.gz")).__name__
    'LocalSource'
    """
    text = os.fspath(path_or_url)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if is_url(text):
        from reasonknee_datasets.volumes.remote_source import RemoteSource  # which is built on this module

        return RemoteSource(text, dict(storage_options) if storage_options else None)
    return LocalSource(os.path.abspath(text))  # noqa: PTH100 (Path.absolute keeps the ".." that would split identities)


def find_moved(path: str) -> ByteSource | None:
    """Find the source of a volume of a moved repository, in the folder or URL that REASONKNEE_VOLUMES names.

    Saved data sets and pickles hold the place where a volume was. Its path within the repository,
    ``volumes/<patient>/<file>``, stays the same.

    Examples
    --------
    >>> find_moved("/old/3dreasonknee/volumes/9016403/00M_right.nii.gz") is None  # the variable is not set
    True
    """
    root = os.environ.get("REASONKNEE_VOLUMES", "").strip()
    parts = re.split(r"[/\\]", path)[-3:]
    if not root or len(parts) != 3 or parts[0] != "volumes" or not stays_inside("/".join(parts)):
        return None
    moved = find_source(join(root, "/".join(parts)))
    return None if moved.path == path else moved
