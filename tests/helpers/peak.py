"""The peak memory of this process, for programs that tests start.

``ru_maxrss`` will not do: on Linux it begins with the peak of the process that forked this one, so that a child of a
large test run never seems to grow. ``VmHWM`` belongs to the program itself.
"""

from __future__ import annotations

from pathlib import Path


def peak_bytes() -> int:
    """Read the high-water mark of this process's resident memory."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status must name VmHWM, as on Linux")
