"""The Dockerfile of ``examples/space`` without Docker: its CMD in an empty home, asked as the Hub's proxy asks it.

``python tests/helpers/space_run.py`` does it with the package that is installed; tox does so with the built wheel.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "examples/space/Dockerfile"
HOST = "owner-knees.hf.space"
# The frame of huggingface.co asks for the page, and the page for its parts.
FRAMED = {"Host": HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
OWN = {"Host": HOST, "Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-origin"}
Answer = tuple[int, dict[str, str], bytes]


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile as pairs of instruction and argument."""
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return [(word, rest) for word, rest in pairs]


@contextmanager
def space(home: Path) -> Iterator[int]:
    """Run CMD as Docker does, on a free port of the loopback; yields the port."""
    (command,) = [rest for word, rest in instructions() if word == "CMD"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command, changed = re.subn(r"--host 0\.0\.0\.0 --port 7860", f"--host 127.0.0.1 --port {port}", command)
    assert changed == 1, command
    kept = {name: os.environ[name] for name in ("LANG", "PYTHONWARNDEFAULTENCODING") if name in os.environ}
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {**kept, "PATH": path, "HOME": str(home), "SPACE_HOST": HOST}
    with subprocess.Popen(["/bin/sh", "-c", command], cwd=home, env=environment, start_new_session=True) as process:
        try:
            for _ in range(1200):  # the phantom is drawn first
                assert process.poll() is None, f"{command} ended with {process.returncode}"
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield port
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def get(port: int, path: str, headers: dict[str, str]) -> Answer:
    """Ask the Space as its proxy does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def check(home: Path) -> None:
    """Check that the Space shows the phantom in the Hub's frame, and nothing to other sites."""
    with space(home) as port:
        status, headers, page = get(port, "/", FRAMED)
        assert (status, b"SYNTHETIC" in page) == (200, True), page[:500]
        assert "frame-ancestors https://huggingface.co" in headers["content-security-policy"].split("; ")
        assert "x-frame-options" not in headers
        (example,) = re.findall(rb'<a href="(/example/[^"?]+)', page)[:1]
        status, _, page = get(port, example.decode(), FRAMED)
        assert status == 200, page[:500]
        (volume,) = re.findall(rb'href="(/volumes/[^"]+)"', page)
        for path in (volume.decode(), "/static/browse.js", "/static/niivue.js"):
            assert get(port, path, OWN)[0] == 200, path
        for foreign in (
            {"Host": "other.hf.space"},
            {"Host": "huggingface.co"},
            {**OWN, "Origin": "https://huggingface.co"},  # it shows the frame, and reads nothing in it
            {**OWN, "Origin": "https://other.hf.space"},
            {"Host": HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        ):
            status, _, body = get(port, volume.decode(), foreign)
            assert (status, body[:7]) == (403, b"Refused"), foreign


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder))
