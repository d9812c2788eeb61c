"""Finding the data: an argument, a setting, the current folder, or a phantom made on the spot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.plain_paths import is_url
from reasonknee_datasets.sources.locations import to_place
from reasonknee_datasets.sources.repository import PREPARE, Repository, open_repository, place_subject
from reasonknee_datasets.sources.synthetic import find_phantom

NAME = "3dreasonknee"
DATA = "REASONKNEE_DATA"
VOLUMES = "REASONKNEE_VOLUMES"
REQUIRE_REAL = "REASONKNEE_REQUIRE_REAL"


def find_place(data_dir: str | os.PathLike[str] | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Decide where the repository should be; None without a setting and without ``./3dreasonknee``.

    ``data_dir`` comes first, then ``REASONKNEE_DATA``, then ``./3dreasonknee``.

    Raises
    ------
    RepositoryNotFoundError
        If the place that `data_dir` or ``REASONKNEE_DATA`` names does not exist, or is a file or a broken link;
        ``./3dreasonknee`` likewise, or if a run of prepare did not finish it.
    """
    setting = name_setting(data_dir)
    given = data_dir if data_dir is not None else environment.get(DATA) or None
    if given is None:
        given = Path.cwd() / NAME
        if not os.path.lexists(given):
            _refuse_interrupted(given)
            return None
    root = to_place(given, setting or "The address of a repository")
    if not is_url(root):
        with suppress(PermissionError):  # reading the manifest raises the error that names what is locked
            _check_folder(Path(root), setting)
    return root


def _refuse_interrupted(folder: Path) -> None:
    """Refuse synthetic data where a run of prepare was killed before the repository was complete."""
    if os.path.lexists(folder.with_name(f".{folder.name}.partial")):
        raise RepositoryNotFoundError(
            f"{folder} is not complete: a run of `reasonknee prepare` is writing it or was interrupted. Wait for it, "
            "or run the same command again; it continues with the volumes that are done."
        )


def name_setting(data_dir: str | os.PathLike[str] | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the variable or default that names the data's place, for messages; "" if the caller names it."""
    if data_dir is not None:
        return ""
    return DATA if environment.get(DATA) else f"./{NAME}"


def find_repository(
    root: str | None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    setting: str = "",
    environment: Mapping[str, str] = os.environ,
) -> Repository:
    """Open the repository at a place, or make the phantom where there is none.

    Parameters
    ----------
    root : str or None
        Result of `find_place`.
    cache_dir : str or path, optional
        Where a phantom is kept; by default the cache of ``datasets``.
    setting : str
        Result of `name_setting`.

    Raises
    ------
    RepositoryError
        If REASONKNEE_REQUIRE_REAL is set and the data are synthetic, named explicitly or not.

    Warns
    -----
    SyntheticDataWarning
        If the synthetic data are used instead.
    """
    real = _is_on(environment.get(REQUIRE_REAL, ""))
    if root is None:
        if real:
            raise RepositoryNotFoundError(
                f"No data were found by data_dir, {DATA} or ./{NAME}, and {REQUIRE_REAL} forbids synthetic data. Name "
                f"a prepared repository with data_dir= or {DATA}, or write one: {PREPARE.format(release='RELEASE')}."
            )
        return find_phantom(cache_dir)
    repository = open_repository(root, where=setting)
    if real and repository.manifest.synthetic:
        raise RepositoryError(
            f"{root} has synthetic data, which {REQUIRE_REAL} forbids. Name the prepared official release, or unset "
            f"{REQUIRE_REAL}."
        )
    return repository


def find_volumes(
    volumes_dir: str | os.PathLike[str] | None, root: str, environment: Mapping[str, str] = os.environ
) -> str:
    """Decide where volumes are: ``volumes_dir``, else ``REASONKNEE_VOLUMES``, else the repository itself.

    A row's ``volume_path`` is joined to it unchanged, so the place is the folder that *holds* ``volumes/``. It need
    not exist: rows load and filter without voxels.
    """
    if volumes_dir is not None:
        return to_place(volumes_dir, "volumes_dir")
    given = environment.get(VOLUMES)
    return to_place(given, VOLUMES) if given else root


def _check_folder(folder: Path, setting: str) -> None:
    subject = place_subject(str(folder), setting)
    if folder.is_dir():
        below = folder / NAME
        if not (folder / MANIFEST).is_file() and (below / MANIFEST).is_file():
            raise RepositoryNotFoundError(f"{subject} has no {MANIFEST}. Did you mean {str(below)!r}?")
        return
    if folder.is_symlink():
        raise RepositoryNotFoundError(
            f"{subject} is a link to {folder.readlink()}, which does not exist. Mount the disk of "
            "its target, or correct or remove the link."
        )
    if folder.exists():
        remedy = f"Did you mean its folder, {str(folder.parent)!r}?"
        if setting == f"./{NAME}":
            remedy = f"Move it away, or name a prepared repository with data_dir= or {DATA}."
        raise RepositoryNotFoundError(f"{subject} is a file and not a folder. {remedy}")
    there = next(parent for parent in folder.parents if parent.is_dir())
    missing = folder.relative_to(there).parts[0]
    names = sorted(entry.name for entry in there.iterdir() if not entry.name.startswith("."))
    near = get_close_matches(missing, names, n=1)
    remedy = f"Did you mean {str(there / near[0])!r}?" if near else f"{there} exists and has no {missing}."
    raise RepositoryNotFoundError(f"{subject} does not exist. {remedy}")


def _is_on(text: str) -> bool:
    return text.strip().lower() not in {"", "0", "false", "no", "off"}
