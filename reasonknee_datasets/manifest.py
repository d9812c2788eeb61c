"""The manifest of a prepared repository: every shard and every volume, with sizes, hashes and geometry.

A loader reads this one file and never lists a folder, so that a repository works from anywhere that can serve a file:
a disk, plain HTTP, S3 and its relatives, the Hub. It is written last, so that a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError, explain
from reasonknee_datasets.plain_paths import join, stays_inside
from reasonknee_datasets.schema import CONFIGS, SPLITS
from reasonknee_datasets.volumes.credentials import redact, redact_text, shows_secret
from reasonknee_datasets.volumes.filesystems import read_file, store_errors
from reasonknee_datasets.volumes.geometry import Geometry
from reasonknee_datasets.volumes.http_session import file_limit

MANIFEST = "manifest.json"
FORMAT = 1
FOLDERS: Mapping[str, str] = {"quintuples": "data", "volumes": "index", "balanced": "balanced"}
"""Where a prepared repository keeps each config's Parquet."""


def manifest_limit() -> int:
    """Return the most bytes that a manifest may have: a twentieth of the limit of files, which is 100 MB by default."""
    return file_limit() // 20


_COMMAND = "reasonknee prepare --release RELEASE --out FOLDER"
_PREPARE_AGAIN = f"Prepare the release again: {_COMMAND}"

