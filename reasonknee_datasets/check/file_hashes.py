"""Comparison of every file of a repository with its size and SHA-256 in the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from tqdm.auto import tqdm

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.read_errors import reading
from reasonknee_datasets.safe_paths import is_url, join, open_regular
from reasonknee_datasets.sources import find_place, find_volumes, keep_credentials, open_repository
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import open_filesystem

_THREADS = 4  # hashing releases the lock; more would only make a disk seek
_BLOCK = 1 << 20
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that is absent, cannot be read, or is not the one that the manifest lists."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(frozen=True, slots=True)
class FileReport:
    """Outcome of `check_files`; its string is what ``reasonknee check --files`` prints.

    Attributes
    ----------
    location : str
        The repository.
    files, bytes : int
        Numbers of compared files.
    unlisted : int
        Volumes without a hash in the manifest, since the repository was prepared without images.
    problems : tuple of FileProblem
        In the order of the manifest.
    """

    location: str
    files: int
    bytes: int
    unlisted: int
    problems: tuple[FileProblem, ...]

    def __str__(self) -> str:
        lines = [f"{self.location}: {self.files:,} files, {self.bytes:,} bytes compared with the manifest"]
        if self.unlisted:
            lines.append(f"{self.unlisted:,} volumes have no hash: the repository was prepared without images")
        lines += [str(each) for each in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"... and {len(self.problems) - _SHOWN:,} more")
        found = f"{len(self.problems):,} files differ" if self.problems else "all files are as listed"
        return "\n".join([*lines, found])


@dataclass(frozen=True, slots=True)
class _Listed:
    path: str
    place: str
    bytes: int
    sha256: str


def check_files(
    data_dir: str | os.PathLike[str],
    *,
    volumes_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> FileReport:
    """Compare every file of a prepared repository with the size and SHA-256 in its manifest.

    The whole repository is read: shards, volumes, priors and card. Reading rows and voxels checks what it needs by
    itself; this check covers everything, and files whose formats have no checksum.

    Parameters
    ----------
    data_dir : str or path
        A folder or any fsspec URL.
    volumes_dir : str or path, optional
        The place that contains ``volumes/``, if not the repository; by default ``REASONKNEE_VOLUMES``.
    storage_options : mapping, optional
        Given to fsspec; never kept.
    progress : bool
        Whether a progress bar is shown.

    Returns
    -------
    FileReport

    Raises
    ------
    RepositoryNotFoundError
        If there is no manifest.
    RepositoryError
        If the manifest is damaged or cannot be read.
    """
    root = find_place(data_dir)
    assert root is not None, "a place is found wherever one is named"
    keep_credentials(root, storage_options, None)
    volumes = find_volumes(volumes_dir, root)
    keep_credentials(volumes, storage_options, None)
    manifest = open_repository(root).manifest
    listed = list(_list_files(manifest, root, volumes))
    with ThreadPoolExecutor(_THREADS) as pool:
        total = sum(each.bytes for each in listed)
        with tqdm(total=total, unit="B", unit_scale=True, disable=None if progress else True) as bar:
            found = list(pool.map(lambda each: _compare(each, bar), listed))
    problems = tuple(FileProblem(each.path, text) for each, text in zip(listed, found, strict=True) if text)
    unlisted = sum(record.sha256 is None for record in manifest.volumes.values())
    return FileReport(root, len(listed), total, unlisted, problems)


def _list_files(manifest: Manifest, root: str, volumes: str) -> Iterator[_Listed]:
    for shard in manifest.all_shards():
        yield _Listed(shard.path, join(root, shard.path), shard.bytes, shard.sha256)
    for path, other in manifest.files.items():
        yield _Listed(path, join(root, path), other.bytes, other.sha256)
    for path, record in manifest.masks.items():
        if record.sha256 is not None and record.bytes is not None:
            yield _Listed(path, join(root, path), record.bytes, record.sha256)
    for path, record in manifest.volumes.items():
        if record.sha256 is not None and record.bytes is not None:
            yield _Listed(path, join(volumes, path), record.bytes, record.sha256)


def _compare(listed: _Listed, bar: Any) -> str:
    """Describe what is wrong with a file; an empty string where nothing is."""
    try:
        with reading(listed.place, "file"), open_place(listed.place, block_size=8 * _BLOCK) as file:
            digest, size = hashlib.sha256(), 0
            while size <= listed.bytes and (block := file.read(_BLOCK)):  # no endless body
                digest.update(block)
                size += len(block)
                bar.update(len(block))
    except RepositoryNotFoundError:
        return "is missing"
    except RepositoryError as error:
        return f"cannot be read ({error.__cause__ or error})"
    if size != listed.bytes:
        more = "more than " if size > listed.bytes else ""
        return f"has {more}{min(size, listed.bytes):,} bytes, not {listed.bytes:,}"
    if digest.hexdigest() != listed.sha256:
        return f"has SHA-256 {digest.hexdigest()}, not {listed.sha256}"
    return ""


def open_place(place: str, **options: Any) -> BinaryIO:
    """Open a file of a repository, local or remote, for reading in parts; options are of a remote file's cache."""
    if not is_url(place):
        return os.fdopen(open_regular(place), "rb")
    filesystem, path = open_filesystem(place, find_credentials(place))
    return cast("BinaryIO", filesystem.open(path, "rb", cache_type="readahead", **options))
