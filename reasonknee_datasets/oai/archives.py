"""Places that hold the files of one series: a folder, a tar archive or a part of a zip archive.

Nothing is ever unpacked to the disk: members are read into memory one after another, so that a path in an archive can
name no file of this machine. Numbers and sizes are limited before memory is taken.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import IO

from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.safe_paths import open_regular

MAX_FILES = 4_000  # most files of one series; OAI's largest has some hundreds
MAX_FILE_BYTES = 1 << 29  # most bytes of one file; a whole DESS series as one multi-frame file has 52 MB
MAX_SERIES_BYTES = 1 << 30  # most bytes of all files of one series
EVERYWHERE = "**"  # as `SeriesPlace.inside`: every member of a zip file, in whatever folder


@dataclass(frozen=True, slots=True)
class SeriesPlace:
    """Where the files of one series are."""

    path: str  # a folder, or a ``.tar``, ``.tar.gz``, ``.tgz`` or ``.zip`` file
    # Folder or tar archive within the zip file, empty for its top, `EVERYWHERE` for all members; empty for others.
    inside: str = ""

    def __str__(self) -> str:
        return f"{self.path}!{self.inside}" if self.inside else self.path

    def files(self, head: int = MAX_FILE_BYTES) -> Generator[tuple[str, bytes], None, None]:
        """Read every file of the series as (name, bytes), in no particular order.

        `head`: read no more than so many bytes of each; by default all. Raises Refusal if an archive is damaged, unsafe
        or larger than any series.
        """
        total = 0
        for number, (name, data) in enumerate(self._raw_files(head)):
            total += len(data)
            if number >= MAX_FILES or total > MAX_SERIES_BYTES:
                raise Refusal("too-large", f"{self} has more than {MAX_FILES:,} files or {MAX_SERIES_BYTES:,} bytes.")
            yield name, data

    def _raw_files(self, head: int) -> Iterator[tuple[str, bytes]]:
        try:
            if is_tar(self.path):
                with os.fdopen(open_regular(self.path), "rb") as file:
                    yield from _tar_files(file, str(self), head)
            elif is_zip(self.path):
                yield from self._zip_files(head)
            else:
                yield from self._folder_files(head)
        except Refusal:
            raise
        except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise Refusal("damaged-file", f"{self} cannot be read to its end ({reason}). Download it again.") from error
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unknown method of compression
            raise Refusal("unsafe-archive", f"{self} cannot be read: {error}. Unpack it.") from error

    def _folder_files(self, head: int) -> Iterator[tuple[str, bytes]]:
        with os.scandir(self.path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
        for name in names:
            path = Path(self.path, name)
            size = path.stat().st_size
            if min(size, head) > MAX_FILE_BYTES or (size > MAX_FILE_BYTES and head == MAX_FILE_BYTES):
                raise Refusal("too-large", f"{path} has {size:,} bytes, more than {MAX_FILE_BYTES:,}.")
            with os.fdopen(open_regular(path), "rb") as file:
                yield name, file.read(head)

    def _zip_files(self, head: int) -> Iterator[tuple[str, bytes]]:
        with os.fdopen(open_regular(self.path), "rb") as packed, zipfile.ZipFile(packed) as archive:
            if is_tar(self.inside):
                with archive.open(self.inside) as file:
                    yield from _tar_files(file, str(self), head)
                return
            for info in archive.infolist():
                folder = info.filename.rpartition("/")[0]
                if info.is_dir() or self.inside not in (folder, EVERYWHERE):
                    continue
                if info.file_size > MAX_FILE_BYTES:
                    raise Refusal("too-large", f"{self} has {info.filename} of {info.file_size:,} bytes (too many).")
                with archive.open(info) as file:
                    data = file.read(min(head, MAX_FILE_BYTES + 1))
                if len(data) != min(info.file_size, head):
                    raise Refusal("damaged-file", f"{self} states {info.file_size:,} bytes of {info.filename}.")
                yield info.filename.removeprefix(f"{folder}/"), data


def is_tar(path: str) -> bool:
    """Report whether a name is that of a tar archive."""
    return path.lower().endswith((".tar", ".tar.gz", ".tgz"))


def is_zip(path: str) -> bool:
    """Report whether a name is that of a zip archive."""
    return path.lower().endswith(".zip")


class _Limited(io.RawIOBase):
    """A stream that stops after a number of bytes, so that no archive can inflate without end."""

    def __init__(self, stream: IO[bytes], limit: int, label: str) -> None:
        self._stream, self._left, self._label = stream, limit, label

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise Refusal("too-large", f"{self._label} inflates to more than {MAX_SERIES_BYTES:,} bytes.")
        return data


class _Member(tarfile.TarInfo):
    """A member with a checked header: tarfile itself takes a cut or damaged header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if isinstance(error, EOFHeaderError):
                raise
            raise ReadError(f"its end is missing: {error}") from error


def _tar_files(file: IO[bytes], label: str, head: int) -> Iterator[tuple[str, bytes]]:
    """Read the regular files of a tar archive, gzipped or not, in one pass."""
    buffered = io.BufferedReader(file, 1 << 16) if isinstance(file, io.RawIOBase) else file
    zipped = file.peek(2)[:2] == b"\x1f\x8b" if hasattr(file, "peek") else label.lower().endswith("gz")
    plain: IO[bytes] = gzip.GzipFile(fileobj=buffered) if zipped else buffered  # type: ignore[assignment]
    # Includes the padding and headers of all files.
    limited = _Limited(plain, MAX_SERIES_BYTES + MAX_FILES * 2048, label)
    with tarfile.open(fileobj=limited, mode="r|", tarinfo=_Member) as archive:
        for number, member in enumerate(archive):
            if number > 4 * MAX_FILES:
                raise Refusal("too-large", f"{label} has more than {4 * MAX_FILES:,} members.")
            if member.isdir():
                continue
            _check_member(member, label)
            content = archive.extractfile(member)
            assert content is not None  # only of a member that is not a file
            data = content.read(head)
            if len(data) != min(member.size, head):
                raise Refusal("damaged-file", f"{label} ends within {member.name}. Download or pack it again.")
            yield member.name.removeprefix("./"), data
    while limited.read(1 << 16):  # the bytes after the last member, after which gzip's checksum is compared
        pass


def _check_member(member: tarfile.TarInfo, label: str) -> None:
    name = member.name
    if not member.isreg():
        raise Refusal("unsafe-archive", f"{label} has {name!r}, a link or a device. Pack it without.")
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise Refusal("unsafe-archive", f"{label} has {name!r}, a path out of the archive. Pack it again.")
    if member.size > MAX_FILE_BYTES:
        raise Refusal("too-large", f"{label} has {name!r} of {member.size:,} bytes, more than {MAX_FILE_BYTES:,}.")