T = TypeVar("T")
Affine = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file: its path relative to the repository, rows, size and hash."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """Geometry, size and hashes of one volume; every field is None where it was prepared without images.

    ``index_sha256`` covers the NIfTI header and the slab index; it is None also where a file is not seekable.
    """

    shape: tuple[int, int, int] | None = None
    affine: Affine | None = None
    dtype: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    voxels_sha256: str | None = None
    index_sha256: str | None = None

    @property
    def geometry(self) -> Geometry | None:
        """The grid that `open_volume` holds the file to."""
        return None if self.shape is None or self.affine is None else Geometry(self.shape, self.affine)

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> VolumeRecord:
        """Read what ``dataclasses.asdict`` gave to JSON.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is something else.
        """
        shape, affine = item["shape"], item["affine"]
        i, j, k = shape if shape is not None else (1, 1, 1)
        return cls(
            shape=None if shape is None else (int(i), int(j), int(k)),
            affine=None if affine is None else _read_affine(affine),
            dtype=item["dtype"],
            bytes=item["bytes"],
            sha256=item["sha256"],
            voxels_sha256=item["voxels_sha256"],
        )


Shards = Mapping[str, Mapping[str, tuple[Shard, ...]]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A prepared repository's table of contents.

    Attributes
    ----------
    synthetic : bool
        True where the phantom made the release.
    source : mapping
        The official release: its ``revision`` (or None) and its ``files`` with bytes and sha256.
    versions : mapping
        The packages that wrote the repository.
    box_convention : mapping
        ``name``, ``agreement``, ``by_question``, ``checked`` and ``source`` ("established" or "given").
    report : mapping
        What the reader allowed, dropped and nulled.
    configs : mapping
        Config to split to shards.
    volumes : mapping
        Volume path to `VolumeRecord`.
    digest : str
        SHA-256 of the manifest's bytes: one short name for everything that the repository holds.
    """

    synthetic: bool
    source: Mapping[str, Any]
    versions: Mapping[str, str]
    box_convention: Mapping[str, Any]
    report: Mapping[str, Any]
    configs: Shards
    volumes: Mapping[str, VolumeRecord]
    name: str = "3dreasonknee"
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", hashlib.sha256(self.to_bytes()).hexdigest())

    @classmethod
    def load(cls, location: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> Manifest:
        """Read the manifest of a prepared repository.

        Parameters
        ----------
        location : str or path
            The repository: a folder or any fsspec URL.
        storage_options : mapping, optional
            Given to fsspec; never kept.

        Raises
        ------
        RepositoryNotFoundError
            If there is no manifest.
        RepositoryError
            If there is one that is damaged, or was written by a newer version.
        """
        url = join(os.fspath(location), MANIFEST)
        root = redact(os.fspath(location))
        try:
            data = read_file(url, dict(storage_options or {}), manifest_limit())
        except (FileNotFoundError, NotADirectoryError) as error:
            remedy = f"Give a folder or URL that holds one, or write one: {_COMMAND}"
            message = explain("prepared repository", f"hold {MANIFEST}", "no such file", remedy, where=f"at {root}")
            raise RepositoryNotFoundError(message) from (None if shows_secret(error) else error)
        except store_errors() as error:
            remedy = "Ask its owner to let you read it, or check the disk"
            message = explain("manifest", "be readable", redact_text(str(error)), remedy, where=f"at {root}")
            raise RepositoryError(message) from (None if shows_secret(error) else error)
        return cls.from_bytes(data, where=redact(url))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = MANIFEST) -> Manifest:
        """Read and check a manifest's bytes; ``where`` names their place in errors."""
        try:
            tree = json.loads(data)
        except ValueError as error:
            message = explain("manifest", "be JSON", str(error), _PREPARE_AGAIN, where=f"in {where}")
            raise RepositoryError(message) from error
        found = tree.get("format") if isinstance(tree, dict) else type(tree).__name__
        if found != FORMAT:
            remedy = "Upgrade reasonknee_datasets if the number is higher, otherwise prepare the release again"
            message = explain("manifest", f"have format {FORMAT}", found, remedy, where=f"in {where}")
            raise RepositoryError(message)
        return cls(
            synthetic=_take(tree, "synthetic", bool, where),
            source=_take(tree, "source", dict, where),
            versions=_take(tree, "versions", dict, where),
            box_convention=_take(tree, "box_convention", dict, where),
            report=_take(tree, "report", dict, where),
            configs=_read_configs(_take(tree, "configs", dict, where), where),
            volumes=_read_volumes(_take(tree, "volumes", dict, where), where),
            name=_take(tree, "name", str, where),
            digest=hashlib.sha256(data).hexdigest(),
        )

    def to_bytes(self) -> bytes:
        """Write the manifest: one line a shard and one a volume, so that two of them can be compared with ``diff``."""
        head = {
            "format": FORMAT,
            "name": self.name,
            "synthetic": self.synthetic,
            "source": self.source,
            "versions": self.versions,
            "box_convention": self.box_convention,
            "report": self.report,
        }
        lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in head.items()]
        configs = ",\n".join(
            f'  "{config}": {{"splits": {{{",".join(_split_lines(splits))}\n  }}}}'
            for config, splits in self.configs.items()
        )
        volumes = ",\n".join(
            f"  {json.dumps(path)}: {json.dumps(asdict(record))}" for path, record in sorted(self.volumes.items())
        )
        lines += [f'"configs": {{\n{configs}\n}}', f'"volumes": {{\n{volumes}\n}}']
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    def splits(self, config: str = "quintuples") -> tuple[str, ...]:
        """Name the splits of a config, in their usual order."""
        return tuple(self._config(config))

    def shards(self, config: str, split: str) -> tuple[Shard, ...]:
        """List the Parquet files of one split, in order."""
        splits = self._config(config)
        if split not in splits:
            remedy = f"Config {config!r} has {', '.join(splits) or 'no splits'}"
            raise RepositoryError(explain("split", f"be one of config {config!r}", split, remedy))
        return splits[split]

    def rows(self, config: str, split: str) -> int:
        """Count the rows of one split."""
        return sum(shard.rows for shard in self.shards(config, split))

    def volume(self, volume_path: str) -> VolumeRecord:
        """Look up one volume by its path relative to the repository."""
        record = self.volumes.get(volume_path)
        if record is None:
            remedy = "Take paths from the `volume_path` column of this repository"
            raise RepositoryError(explain("volume", "be listed in the manifest", volume_path, remedy))
        return record

    def geometry(self, volume_path: str) -> Geometry | None:
        """Look up the grid that a volume must have; None where it was prepared without images."""
        return self.volume(volume_path).geometry

    def all_shards(self) -> Iterator[Shard]:
        """Go through the Parquet files of every config and split."""
        for splits in self.configs.values():
            for shards in splits.values():
                yield from shards

    def _config(self, config: str) -> Mapping[str, tuple[Shard, ...]]:
        if config not in self.configs:
            remedy = f"This repository has {', '.join(self.configs)}"
            raise RepositoryError(explain("config", "be one of the manifest's", config, remedy))
        return self.configs[config]


