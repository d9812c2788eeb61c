"""``reasonknee browse`` as a process of its own, and raw HTTP requests to it."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def browsing(folder: Path, *options: str) -> Iterator[str]:
    """Run the command on a free port; yields the address that it prints."""
    command = [sys.executable, "-m", "reasonknee_datasets", "browse", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            if not line.startswith("http://"):
                process.kill()
                raise AssertionError(process.communicate()[1])
            yield line.split()[0].rstrip("/")
        finally:
            process.kill()


def ask(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a path unchanged, which ordinary clients would normalise."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    try:
        connection.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
