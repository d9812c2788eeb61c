"""From load_dataset to voxels: how many modules of the package each step crosses, so that a reader finds the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import reasonknee_datasets
from reasonknee_datasets import load_dataset
from tests.helpers.prepared_repository import write_repository

ROOT = Path(reasonknee_datasets.__file__).parent


def modules_crossed(work: Callable[[], Any]) -> tuple[Any, set[str]]:
    """Call a function; return its result and the modules of the package of which it called a function."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            found.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = work()
    finally:
        sys.setprofile(before)
    return result, {str(Path(name).relative_to(ROOT)) for name in found if name.startswith(str(ROOT))}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("journey")
    return [str(write_repository(folder / name / "3dreasonknee")) for name in ("first", "second")]


@pytest.mark.slow
def test_modules_from_load_dataset_to_voxels(repositories: list[str]) -> None:
    def crop(row: dict[str, Any]) -> np.ndarray:
        return np.asarray(row["volume"].slicer[0:2, 0:2, 0:2].dataobj)

    crop(next(iter(load_dataset(data_dir=repositories[0], split="train", streaming=True))))  # imports what is lazy
    rows, loading = modules_crossed(lambda: load_dataset(data_dir=repositories[1], split="train", streaming=True))
    row, reading = modules_crossed(lambda: next(iter(rows)))
    voxels, cold = modules_crossed(lambda: crop(row))
    again, warm = modules_crossed(lambda: crop(row))
    np.testing.assert_array_equal(voxels, np.asarray(row["volume"])[:2, :2, :2])
    np.testing.assert_array_equal(again, voxels)
    assert {"load.py", "builder.py", "manifest.py"} <= loading
    assert {"sources/shard_reader.py", "feature.py"} <= reading
    assert {"volumes/header.py", "volumes/slab_reader.py", "volumes/byte_source.py"} <= cold
    assert warm <= {f"volumes/{name}.py" for name in ("byte_source", "cache", "grid_view", "image", "stored_array")}
    loading -= {"figures/notebook.py"}  # only in a process that has imported IPython
    assert len(loading) <= 11, sorted(loading)
    assert len(reading) <= 8, sorted(reading)
    assert len(cold) <= 9, sorted(cold)
