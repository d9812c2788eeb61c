"""fsspec file systems for URLs, and their HTTP: credentials stay with their origin, and no answer is endless.

fsspec follows redirects with whatever headers, cookies and authentication it was given, reads a body until it ends, and
waits as long as a server sends a byte now and then. `open_http_session` is a ``get_client`` for its HTTP file system
that does none of these.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.safe_paths import is_url, read_regular
from reasonknee_datasets.volumes.credentials import redact, split_hops
from reasonknee_datasets.volumes.limits import FILE_LIMIT, file_limit

_TIMEOUT, _SECONDS = "REASONKNEE_TIMEOUT", 30.0
# Bytes that must arrive within one timeout: the slowest connection that is still accepted.
_PROGRESS = 64 * 1024
# Of an error's page, which is not shown.
_ERROR_BYTES = 64 * 1024
_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Headers that describe the request; every other may be a credential.
_HARMLESS = frozenset({"range", "accept", "accept-encoding", "if-range"})
# Options of a request that are not sent to the server.
_NOT_FOR_ORIGIN = frozenset({"timeout", "ssl", "proxy", "proxy_auth", "proxy_headers"})
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class ServerLimitError(ValueError):
    """An answer that is longer than requested, or a redirect that cannot be followed."""


class SlowServerError(OSError):
    """A server that makes no progress. Not a TimeoutError, whose message fsspec drops."""


def timeout_seconds() -> float:
    """Return the seconds within which a server must make progress: ``REASONKNEE_TIMEOUT``, or 30."""
    text = os.environ.get(_TIMEOUT, "").strip()
    if not text:
        return _SECONDS
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) == 0:
        raise VolumeError(f"{_TIMEOUT} must be a number of seconds above 0, but it is {text!r}. Set it to 30.")
    return float(text)


async def open_http_session(*, loop: Any = None, **client_kwargs: Any) -> HTTPSession:
    """Open the session of an fsspec HTTP file system; pass it as ``get_client``."""
    from aiohttp import ClientSession

    return HTTPSession(ClientSession(loop=loop, **client_kwargs), "timeout" in client_kwargs)


class HTTPSession:
    """An aiohttp session that follows redirects itself, and limits the size and the time of answers.

    `session` holds the headers, cookies and authentication that the user gave; where `timed`, their timeout too.
    """

    def __init__(self, session: Any, timed: bool) -> None:
        from aiohttp import ClientSession, DummyCookieJar

        self._given, self._timed = session, timed
        # The same connections, and nothing that was given.
        self._bare = ClientSession(
            connector=session.connector,
            connector_owner=False,
            cookie_jar=DummyCookieJar(),
            trust_env=session.trust_env,
            auto_decompress=session.auto_decompress,
        )

    @property
    def _connector(self) -> Any:
        return self._given._connector  # fsspec closes it when its event loop is gone

    async def close(self) -> None:
        """Close the connections."""
        await self._bare.close()
        await self._given.close()

    def get(self, url: Any, **options: Any) -> _Pending:
        """Send a GET request; ``byte_limit`` is the most bytes of an answer that is not a range."""
        return _Pending(lambda: self._send("GET", url, **options))

    def head(self, url: Any, **options: Any) -> _Pending:
        """Send a HEAD request."""
        return _Pending(lambda: self._send("HEAD", url, **options))

    async def _send(
        self, method: str, url: Any, *, allow_redirects: bool = True, byte_limit: int | None = None, **options: Any
    ) -> _Answer:
        from aiohttp import ClientTimeout
        from yarl import URL

        seconds = timeout_seconds()
        if not self._timed:
            options.setdefault("timeout", ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds))
        headers = {"Accept-Encoding": "identity"} | dict(options.pop("headers", None) or {})
        session, origin, url = self._given, URL(url).origin(), URL(url)
        for _ in range(_MOST_REDIRECTS):
            request = session.request(method, url, allow_redirects=False, headers=headers, **options)
            response = await _within(request, seconds, url)
            location = response.headers.get("Location") if response.status in _REDIRECTS else None
            if location is None or not allow_redirects:
                limit = file_limit() if byte_limit is None else byte_limit
                return _Answer(response, _find_limit(response, headers, limit), seconds)
            response.close()
            options.pop("params", None)  # they are in the address of the first request
            url = url.join(URL(location))
            if url.scheme not in ("http", "https"):
                raise ServerLimitError(f"the server redirects to {redact(str(url))}, which is not an HTTP address")
            if url.origin() != origin and session is self._given:
                session, headers = self._bare, {k: v for k, v in headers.items() if k.lower() in _HARMLESS}
                options = {name: value for name, value in options.items() if name in _NOT_FOR_ORIGIN}
        raise ServerLimitError(f"the server redirects more than {_MOST_REDIRECTS} times, last to {redact(str(url))}")


class _Pending:
    """A request that is sent when it is awaited or entered, as aiohttp's are."""

    def __init__(self, send: Callable[[], Awaitable[_Answer]]) -> None:
        self._send = send

    def __await__(self) -> Generator[Any, None, _Answer]:
        return self._send().__await__()

    async def __aenter__(self) -> _Answer:
        self._answer = await self._send()
        return self._answer

    async def __aexit__(self, *details: object) -> None:
        await self._answer.__aexit__(*details)


class _Answer:
    """A response with a limit on the size and the time of its body."""

    def __init__(self, response: Any, limit: int, seconds: float) -> None:
        self._response, self._limit, self._seconds = response, limit, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    async def __aenter__(self) -> _Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        # A body that was not read to its end would keep the connection busy.
        if not self._response.content.at_eof():
            self._response.close()
        self._response.release()

    async def read(self) -> bytes:
        """Read the body.

        Raises
        ------
        ServerLimitError
            If it is longer than requested.
        SlowServerError
            If too little arrives for too long.
        """
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        total, recent, deadline = 0, 0, loop.time() + self._seconds
        while chunk := await _within(
            self._response.content.readany(), deadline - loop.time(), self._response.url, self._seconds
        ):
            parts.append(chunk)
            total, recent = total + len(chunk), recent + len(chunk)
            if self._response.status >= 400 and total > _ERROR_BYTES:
                self._response.close()
                break
            if total > self._limit:
                self._response.close()
                raise ServerLimitError(
                    f"{redact(str(self._response.url))} sends more than the {self._limit} bytes that it should have. "
                    f"Check the server; {FILE_LIMIT} sets the most bytes of one file"
                )
            if recent >= _PROGRESS:
                recent, deadline = 0, loop.time() + self._seconds
        return b"".join(parts)


def _find_limit(response: Any, headers: dict[str, str], limit: int) -> int:
    """Find the most bytes that an answer may have: the length of the range, or that of the file."""
    asked = _RANGE.fullmatch(headers.get("Range", ""))
    return min(int(asked[2]) + 1 - int(asked[1]), limit) if asked and response.status == 206 else limit


async def _within(work: Any, remaining: float, url: Any, seconds: float | None = None) -> Any:
    """Await something for so long at most, and name the server that was too slow."""
    try:
        return await asyncio.wait_for(work, max(remaining, 0.001))
    except (asyncio.TimeoutError, TimeoutError) as error:  # two classes on Python 3.10
        raise SlowServerError(
            f"{redact(str(url))} sent less than {_PROGRESS} bytes in {seconds or remaining:g} seconds. Check the "
            f"connection; {_TIMEOUT} sets the seconds"
        ) from error


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
    """Read a small file whole, local or remote; one longer than `limit` is a `ServerLimitError` or OSError."""
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
