"""A central box of a seekable file behind a web server, which answers at once or after 30 ms."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from reasonknee_datasets.volumes import bytes_read, open_volume, remote_source, set_threads
from reasonknee_datasets.volumes.header import _headers
from tests.benchmarks.knees import Knee, Slices
from tests.benchmarks.tables import Table
from tests.helpers.volumes_server import serve

_ROUNDS = 5
_MOST = "12 %"
_MERGED = 60.0  # seconds of latency with which all gaps are read


def measure(knee: Knee, size: tuple[int, int, int]) -> Table:
    """Read the box of a size in the middle of a volume: as the package does, with all gaps read, and the whole file."""
    box = central(knee.truth().shape, size)
    columns = ("read", "delay", "requests", "bytes of the file", "at most", "ms")
    caption = (
        f"The central box of {'x'.join(map(str, size))} voxels, file and box cold, median of {_ROUNDS}. The server is "
        "another process on this machine, and its bandwidth is not limited: there, fewer and longer requests are the "
        "faster ones. The package assumes 100 Mbit/s, at which the gaps take longer than the requests that they save."
    )
    table = Table("A box from a server", columns, caption)
    set_threads(1)
    for delay in (0.0, 0.03):
        with _server(knee.seekable.parent, delay) as (url, counts):
            for name, latency, path in (
                ("seekable", None, knee.seekable),
                ("seekable, gaps read as well", _MERGED, knee.seekable),
                ("ordinary .nii.gz", None, knee.ordinary),
            ):
                times, requests, share = _read(f"{url}/{path.name}", box, latency, counts, path.stat().st_size)
                most = _MOST if name == "seekable" else ""
                table.add(name, f"{delay * 1e3:.0f} ms", requests, f"{share:.1%}", most, f"{times * 1e3:.0f}")
    set_threads(None)
    return table


def central(shape: tuple[int, ...], size: tuple[int, int, int]) -> Slices:
    """Return the box of a size in the middle of an array."""
    i, j, k = (
        slice(extent // 2 - edge // 2, extent // 2 - edge // 2 + edge) for extent, edge in zip(shape, size, strict=True)
    )
    return i, j, k


def _read(url: str, box: Slices, latency: float | None, counts: Connection, size: int) -> tuple[float, int, float]:
    times, expected = [], None
    for _ in range(_ROUNDS):
        _headers.clear()
        remote_source._identities.clear()
        if latency is not None:
            remote_source._latencies[url[: url.rindex("/")]] = latency
            keep = remote_source._SMALL_ANSWER
            remote_source._SMALL_ANSWER = 0
        before, started = bytes_read(), time.perf_counter()
        voxels = open_volume(url, cache=None).dataobj[box]
        times.append(time.perf_counter() - started)
        read = bytes_read() - before
        if latency is not None:
            remote_source._SMALL_ANSWER = keep
            remote_source._latencies.clear()
        counts.send("count")
        requests = counts.recv()
        expected = voxels if expected is None else expected
        np.testing.assert_array_equal(voxels, expected)
    return median(times), requests, read / size


@contextmanager
def _server(folder: Path, delay: float) -> Iterator[tuple[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(str(folder), delay, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        ours.send("stop")
        process.join()


def _serve(folder: str, delay: float, connection: Any) -> None:
    with serve(Path(folder)) as server:
        server.delay = delay
        connection.send(server.url)
        while connection.recv() == "count":
            connection.send(len(server.requests))
            server.requests.clear()
