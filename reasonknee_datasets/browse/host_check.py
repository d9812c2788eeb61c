"""Middleware that refuses requests of other sites and sets the security headers of every response."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def host_name(authority: str) -> str:
    """Return the host of an authority in lower case, without its port.

    Examples
    --------
    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("evil@127.0.0.1:x")
    ('localhost', '::1', '')
    """
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port  # raises where it is not a number
    except ValueError:
        return ""
    plain = parts.netloc == authority and "@" not in authority
    return (parts.hostname or "") if plain else ""


class HostCheck:
    """Admit requests only if Host, and Origin where there is one, is a name of this server.

    A page of another site can make the reader's browser send requests to the loopback, and by DNS rebinding it can even
    read the answers: its own host name then resolves to 127.0.0.1. Such a request carries the foreign name in ``Host``.

    Parameters
    ----------
    app : ASGI application
    hosts : iterable of str
        Host names without ports, besides those of the loopback.
    embed_in : iterable of str
        Origins that may show the pages in a frame, such as ``https://huggingface.co``.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), embed_in: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset({*LOOPBACK, *(host.lower() for host in hosts)})
        frames = " ".join(embed_in) or "'none'"
        self.headers = {
            # NiiVue inflates in WebAssembly, keeps its font as a data URL, and makes workers from blobs.
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
                "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
                f"form-action 'self'; base-uri 'none'; frame-ancestors {frames}"
            ),
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websocket is served

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        problem = self._problem(Headers(scope=scope))
        app: ASGIApp = self.app if problem is None else PlainTextResponse(problem, status_code=403)
        await app(scope, receive, send_with_headers)

    def _problem(self, headers: Headers) -> str | None:
        host = headers.getlist("host")
        if len(host) != 1 or host_name(host[0]) not in self.hosts:
            return "Refused: the Host header names another server. Open the address that reasonknee browse printed.\n"
        for origin in headers.getlist("origin"):
            if host_name(origin.partition("://")[2]) not in self.hosts:
                return "Refused: the request comes from a page of another site.\n"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "Refused: the request comes from a page of another site.\n"
        return None
