"""Input of a prepared repository, by which a second run finds out whether it must be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reasonknee_datasets.errors import PrepareError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.prepare.staging import hash_file


def describe_files(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the annotation files; masks and images are compared by their times (`is_current`)."""
    described: dict[str, dict[str, Any]] = {}
    for name, path in sorted(files.items()):
        with suppress(OSError):  # left out; the release's check reports files that cannot be read
            described[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    return described


def count_images(images: Iterable[Path]) -> dict[str, int]:
    """Return number and total size of the images: packed ones do not show the size of their sources."""
    sizes = [size for size in map(_size, images) if size is not None]
    return {"files": len(sizes), "bytes": sum(sizes)}


def refuse_other_input(previous: Manifest, source: Mapping[str, Any], versions: Mapping[str, str], out: Path) -> None:
    """Refuse a folder that was made from something else.

    Raises PrepareError: naming what differs.
    """
    old_files, new_files = previous.source.get("files", {}), source["files"]
    names = old_files.keys() | new_files.keys()
    differs = sorted(name for name in names if old_files.get(name) != new_files.get(name))
    for key in ("revision", "options", "images", "tables"):
        old, new = previous.source.get(key), source.get(key)
        differs += [] if old == new else [f"{key} ({old}, now {new})"]
    old_versions = dict(previous.versions)
    differs += [
        f"{name} {old_versions.get(name)}, now {new}" for name, new in versions.items() if old_versions.get(name) != new
    ]
    if differs:
        raise other_input(out, ", ".join(differs[:5]) + (f" and {len(differs) - 5} more" if len(differs) > 5 else ""))


def other_input(out: Path, differs: str) -> PrepareError:
    """Build the error for a folder that is replaced only with ``overwrite=True``."""
    return PrepareError(
        f"{out} has a repository that was made from other input: it differs in {differs}. Choose another folder, or "
        "replace it with overwrite=True (--overwrite)."
    )


def is_current(previous: Manifest, out: Path, inputs: Iterable[tuple[str, Path, Path | None]]) -> bool:
    """Check whether a repository is whole and no image or mask has changed since it was written.

    Nothing is hashed: sizes are compared with the manifest's (those of the images together, by `refuse_other_input`),
    and times of change with its own time. The hour that a
    full comparison would take is spent only where one of these differs.

    `previous`: the repository's. `out`: its folder. `inputs`: for each volume of the release: its path in a repository,
    its image and its mask.
    """
    written = (out / MANIFEST).stat().st_mtime_ns
    for shard in previous.all_shards():
        if _size(out / shard.path) != shard.bytes:
            return False
    if any(_size(out / path) != mask.bytes for path, mask in previous.masks.items()):
        return False
    keeps_volumes = previous.source.get("options", {}).get("volumes") != "none"
    for volume_path, image, mask in inputs:
        record = previous.volumes.get(volume_path)
        if record is not None and _changed_after(image, written):
            return False
        if record is not None and keeps_volumes and _size(out / volume_path) != record.bytes:
            return False
        if mask is not None and _changed_after(mask, written):
            return False
    return True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:  # behind a locked door: not as it was
        return None


def _changed_after(path: Path, time_ns: int) -> bool:
    """Compare the inode's time, which no copying program can set back."""
    try:
        return path.stat().st_ctime_ns > time_ns
    except FileNotFoundError:
        return False
    except OSError:
        return True
