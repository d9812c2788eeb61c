"""Comparison of two prepared repositories: rows, boxes, grades, texts, volumes, masks and how they were made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.check.repository_check import config_rows
from reasonknee_datasets.manifest import Manifest, VolumeRecord
from reasonknee_datasets.printable import printable
from reasonknee_datasets.sources import (
    Repository,
    describe_changes,
    find_place,
    keep_credentials,
    open_repository,
)

_EXAMPLES = 10
_ASPECTS: Mapping[str, tuple[str, ...]] = {
    "boxes": ("box",),
    "grades": ("grades",),
    "texts": ("question", "reasoning", "answer"),
    "knees": ("patient", "visit", "side"),
    "provenance": ("volume_path", "study", "series", "category", "finding", "subregion", "synthetic", "record"),
}
_SPLIT = "splits"


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of difference: how many there are, and examples."""

    what: str  # for example ``rows only in A`` or ``boxes``
    count: int  # how many rows or files differ
    examples: tuple[str, ...]  # ids or paths, at most ten

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.what}: {self.count:,} ({', '.join(self.examples)}{more})"


@dataclass(frozen=True, slots=True)
class RepositoryDiff:
    """Differences between two repositories; its string is what ``reasonknee diff`` prints."""

    # Their places.
    a: str
    b: str
    rows: tuple[int, int]  # quintuples of each
    # Differences between the manifests' statements on how they were made: name and both values.
    made: tuple[tuple[str, Any, Any], ...]
    changes: tuple[Change, ...]  # differences of content

    @property
    def is_empty(self) -> bool:
        """Whether rows, volumes and masks are the same; how they were made may differ."""
        return not self.changes

    def to_json(self) -> dict[str, Any]:
        """Return the differences as plain values."""
        return {
            "a": self.a,
            "b": self.b,
            "rows": list(self.rows),
            "made": [{"name": name, "a": ours, "b": theirs} for name, ours, theirs in self.made],
            "changes": [
                {"what": each.what, "count": each.count, "examples": list(each.examples)} for each in self.changes
            ],
        }

    def __str__(self) -> str:
        lines = [f"A: {self.a}, {self.rows[0]:,} rows", f"B: {self.b}, {self.rows[1]:,} rows"]
        lines += [f"{name}: {ours} in A, {theirs} in B" for name, ours, theirs in self.made]
        lines += [str(each) for each in self.changes]
        return "\n".join(map(printable, lines if not self.is_empty else [*lines, "no difference"]))


def compare_repositories(
    a: str | os.PathLike[str], b: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
) -> RepositoryDiff:
    """Compare two prepared repositories.

    Rows are compared by id and column, volumes and masks by the hashes in the manifests: no volume is opened. Of each
    row some 100 bytes are kept in memory.

    `a`, `b`: folders or fsspec URLs. `storage_options`: given to fsspec; never kept. Raises RepositoryNotFoundError if
    one of them does not exist. Raises RepositoryError if one of them is not a sound repository.
    """
    ours, theirs = _open(a, storage_options), _open(b, storage_options)
    changes: list[Change] = []
    if ours.manifest.digest != theirs.manifest.digest:
        changes += _compare_rows(_digest_rows(ours), _digest_rows(theirs))
        changes += _compare_balanced(ours, theirs)
        changes += _compare_files("volumes", ours.manifest.volumes, theirs.manifest.volumes)
        changes += _compare_files("masks", ours.manifest.masks, theirs.manifest.masks)
    made = tuple(describe_changes(ours.manifest, theirs.manifest))
    counts = _count(ours.manifest), _count(theirs.manifest)
    return RepositoryDiff(ours.root, theirs.root, counts, made, tuple(changes))


def _open(location: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Repository:
    place = find_place(location)
    assert place is not None, "a place is found wherever one is named"
    keep_credentials(place, storage_options, None)
    return open_repository(place)


def _count(manifest: Manifest) -> int:
    return sum(manifest.rows("quintuples", split) for split in manifest.splits("quintuples"))


def _digest_rows(repository: Repository) -> dict[str, tuple[bytes, ...]]:
    """Read every row, and return for each id its split and a hash of each aspect."""
    columns = [name for names in _ASPECTS.values() for name in names]
    return {
        row["id"]: (split.encode(), *(_hash([row[name] for name in names]) for names in _ASPECTS.values()))
        for split, row in config_rows(repository, "quintuples", ["id", *columns])
    }


def _hash(values: object) -> bytes:
    return hashlib.blake2b(repr(values).encode(), digest_size=8).digest()


def _compare_rows(ours: Mapping[str, tuple[bytes, ...]], theirs: Mapping[str, tuple[bytes, ...]]) -> list[Change]:
    changed: dict[str, list[str]] = {name: [] for name in (_SPLIT, *_ASPECTS)}
    for row, digests in ours.items():
        for name, mine, other in zip(changed, digests, theirs.get(row, digests), strict=True):
            if mine != other:
                changed[name].append(row)
    return [
        *_changes("rows only in A", ours.keys() - theirs.keys()),
        *_changes("rows only in B", theirs.keys() - ours.keys()),
        *(change for name, rows in changed.items() for change in _changes(f"rows with other {name}", rows)),
    ]


def _compare_balanced(ours: Repository, theirs: Repository) -> list[Change]:
    a, b = (
        {f"{split}: {row['id']}": row["multiplicity"] for split, row in config_rows(each, "balanced")}
        for each in (ours, theirs)
    )
    return _changes("rows with another multiplicity in balanced", (key for key in a | b if a.get(key) != b.get(key)))


def _compare_files(what: str, ours: Mapping[str, VolumeRecord], theirs: Mapping[str, VolumeRecord]) -> list[Change]:
    both = sorted(ours.keys() & theirs.keys())
    voxels = [path for path in both if ours[path].voxels_sha256 != theirs[path].voxels_sha256]
    grids = [path for path in both if ours[path].geometry != theirs[path].geometry]
    same = set(both) - {*voxels, *grids}
    return [
        *_changes(f"{what} only in A", ours.keys() - theirs.keys()),
        *_changes(f"{what} only in B", theirs.keys() - ours.keys()),
        *_changes(f"{what} with other voxels", voxels),
        *_changes(f"{what} on another grid", grids),
        *_changes(
            f"{what} with the same voxels in another file", (p for p in same if ours[p].sha256 != theirs[p].sha256)
        ),
    ]


def _changes(what: str, names: Iterable[str]) -> list[Change]:
    found = sorted(names)
    return [Change(what, len(found), tuple(found[:_EXAMPLES]))] if found else []
