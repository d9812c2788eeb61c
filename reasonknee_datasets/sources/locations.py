"""Places: absolute local folders and fsspec URLs, as strings without secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec import available_protocols

from reasonknee_datasets.errors import ReasonKneeError, RepositoryError, RepositoryNotFoundError, os_remedy
from reasonknee_datasets.plain_paths import is_url
from reasonknee_datasets.volumes import find_credentials, set_credentials
from reasonknee_datasets.volumes.credentials import redact, redact_text, shows_secret, split_hops
from reasonknee_datasets.volumes.filesystems import store_errors


def to_place(given: str | os.PathLike[str], setting: str) -> str:
    """Write a folder or URL in the one form that the loader uses: absolute, without a slash at its end.

    Parameters
    ----------
    given : str or path
        Argument or setting of the user.
    setting : str
        Where: the name of an argument or of an environment variable, for messages.

    Raises
    ------
    RepositoryError
        If a URL carries a user name, a password or a query. It would end up in Arrow files and fingerprints.

    Examples
    --------
    >>> to_place("https://host/3dreasonknee/", "data_dir")
    'https://host/3dreasonknee'
    >>> to_place("https://me:secret@host/3dreasonknee", "data_dir")
    Traceback (most recent call last):
        ...
    reasonknee_datasets.errors.RepositoryError: data_dir must not hold credentials or a query, as in ...
    """
    text = os.fspath(given)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if not is_url(text):
        return str(Path(os.path.abspath(Path(text).expanduser())))  # noqa: PTH100 (absolute() keeps "..")
    for hop in text.split("::"):
        if "://" in hop and ("@" in urlsplit(hop).netloc or urlsplit(hop).query):
            raise RepositoryError(
                f"{setting} must not hold credentials or a query, as in {redact(hop)}. Pass keys and tokens with "
                "storage_options= or token=, which are written nowhere."
            )
    return text.rstrip("/")


def keep_credentials(place: str | None, storage_options: Mapping[str, Any] | None, token: bool | str | None) -> None:
    """Register the storage options of a place, for this process only.

    Parameters
    ----------
    place : str or None
        A place; only a URL needs anything.
    storage_options : mapping, optional
        Options of fsspec for it. Where data and volumes are in different stores, options may be keyed by protocol, as
        fsspec allows for chained URLs: ``{"s3": {"key": ...}, "https": {"headers": ...}}``.
    token : str or bool, optional
        The Hub's, used for ``hf://`` only.
    """
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise RepositoryError(  # the type and never the value, which may be a secret
            f"storage_options must be a mapping, not a {type(storage_options).__name__}. Write it as "
            '{"key": ..., "secret": ...}.'
        )
    if place is None or not is_url(place):
        return
    store = _store_of(place)
    protocol = store.partition("://")[0]
    options = dict(storage_options or {})
    if options and all(name in available_protocols() for name in options):
        options = dict(options.get(protocol, {}))
    if protocol == "hf" and token is not None:
        options["token"] = token
    if protocol == "hf" and options:
        # A pickled IterableDataset carries every cached HfFileSystem along, and with it the token.
        options["skip_instance_cache"] = True
    if options:
        set_credentials(store, options)


def _store_of(place: str) -> str:
    """Return the last hop of a chained URL, which is the store that credentials open."""
    return split_hops(place)[-1] if is_url(place) else place


@contextmanager
def trying_credentials(
    place: str | None, storage_options: Mapping[str, Any] | None, token: bool | str | None
) -> Iterator[None]:
    """Register the storage options of a place, and remove them again if it cannot be opened."""
    keep_credentials(place, storage_options, token)
    try:
        yield
    except RepositoryError:
        if place is not None and (storage_options or token):
            set_credentials(_store_of(place), None)
        raise


@contextmanager
def reading(url: str, what: str) -> Iterator[None]:
    """Convert any error of a store into one error that names the place and a remedy."""
    try:
        yield
    except ReasonKneeError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        message = (
            f"The {what} {redact(url)} does not exist. Copy the repository whole, or prepare it again: reasonknee "
            "prepare --release RELEASE --out FOLDER."
        )
        raise RepositoryNotFoundError(message) from (None if shows_secret(error) else error)
    except TypeError as error:
        if not find_credentials(url):
            raise
        raise RepositoryError(
            f"The store of {redact(url)} does not accept these storage_options: {error}. Pass what fsspec takes for "
            f"{url.partition('://')[0]}://."
        ) from error
    except store_errors() as error:
        got = f"{type(error).__name__}: {redact_text(' '.join(str(error).split()))}".rstrip(".: ")
        remedy = "Check the address; pass storage_options= or token= if it needs credentials"
        if not is_url(url):
            remedy = os_remedy(error, "Check the disk or the connection")
        if isinstance(error, ImportError):
            store = _store_of(url).partition("://")[0]
            remedy = f"Install the file system that fsspec needs for {store}://"
            if store in {"s3", "s3a"}:
                remedy = 'Run: pip install "reasonknee_datasets[s3]"'
        message = f"The {what} {redact(url)} cannot be read: {got}. {remedy}."
        raise RepositoryError(message) from (None if shows_secret(error) else error)
