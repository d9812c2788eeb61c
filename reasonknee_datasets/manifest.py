"""The manifest of a prepared repository: every shard and every volume, with sizes, hashes and geometry.

A loader reads this one file and never lists a folder, so that a repository works from anywhere that can serve a file:
a disk, plain HTTP, S3 and its relatives, the Hub. It is written last, so that a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError, os_remedy
from reasonknee_datasets.json_fields import Fields, parse_json
from reasonknee_datasets.manifest_records import (
    CONVENTION,
    FOOTER_END,
    REPORT,
    SOURCE,
    FileRecord,
    Shard,
    Shards,
    VolumeRecord,
    by_path,
    checked,
    chunk_ranges,
    read_configs,
    read_volume,
)
from reasonknee_datasets.plain_paths import join
from reasonknee_datasets.volumes.credentials import redact, redact_text, shows_secret
from reasonknee_datasets.volumes.filesystems import read_file, store_errors
from reasonknee_datasets.volumes.geometry import Geometry
from reasonknee_datasets.volumes.http_session import file_limit

__all__ = [
    "FOLDERS",
    "FOOTER_END",
    "FORMAT",
    "MANIFEST",
    "WITHOUT_PREVIEWS",
    "FileRecord",
    "Manifest",
    "Shard",
    "Shards",
    "VolumeRecord",
    "chunk_ranges",
    "manifest_limit",
]

MANIFEST = "manifest.json"
WITHOUT_PREVIEWS = "digest_without_previews"
"""Key of ``source``: the digest that the manifest had before previews were added."""
FORMAT = 2
"""2: flat grade columns, masks and their labels. Format 1 was never published."""
FOLDERS: Mapping[str, str] = {"quintuples": "data", "volumes": "index", "balanced": "balanced", "preview": "preview"}
"""Where a prepared repository keeps each config's Parquet."""


def manifest_limit() -> int:
    """Return the most bytes that a manifest may have: a twentieth of the limit of files, which is 100 MB by default."""
    return file_limit() // 20


_COMMAND = "reasonknee prepare --release RELEASE --out FOLDER"
_COPY_AGAIN = f"Copy the repository again, or prepare it again: {_COMMAND}."

