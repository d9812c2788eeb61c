"""Places and prepared repositories: finding one, opening it, and registering what opens its store.

A place is an absolute local folder or an fsspec URL, as a string that holds no secret.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec import available_protocols

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.safe_paths import is_url, join
from reasonknee_datasets.schema import parse_id, volume_id, volume_path
from reasonknee_datasets.volumes import find_credentials, set_credentials
from reasonknee_datasets.volumes.credentials import redact, split_hops

NAME = "3dreasonknee"
DATA = "REASONKNEE_DATA"
VOLUMES = "REASONKNEE_VOLUMES"
REQUIRE_REAL = "REASONKNEE_REQUIRE_REAL"
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z")
_SHOWN = 5
WITHDRAWN = files("reasonknee_datasets").joinpath("withdrawn.json")
"""The list of withdrawn revisions and rows that this version of the package ships."""
# The address that a browser shows for a dataset of the Hub.
_HUB_PAGE = re.compile(
    r"https://(?:huggingface\.co|hf\.co)/datasets/(?P<name>[^/?#@]+/[^/?#@]+)(?:/tree/(?P<revision>[^/?#]+))?/?"
)
PREPARE = "reasonknee prepare --release {release} --out 3dreasonknee"


class WithdrawnDataWarning(UserWarning):
    """Rows or a whole revision that are loaded were withdrawn."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A prepared repository.

    Attributes
    ----------
    root : str
        Absolute folder or URL.
    manifest : Manifest
        Its table of contents.
    """

    root: str
    manifest: Manifest

    def url(self, relative: str) -> str:
        """Place a file of the repository."""
        return join(self.root, relative)


def open_repository(root: str, *, where: str = "") -> Repository:
    """Read the manifest at a place.

    Parameters
    ----------
    root : str
        Absolute folder or URL.
    where : str
        The variable or default that named it, for messages; "" where the caller did.

    Raises
    ------
    RepositoryNotFoundError
        If no manifest is there.
    RepositoryError
        If it is an official release, which has to be prepared first, or the manifest cannot be read.
    """
    options = find_credentials(root) if is_url(root) else None
    return Repository(root, Manifest.load(root, storage_options=options, setting=where))


def place_subject(place: str, setting: str) -> str:
    """Begin a sentence about a place, with the setting that names it.

    Examples
    --------
    >>> place_subject("/data/knees", "REASONKNEE_DATA"), place_subject("/data/knees", "")
    ('REASONKNEE_DATA names /data/knees, which', '/data/knees')
    """
    return f"{setting} names {place}, which" if setting else place


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
    WithdrawnDataWarning
        If the revision, or a row in it, was withdrawn.
    """
    real = _is_on(environment.get(REQUIRE_REAL, ""))
    if root is None:
        if real:
            raise RepositoryNotFoundError(
                f"No data were found by data_dir, {DATA} or ./{NAME}, and {REQUIRE_REAL} forbids synthetic data. Name "
                f"a prepared repository with data_dir= or {DATA}, or write one: {PREPARE.format(release='RELEASE')}."
            )
        from reasonknee_datasets.sources.synthetic import find_phantom

        return find_phantom(cache_dir)
    repository = open_repository(root, where=setting)
    if real and repository.manifest.synthetic:
        raise RepositoryError(
            f"{root} has synthetic data, which {REQUIRE_REAL} forbids. Name the prepared official release, or unset "
            f"{REQUIRE_REAL}."
        )
    _warn_withdrawn(repository.manifest)
    return repository


def _warn_withdrawn(manifest: Manifest) -> None:
    """Warn if a repository is of a withdrawn revision, or has withdrawn rows; with the reasons."""
    listed = json.loads(WITHDRAWN.read_text(encoding="utf-8"))
    known = (manifest.source.get("revision"), manifest.digest)
    found = [
        f"Revision {each['revision']} of this dataset was withdrawn: {each['reason']}. Load a later one."
        for each in listed["revisions"]
        if each["revision"] in known
    ]
    rows = [
        f"{each['id']} ({each['reason']})"
        for each in listed["rows"]
        if each.get("revision") in (None, *known) and _volume_of(each["id"]) in manifest.volumes
    ]
    if rows:
        more = f"; and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        shown = "; ".join(rows[:_SHOWN]) + more
        found.append(f"{len(rows):,} withdrawn rows are in this repository: {shown}. Leave them out.")
    for message in found:
        warnings.warn(message, WithdrawnDataWarning, stacklevel=5)  # the line that called load_dataset