def _split_lines(splits: Mapping[str, tuple[Shard, ...]]) -> Iterator[str]:
    for split, shards in splits.items():
        rows = sum(shard.rows for shard in shards)
        listed = ",\n".join(f"      {json.dumps(asdict(shard))}" for shard in shards)
        yield f'\n    "{split}": {{"rows": {rows}, "shards": [\n{listed}\n    ]}}'


def _take(tree: Mapping[str, Any], key: str, kind: type[T], where: str) -> T:
    """Take a value of one type; a bool is no int."""
    value = tree.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got = repr(value) if key in tree else "nothing"
        raise RepositoryError(
            explain("manifest", f"hold {key!r} as {kind.__name__}", got[:200], _PREPARE_AGAIN, where=f"in {where}")
        )
    return value


def _inside(path: str, where: str) -> str:
    """Refuse a path that leaves the repository or is no plain path: manifests come from strangers."""
    if not stays_inside(path):
        rule = "be relative to the repository and stay inside it, without ':', '?', '%' and control characters"
        got = ascii(path)[:200]
        raise RepositoryError(explain("path", rule, got, "Do not use this repository", where=f"in {where}"))
    return path


def _read_configs(tree: Mapping[str, Any], where: str) -> dict[str, dict[str, tuple[Shard, ...]]]:
    configs: dict[str, dict[str, tuple[Shard, ...]]] = {}
    for config in CONFIGS:
        splits = _take(_take(tree, config, dict, where), "splits", dict, where)
        configs[config] = {}
        for split in SPLITS:  # their usual order, whatever the file's
            if split not in splits:
                continue
            shards = tuple(_read_shard(item, where) for item in _take(splits[split], "shards", list, where))
            rows = _take(splits[split], "rows", int, where)
            if rows != sum(shard.rows for shard in shards):
                rule = f"count {rows} rows in the shards of {config}/{split}"
                got = sum(shard.rows for shard in shards)
                raise RepositoryError(explain("manifest", rule, got, _PREPARE_AGAIN, where=f"in {where}"))
            configs[config][split] = shards
    return configs


def _read_shard(item: Any, where: str) -> Shard:
    tree = item if isinstance(item, dict) else {}
    return Shard(
        path=_inside(_take(tree, "path", str, where), where),
        rows=_take(tree, "rows", int, where),
        bytes=_take(tree, "bytes", int, where),
        sha256=_take(tree, "sha256", str, where),
    )


def _read_volumes(tree: Mapping[str, Any], where: str) -> dict[str, VolumeRecord]:
    volumes = {}
    for path, item in tree.items():
        try:
            record = VolumeRecord.from_json(item)
        except (KeyError, TypeError, ValueError) as error:
            rule = f"give shape, affine, dtype, bytes and hashes of volume {path}"
            message = explain("manifest", rule, repr(item)[:200], _PREPARE_AGAIN, where=f"in {where}")
            raise RepositoryError(message) from error
        volumes[_inside(path, where)] = record
    return volumes


def _read_affine(rows: Any) -> Affine:
    matrix = np.array(rows, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"an affine has 4x4 finite numbers, got shape {matrix.shape}")
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)
