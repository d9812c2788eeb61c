"""The phantom that is used where no data are: a tiny synthetic repository, made once and kept in the cache."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path

from reasonknee_datasets import __version__
from reasonknee_datasets.manifest import FORMAT, MANIFEST
from reasonknee_datasets.sources.repository import Repository, open_repository

# From six patients on, every split has both sides, several visits and every category.
_PATIENTS = 6
_SEED = 0
_NAME = "3dreasonknee"


class SyntheticDataWarning(UserWarning):
    """Synthetic data are used instead of the real ones."""


def find_phantom(cache_dir: str | os.PathLike[str] | None = None) -> Repository:
    """Return the phantom repository after a warning that it is synthetic; draw it on first use, with progress bars.

    Parameters
    ----------
    cache_dir : str or path, optional
        Where it is kept; by default the cache of ``datasets``.

    Warns
    -----
    SyntheticDataWarning
        Always, and before anything is drawn.
    """
    from datasets import config

    cache = Path(cache_dir if cache_dir is not None else config.HF_DATASETS_CACHE).expanduser()
    # Versions are in the name, since another one draws other voxels or writes another format.
    home = cache / "3dreasonknee-phantom" / f"{__version__}-{FORMAT}-{_PATIENTS}-{_SEED}"
    is_new = not (home / MANIFEST).is_file()
    above = next((str(each / _NAME) for each in Path.cwd().parents if (each / _NAME / MANIFEST).is_file()), "")
    hint = f"Did you mean data_dir={above!r}, which is above this folder? " if above else ""
    # Before it is drawn, which takes half a minute.
    warnings.warn(
        f"No 3DReasonKnee data were found, so all rows and voxels are SYNTHETIC: a phantom of {_PATIENTS} patients "
        f"that this package {'draws now, once, and keeps' if is_new else 'drew and keeps'} in {home}. {hint}Name a "
        "prepared repository with data_dir= or REASONKNEE_DATA; REASONKNEE_REQUIRE_REAL=1 makes this an error.",
        SyntheticDataWarning,
        stacklevel=5,  # the line that called load_dataset
    )
    if is_new:
        _make(home)
    return open_repository(str(home), where="phantom")


def _make(home: Path) -> None:
    """Write the phantom next to its place and move it there when complete: two processes may write it at once."""
    from filelock import FileLock

    from reasonknee_datasets.phantom import write_release
    from reasonknee_datasets.prepare import prepare

    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if (home / MANIFEST).is_file():
            return
        making = f"making-{home.name}-"
        for left in home.parent.glob(f"{making}*"):  # by killed runs: the lock is ours
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=making) as folder:
            release, repository = Path(folder) / "release", Path(folder) / "repository"
            # In this process: workers are spawned, and would run a user's script again from its first line.
            write_release(release, patients=_PATIENTS, size="tiny", seed=_SEED, workers=1)
            prepare(release, repository, masks=True, workers=1)
            if home.exists():  # left by a killed run: without a manifest it is nothing
                shutil.rmtree(home)
            repository.rename(home)
