"""The records of a manifest: shards, volumes and other files, each read from untrusted JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.json_fields import Fields
from reasonknee_datasets.plain_paths import stays_inside
from reasonknee_datasets.schema import CONFIGS, SPLITS
from reasonknee_datasets.volumes.geometry import Geometry

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


def by_path(tree: Fields) -> Iterator[tuple[str, Fields]]:
    """Iterate over the files of an object; refuse a path that leaves the repository or is not plain."""
    for path, item in tree.each():
        yield _check_path(path, tree), item


def _check_path(path: str, tree: Fields) -> str:
    if not stays_inside(path):
        rule = "be relative to the repository and stay inside it, without ':', '?', '%' and control characters"
        raise tree.fail(f"A path must {rule}, not {ascii(path)[:200]}")
    return path


def checked(tree: Fields, fields: Mapping[str, Callable[[Fields, str], Any]]) -> Mapping[str, Any]:
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


SOURCE: Mapping[str, Callable[[Fields, str], Any]] = {
    "revision": Fields.text,
    "files": _records,
    "tables": _records,
    "converter": lambda tree, key: tree.mapping(key, Fields.text),
    "images": lambda tree, key: tree.mapping(key, Fields.whole),
    "options": lambda tree, key: checked(
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
CONVENTION: Mapping[str, Callable[[Fields, str], Any]] = {
    "name": Fields.text,
    "agreement": Fields.number,
    "by_question": lambda tree, key: tree.mapping(key, Fields.number),
    "checked": Fields.whole,
    "exact": Fields.whole,
    "source": Fields.text,
}
REPORT: Mapping[str, Callable[[Fields, str], Any]] = {
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


def read_configs(tree: Fields) -> dict[str, dict[str, tuple[Shard, ...]]]:
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


def read_volume(item: Fields) -> VolumeRecord:
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
