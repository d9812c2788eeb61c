"""Revisions: pinning a repository, and refusing mixtures of two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest, manifest_limit
from reasonknee_datasets.safe_paths import join
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import read_file, store_errors

_HUB = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?P<below>/.*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT = re.compile(r"[0-9a-f]{7,64}")


def resolve_revision(root: str, revision: str | None) -> str:
    """Write the commit of a Hub repository into its URL; any other place is returned as it is.

    All that is read afterwards (shards, volumes, cached rows) is of that commit, also where the branch moves on.

    Parameters
    ----------
    root : str
        Folder or URL.
    revision : str or None
        Commit, tag or branch; by default that of the URL, else ``main``.

    Raises
    ------
    RepositoryError
        If the URL names another revision.
    RepositoryNotFoundError
        If the Hub repository has no such revision.
    """
    match = _HUB.fullmatch(root)
    if match is None:
        return root
    stated = unquote(match["revision"]) if match["revision"] else None
    if revision is not None and stated not in (None, revision):
        raise RepositoryError(f"{root} names revision {stated!r}, and revision= is {revision!r}. Name one of them.")
    wanted = revision or stated or "main"
    commit = wanted if _COMMIT.fullmatch(wanted) else _find_commit(root, match["name"], wanted)
    if commit is None:  # reading the manifest raises the error with the reason
        return root if revision is None else f"hf://datasets/{match['name']}@{revision}{match['below'] or ''}"
    return f"hf://datasets/{match['name']}@{commit}{match['below'] or ''}"


def _find_commit(root: str, name: str, revision: str) -> str | None:
    """Ask the Hub for the commit of a tag or branch; None where it does not answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    options = find_credentials(root)
    try:
        info = HfApi(endpoint=options.get("endpoint"), token=options.get("token")).dataset_info(name, revision=revision)
    except RevisionNotFoundError:
        raise RepositoryNotFoundError(
            f"{name} on the Hub has no revision {revision!r}. Name a commit, a tag or a branch with revision=."
        ) from None
    except store_errors():
        return None
    return str(info.sha) if info.sha else None


def check_revision(manifest: Manifest, root: str, revision: str) -> None:
    """Compare a repository that is not on the Hub with the requested revision.

    Parameters
    ----------
    manifest : Manifest
        The repository's.
    root : str
        Its place, for the message.
    revision : str
        Revision of the official release, or the manifest's digest, which `reasonknee info` prints; 7 or more of their
        first characters are enough.

    Raises
    ------
    RepositoryError
        If the repository is of another one.
    """
    if _HUB.fullmatch(root):
        return
    source = manifest.source.get("revision")
    known = [each for each in (source, manifest.digest) if each]
    if revision in known or (_SHORT.fullmatch(revision) and any(each.startswith(revision) for each in known)):
        return
    raise RepositoryError(
        f"{root} is not of revision {revision!r}: it was prepared from release {source or 'of unknown revision'}, and "
        f"its manifest is {manifest.digest[:12]}. Name the repository of that revision, or leave out revision=."
    )


def check_mixture(manifest: Manifest, root: str, volumes: str) -> None:
    """Refuse volumes of another revision than the annotations, where the place of the volumes has a manifest.

    Raises
    ------
    RepositoryError
        If the two manifests state different voxels or grids for a volume; with what else differs.
    """
    if volumes == root:
        return
    absent: tuple[type[Exception], ...] = (RepositoryError, *store_errors())
    try:
        data = read_file(join(volumes, MANIFEST), find_credentials(volumes), manifest_limit())
        other = Manifest.from_bytes(data, where=volumes)
    except absent:  # volumes alone need no manifest
        return
    changed = [
        path
        for path, record in manifest.volumes.items()
        if (found := other.volumes.get(path)) is not None
        and None not in (record.voxels_sha256, found.voxels_sha256)
        and (record.voxels_sha256, record.geometry) != (found.voxels_sha256, found.geometry)
    ]
    if changed:
        differs = "; ".join(
            f"{name} {ours!r} and {theirs!r}" for name, ours, theirs in describe_changes(manifest, other)
        )
        raise RepositoryError(
            f"The annotations at {root} and the volumes at {volumes} are of different revisions: {len(changed):,} "
            f"volumes have other voxels or grids, such as {changed[0]}. {differs or 'Nothing else differs'}. Name "
            "volumes of the same revision with volumes_dir=, or prepare the repository again."
        )


def describe_changes(ours: Manifest, theirs: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """List what two manifests state differently about their making: name, and both values."""
    for name, a, b in (
        ("synthetic", ours.synthetic, theirs.synthetic),
        ("source revision", ours.source.get("revision"), theirs.source.get("revision")),
        *_fields("source file", _hashes(ours), _hashes(theirs)),
        *_fields("option", ours.source.get("options") or {}, theirs.source.get("options") or {}),
        *_fields("converter", ours.source.get("converter") or {}, theirs.source.get("converter") or {}),
        *_fields("version of", ours.versions, theirs.versions),
        *(
            (f"box convention {key}", ours.box_convention.get(key), theirs.box_convention.get(key))
            for key in _CONVENTION
        ),
    ):
        if a != b:
            yield name, a, b


_CONVENTION = ("name", "by_layout", "source")


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {name: each["sha256"] for name, each in (manifest.source.get("files") or {}).items()}


def _fields(what: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(ours.keys() | theirs.keys()):
        yield f"{what} {key}", ours.get(key), theirs.get(key)
