"""Asking a model through inspect_ai: samples a second and memory, against a local server that answers at once."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np

from reasonknee_datasets.bench.arrays import take
from reasonknee_datasets.bench.run_spec import RunSpec, make_study
from tests.benchmarks.tables import Table
from tests.helpers.paths import ROOT
from tests.helpers.peak import peak_bytes

SIZES = (1_000, 4_000, 8_000)
TEST_SPLIT = 76_384
FRAMES, PIXELS = 8, 160
_REPLY = '{"MOAKS_scores": {"grade": 0}}'


def measure(folder: Path, sizes: tuple[int, ...] = SIZES) -> str:
    """Ask about so many records of a tiny phantom, each size in a process of its own."""
    from reasonknee_datasets.phantom import write_release
    from reasonknee_datasets.prepare import prepare

    write_release(folder / "release", patients=6, size="tiny", seed=0, workers=1)
    prepare(folder / "release", folder / "data", workers=1, progress=False)
    command = [sys.executable, "-m", "tests.benchmarks.asking"]
    rows = []
    with subprocess.Popen([*command, "serve"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            for size in sizes:
                words = [*command, "ask", str(folder / "data"), str(size), url, str(folder / f"logs-{size}")]
                rows.append(json.loads(subprocess.check_output(words, cwd=ROOT, text=True).splitlines()[-1]))
        finally:
            server.kill()
    return _table(rows)


def _table(rows: list[dict[str, float]]) -> str:
    caption = (
        f"`inspect eval` against a local server that answers at once; {FRAMES} frames of {PIXELS} pixels a sample, "
        "rendered and encoded as PNG. The last row follows from the slope of the others."
    )
    table = Table("Asking a model", ("samples", "seconds", "samples a second", "peak MB", "log MB"), caption)
    samples = [row["samples"] for row in rows]
    slopes = {name: np.polyfit(samples, [row[name] for row in rows], 1) for name in ("seconds", "peak", "log")}
    whole = {name: float(np.polyval(slope, TEST_SPLIT)) for name, slope in slopes.items()} | {"samples": TEST_SPLIT}
    for row in [*rows, *([whole] if len(rows) > 1 else [])]:
        rate = row["samples"] / row["seconds"]
        numbers = (row["seconds"], rate, row["peak"], row["log"])
        table.add(f"{row['samples']:,.0f}", *(f"{number:,.0f}" for number in numbers))
    return str(table)


def ask(data: Path, size: int, url: str, logs: Path) -> dict[str, float]:
    """Ask about `size` samples in this process."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import get_model

    from reasonknee_datasets.bench.tasks import make_task

    study = _repeat(make_study(data, "guided", split="train", frames=FRAMES, size=PIXELS), size)
    model = get_model("openai-api/local/none", base_url=url, api_key="none")
    start = time.perf_counter()
    (log,) = inspect_eval(make_task(study), model=model, log_dir=str(logs), display="none", max_connections=20)
    seconds = time.perf_counter() - start
    assert log.status == "success", log.error
    (file,) = logs.glob("*.eval")
    return {
        "samples": size,
        "seconds": seconds,
        "peak": peak_bytes() / 2**20,
        "log": file.stat().st_size / 2**20,
    }


def _repeat(study: RunSpec, size: int) -> RunSpec:
    """Ask about the same records again and again, under other names."""
    there = len(study.records)
    rows = np.arange(size) % there
    names = tuple(f"{study.records[row].id}~{turn}" for turn, row in enumerate(rows.tolist()))
    truth = replace(take(study.truth, rows), ids=names)
    return replace(study, truth=truth)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": _REPLY}}
        usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        answer: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "none"}
        body = json.dumps(answer | {"choices": [message], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def serve() -> None:
    """Answer every request at once, until killed."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(ask(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))))
