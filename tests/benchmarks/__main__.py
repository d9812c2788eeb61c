"""``python -m tests.benchmarks [NAME ...]``: measure and print; the README's tables are this output."""

from __future__ import annotations

import argparse
import tempfile
from importlib import import_module
from pathlib import Path

# Each is a module of this package with ``measure(folder)``; it is imported when it is asked for.
BENCHMARKS = ("scale", "streaming_start", "voxels", "training", "row_profile", "scoring", "asking", "workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which ones (default: all)")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        with tempfile.TemporaryDirectory(prefix="reasonknee-bench-") as folder:
            print(import_module(f"tests.benchmarks.{name}").measure(Path(folder)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
