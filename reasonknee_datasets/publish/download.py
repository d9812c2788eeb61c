"""Download of the official annotations at one revision, each file compared with the Hub's own record of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reasonknee_datasets.errors import PublishError, os_remedy
from reasonknee_datasets.publish.hub_calls import call_hub, open_hub
from reasonknee_datasets.safe_paths import open_regular
from reasonknee_datasets.schema import OFFICIAL

REVISION = "7a611f92fd3ad3954e8b62feef49ee12bfef725a"
"""The commit of the official release that this version was written for."""
_THREADS = 4
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Downloaded:
    """Outcome of `download`.

    Attributes
    ----------
    path : Path
        The release, as `prepare` takes it.
    revision : str
        Its commit.
    files, bytes : int
        Files that were compared with the Hub's sizes and hashes.
    """

    path: Path
    revision: str
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.path}: {self.files:,} files, {self.bytes:,} bytes of revision {self.revision}, all verified"


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the Hub lists it; ``sha256`` for large files, else the hash that git gives its content."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str


def download(
    out: str | os.PathLike[str],
    *,
    revision: str = REVISION,
    repo_id: str = OFFICIAL,
    masks: bool = True,
    token: bool | str | None = None,
    progress: bool = True,
) -> Downloaded:
    """Download the official release into a folder that `prepare` takes.

    It has no images: see the guide "From OAI archives to a repository". A download that was interrupted is resumed by
    the same call.

    Parameters
    ----------
    out : path
        The folder.
    revision : str, optional
        Commit, tag or branch; by default the commit that this version was written for.
    repo_id : str, optional
        The dataset repository.
    masks : bool, optional
        Whether the segmentation masks are downloaded, from which the convention of the boxes is established.
    token : str or bool, optional
        The Hub's; by default that of ``hf auth login`` or ``HF_TOKEN``.
    progress : bool, optional
        Whether progress bars are shown.

    Returns
    -------
    Downloaded

    Raises
    ------
    PublishError
        If the Hub refuses, or a file is not the one that it lists, also after a second download.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    folder = Path(out).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # before the requests to the Hub, which may take minutes
        remedy = os_remedy(error, "Choose another folder")
        raise PublishError(f"The release cannot be downloaded to {folder}: {error.strerror}. {remedy}.") from error
    hub = open_hub(token)
    doing = f"reading {repo_id} at {revision}"
    about: dict[str, Any] = {"repo_id": repo_id, "repo_type": "dataset"}
    commit = str(call_hub(hub.repo_info, revision=revision, doing=doing, first=True, **about).sha)
    ignored = [] if masks else ["data/masks/*", "masks/*"]
    wanted = list(_list_files(call_hub(_list_tree, hub, commit, doing=doing, **about), ignored))
    if not wanted:
        raise PublishError(f"{repo_id} has no files at {revision}. Check the name and the revision.")
    if not progress:
        disable_progress_bars()
    try:
        for attempt in range(2):
            call_hub(
                hub.snapshot_download,
                revision=commit,
                local_dir=folder,
                ignore_patterns=ignored,
                doing=f"downloading {repo_id}",
                **about,
            )
            wrong = _compare(folder, wanted)
            if not wrong:
                return Downloaded(folder, commit, len(wanted), sum(file.size for file in wanted))
            if attempt == 0:
                for file in wrong:  # only what is absent is downloaded again
                    (folder / file.path).unlink(missing_ok=True)
    finally:
        if not progress:
            enable_progress_bars()
    names = ", ".join(file.path for file in wrong[:_SHOWN])
    raise PublishError(
        f"{len(wrong):,} files differ in size or hash from what {repo_id} lists at {commit}: {names}. Check the disk "
        "and the connection (a proxy may change files), then run again."
    )


def _list_tree(hub: Any, commit: str, **about: Any) -> list[Any]:
    return list(hub.list_repo_tree(recursive=True, revision=commit, **about))


def _list_files(tree: Sequence[Any], ignored: Sequence[str]) -> Iterator[_Remote]:
    from huggingface_hub import RepoFile

    for item in tree:
        if isinstance(item, RepoFile) and not any(fnmatchcase(item.path, pattern) for pattern in ignored):
            yield _Remote(item.path, item.size, item.lfs.sha256 if item.lfs else None, item.blob_id)


def _compare(folder: Path, wanted: Sequence[_Remote]) -> list[_Remote]:
    """Return the files that are absent or differ from what the Hub lists."""
    with ThreadPoolExecutor(_THREADS) as pool:
        same = pool.map(lambda file: _is_same(folder / file.path, file), wanted)
        return [file for file, found in zip(wanted, same, strict=True) if not found]


def _is_same(path: Path, file: _Remote) -> bool:
    digest: Any = hashlib.sha256()
    if file.sha256 is None:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    size = 0
    try:
        with os.fdopen(open_regular(path), "rb") as opened:
            while size <= file.size and (block := opened.read(1 << 20)):
                digest.update(block)
                size += len(block)
    except OSError:
        return False
    return size == file.size and digest.hexdigest() == (file.sha256 or file.git_sha1)
