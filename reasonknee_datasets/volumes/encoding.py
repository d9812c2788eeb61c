"""HTTP content encodings: servers that label a ``.nii.gz`` as gzip-encoded, and servers that encode it once more."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from fsspec.asyn import sync

from reasonknee_datasets.volumes.slab_reader import GZIP_MAGIC

ENCODED = "encoded:"
"""Begins the tag of a file that its server encodes again: ranges of it cannot be read."""
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


def encoded_size(filesystem: Any, path: str) -> int | None:
    """Return the size in bytes that an HTTP server states for an encoded file, which fsspec leaves out."""
    if "http" not in _protocols(filesystem):
        return None
    headers = sync(filesystem.loop, _head, filesystem, path)
    return int(headers["Content-Length"]) if "Content-Length" in headers else None


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


async def _head(filesystem: Any, path: str) -> Mapping[str, str]:
    session = await filesystem.set_session()
    async with session.head(filesystem.encode_url(path), allow_redirects=True, **filesystem.kwargs) as response:
        response.raise_for_status()
        headers: Mapping[str, str] = response.headers
        return headers


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = getattr(filesystem, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
