"""Servers on ports that no earlier server of this process had."""

from __future__ import annotations

from collections.abc import Callable
from socketserver import TCPServer
from typing import TypeVar

S = TypeVar("S", bound=TCPServer)
_had: set[int] = set()


def on_new_port(make: Callable[[], S]) -> S:
    """Make servers until one has a new port: the kernel gives a freed port again, and with it the same URLs.

    The package remembers sizes and headers of remote files by URL for as long as a process runs, as it should; in one
    process that runs hundreds of servers, a test would be given those of another test's file now and then.
    """
    while True:
        server = make()
        port = server.server_address[1]
        if port not in _had:
            _had.add(port)
            return server
        server.server_close()
