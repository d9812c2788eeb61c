"""Errors of reading a prepared repository: what its store answered, or the official release in its place."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reasonknee_datasets.errors import ReasonKneeError, RepositoryError, RepositoryNotFoundError, os_remedy
from reasonknee_datasets.safe_paths import is_url, join
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.credentials import redact, redact_text, shows_secret, split_hops
from reasonknee_datasets.volumes.filesystems import open_filesystem, store_errors

PREPARE_COMMAND = "reasonknee prepare --release RELEASE --out FOLDER"
# Entries of an official release that a prepared repository never has.
_OFFICIAL = (
    "data/split_files/all_studies.csv",
    "split_files/all_studies.csv",
    "data/generate_data/train.json",
    "generate_data/train.json",
    "data/split_files",
    "data/generate_data",
)


@contextmanager
def reading(url: str, what: str) -> Iterator[None]:
    """Raise any error of the store of a URL as one error that names the place and a remedy.

    Parameters
    ----------
    url : str
        File or folder that is read.
    what : str
        What it is, for the message.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (one that is not of a store is raised as it is)
        raise read_error(error, url, what, find_credentials(url))  # noqa: B904 (it has its cause)


def read_error(error: Exception, url: str, what: str, options: Mapping[str, Any]) -> Exception:
    """Convert an error of a store; it has the original as its cause, unless that shows a secret.

    Errors of this package, and those that no store raises, are returned as they are.
    """
    if isinstance(error, ReasonKneeError) or not isinstance(error, (TypeError, *store_errors())):
        return error
    if isinstance(error, TypeError) and not options:
        return error
    found = _store_error(error, url, what)
    found.__cause__ = None if shows_secret(error) else error
    return found


def _store_error(error: Exception, url: str, what: str) -> RepositoryError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        again = f"Copy the repository whole, or prepare it again: {PREPARE_COMMAND}."
        return RepositoryNotFoundError(f"The {what} {redact(url)} does not exist. {again}")
    store = split_hops(url)[-1].partition("://")[0]
    if isinstance(error, TypeError):
        return RepositoryError(
            f"The store of {redact(url)} does not accept these storage_options: {error}. Pass what fsspec takes for "
            f"{store}://."
        )
    got = f"{type(error).__name__}: {redact_text(' '.join(str(error).split()))}".rstrip(".: ")
    remedy = "Check the address; pass storage_options= or token= if it needs credentials"
    if not is_url(url):
        remedy = os_remedy(error, "Check the disk or the connection")
    elif isinstance(error, ImportError):
        remedy = f"Install the file system that fsspec needs for {store}://"
        if store in {"s3", "s3a"}:
            remedy = 'Run: pip install "reasonknee_datasets[s3]"'
    return RepositoryError(f"The {what} {redact(url)} cannot be read: {got}. {remedy}.")


def refuse_official(root: str, options: Mapping[str, Any]) -> None:
    """Raise if a place holds the official release, as its users download it.

    Raises
    ------
    RepositoryError
        With the command that prepares it.
    """
    if is_url(root):  # nothing can be listed: one file is asked for
        remedy = "Download it to DIR, then run: reasonknee prepare --release DIR --out 3dreasonknee"
        is_official = False
        with suppress(*store_errors()):  # the caller has an error of its own, which shows no secret of the URL
            filesystem, path = open_filesystem(join(root, _OFFICIAL[0]), options)
            is_official = filesystem.exists(path)
    else:
        remedy = f"Run: reasonknee prepare --release {shlex.quote(root)} --out 3dreasonknee"
        is_official = any(Path(root, name).exists() for name in _OFFICIAL)
    if is_official:
        raise RepositoryError(
            f"{redact(root)} is the official release, which must be prepared first. {remedy}, and load that."
        )
