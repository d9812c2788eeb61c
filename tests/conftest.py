"""Profiles of hypothesis, and the synthetic release that many tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare

# Derandomised in CI, so that a red run means that the code changed; `dev` keeps looking for new examples.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


# Tests in these folders run measurements or whole examples, each for seconds.
SLOW_FOLDERS = frozenset({"benchmarks", "examples"})
# A test with one of these marks starts a browser, several processes, or one costly run that a group of tests reads.
SLOW_MARKS = frozenset({"browser", "cluster", "xdist_group"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests `slow` by their folder or another mark, so that new tests of these kinds need no mark of their own."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if "slow" not in marks and (item.path.parent.name in SLOW_FOLDERS or marks & SLOW_MARKS):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def phantom_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny synthetic release of six patients in the official layout; read it, never write into it."""
    folder = tmp_path_factory.mktemp("phantom") / "release"
    write_release(folder, patients=6, size="tiny", seed=0, workers=1)
    return folder


@pytest.fixture(scope="session")
def prepared(phantom_release: Path) -> Path:
    """The prepared repository of `phantom_release`; read it, never write into it."""
    folder = phantom_release.parent / "3dreasonknee"
    prepare(phantom_release, folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared annotations of sixty synthetic patients, without voxels; read it, never write into it."""
    folder = tmp_path_factory.mktemp("annotated")
    write_release(folder / "release", patients=60, seed=5, annotations_only=True, workers=1)
    prepare(
        folder / "release",
        folder / "3dreasonknee",
        volumes="none",
        # Without masks nothing tells in which convention the phantom wrote its boxes.
        box_convention="slice0-x1-y2-pairs-inclusive-voxel",
        allow=["missing-mask"],
        workers=1,
        progress=False,
    )
    return folder / "3dreasonknee"
