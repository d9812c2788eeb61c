"""Where the bytes of a volume file come from: a local file or an fsspec URL.

A source is a small value that holds no handle. Everything above it asks for byte ranges together with the identity
that the file had when its header was read, so that a file replaced in between is noticed instead of mixed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import fsspec

from reasonknee_datasets.errors import VolumeError, VolumeNotFoundError, explain
from reasonknee_datasets.volumes.credentials import find_credentials, redact

Range = tuple[int, int]
"""Half-open range of bytes of a file."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells one state of one file from every other: its name, its size and a tag (mtime and inode, or etag)."""

    name: str
    size: int
    tag: str


class Source(Protocol):
    """Bytes of one file."""

    @property
    def path(self) -> str:
        """Path or URL that opens the same file in another process."""

    @property
    def label(self) -> str:
        """Name for messages, without secrets."""

    def identify(self) -> FileIdentity:
        """Find the file's present identity, without opening it where that is possible."""

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Read the first bytes (fewer where the file is shorter) together with the identity that they belong to."""

    def read(self, ranges: Sequence[Range], identity: FileIdentity) -> list[bytes]:
        """Read byte ranges of the file with this identity, each to its full length."""


def find_source(path_or_url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Source:
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
    if "://" in text or "::" in text:
        return RemoteSource(text, dict(storage_options) if storage_options else None)
    return LocalSource(os.path.abspath(text))  # noqa: PTH100 (Path.absolute keeps the ".." that would split identities)


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file on this machine; each call opens it once and closes it again."""

    path: str

    @property
    def label(self) -> str:
        """The path."""
        return self.path

    def identify(self) -> FileIdentity:
        """Find the file's present identity by ``stat``."""
        try:
            return self._identity(Path(self.path).stat())
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Read the first bytes and the identity from one open file."""
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                return self._identity(os.fstat(file.fileno())), _read_fully(file.fileno(), 0, count)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read(self, ranges: Sequence[Range], identity: FileIdentity) -> list[bytes]:
        """Read byte ranges with one open."""
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                check_same(self.label, identity, self._identity(os.fstat(file.fileno())))
                chunks = [_read_fully(file.fileno(), start, stop - start) for start, stop in ranges]
        except VolumeError:
            raise
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return check_lengths(self.label, ranges, chunks)

    def _identity(self, stat: os.stat_result) -> FileIdentity:
        return FileIdentity(self.path, stat.st_size, f"{stat.st_dev}:{stat.st_ino}:{stat.st_mtime_ns}")


@dataclass(frozen=True, slots=True)
class HeldSource:
    """A file whose bytes have been read already."""

    path: str
    identity: FileIdentity
    data: bytes = field(repr=False)

    @property
    def label(self) -> str:
        """The path or URL, without secrets."""
        return redact(self.path)

    def identify(self) -> FileIdentity:
        """Give the identity that the bytes belong to."""
        return self.identity

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Give the first bytes."""
        return self.identity, self.data[:count]

    def read(self, ranges: Sequence[Range], identity: FileIdentity) -> list[bytes]:
        """Give slices of the bytes; the whole of them is no copy."""
        check_same(self.label, identity, self.identity)
        return check_lengths(self.label, ranges, [self.data[start:stop] for start, stop in ranges])


def _read_fully(descriptor: int, start: int, count: int) -> bytes:
    """Read up to `count` bytes; one ``pread`` gives at most 2 GiB, and fewer on some network file systems."""
    chunks = []
    while count > 0 and (chunk := os.pread(descriptor, count, start)):
        chunks.append(chunk)
        start, count = start + len(chunk), count - len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


# One look at a remote file's size and etag a process: asking again before every read would double the requests.
_identities: dict[tuple[str, str], FileIdentity] = {}
_identities_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A file behind any fsspec URL."""

    path: str
    storage_options: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The URL without user names, passwords and query."""
        return redact(self.path)

    def identify(self) -> FileIdentity:
        """Find size and etag, once a process."""
        options = self._options()
        key = (self.path, fsspec.utils.tokenize(options))
        if (known := _identities.get(key)) is not None:
            return known
        try:
            filesystem, path = fsspec.core.url_to_fs(self.path, **options)
            info = filesystem.info(path)
        except Exception as error:  # noqa: BLE001 (every store has its own errors)
            raise _unreadable(self.path, error) from _shown(self.path, error)
        tag = next((str(info[name]) for name in ("ETag", "etag", "mtime", "LastModified", "md5") if info.get(name)), "")
        if info.get("size") is None:
            remedy = "Use a server that sends Content-Length, or download the file"
            raise VolumeError(explain("remote volume", "have a known size", "none", remedy, where=f"from {self.label}"))
        # The token stands in for the options: one URL behind two endpoints is two files.
        identity = FileIdentity(f"{self.path}@{key[1]}", int(info["size"]), tag)
        with _identities_lock:
            return _identities.setdefault(key, identity)

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Read the first bytes with one ranged request."""
        identity = self.identify()
        return identity, self.read([(0, min(count, identity.size))], identity)[0]

    def read(self, ranges: Sequence[Range], identity: FileIdentity) -> list[bytes]:
        """Read byte ranges with ranged requests."""
        try:
            filesystem, path = fsspec.core.url_to_fs(self.path, **self._options())
            chunks = [filesystem.cat_file(path, start=start, end=stop) for start, stop in ranges]
        except Exception as error:  # noqa: BLE001 (every store has its own errors)
            raise _unreadable(self.path, error) from _shown(self.path, error)
        return check_lengths(self.label, ranges, chunks)

    def _options(self) -> dict[str, Any]:
        return self.storage_options if self.storage_options is not None else find_credentials(self.path)


def check_same(label: str, expected: FileIdentity, found: FileIdentity) -> None:
    """Refuse a file that is no longer the one whose header was read."""
    if found != expected:
        got = f"{found.size} bytes where {expected.size} were" if found.size != expected.size else "a newer file"
        remedy = "Open it again with open_volume"
        raise VolumeError(explain("volume file", "stay as it was when it was opened", got, remedy, where=f"in {label}"))


def check_lengths(label: str, ranges: Sequence[Range], chunks: Sequence[bytes]) -> list[bytes]:
    """Refuse a short read."""
    for (start, stop), chunk in zip(ranges, chunks, strict=True):
        if len(chunk) != stop - start:
            got, remedy = f"{len(chunk)} bytes at {start}", "The file is truncated or changed: copy it again"
            raise VolumeError(explain("read", f"give {stop - start} bytes", got, remedy, where=f"from {label}"))
    return list(chunks)


def _unreadable(path: str, error: Exception) -> VolumeError:
    """Turn whatever a file system says into one error that names the file and the setting to use."""
    label = redact(path)
    # fsspec's HTTP says "not found" for whatever went wrong; its cause knows better.
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, FileNotFoundError | NotADirectoryError) or getattr(error, "status", None) == 404:
        remedy = "Say where the volumes are with volumes_dir= or REASONKNEE_VOLUMES, or copy the file there"
        return VolumeNotFoundError(explain("volume file", "exist", label, remedy))
    remedy = "Check its permissions and the store's storage_options (see set_credentials)"
    got = f"{type(error).__name__}: {str(error).replace(path, label)}"
    return VolumeError(explain("volume file", "be readable", got, remedy, where=f"from {label}"))


def _shown(path: str, error: Exception) -> Exception | None:
    """Give the cause to chain, except where its text may repeat a secret of the URL."""
    return error if redact(path) == path else None
