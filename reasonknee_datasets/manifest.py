"""The manifest of a prepared repository: every shard and every volume, with sizes, hashes and geometry.

A loader reads this one file and never lists a folder, so that a repository works from anywhere that can serve a file:
a disk, plain HTTP, S3 and its relatives, the Hub. It is written last, so that a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reasonknee_datasets.errors import ReasonKneeError, RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.json_fields import WHOLE, check_shape, parse_json
from reasonknee_datasets.manifest_shape import FILE, MADE_OF, MANIFEST_SHAPE, SHARD, VOLUME
from reasonknee_datasets.read_errors import PREPARE_COMMAND, read_error, refuse_official
from reasonknee_datasets.safe_paths import is_url, join
from reasonknee_datasets.schema import CONFIGS, SPLITS
from reasonknee_datasets.volumes.credentials import redact
from reasonknee_datasets.volumes.filesystems import read_file
from reasonknee_datasets.volumes.limits import file_limit
from reasonknee_datasets.volumes.reference import Geometry

MANIFEST = "manifest.json"
WITHOUT_PREVIEWS = "digest_without_previews"
"""Key of ``source``: the digest that the manifest had before previews were added."""
FORMAT = 2
"""2: flat grade columns, masks and their labels. Format 1 was never published."""
FOLDERS: Mapping[str, str] = {"quintuples": "data", "volumes": "index", "balanced": "balanced", "preview": "preview"}
"""Where a prepared repository keeps each config's Parquet."""
_COPY_AGAIN = f"Copy the repository again, or prepare it again: {PREPARE_COMMAND}."
_CHECKSUM = re.compile(rb',\n"checksum": "([0-9a-f]{64})"\n}\n')
FOOTER_END = 8
"""Bytes at the end of a Parquet file: the length of its footer (four, little endian) and the magic PAR1."""

Affine = tuple[tuple[float, float, float, float], ...]


