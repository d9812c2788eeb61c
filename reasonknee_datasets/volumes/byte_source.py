"""Protocol of a source of bytes: local files and URLs.

A source is a small value without a handle. Everything above it requests byte ranges together with the identity
that the file had when its header was read, so that a file replaced in between is noticed instead of mixed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from reasonknee_datasets.errors import VolumeError, VolumeNotFoundError, os_remedy
from reasonknee_datasets.system import call_in_forked_child
from reasonknee_datasets.volumes.credentials import redact, redact_text

Range = tuple[int, int]
"""Half-open range of bytes of a file."""

Fetch = Callable[[Sequence[Range]], list[bytes]]
"""Reads ranges of one open file, each to its full length; may be called from several threads."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Identity of one state of one file: its name, its size and a tag (mtime and inode, or etag)."""

    name: str
    size: int
    tag: str


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

    def identify(self) -> FileIdentity:
        """Find the file's present identity, without opening it where that is possible."""

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
        raise VolumeError(
            f"The volume file {label} changed after it was opened: {change}. Open it again with open_volume."
        )


def check_lengths(label: str, ranges: Sequence[Range], chunks: Sequence[bytes]) -> list[bytes]:
    """Refuse a short read."""
    for (start, stop), chunk in zip(ranges, chunks, strict=True):
        if len(chunk) != stop - start:
            raise VolumeError(
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
