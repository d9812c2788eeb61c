"""A real HTTP server on the loopback that redirects, never ends, states wrong lengths, falls silent or drips."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.helpers.new_port import on_new_port

BLOCK = bytes(64 * 1024)


@dataclass
class Hostile:
    """Where it is, what it received, and what it sent."""

    url: str = ""
    headers: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


Act = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Records a request, and does what the test asks for."""

    protocol_version = "HTTP/1.1"
    state: Hostile
    act: Act

    def answer(self) -> None:
        self.state.headers.append(f"{self.command} {self.path}\n{self.headers}")
        self.state.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        with contextlib.suppress(OSError):  # the client hung up, as it should
            type(self).act(self)

    do_GET = do_HEAD = do_POST = answer  # noqa: N815 (http.server's names)

    def start(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)
            self.state.sent += len(data)

    def wait(self, seconds: float | None = None) -> None:
        self.state.ended.wait(seconds)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def redirect(target: str, status: int = 302) -> Act:
    """Redirect every request to the same path elsewhere."""
    return lambda handler: handler.start(status, Location=target + handler.path, Content_Length="0")


def endless(status: int = 200, *, size: int | None = None, encoded: bool = False) -> Act:
    """Send zeros until the client hangs up; HEAD says `size`."""

    def act(handler: Handler) -> None:
        if handler.command == "HEAD":
            return handler.start(200, Content_Length=str(size or 1000), Accept_Ranges="bytes")
        headers = {"Content_Range": f"bytes 0-999/{size or 1000}"} if status == 206 else {}
        if size is not None:
            headers["Content_Length"] = str(size)
        if encoded:
            headers["Content_Encoding"] = "gzip"
        handler.close_connection = True
        handler.start(status, **headers)
        packer = zlib.compressobj(wbits=31)
        while not handler.state.ended.is_set():
            handler.send(packer.compress(BLOCK * 100) if encoded else BLOCK)
        return None

    return act


def slow(place: str, length: int = 1000) -> Act:
    """Fall silent before the headers or the body, or send one byte now and then in either."""

    def act(handler: Handler) -> None:
        if place == "silent":
            return handler.wait()
        if place == "drip-headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not handler.state.ended.is_set():
                handler.wfile.write(b"X-More: 1\r\n")
                handler.wait(0.05)
            return None
        handler.start(200, Content_Length=str(length), Accept_Ranges="bytes")
        if handler.command == "HEAD":
            return None
        if place == "drip":
            while not handler.state.ended.is_set():
                handler.send(b"x")
                handler.wait(0.05)
        return handler.wait()

    return act


@contextmanager
def serve(act: Act, host: str = "127.0.0.1") -> Iterator[Hostile]:
    """Answer every request by an act, on a free port."""
    state = Hostile()
    handler = type("Acting", (Handler,), {"state": state, "act": staticmethod(act)})
    server = on_new_port(lambda: ThreadingHTTPServer((host, 0), handler))
    server.daemon_threads = True
    state.url = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
