"""Real servers for the tests of remote loading: HTTP without listings, and enough of the Hub to read a repository."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from tests.helpers.new_port import on_new_port

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """A running server, and what was asked of it."""

    url: str
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    bytes_sent: int = 0

    def paths(self, ending: str = "", method: str = "GET") -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method and path.endswith(ending)]


class _Files(BaseHTTPRequestHandler):
    """Files with ranges; a folder is refused, as an ordinary static host does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: each answer would take 40 ms
    root: ClassVar[Path]
    served: ClassVar[Served]
    secret: ClassVar[str | None]
    ranges: ClassVar[bool]
    length: ClassVar[bool]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.served.requests.append((self.command, path, self.headers.get("Range")))
        if self.secret is not None and self.headers.get("Authorization") != f"Bearer {self.secret}":
            self.send_whole(403, b"who are you?", body)
            return
        file = self.find(path)
        if file is None or not file.is_file():
            self.send_whole(403 if file is not None and file.is_dir() else 404, b"nothing to see", body)
            return
        self.send_file(file, body)

    def find(self, path: str) -> Path | None:
        return self.root / path.lstrip("/")

    def send_file(self, file: Path, body: bool) -> None:
        data = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if self.ranges else None
        start, stop = (int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))) if asked else (0, len(data))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if self.length:
            self.send_header("Content-Length", str(stop - start))
        else:  # the body ends with the connection
            self.send_header("Connection", "close")
        self.end_headers()
        if body:
            self.served.bytes_sent += stop - start  # before: the client may have it all before this thread goes on
            self.wfile.write(data[start:stop])

    def send_whole(self, status: int, text: bytes, body: bool, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


class _Hub(_Files):
    """The requests with which HfFileSystem reads one dataset repository of the Hub by path."""

    def do_GET(self) -> None:
        if self.path.startswith("/api/datasets/owner/knees"):
            self.served.requests.append(("GET", self.path, None))
            if self.refused():
                return
            tree = re.search(r"/tree/[^/?]+/?([^?]*)", self.path)
            told: Any = {"id": "owner/knees", "sha": COMMIT, "siblings": [], "private": True, "tags": []}
            if tree:
                folder = self.root / unquote(tree[1])
                told = [self.describe(str(path.relative_to(self.root))) for path in sorted(folder.iterdir())]
            self.send_whole(200, json.dumps(told).encode(), True, "application/json")
            return
        super().do_GET()

    def do_POST(self) -> None:
        self.served.requests.append(("POST", self.path, None))
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refused():
            return
        paths = json.loads(asked)["paths"] if asked.startswith(b"{") else re.findall(r"paths=([^&]*)", asked.decode())
        told = [self.describe(unquote(path)) for path in paths]
        self.send_whole(200, json.dumps([one for one in told if one]).encode(), True, "application/json")

    def describe(self, path: str) -> dict[str, Any] | None:
        file = self.root / path
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "1" * 40, "size": 0}
        return {"type": "file", "path": path, "oid": "0" * 40, "size": file.stat().st_size} if file.is_file() else None

    def refused(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.secret}":
            return False
        self.send_response(401)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def find(self, path: str) -> Path | None:
        match = re.fullmatch(r"/datasets/owner/knees/resolve/[^/]+/(.*)", path)
        return self.root / match[1] if match else None


@contextmanager
def serve(
    root: Path, *, secret: str | None = None, ranges: bool = True, hub: bool = False, length: bool = True
) -> Iterator[Served]:
    """Serve a folder on loopback; with a secret, only to who sends it as a bearer token."""
    served = Served("")
    kind = _Hub if hub else _Files
    settings = {"root": root, "served": served, "secret": secret, "ranges": ranges, "length": length}
    handler = type("Handler", (kind,), settings)
    server = on_new_port(lambda: ThreadingHTTPServer(("127.0.0.1", 0), handler))
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
