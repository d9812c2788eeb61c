"""A prepared repository that was found: its place and its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest, manifest_limit
from reasonknee_datasets.plain_paths import is_url, join
from reasonknee_datasets.sources.locations import reading
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import open_filesystem, read_file

PREPARE = "reasonknee prepare --release {release} --out 3dreasonknee"

# Entries of an official release that a prepared repository never has; the first is requested over HTTP and S3, where
# nothing can be listed.
_OFFICIAL = (
    "data/split_files/all_studies.csv",
    "split_files/all_studies.csv",
    "data/generate_data/train.json",
    "generate_data/train.json",
    "data/split_files",
    "data/generate_data",
)


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
    url = join(root, MANIFEST)
    try:
        with reading(url, "manifest"):
            data = read_bytes(url)
    except RepositoryNotFoundError as error:
        refuse_official(root)
        remedy = f"Name the folder or URL of one, or write one: {PREPARE.format(release='RELEASE')}"
        if is_url(root):  # many stores answer "not found" where reading is not permitted
            remedy += "; pass storage_options= or token= if it needs credentials"
        raise RepositoryNotFoundError(
            f"{place_subject(root, where)} is not a prepared repository: it has no {MANIFEST}. {remedy}."
        ) from error
    return Repository(root, Manifest.from_bytes(data, where=url))


def place_subject(place: str, setting: str) -> str:
    """Begin a sentence about a place, with the setting that names it.

    Examples
    --------
    >>> place_subject("/data/knees", "REASONKNEE_DATA"), place_subject("/data/knees", "")
    ('REASONKNEE_DATA names /data/knees, which', '/data/knees')
    """
    return f"{setting} names {place}, which" if setting else place


def refuse_official(root: str) -> None:
    """Raise if a place has the official release, as its users download it."""
    with reading(root, "repository"):
        official = any(exists(join(root, name)) for name in (_OFFICIAL[:1] if is_url(root) else _OFFICIAL))
    if official:
        command = PREPARE.format(release=root if not is_url(root) else "DIR")
        first = f"Download it to DIR, then run: {command}" if is_url(root) else f"Run: {command}"
        raise RepositoryError(f"{root} is the official release, which must be prepared first. {first}, and load that.")


def read_bytes(url: str) -> bytes:
    """Read a small file whole, with the credentials of its place; it may be as long as a manifest."""
    return read_file(url, find_credentials(url), manifest_limit())


def exists(url: str) -> bool:
    """Check whether a file or folder exists, without listing anything."""
    if not is_url(url):
        return Path(url).exists()
    filesystem, path = open_filesystem(url, find_credentials(url))
    return bool(filesystem.exists(path))
