"""HTTP content encodings: servers that label a ``.nii.gz`` as gzip-encoded, and servers that encode it once more."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from fsspec.asyn import sync

from reasonknee_datasets.volumes.inflate import GZIP_MAGIC

WHOLE = "whole:"
"""Begins the tag of a file that its server encodes again, or whose size it does not state: no range can be read."""
FIRST_BYTES = 1024


def raw_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return storage options with which HTTP transfers a file as it is stored: not encoded, and never decoded.

    aiohttp decodes ``Content-Encoding: gzip`` by default, which many servers send for files that end in ``.gz``; a
    range of such a file cannot be decoded, and its length is not the one that the server states.
    """
    if not url.startswith(("http://", "https://")):
        return dict(options)
    headers = {"Accept-Encoding": "identity", **options.get("headers", {})}
    client = {"auto_decompress": False, **options.get("client_kwargs", {})}
    return {**options, "headers": headers, "client_kwargs": client}


def read_size_and_encoding(filesystem: Any, path: str) -> tuple[int | None, str]:
    """Return the size in bytes that an HTTP server states for a file, which fsspec leaves out, and its encoding."""
    if "http" not in _protocols(filesystem):
        return None, "identity"
    headers = sync(filesystem.loop, _read_headers, filesystem, path)
    size = headers.get("Content-Length")
    return None if size is None else int(size), headers.get("Content-Encoding", "identity").strip().lower()


def is_encoded(start: bytes) -> bool:
    """Check whether the first bytes of a file are gzip data of gzip data: the server encoded a ``.nii.gz`` again.

    Examples
    --------
    >>> import gzip
    >>> once = gzip.compress(bytes(2000))
    >>> is_encoded(once), is_encoded(gzip.compress(once))
    (False, True)
    """
    if start[:2] != GZIP_MAGIC:
        return False
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 2) == GZIP_MAGIC
    except zlib.error:
        return False


def decode(body: bytes) -> bytes:
    """Undo the encoding of a whole ``.nii.gz``.

    Raises
    ------
    zlib.error
        If the body is damaged, or inflates to far more than data that are compressed already can.
    """
    inflater = zlib.decompressobj(wbits=31)
    data = inflater.decompress(body, 4 * len(body) + 1_000_000)
    if not inflater.eof:
        raise zlib.error(f"{len(body)} bytes inflate to more than {len(data)}, or are cut off")
    return data


async def _read_headers(filesystem: Any, path: str) -> Mapping[str, str]:
    session = await filesystem.set_session()
    url = filesystem.encode_url(path)
    async with session.head(url, allow_redirects=True, **filesystem.kwargs) as response:
        if response.status not in (405, 501):
            response.raise_for_status()
            return response.headers  # type: ignore[no-any-return]  # aiohttp's, in any case
    async with session.get(url, allow_redirects=True, **filesystem.kwargs) as response:  # the body is not read
        response.raise_for_status()
        return response.headers  # type: ignore[no-any-return]


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = getattr(filesystem, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
