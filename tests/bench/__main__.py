"""``python -m tests.bench [NAME ...]``: measure and print; the README's tables are this output."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.bench import scale, voxels

BENCHMARKS = {"scale": scale.measure, "voxels": voxels.measure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which ones (default: all)")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        with tempfile.TemporaryDirectory(prefix="reasonknee-bench-") as folder:
            print(BENCHMARKS[name](Path(folder)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
