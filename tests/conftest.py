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


TESTS = Path(__file__).parent
# Folders, files and classes of tests that cost more than six seconds of CPU each, or whose imports do.
SLOW_PATHS = frozenset(
    {
        "bench/test_evaluation.py::TestReport",
        "bench/test_reasoning_judge.py",
        "bench/test_tasks.py",
        "bench/test_tasks_server.py",
        "benchmarks",
        "browse/test_browser_pages.py",
        "browse/test_prediction_index.py",
        "examples",
        "loader/test_frameworks.py",
        "loader/test_janitor.py",
    }
)
# A test with one of these marks starts a browser, several processes, or one costly run that a group of tests reads.
SLOW_MARKS = frozenset({"browser", "cluster", "xdist_group"})


def is_slow(path: Path, class_name: str = "") -> bool:
    """Return whether a file, a folder or a class of tests is in `SLOW_PATHS`, or below one that is."""
    own = path.relative_to(TESTS)
    names = {parent.as_posix() for parent in (own, *own.parents)}
    return not SLOW_PATHS.isdisjoint(names | {f"{own.as_posix()}::{class_name}"})


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave slow files unread with `-m "not slow"`: their libraries (inspect_ai, trl) take seconds to import."""
    if config.option.markexpr == "not slow" and collection_path.is_relative_to(TESTS) and is_slow(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests `slow` by their file or another mark, so that new tests of these kinds need no mark of their own."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        test_class = getattr(item, "cls", None)
        class_name = test_class.__name__ if test_class else ""
        # Doctests of the package are items too, outside of the folder of tests.
        slow_path = item.path.is_relative_to(TESTS) and is_slow(item.path, class_name)
        if "slow" not in marks and (slow_path or marks & SLOW_MARKS):
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
