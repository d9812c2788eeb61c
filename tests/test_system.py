"""The package works where the system lacks forks, file locks and reads at an offset, as Windows does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.volumes import pack
from tests.helpers.paths import ROOT
from tests.helpers.prepared_repository import write_repository
from tests.helpers.volumes_files import knee, save

# Runs in every process, spawned ones included, before anything of the package is imported.
LACK = """
import os, sys
import multiprocessing.popen_fork, multiprocessing.util, subprocess, pathlib, tempfile, random, logging, threading
lacking = ("fork", "register_at_fork", "pread", "pwrite", "sched_getaffinity")
for name in lacking:
    if hasattr(os, name):
        delattr(os, name)
sys.modules["fcntl"] = None
"""


def run(code: str, *arguments: str) -> str:
    """Run code in a process without those names."""
    command = [sys.executable, "-c", LACK + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_reading_regions(tmp_path: Path) -> None:
    array = knee((20, 24, 28))
    pack(save(tmp_path / "plain.nii", array), tmp_path / "packed.nii.gz")
    save(tmp_path / "ordinary.nii.gz", array)
    np.save(tmp_path / "expected.npy", array[2:9, 3:20, 5:25])
    code = """
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from reasonknee_datasets import Box, open_volume
expected = np.load(f"{sys.argv[1]}/expected.npy")
for name in ("plain.nii", "packed.nii.gz", "ordinary.nii.gz"):
    for options in ({}, {"cache": None}):
        volume = open_volume(f"{sys.argv[1]}/{name}", **options)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: volume.read_region(Box((2, 3, 5), (9, 20, 25))), range(8)):
                np.testing.assert_array_equal(found, expected)
print("read")
"""
    assert run(code, str(tmp_path)) == "read\n"


@pytest.mark.slow
def test_load_transform_and_train(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    root = write_repository(tmp_path / "3dreasonknee")
    script = tmp_path / "train.py"
    script.write_text(
        "import torch.utils.data, datasets  # built for this system, they use what it has\n"
        + LACK
        + """
import multiprocessing
import numpy as np
from reasonknee_datasets import Compose, CropToBox, ToCanonical, Window, load_dataset, make_dataloader

def keep(examples):
    return {"volume": [np.asarray(example["volume"]) for example in examples]}

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    rows = load_dataset(data_dir=sys.argv[1], cache_dir=sys.argv[2], split="train")
    steps = Compose((ToCanonical(), CropToBox(size=(2, 2, 2)), Window()))
    for workers in (0, 2):
        loader = make_dataloader(rows, batch_size=2, transform=steps, num_workers=workers, collate_fn=keep)
        shapes = [array.shape for batch in loader for array in batch["volume"]]
        print(len(shapes) > 1, {*shapes})
""",
        encoding="utf-8",
    )
    command = [sys.executable, str(script), str(root), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "True {(2, 2, 2)}\n" * 2


@pytest.mark.slow
def test_scoring() -> None:
    code = """
from reasonknee_datasets.bench import parse_answer
import reasonknee_datasets.bench.evaluation, reasonknee_datasets.cli
print("scored")
"""
    assert run(code) == "scored\n"
