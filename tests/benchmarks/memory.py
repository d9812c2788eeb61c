"""How far one region read raises the memory of a process that has done nothing else."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.knees import Knee, Slices
from tests.benchmarks.tables import Table
from tests.helpers.paths import ROOT

# Everything is imported and has read a small volume once before the peak is set back, so that only the read is seen.
_PROGRAM = """
import sys
from pathlib import Path
from tests.benchmarks import memory
print(memory.peak_of(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), [int(word) for word in sys.argv[4:]]))
"""

_MODES = {
    "reasonknee_datasets": "deflate",
    "reasonknee_datasets, cache=None": "deflate",
    "nibabel": "nibabel",
    "nibabel with indexed_gzip": "indexed_gzip",
    "MONAI": "monai",
}


def measure(knee: Knee, warm: Path, *, piece_bytes: int, missing_ok: bool = False, rounds: int = 3) -> Table:
    """Read the middle box with each reader in a separate process, and return the rise of its peak memory."""
    box = knee.boxes[len(knee.boxes) // 2]
    region = 2
    for part in box:
        region *= part.stop - part.start
    bound = region + 2 * piece_bytes + 10_000_000
    table = Table(
        "Peak memory of one region read",
        ("reader", "MB above before", "at most"),
        f"A fresh process for each reader, the middle of {rounds}: peak of its resident memory (VmHWM, set back after "
        "another small volume was read) above what it had before the read. The bound is the region, two pieces that "
        "are inflated at a time (0.5 MB) and "
        "10 MB. One thread.",
    )
    for mode, package in _MODES.items():
        if missing_ok and find_spec(package) is None:
            continue
        peaks = sorted(_measure_once(mode, knee.seekable, warm, box) for _ in range(rounds))
        bounded = f"{bound / 1e6:.1f}" if mode.startswith("reasonknee") else ""
        table.add(mode, f"{peaks[len(peaks) // 2] / 1e6:.1f}", bounded)
    return table


def _measure_once(mode: str, path: Path, warm: Path, box: Slices) -> int:
    words = [str(number) for part in box for number in (part.start, part.stop)]
    command = (sys.executable, "-c", _PROGRAM, mode, str(path), str(warm), *words)
    root = ROOT
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)


def peak_of(mode: str, path: Path, warm: Path, numbers: list[int]) -> int:
    """Read the box and give the bytes by which the peak exceeds what was in use before; Linux only."""
    from tests.benchmarks.peers import Monai, Nibabel, Ours, Reader

    reader: Reader
    if mode.startswith("reasonknee"):
        reader = Ours(cache="None" not in mode)
        reader.prepare(warm)
    else:
        reader = Monai() if mode == "MONAI" else Nibabel(indexed="indexed" in mode)
    reader.box(warm, (slice(0, 2), slice(0, 2), slice(0, 2)))
    i, j, k = (slice(start, stop) for start, stop in zip(numbers[::2], numbers[1::2], strict=True))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    region = reader.box(path, (i, j, k))
    assert region.size
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