def manifest_limit() -> int:
    """Return the most bytes that a manifest may have: a twentieth of the limit of files, which is 100 MB by default."""
    return file_limit() // 20


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file: its path relative to the repository, rows, size and hashes.

    ``footer_sha256`` covers the footer and ``chunk_sha256`` each column chunk, in the order of `chunk_ranges`. Both are
    None in manifests of earlier versions. Checksums of pages do not cover the pages' headers.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    footer_sha256: str | None = None
    chunk_sha256: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size and hash of a file that is neither shard nor volume."""

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
        """The grid that `open_volume` requires of the file."""
        return None if self.shape is None or self.affine is None else Geometry(self.shape, self.affine)


def chunk_ranges(metadata: Any) -> list[tuple[int, int]]:
    """List the first and the last byte (exclusive) of each column chunk: by row group, then by column.

    Parameters
    ----------
    metadata : pyarrow.parquet.FileMetaData
        The footer of a Parquet file.
    """
    ranges = []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            start = column.data_page_offset
            if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < start:
                start = column.dictionary_page_offset
            ranges.append((start, start + column.total_compressed_size))
    return ranges


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
    def load(
        cls,
        location: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        setting: str = "",
    ) -> Manifest:
        """Read the manifest of a prepared repository.

        Parameters
        ----------
        location : str or path
            The repository: a folder or any fsspec URL.
        storage_options : mapping, optional
            Given to fsspec; never kept.
        setting : str, optional
            Variable or default that names the place, for messages.

        Raises
        ------
        RepositoryNotFoundError
            If there is no manifest.
        RepositoryError
            If there is one that is damaged, or was written by a newer version; if the place holds the official release.
        """
        root = os.fspath(location)
        url, options = join(root, MANIFEST), dict(storage_options or {})
        try:
            data = read_file(url, options, manifest_limit())
        except Exception as error:  # noqa: BLE001 (one that is not of a store is raised as it is)
            found = read_error(error, url, "manifest", options)
            if not isinstance(found, RepositoryNotFoundError):
                raise found  # noqa: B904 (it has its cause)
            refuse_official(root, options)
            remedy = f"Name the folder or URL of one, or write one: {PREPARE_COMMAND}"
            if is_url(root):  # many stores answer "not found" where reading is not permitted
                remedy += "; pass storage_options= or token= if it needs credentials"
            subject = f"{setting} names {redact(root)}, which" if setting else redact(root)
            raise RepositoryNotFoundError(
                f"{subject} is not a prepared repository: it has no {MANIFEST}. {remedy}."
            ) from found.__cause__
        return cls.from_bytes(data, where=url)

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = MANIFEST) -> Manifest:
        """Read and check a manifest's bytes; ``where`` names their place in errors.

        Raises
        ------
        RepositoryError
            If they are damaged, hold values of another type or size than a manifest has, or are of another format.
        """
        try:
            tree = _parse(data)
        except ReasonKneeError as error:
            raise RepositoryError(f"The manifest in {redact(where)} {error}") from None
        except ValueError as error:
            raise RepositoryError(f"The manifest in {redact(where)} is damaged: {error}. {_COPY_AGAIN}") from error
        configs = {config: found["splits"] for config in CONFIGS if (found := tree["configs"].get(config))}
        return cls(
            **{key: tree[key] for key in ("synthetic", *MADE_OF, "labels", "name")},
            configs={
                config: {
                    split: tuple(_read_shard(shard) for shard in splits[split]["shards"])
                    for split in SPLITS  # in their usual order, not in the file's
                    if splits.get(split)
                }
                for config, splits in configs.items()
            },
            volumes={path: _read_volume(record) for path, record in tree["volumes"].items()},
            masks={path: _read_volume(record) for path, record in tree["masks"].items()},
            files={path: FileRecord(**_known(record, FILE)) for path, record in tree["files"].items()},
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


def _parse(data: bytes) -> Any:
    """Parse a manifest and check its format, shape, counts and checksum; raise a ValueError that says what is wrong."""
    tree = parse_json(data)
    check_shape(tree, {"format": WHOLE})
    if tree["format"] != FORMAT:
        remedy = "Upgrade reasonknee_datasets: pip install -U reasonknee_datasets."
        if tree["format"] < FORMAT:
            remedy = f"An older version wrote it. Prepare the release again: {PREPARE_COMMAND} --overwrite."
        raise RepositoryError(f"has format {tree['format']}, and this version reads format {FORMAT}. {remedy}")
    check_shape(tree, MANIFEST_SHAPE)
    unknown = sorted(tree.keys() - MANIFEST_SHAPE.keys())
    if unknown:
        raise ValueError(f"it has an unknown field {ascii(unknown[0])[:80]}")
    for config, found in tree["configs"].items():
        for split, each in (found["splits"] if config in CONFIGS else {}).items():
            rows = sum(shard["rows"] for shard in each["shards"]) if each else 0
            if each and rows != each["rows"]:
                raise ValueError(f"it counts {each['rows']} rows of {config}/{split}, and {rows} in its shards")
    if "checksum" in tree:
        end = _CHECKSUM.search(data, max(0, len(data) - 100))
        if end is None or end.end() != len(data):
            raise ValueError("it does not end in its checksum: it was edited or damaged")
        if hashlib.sha256(data[: end.start()]).hexdigest() != end[1].decode():
            raise ValueError("it does not match its own checksum: it was edited or damaged")
    return tree


def _known(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Take the fields of a record that this version reads."""
    return {key: record[key] for key in names if key in record}


def _read_shard(record: Mapping[str, Any]) -> Shard:
    known, chunks = _known(record, SHARD), record.get("chunk_sha256")
    return Shard(**{**known, "chunk_sha256": None if chunks is None else tuple(chunks)})


def _read_volume(record: Mapping[str, Any]) -> VolumeRecord:
    known, shape, affine = _known(record, VOLUME), record.get("shape"), record.get("affine")
    if shape is not None:
        known["shape"] = tuple(shape)
    if affine is not None:
        known["affine"] = tuple(tuple(map(float, row)) for row in affine)
    return VolumeRecord(**known)
