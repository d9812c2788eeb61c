"""Bit flips in the files of a repository: never a raw error, a hang, memory beyond the bound, or a changed value.

The suite runs a few thousand (tests/sources/test_repository_fuzz.py); a developer runs more:
``python -m tests.helpers.fuzz_repository --count 20000``.
Every file of a prepared repository is flipped in turn: manifest, priors, and the shards of all configs (quintuples,
index, balanced). What comes out must be what was written, or an error of this package that names the file.
"""

from __future__ import annotations

import argparse
import collections
import json
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reasonknee_datasets.bench.priors import read_priors
from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.manifest import MANIFEST, Manifest, Shard
from reasonknee_datasets.prepare.prior_counts import PRIORS
from reasonknee_datasets.sources import read_shard, select
from reasonknee_datasets.sources.repository import Repository
from tests.helpers import prepare_content as given

GROWTH_BYTES = 400_000_000
SECONDS = 20


def write_repository(folder: Path) -> Path:
    """Write a repository as prepare does, from made-up content."""
    given.write(folder / "3dreasonknee", given.content(given.volumes(None)), volumes="none")
    return folder / "3dreasonknee"


def targets(root: Path) -> list[tuple[str, Callable[[], Any]]]:
    """List the files to damage, each with a function that reads it back as values."""
    manifest = Manifest.load(root)
    found: list[tuple[str, Callable[[], Any]]] = [
        (MANIFEST, lambda: Manifest.load(root).to_bytes()),
        (PRIORS, lambda: _values(read_priors(Repository(str(root), manifest)))),
    ]
    for config in ("quintuples", "volumes", "balanced"):
        shard = manifest.shards(config, "train")[0]
        found.append((shard.path, lambda shard=shard, config=config: _rows(root, shard, config)))  # type: ignore[misc]
    return found


def _values(priors: Any) -> Any:
    arrays = (priors.counts, priors.boxes_mm, priors.boxes_fraction)
    return [array.tobytes() for array in arrays], priors.answers, priors.rows


def _rows(root: Path, shard: Shard, config: str) -> Any:
    """Read all rows, and once more those that a filter chooses: it trusts the footer's statistics."""
    columns = None if config == "balanced" else ["id", "patient"]
    whole = [row for table in read_shard(str(root / shard.path), shard, select(config)) for row in table.to_pylist()]
    chosen = select(config, columns, [("id", ">", "0000002")])
    return whole, [row for table in read_shard(str(root / shard.path), shard, chosen) for row in table.to_pylist()]


def fuzz(count: int, seed: int, folder: Path) -> collections.Counter[tuple[str, str]]:
    """Flip bits of every file, `count` times in all, and count what came of it.

    Raises
    ------
    AssertionError
        If a value changed in silence, an error does not name the file, or memory grew beyond the bound.
    """
    root, rng = write_repository(folder), np.random.default_rng(seed)
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    files = targets(root)
    wanted = [read() for _, read in files]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _hang)
    for number in range(count):
        (name, read), expected = files[number % len(files)], wanted[number % len(files)]
        sound = (root / name).read_bytes()
        data = bytearray(sound)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(data))) if rng.random() < 0.7 else len(data) - 1 - int(rng.integers(200))
            data[max(0, place)] ^= 1 << int(rng.integers(8))
        if bytes(data) == sound:
            continue
        (root / name).write_bytes(bytes(data))
        signal.alarm(SECONDS)
        try:
            found = read()
        except ReasonKneeError as error:
            if name not in str(error):
                raise AssertionError(f"flip {number} of {name}: the error does not name the file") from error
            outcomes[name, "error"] += 1
        else:
            assert found == expected, f"flip {number} of {name} changed values in silence"
            outcomes[name, "right"] += 1
        finally:
            signal.alarm(0)
            (root / name).write_bytes(sound)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH_BYTES, f"{grown:,} bytes of memory"
    return outcomes


def _hang(*_: object) -> None:
    raise TimeoutError(f"no answer within {SECONDS} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counted = fuzz(arguments.count, arguments.seed, Path(scratch))
    sys.stdout.write(json.dumps({" ".join(key): value for key, value in sorted(counted.items())}, indent=1) + "\n")
