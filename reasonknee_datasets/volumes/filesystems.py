"""fsspec file systems for URLs, with the HTTP session that keeps credentials and limits answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from reasonknee_datasets.plain_paths import is_url
from reasonknee_datasets.private_files import read_regular
from reasonknee_datasets.volumes.credentials import split_hops
from reasonknee_datasets.volumes.http_session import ServerLimitError, open_http_session


def open_filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and its path there."""
    from fsspec.core import url_to_fs  # 60 ms: not paid where only types are wanted

    given = dict(options)
    hops = split_hops(url)
    for protocol in {hop.partition("://")[0] for hop in hops} & {"http", "https"}:
        if len(hops) == 1:
            given.setdefault("get_client", open_http_session)
        else:
            given[protocol] = {"get_client": open_http_session, **given.get(protocol, {})}
    return url_to_fs(url, **given)  # type: ignore[no-any-return]  # fsspec is untyped


def limit_body(filesystem: Any, limit: int) -> dict[str, int]:
    """Return the keyword argument that limits the body of an answer, for file systems that take it."""
    return {"byte_limit": limit} if getattr(filesystem, "get_client", None) is open_http_session else {}


def read_file(url: str, options: Mapping[str, Any], limit: int) -> bytes:
    """Read a small file whole, local or remote.

    Raises
    ------
    ServerLimitError, OSError
        If it is longer than `limit`.
    """
    if not is_url(url):
        return read_regular(url, limit)
    filesystem, path = open_filesystem(url, options)
    size = None if limit_body(filesystem, limit) else filesystem.info(path).get("size")
    if size == 0:  # an empty object has no range to request
        return b""
    data = b"" if size and int(size) > limit else fetch_bounded(filesystem, path, limit)
    if len(data) > limit or int(size or 0) > limit:
        raise ServerLimitError(f"the file is longer than {limit} bytes")
    return data


def fetch_bounded(filesystem: Any, path: str, limit: int) -> bytes:
    """Fetch a file in one request; of a longer one at most a byte more than `limit`, whatever size its store states.

    Raises
    ------
    ServerLimitError
        If a web server sends more than `limit` bytes.
    """
    bound = limit_body(filesystem, limit) or {"start": 0, "end": limit + 1}
    return bytes(filesystem.cat_file(path, **bound))


def store_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that file systems raise when they cannot read: OSError, and the roots of their own."""
    kinds: list[type[Exception]] = [OSError, ImportError, ValueError, TimeoutError]
    roots = {"aiohttp": "ClientError", "botocore.exceptions": "BotoCoreError"}
    roots |= {"httpx": "HTTPError", "httpx2": "HTTPError"}  # the Hub's, by version of huggingface_hub
    for module, name in roots.items():
        if module in sys.modules:  # a class that was never imported cannot have been raised
            kinds.append(getattr(sys.modules[module], name))
    return tuple(kinds)
