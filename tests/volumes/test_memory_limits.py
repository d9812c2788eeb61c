"""Free memory is the smallest of machine, control groups and process limits, of which some here are real."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasonknee_datasets.volumes.limits import free_memory

GB = 10**9
# Asks for a batch of four times 800 voxels cubed, 4 GB, which is never read: the check comes first.
BATCH = """
from reasonknee_datasets.errors import BoxError
from reasonknee_datasets.volumes.limits import check_memory
try:
    check_memory((4, 1, 800, 800, 800), 2, "a batch")
except BoxError as error:
    print(error)
else:
    print("fits")
"""


def write(root: Path, **files: str) -> Path:
    """Write the files of a system, by name with "/" as "__"."""
    for name, text in {"proc__meminfo": "MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n", **files}.items():
        path = root / name.replace("__", "/").replace("_D_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "31 23 0:28 / /cg rw,relatime - cgroup2 cgroup2 rw\n"
V1 = "31 23 0:28 {root} /cg rw,relatime - cgroup cgroup rw,memory\n32 23 0:29 / /cpu rw - cgroup cgroup rw,cpu\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 32_768_000_000),
        # Version 2; its page cache that is not in use is given back.
        (
            {
                "proc__self__cgroup": "0::/job\n",
                "proc__self__mountinfo": V2,
                "cg__job__memory_D_max": "1500000000\n",
                "cg__job__memory_D_current": "1000000000\n",
                "cg__job__memory_D_stat": "anon 7\ninactive_file 300000000\nactive_file 5\n",
            },
            800_000_000,
        ),
        # The group above is smaller, and the group itself has no limit.
        (
            {
                "proc__self__cgroup": "0::/job/step\n",
                "proc__self__mountinfo": V2,
                "cg__job__step__memory_D_max": "max\n",
                "cg__job__step__memory_D_current": "5\n",
                "cg__job__memory_D_max": "2000000000\n",
                "cg__job__memory_D_current": "500000000\n",
            },
            1_500_000_000,
        ),
        # Version 1, seen from inside a container, where the group itself is mounted.
        (
            {
                "proc__self__cgroup": "4:memory:/docker/abc\n1:cpu:/docker/abc\n",
                "proc__self__mountinfo": V1.format(root="/docker/abc"),
                "cg__memory_D_limit_in_bytes": "1500000000\n",
                "cg__memory_D_usage_in_bytes": "200000000\n",
                "cg__memory_D_stat": "inactive_file 1\ntotal_inactive_file 50000000\n",
            },
            1_350_000_000,
        ),
        # Version 1 without a limit.
        (
            {
                "proc__self__cgroup": "4:cpu,memory:/\n",
                "proc__self__mountinfo": V1.format(root="/"),
                "cg__memory_D_limit_in_bytes": "9223372036854771712\n",
                "cg__memory_D_usage_in_bytes": "200000000\n",
            },
            32_768_000_000,
        ),
        # A group that is above what is mounted here.
        (
            {
                "proc__self__cgroup": "0::/../other\n",
                "proc__self__mountinfo": V2,
                "cg__memory_D_max": "900000000\n",
                "cg__memory_D_current": "0\n",
            },
            900_000_000,
        ),
        # More in use than the limit allows, as just after it was lowered.
        (
            {
                "proc__self__cgroup": "0::/\n",
                "proc__self__mountinfo": V2,
                "cg__memory_D_max": "5\n",
                "cg__memory_D_current": "10\n",
            },
            0,
        ),
        # A pod's limit on Kubernetes is above what a container mounts; version 1 states it all the same.
        (
            {
                "proc__self__cgroup": "4:memory:/kubepods/pod1/c1\n",
                "proc__self__mountinfo": V1.format(root="/kubepods/pod1/c1"),
                "cg__memory_D_limit_in_bytes": "9223372036854771712\n",
                "cg__memory_D_usage_in_bytes": "300000000\n",
                "cg__memory_D_stat": "hierarchical_memory_limit 1000000000\ntotal_inactive_file 100000000\n",
            },
            800_000_000,
        ),
        # A limit whose use cannot be read.
        (
            {
                "proc__self__cgroup": "0::/job\n",
                "proc__self__mountinfo": V2,
                "cg__job__memory_D_max": "3000000000\n",
            },
            3_000_000_000,
        ),
        # Escaped names, as systemd makes them, with a group below the mounted one.
        (
            {
                "proc__self__cgroup": "0::/docker\\x2dabc.scope/inner\n",
                "proc__self__mountinfo": "31 23 0:28 /docker\\134x2dabc.scope /c\\040g rw shared:9 - cgroup2 x rw\n",
                "c g__inner__memory_D_max": "1000000000\n",
                "c g__inner__memory_D_current": "1\n",
            },
            999_999_999,
        ),
        # Files that say nothing of use.
        ({"proc__self__cgroup": "nonsense\n", "proc__self__mountinfo": "\n- \n"}, 32_768_000_000),
    ],
)
def test_free_memory_reads_the_smallest(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    found = free_memory(write(tmp_path, **files))
    assert found is not None
    assert found.size == expected


def test_free_memory_without_proc(tmp_path: Path) -> None:
    found = free_memory(tmp_path)
    assert found is not None
    assert found.size == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a real control group below this process's own, with 1.5 GB."""
    lines = Path("/proc/self/cgroup").read_text().splitlines() if Path("/proc/self/cgroup").exists() else []
    own = {name: line.split(":", 2)[2] for line in lines for name in line.split(":", 2)[1].split(",")}
    one, two = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent = one / own["memory"].lstrip("/") if "memory" in own else two / own.get("", "").lstrip("/")
    folder = (parent if parent.is_dir() else one) / f"reasonknee-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if "memory" in own else "memory.max")).write_text("1500000000")
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"this system makes no control group: {error}")
    yield folder
    folder.rmdir()


@pytest.mark.slow
def test_check_memory_in_a_real_control_group(group: Path) -> None:
    code = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n{BATCH}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    match = re.search(
        r"A batch of 4x1x800x800x800 voxels of 2 bytes takes 4.1 GB of memory, and ([\d.]+) GB are", run.stdout
    )
    assert match, run.stdout
    assert 0.5 < float(match[1]) < 1.5
    assert "left of the control group's 1.5 GB" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "flag"), [("RLIMIT_AS", "-v"), ("RLIMIT_DATA", "-d")])
def test_check_memory_under_a_real_process_limit(kind: str, flag: str) -> None:
    code = f"import resource; resource.setrlimit(resource.{kind}, (4 * 10**9,) * 2)\n{BATCH}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(rf"GB are left of this process's 4 GB \(ulimit {flag}\)", run.stdout), run.stdout
