"""The manifest of a prepared repository: every shard and every volume, with sizes, hashes and geometry.

A loader reads this one file and never lists a folder, so that a repository works from anywhere that can serve a file:
a disk, plain HTTP, S3 and its relatives, the Hub. It is written last, so that a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError, os_remedy
from reasonknee_datasets.json_fields import Fields, parse_json
from reasonknee_datasets.plain_paths import is_url, join, stays_inside
from reasonknee_datasets.schema import CONFIGS, SPLITS
from reasonknee_datasets.volumes.credentials import redact, redact_text, shows_secret
from reasonknee_datasets.volumes.filesystems import open_filesystem, read_file, store_errors
from reasonknee_datasets.volumes.limits import file_limit
from reasonknee_datasets.volumes.reference import Geometry

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
# Entries of an official release that a prepared repository never has.
_OFFICIAL = (
    "data/split_files/all_studies.csv",
    "split_files/all_studies.csv",
    "data/generate_data/train.json",
    "generate_data/train.json",
    "data/split_files",
    "data/generate_data",
)

_CHECKSUM = re.compile(rb',\n"checksum": "([0-9a-f]{64})"\n}\n')
_HEAD = ("format", "name", "synthetic", "source", "versions", "box_convention", "report", "labels")
_KEYS = frozenset({*_HEAD, "configs", "volumes", "masks", "files"})
FOOTER_END = 8
"""Bytes at the end of a Parquet file: the length of its footer (four, little endian) and the magic PAR1."""

Affine = tuple[tuple[float, float, float, float], ...]


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
            If there is one that is damaged, or was written by a newer version; if the place holds the official release.
        """
        url = join(os.fspath(location), MANIFEST)
        root = redact(os.fspath(location))
        try:
            data = read_file(url, dict(storage_options or {}), manifest_limit())
        except (FileNotFoundError, NotADirectoryError) as error:
            refuse_official(os.fspath(location), storage_options or {})
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
            source=_checked(tree.inside("source"), _SOURCE),
            versions=tree.mapping("versions", Fields.text),
            box_convention=_checked(tree.inside("box_convention"), _CONVENTION),
            report=_checked(tree.inside("report"), _REPORT),
            configs=_read_configs(tree.inside("configs")),
            volumes={path: _read_volume(item) for path, item in _by_path(tree.inside("volumes"))},
            files={
                path: FileRecord(item.whole("bytes"), item.sha256("sha256"))
                for path, item in _by_path(tree.inside("files"))
            },
            masks={path: _read_volume(item) for path, item in _by_path(tree.inside("masks"))},
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


def refuse_official(root: str, options: Mapping[str, Any]) -> None:
    """Raise if a place holds the official release, as its users download it.

    Raises
    ------
    RepositoryError
        With the command that prepares it.
    """
    if is_url(root):  # nothing can be listed: one file is asked for
        remedy = "Download it to DIR, then run: reasonknee prepare --release DIR --out 3dreasonknee"
        is_official = False
        with suppress(*store_errors()):  # the caller has an error of its own, which shows no secret of the URL
            filesystem, path = open_filesystem(join(root, _OFFICIAL[0]), options)
            is_official = filesystem.exists(path)
    else:
        remedy = f"Run: reasonknee prepare --release {shlex.quote(root)} --out 3dreasonknee"
        is_official = any(Path(root, name).exists() for name in _OFFICIAL)
    if is_official:
        raise RepositoryError(
            f"{redact(root)} is the official release, which must be prepared first. {remedy}, and load that."
        )


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


def _by_path(tree: Fields) -> Iterator[tuple[str, Fields]]:
    """Iterate over the files of an object; refuse a path that leaves the repository or is not plain."""
    for path, item in tree.each():
        yield _check_path(path, tree), item


def _check_path(path: str, tree: Fields) -> str:
    if not stays_inside(path):
        rule = "be relative to the repository and stay inside it, without ':', '?', '%' and control characters"
        raise tree.fail(f"A path must {rule}, not {ascii(path)[:200]}")
    return path


def _checked(tree: Fields, fields: Mapping[str, Callable[[Fields, str], Any]]) -> Mapping[str, Any]:
    """Check the fields that readers use, where they are present and not null, and return the object as it is."""
    for key, take in fields.items():
        if tree.tree.get(key) is not None:
            take(tree, key)
    found: Mapping[str, Any] = tree.tree
    return found