def _volume_of(row: str) -> str:
    """Return the volume path of a row's or a volume's id."""
    found = parse_id(row)
    return volume_path(volume_id(found.patient, found.visit, found.side, found.series))


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
        around = (folder, folder / NAME, folder.parent, folder.parent.parent)
        meant = next((each for each in around if (each / MANIFEST).is_file()), folder)
        if meant != folder:
            raise RepositoryNotFoundError(f"{subject} has no {MANIFEST}. Did you mean {str(meant)!r}?")
        return
    if folder.is_symlink():
        raise RepositoryNotFoundError(
            f"{subject} is a link to {folder.readlink()}, which does not exist. Mount the disk of "
            "its target, or correct or remove the link."
        )
    if folder.exists():
        remedy = "Name the folder of a prepared repository."
        if (folder.parent / MANIFEST).is_file():
            remedy = f"Did you mean its folder, {str(folder.parent)!r}?"
        elif folder.name.lower().endswith(_ARCHIVES):
            remedy = "Unpack it, and name the folder that it holds."
        if setting == f"./{NAME}":
            remedy = f"Move it away, or name a prepared repository with data_dir= or {DATA}."
        raise RepositoryNotFoundError(f"{subject} is a file and not a folder. {remedy}")
    _refuse_interrupted(folder)
    there = next(parent for parent in folder.parents if parent.is_dir())
    missing, *below = folder.relative_to(there).parts
    names = sorted(entry.name for entry in there.iterdir() if not entry.name.startswith("."))
    near = [name for name in get_close_matches(missing, names) if there.joinpath(name, *below).exists()]
    remedy = f"{there} exists and has no {missing}. Check the path."
    if near:
        remedy = f"Did you mean {str(there.joinpath(near[0], *below))!r}?"
    if len(below) == 1 and not near:
        remedy += f" A dataset on the Hub is named as hf://datasets/{missing}/{below[0]}."
    raise RepositoryNotFoundError(f"{subject} does not exist. {remedy}")


def _is_on(text: str) -> bool:
    return text.strip().lower() not in {"", "0", "false", "no", "off"}


def to_place(given: str | os.PathLike[str], setting: str) -> str:
    """Write a folder or URL in the one form that the loader uses: absolute, without a slash at its end.

    Parameters
    ----------
    given : str or path
        Argument or setting of the user.
    setting : str
        Where: the name of an argument or of an environment variable, for messages.

    Raises
    ------
    RepositoryError
        If a URL carries a user name, a password or a query, which would end up in Arrow files and fingerprints, or one
        of the Hub has no owner.

    Examples
    --------
    >>> to_place("https://host/3dreasonknee/", "data_dir")
    'https://host/3dreasonknee'
    >>> to_place("https://huggingface.co/datasets/owner/name/tree/v1", "data_dir")
    'hf://datasets/owner/name@v1'
    >>> to_place("https://me:secret@host/3dreasonknee", "data_dir")
    Traceback (most recent call last):
        ...
    reasonknee_datasets.errors.RepositoryError: data_dir must not hold credentials or a query, as in ...
    """
    text = os.fspath(given)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if (page := _HUB_PAGE.fullmatch(text)) is not None:
        text = f"hf://datasets/{page['name']}" + (f"@{page['revision']}" if page["revision"] else "")
    if text.startswith("hf://datasets/") and not re.match(r"hf://datasets/[^/@]+/[^/@]", text):
        raise RepositoryError(f"{setting} names no owner in {redact(text)}. Write hf://datasets/owner/name.")
    if not is_url(text):
        return str(Path(os.path.abspath(Path(text).expanduser())))  # noqa: PTH100 (absolute() keeps "..")
    for hop in text.split("::"):
        if "://" in hop and ("@" in urlsplit(hop).netloc or urlsplit(hop).query):
            raise RepositoryError(
                f"{setting} must not hold credentials or a query, as in {redact(hop)}. Pass keys and tokens with "
                "storage_options= or token=, which are written nowhere."
            )
    return text.rstrip("/")


def keep_credentials(place: str | None, storage_options: Mapping[str, Any] | None, token: bool | str | None) -> None:
    """Register the storage options of a place, for this process only.

    Parameters
    ----------
    place : str or None
        A place; only a URL needs anything.
    storage_options : mapping, optional
        Options of fsspec for it. Where data and volumes are in different stores, options may be keyed by protocol, as
        fsspec allows for chained URLs: ``{"s3": {"key": ...}, "https": {"headers": ...}}``.
    token : str or bool, optional
        The Hub's, used for ``hf://`` only.
    """
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise RepositoryError(  # the type and never the value, which may be a secret
            f"storage_options must be a mapping, not a {type(storage_options).__name__}. Write it as "
            '{"key": ..., "secret": ...}.'
        )
    if place is None or not is_url(place):
        return
    store = _store_of(place)
    protocol = store.partition("://")[0]
    options = dict(storage_options or {})
    if options and all(name in available_protocols() for name in options):
        options = dict(options.get(protocol, {}))
    if protocol == "hf" and token is not None:
        options["token"] = token
    if protocol == "hf" and options:
        # A pickled IterableDataset carries every cached HfFileSystem along, and with it the token.
        options["skip_instance_cache"] = True
    if options:
        set_credentials(store, options)


def _store_of(place: str) -> str:
    """Return the last hop of a chained URL, which is the store that credentials open."""
    return split_hops(place)[-1] if is_url(place) else place


@contextmanager
def trying_credentials(
    place: str | None, storage_options: Mapping[str, Any] | None, token: bool | str | None
) -> Iterator[None]:
    """Register the storage options of a place, and remove them again if it cannot be opened."""
    keep_credentials(place, storage_options, token)
    try:
        yield
    except RepositoryError:
        if place is not None and (storage_options or token):
            set_credentials(_store_of(place), None)
        raise
