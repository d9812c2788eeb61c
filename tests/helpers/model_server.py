"""A real HTTP server on the loopback that speaks chat completions, and fails in the ways that endpoints fail."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Say:
    """Answer with a text."""

    text: str | None = '{"presence": 0}'
    finish_reason: str = "stop"
    usage: Mapping[str, Any] = field(
        default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    )


@dataclass(frozen=True)
class Status:
    """Answer with an error."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "no"


@dataclass(frozen=True)
class Garbage:
    """Answer 200 with these bytes."""

    body: bytes
    kind: str = "application/json"


@dataclass(frozen=True)
class Cut:
    """Close the connection: after so many bytes of a good answer, or with a reset before any."""

    after: int = 0


@dataclass(frozen=True)
class Hang:
    """Send nothing until the server is closed."""


Action = Say | Status | Garbage | Cut | Hang
Script = Callable[[int, dict[str, Any]], Action]


@dataclass(frozen=True)
class Seen:
    """One request: its body and its headers."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """All words, turn by turn."""
        words: list[str] = []
        for message in self.body["messages"]:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            words += [block["text"] for block in blocks if block["type"] == "text"]
        return "\n".join(words)


class ModelServer:
    """Runs a script: what to do with the n-th request (from 0), of this body."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __enter__(self) -> ModelServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.seen)
            self.seen.append(Seen(body, {name.lower(): value for name, value in handler.headers.items()}))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self._do(self.script(number, body), handler, body)
        finally:
            with self._lock:
                self._now -= 1

    def _do(self, action: Action, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        if isinstance(action, Say):
            _send(handler, 200, _completion(action, body), {})
        elif isinstance(action, Status):
            _send(handler, action.code, json.dumps({"error": {"message": action.message}}).encode(), action.headers)
        elif isinstance(action, Garbage):
            _send(handler, 200, action.body, {"Content-Type": action.kind})
        elif isinstance(action, Hang):
            self._closing.wait()
            handler.close_connection = True
        else:
            _cut(handler, _completion(Say(), body), action.after)


def _completion(say: Say, body: dict[str, Any]) -> bytes:
    choice = {
        "index": 0,
        "finish_reason": say.finish_reason,
        "message": {"role": "assistant", "content": say.text},
    }
    answer = {"id": "x", "object": "chat.completion", "created": 0, "model": f"{body['model']}-snapshot"}
    return json.dumps(answer | {"choices": [choice], "usage": say.usage}).encode()


def _send(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: Mapping[str, str]) -> None:
    handler.send_response(code)
    for name, value in ({"Content-Type": "application/json"} | dict(headers)).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _cut(handler: BaseHTTPRequestHandler, body: bytes, after: int) -> None:
    handler.close_connection = True
    if after:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:after])
        handler.wfile.flush()
    # A reset, not an orderly end.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