def _records(tree: Fields, key: str) -> None:
    for _, item in tree.inside(key).each():
        item.whole("bytes")
        item.sha256("sha256")


_SOURCE: Mapping[str, Callable[[Fields, str], Any]] = {
    "revision": Fields.text,
    "files": _records,
    "tables": _records,
    "converter": lambda tree, key: tree.mapping(key, Fields.text),
    "images": lambda tree, key: tree.mapping(key, Fields.whole),
    "options": lambda tree, key: _checked(
        tree.inside(key),
        {
            "volumes": Fields.text,
            "box_convention": Fields.text,
            "allow": Fields.texts,
            "masks": Fields.flag,
            **dict.fromkeys(("grades_source", "readings", "acl"), Fields.text),
        },
    ),
}
_CONVENTION: Mapping[str, Callable[[Fields, str], Any]] = {
    "name": Fields.text,
    "agreement": Fields.number,
    "by_question": lambda tree, key: tree.mapping(key, Fields.number),
    "checked": Fields.whole,
    "exact": Fields.whole,
    "source": Fields.text,
}
_REPORT: Mapping[str, Callable[[Fields, str], Any]] = {
    "allowed": lambda tree, key: tree.mapping(key, Fields.whole),
    "table_grades": lambda tree, key: tree.mapping(key, Fields.whole),
    "warnings": lambda tree, key: tree.mapping(key, Fields.whole),
    "rows_dropped": Fields.whole,
    "volumes_dropped": Fields.whole,
    "grades_nulled_count": Fields.whole,
    "grades_nulled": Fields.items,
    "violations": lambda tree, key: tree.mapping(key, Fields.whole),
    "notes": Fields.texts,
}


def _read_configs(tree: Fields) -> dict[str, dict[str, tuple[Shard, ...]]]:
    """Read the shards of every config and split, and check their row counts."""
    configs: dict[str, dict[str, tuple[Shard, ...]]] = {}
    for config in CONFIGS:
        if config == "preview" and config not in tree.tree:
            continue
        splits = tree.inside(config).inside("splits")
        configs[config] = {}
        for split in SPLITS:  # in their usual order, not in the file's
            if split in splits.tree:
                configs[config][split] = _read_split(splits.inside(split), f"{config}/{split}")
    return configs


def _read_split(tree: Fields, name: str) -> tuple[Shard, ...]:
    listed = Fields(dict(enumerate(tree.items("shards"))), f"shards of {name} in the manifest", tree.fail)
    shards = tuple(_read_shard(listed.inside(place)) for place in listed.tree)
    rows, found = tree.whole("rows"), sum(shard.rows for shard in shards)
    if rows != found:
        raise tree.fail(f"The manifest counts {rows} rows of {name}, and {found} in its shards")
    return shards


def _read_shard(item: Fields) -> Shard:
    return Shard(
        path=_check_path(item.text("path"), item),
        rows=item.whole("rows"),
        bytes=item.whole("bytes"),
        sha256=item.sha256("sha256"),
        footer_sha256=item.optional("footer_sha256", item.sha256),
        chunk_sha256=item.optional("chunk_sha256", lambda key: _hashes(item, key)),
    )


def _hashes(item: Fields, key: str) -> tuple[str, ...]:
    listed = Fields(dict(enumerate(item.items(key))), f"{key} of the {item.place}", item.fail)
    return tuple(listed.sha256(place) for place in listed.tree)


def _read_volume(item: Fields) -> VolumeRecord:
    """Read the record of one volume; a field is None where it is null or absent."""
    shape = item.optional("shape", lambda key: tuple(_side(item, key, side) for side in item.items(key, 3)))
    rows = item.optional("affine", lambda key: item.items(key, 4))
    affine = None
    if rows is not None:
        by_row = Fields(dict(enumerate(rows)), f"affine of the {item.place}", item.fail)
        affine = tuple(by_row.numbers(row, 4) for row in range(4))
    return VolumeRecord(
        shape=shape,  # type: ignore[arg-type]  # three, as items() made sure
        affine=affine,  # type: ignore[arg-type]  # four of four
        dtype=item.optional("dtype", item.text),
        bytes=item.optional("bytes", item.whole),
        sha256=item.optional("sha256", item.sha256),
        voxels_sha256=item.optional("voxels_sha256", item.sha256),
        index_sha256=item.optional("index_sha256", item.sha256),
    )


def _side(item: Fields, key: str, value: object) -> int:
    return Fields({key: value}, item.place, item.fail).whole(key, 2**15)
