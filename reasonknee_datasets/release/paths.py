"""Paths of a release, found from official spellings and never outside it, and the declaration of a synthetic one."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BoxError, ReleaseError
from reasonknee_datasets.json_fields import FLAG, TEXT, check_shape, parse_json
from reasonknee_datasets.safe_paths import open_regular, stays_inside

OFFICIAL_PREFIX = "../data/"
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ReleaseRoot:
    """Where a release's files are."""

    data: Path  # the folder that the official paths call ``../data``, resolved
    images: Path  # the folder that contains ``<patient>/<visit>/...``
    # Whether the caller named that folder. The links in it are the caller's own then, and are followed; those that come
    # with a download never lead out of it.
    own_images: bool = False

    def locate(self, official: str) -> Path:
        """Find the file that an official path such as ``../data/masks/knee_000.nii.gz`` means.

        Raises ReleaseError if the path leads out of the release: absolute, through ``..``, or over a symbolic link.
        """
        inside = official.removeprefix(OFFICIAL_PREFIX)
        if not stays_inside(inside):  # by its text alone, without access to the disk
            raise ReleaseError(
                f"The path {official!r} leaves the release. Official paths are {OFFICIAL_PREFIX}<folder>/<file>."
            )
        if inside.startswith("images/"):
            image = self.images / inside.removeprefix("images/")
            return image if self.own_images else _contain(image, self.data, official)
        return _contain(self.data / inside, self.data, official)


def find_root(root: Path, images: Path | None = None) -> ReleaseRoot:
    """Find ``data`` in or at a folder, and the images in it or at the caller's place.

    Raises ReleaseError if no release is there, or an annotation file is a link that leads out of it.
    """
    try:
        data = next((folder for folder in (root / "data", root) if (folder / "split_files").is_dir()), None)
        got = "no split_files in it nor in its data folder" if root.exists() else "no such folder"
        got = "it is a file" if root.is_file() else got
        got = "it is a prepared repository already" if (root / "manifest.json").is_file() else got
    except OSError as error:
        data, got = None, str(error)
    if data is None:
        raise ReleaseError(
            f"{root} is not an official release: {got}. Name the folder of the official download, which has data/, or "
            "data/ itself."
        )
    if images is not None and not images.is_dir():
        raise ReleaseError(
            f"The folder of images {images} does not exist. Name the one that contains "
            "<patient>/<visit>/<study>_<series>_<side>.nii.gz."
        )
    _check_links(data)
    if images is None:
        return ReleaseRoot(data.resolve(), data.resolve() / "images")
    inner = images / "images"
    return ReleaseRoot(data.resolve(), (inner if inner.is_dir() else images).resolve(), own_images=True)


def is_there(path: Path) -> bool:
    """Check whether a file exists; one without permission counts, and raises when it is read."""
    try:
        return path.is_file()
    except OSError:
        return True


def find_revision(data: Path) -> str | None:
    """Find the Hub revision of a download, where the download records it.

    ``hf download`` leaves it in the name of the snapshot folder, or with ``--local-dir`` in a metadata file.
    """
    for folder in (data, *data.parents):
        if folder.parent.name == "snapshots" and _REVISION.fullmatch(folder.name):
            return folder.name
    for root in (data.parent, data):
        notes = root / ".cache" / "huggingface" / "download"
        for note in sorted(notes.glob("**/*_split.csv.metadata")):
            first = _first_line(note)
            if _REVISION.fullmatch(first):
                return first
    return None


def _first_line(note: Path) -> str:
    """Read the first line of a small file; an empty string where it cannot be read."""
    try:
        with os.fdopen(open_regular(note), "rb") as file:
            return file.readline(200).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _check_links(data: Path) -> None:
    """Refuse annotation files and folders that are links out of the release; images and masks are checked elsewhere."""
    root = data.resolve()
    for name in ("split_files", "generate_data", "question_files"):
        with suppress(OSError):  # a folder that is absent or locked is reported when it is read
            for path in (data / name, *(data / name).iterdir()):
                if path.is_symlink():
                    _contain(path, root, str(path.relative_to(data)))


def _contain(path: Path, root: Path, official: str) -> Path:
    """Refuse a file that a symbolic link takes out of its folder."""
    target = path.resolve()
    if target.is_relative_to(root) or _is_hub_blob(target, root):
        return path
    raise ReleaseError(
        f"The link {official} -> {target} leaves the release. Replace it by the file; images elsewhere are named with "
        "--images."
    )


def _is_hub_blob(target: Path, root: Path) -> bool:
    """Check whether a link is the Hub cache's own: snapshots/<revision>/... -> blobs/<hash>."""
    snapshot = next((folder for folder in (root, *root.parents) if folder.parent.name == "snapshots"), None)
    return snapshot is not None and target.parent == snapshot.parent.parent / "blobs"


MARKER = "phantom.json"
_MOST_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Marker:
    """A synthetic release's declaration."""

    annotations_only: bool  # whether it has neither images nor masks, so that nothing can be compared with them
    convention: BoxConvention  # how its boxes are written


def read_marker(data: Path) -> Marker | None:
    """Read the declaration of a synthetic release; None where there is none.

    Raises ReleaseError if there is one that cannot be read.
    """
    path = data / MARKER
    remedy = "Remove the file to have the release checked like an official one, or write the phantom again"
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            tree = parse_json(file.read(_MOST_BYTES))
        check_shape(tree, {"synthetic": FLAG})
        if not tree["synthetic"]:
            return None
        check_shape(tree, {"annotations_only": FLAG, "box_convention": TEXT})
        return Marker(tree["annotations_only"], BoxConvention.parse(tree["box_convention"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, BoxError) as error:
        raise ReleaseError(f"{path} cannot be read: {str(error)[:200]}. {remedy}.") from error