_CHECKSUM = re.compile(rb',\n"checksum": "([0-9a-f]{64})"\n}\n')
_HEAD = ("format", "name", "synthetic", "source", "versions", "box_convention", "report", "labels")
_KEYS = frozenset({*_HEAD, "configs", "volumes", "masks", "files"})


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
        Problems that the reader allowed, rows that it dropped and grades that it set to null.
    configs : mapping
        Config to split to shards.
    volumes : mapping
        Volume path to `VolumeRecord`.
    files : mapping
        Path of every other file (the priors, the card) to `FileRecord`.
    masks : mapping
        Mask path to `VolumeRecord`; empty where the repository was prepared without masks.
    labels : mapping of str to int
        Name of each label of the masks to its value in them.
    digest : str
        SHA-256 of the manifest's bytes: one short name for the whole content of the repository.
    """

    synthetic: bool
    source: Mapping[str, Any]
    versions: Mapping[str, str]
    box_convention: Mapping[str, Any]
    report: Mapping[str, Any]
    configs: Shards
    volumes: Mapping[str, VolumeRecord]
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    masks: Mapping[str, VolumeRecord] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
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
            message = (
                f"{root} is not a prepared repository: it has no {MANIFEST}. Name a folder or URL that has one, or "
                f"write one: {_COMMAND}."
            )
            raise RepositoryNotFoundError(message) from (None if shows_secret(error) else error)
        except store_errors() as error:
            remedy = os_remedy(error, "Check the disk or the connection")
            message = f"The manifest of {root} cannot be read: {redact_text(str(error))}. {remedy}."
            raise RepositoryError(message) from (None if shows_secret(error) else error)
        return cls.from_bytes(data, where=redact(url))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = MANIFEST) -> Manifest:
        """Read and check a manifest's bytes; ``where`` names their place in errors.

        Raises
        ------
        RepositoryError
            If they are damaged, hold values of another type or size than a manifest has, or are of another format.
        """
        tree = _parse(data, where)
        return cls(
            synthetic=tree.flag("synthetic"),
            source=checked(tree.inside("source"), SOURCE),
            versions=tree.mapping("versions", Fields.text),
            box_convention=checked(tree.inside("box_convention"), CONVENTION),
            report=checked(tree.inside("report"), REPORT),
            configs=read_configs(tree.inside("configs")),
            volumes={path: read_volume(item) for path, item in by_path(tree.inside("volumes"))},
            files={
                path: FileRecord(item.whole("bytes"), item.sha256("sha256"))
                for path, item in by_path(tree.inside("files"))
            },
            masks={path: read_volume(item) for path, item in by_path(tree.inside("masks"))},
            labels=tree.mapping("labels", Fields.whole),
            name=tree.text("name"),
            digest=hashlib.sha256(data).hexdigest(),
        )

    def to_bytes(self) -> bytes:
        """Write the manifest: one line a shard and one a volume, so that two of them can be compared with ``diff``.

        The last line is a checksum of all others: a damaged or hand-edited manifest is refused.
        """
        head = {
            "format": FORMAT,
            "name": self.name,
            "synthetic": self.synthetic,
            "source": self.source,
            "versions": self.versions,
            "box_convention": self.box_convention,
            "report": self.report,
            "labels": self.labels,
        }
        lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in head.items()]
        configs = ",\n".join(
            f'  "{config}": {{"splits": {{{",".join(_split_lines(splits))}\n  }}}}'
            for config, splits in self.configs.items()
        )
        lines.append(f'"configs": {{\n{configs}\n}}')
        for key, records in (("volumes", self.volumes), ("masks", self.masks), ("files", self.files)):
            listed = ",\n".join(
                f"  {json.dumps(path)}: {json.dumps(asdict(record))}"  # type: ignore[call-overload]  # dataclasses all
                for path, record in sorted(records.items())
            )
            lines.append(f'"{key}": {{\n{listed}\n}}')
        body = ("{\n" + ",\n".join(lines)).encode()
        return body + f',\n"checksum": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()

    def splits(self, config: str = "quintuples") -> tuple[str, ...]:
        """Name the splits of a config, in their usual order."""
        return tuple(self._config(config))

    @property
    def has_previews(self) -> bool:
        """Whether ``quintuples`` has the column ``preview``, and there is a config of that name."""
        return bool(self.configs.get("preview"))

    def shards(self, config: str, split: str) -> tuple[Shard, ...]:
        """List the Parquet files of one split, in order."""
        splits = self._config(config)
        if split not in splits:
            available = ", ".join(splits) or "none"
            raise RepositoryError(f"The config {config!r} has no split {split!r}. Available: {available}.")
        return splits[split]

    def rows(self, config: str, split: str) -> int:
        """Count the rows of one split."""
        return sum(shard.rows for shard in self.shards(config, split))

    def volume(self, volume_path: str) -> VolumeRecord:
        """Look up one volume by its path relative to the repository."""
        record = self.volumes.get(volume_path)
        if record is None:
            raise RepositoryError(
                f"The manifest lists no volume {volume_path!r}. Take paths from the `volume_path` column of it."
            )
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
            if config == "preview":  # no repository has to have one
                return {}
            raise RepositoryError(f"Unknown config {config!r}. Available: {', '.join(self.configs)}.")
        return self.configs[config]


def _split_lines(splits: Mapping[str, tuple[Shard, ...]]) -> Iterator[str]:
    for split, shards in splits.items():
        rows = sum(shard.rows for shard in shards)
        listed = ",\n".join(f"      {json.dumps(asdict(shard))}" for shard in shards)
        yield f'\n    "{split}": {{"rows": {rows}, "shards": [\n{listed}\n    ]}}'


def _parse(data: bytes, where: str) -> Fields:
    """Parse a manifest and check its format, its checksum and the names of its fields."""
    try:
        tree = parse_json(data)
    except ValueError as error:
        message = f"The manifest in {where} is not readable JSON: {str(error)[:200]}. {_COPY_AGAIN}"
        raise RepositoryError(message) from error
    fields = Fields(tree, "manifest", lambda problem: RepositoryError(f"{problem}, in {where}. {_COPY_AGAIN}"))
    if fields.whole("format") != FORMAT:
        remedy = "Upgrade reasonknee_datasets: pip install -U reasonknee_datasets."
        if tree["format"] < FORMAT:
            remedy = f"An older version wrote it. Prepare the release again: {_COMMAND} --overwrite."
        raise RepositoryError(
            f"The manifest in {where} has format {tree['format']}, and this version reads format {FORMAT}. {remedy}"
        )
    unknown = sorted(tree.keys() - _KEYS - {"checksum"})
    if unknown:
        raise fields.fail(f"The manifest has an unknown field {ascii(unknown[0])[:80]}")
    if "checksum" in tree:
        found = _CHECKSUM.search(data, max(0, len(data) - 100))
        if found is None or found.end() != len(data):
            raise fields.fail("The manifest does not end in its checksum: it was edited or damaged")
        if hashlib.sha256(data[: found.start()]).hexdigest() != found[1].decode():
            raise fields.fail("The manifest does not match its own checksum: it was edited or damaged")
    return fields
