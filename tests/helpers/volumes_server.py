"""A real HTTP server on the loopback that counts what is asked of it."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.helpers.new_port import on_new_port


@dataclass
class Server:
    """Where it is, what it was asked, and how it is to behave."""

    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: int = 0
    ranges: bool = True
    token: str | None = None
    failures: int = 0
    breaks: int = 0
    delay: float = 0.0
    busy: int = 0
    most_busy: int = 0
    spoil: bool = False
    encoding: str | None = None  # the Content-Encoding that it claims
    encodes: bool = False  # and whether it encodes what is asked for, whatever the client accepts
    states_length: bool = True  # else it sends chunks, as programs do that make their answers on the way
    allows_head: bool = True
    sends_etag: bool = True  # else only when the file was changed, as Python's own server does

    def count(self, method: str) -> int:
        return sum(request[0] == method for request in self.requests)


class Handler(SimpleHTTPRequestHandler):
    """Static files with single byte ranges, as nginx serves them."""

    protocol_version = "HTTP/1.1"

    def __init__(self, server_state: Server, *args: Any, **kwargs: Any) -> None:
        self.state = server_state
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        state, span = self.state, self.headers.get("Range")
        state.requests.append((self.command, self.path, span))
        path = Path(self.translate_path(self.path))
        if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
            return self.send_error(403)
        if body and state.failures:
            state.failures -= 1
            return self.send_error(503)
        if body and state.breaks:
            state.breaks -= 1
            self.close_connection = True
            return None
        state.busy += 1
        state.most_busy = max(state.busy, state.most_busy)
        time.sleep(state.delay)
        state.busy -= 1
        if not path.is_file():
            return self.send_error(404)
        if not body and not state.allows_head:
            return self.send_error(405)
        if state.encodes:
            return self.answer_encoded(path, body)
        size = path.stat().st_size
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", span or "")
        if match and state.ranges:
            start, stop = self.ends(match, size)
            if start >= size:
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
            start, stop = 0, size
        if state.ranges:
            self.send_header("Accept-Ranges", "bytes")
        with path.open("rb") as file:
            file.seek(start)
            part = file.read(stop - start)
        if state.spoil and len(part) > 1000:
            part = part[:500] + bytes([part[500] ^ 255]) + part[501:]
        if state.sends_etag:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}-{size:x}"')
        else:
            self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        if state.encoding:
            self.send_header("Content-Encoding", state.encoding)
        if state.states_length:
            self.send_header("Content-Length", str(len(part)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if body:
            state.sent += len(part)
            self.wfile.write(part if state.states_length else b"%x\r\n%s\r\n0\r\n\r\n" % (len(part), part))
        return None

    def answer_encoded(self, path: Path, body: bool) -> None:
        """Send the whole file, encoded on the way, so that its length is not known before."""
        data = gzip.compress(path.read_bytes(), 1)
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if body:
            self.state.sent += len(data)
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))

    @staticmethod
    def ends(match: re.Match[str], size: int) -> tuple[int, int]:
        first, last = match.groups()
        if not first:
            return max(size - int(last), 0), size
        return int(first), min(int(last) + 1, size) if last else size

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # as web servers have; 5 drops connections that are opened at the same time


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve a folder on a free port until the block ends."""
    state = Server()
    server = on_new_port(lambda: _Server(("127.0.0.1", 0), partial(Handler, state, directory=str(folder))))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
