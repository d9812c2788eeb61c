"""Profiles of hypothesis, the mark `slow` of whole files, and the synthetic releases that many tests read."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare

# Derandomised in CI, so that a red run means that the code changed; `dev` keeps looking for new examples.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", parent=settings.get_profile("dev"), max_examples=20)

TESTS = Path(__file__).parent
_SLOW_FILE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples with `-m "not slow"`; before any test file is imported, whose settings derive from these."""
    quick = config.option.markexpr == "not slow"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick" if quick else "dev"))


def is_slow_file(path: Path) -> bool:
    """Return whether a file of tests marks all of them `slow`, first in its `pytestmark`."""
    return path.name.startswith("test_") and bool(_SLOW_FILE.search(path.read_text(encoding="utf-8")))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import slow files with `-m "not slow"`: their libraries (inspect_ai, trl) take seconds to import."""
    if config.option.markexpr == "not slow" and collection_path.suffix == ".py" and is_slow_file(collection_path):
        return True
    return None


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Build a folder once in a run, even on several workers: the others wait for the one that builds it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker that failed left
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def phantom_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny synthetic release of six patients in the official layout; read it, never write into it."""

    def build(folder: Path) -> None:
        write_release(folder / "release", patients=6, size="tiny", seed=0, workers=1)

    return build_once(tmp_path_factory, "phantom", build) / "release"


@pytest.fixture(scope="session")
def prepared(phantom_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared repository of `phantom_release`; read it, never write into it."""

    def build(folder: Path) -> None:
        prepare(phantom_release, folder / "3dreasonknee", workers=1, progress=False)

    return build_once(tmp_path_factory, "prepared", build) / "3dreasonknee"


@pytest.fixture(scope="session")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared annotations of sixty synthetic patients, without voxels; read it, never write into it."""

    def build(folder: Path) -> None:
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

    return build_once(tmp_path_factory, "annotated", build) / "3dreasonknee"
