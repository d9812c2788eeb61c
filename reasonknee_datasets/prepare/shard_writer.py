"""From rows in file order to Parquet in shard order, with memory for a few hundred rows a shard.

Rows are spooled to one Arrow file a bucket while the release is read; then each shard is sorted and written by itself,
in parallel. The order of volumes is that of a hash of their ids, so that every shard, the first one too, is a fair
sample of its split.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.errors import PrepareError
from reasonknee_datasets.manifest import FOLDERS, FOOTER_END, Shard, chunk_ranges
from reasonknee_datasets.prepare.staging import hash_file
from reasonknee_datasets.schema import GRADE_COLUMNS, Quintuple, arrow_schema

TRAIN_SHARDS = 64
OTHER_SHARDS = 16
GROUP_VOLUMES = 100
# Bytes in Arrow, which are more than Parquet encodes them to: the Hub recommends row groups below 100 MB.
GROUP_BYTES = 64_000_000
_BATCH_ROWS = 256
_NULLABLE = frozenset(GRADE_COLUMNS.values())
FAULT = "This is a fault of the reader: please report it"


def hash_order(volume_ids: Iterable[str]) -> list[str]:
    """Sort volumes in the order of every repository."""
    return sorted(volume_ids, key=lambda volume: hashlib.sha256(volume.encode()).digest())


def cut(volume_ids: Sequence[str], split: str) -> list[list[str]]:
    """Cut one split's ordered volumes into shards: as many as the split is to have, and never an empty one."""
    least = TRAIN_SHARDS if split == "train" else OTHER_SHARDS
    count = min(len(volume_ids), max(least, -(-len(volume_ids) // GROUP_VOLUMES)))
    edges = [-(-len(volume_ids) * k // count) for k in range(count + 1)] if count else [0]
    return [list(volume_ids[start:stop]) for start, stop in itertools.pairwise(edges)]


def shard_path(config: str, split: str, number: int, count: int) -> str:
    """Name a shard, relative to the repository.

    Examples
    --------
    >>> shard_path("quintuples", "train", 3, 64)
    'data/train-00003-of-00064.parquet'
    """
    return f"{FOLDERS[config]}/{split}-{number:05d}-of-{count:05d}.parquet"


def volume_of(row_id: str) -> str:
    """Return the volume's id, which a row's id begins with."""
    return row_id.rpartition("/")[0]


class Spool:
    """Takes rows in any order and keeps them in one Arrow file a bucket.

    `folder`: where the files are written. `buckets`: volume id to the name of its bucket.
    """

    def __init__(self, folder: Path, buckets: Mapping[str, str]) -> None:
        self.rows: Counter[str] = Counter()
        self._folder = folder
        self._buckets = buckets
        self._schema = arrow_schema("quintuples")
        self._columns = set(self._schema.names)
        self._waiting: dict[str, list[Quintuple]] = defaultdict(list)
        self._writers: dict[str, pa.RecordBatchStreamWriter] = {}
        self._open = ExitStack()

    def __enter__(self) -> Spool:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._open:  # whatever happens, no file stays open: a full disk could not be unmounted
            if error is None:
                for bucket in list(self._waiting):
                    self._flush(bucket)

    def add(self, row: Quintuple) -> None:
        """Add one row; it is checked and written with the next `_BATCH_ROWS` of its bucket."""
        volume = volume_of(row["id"])
        bucket = self._buckets.get(volume)
        if bucket is None:
            raise PrepareError(f"Row {row['id']} belongs to no volume of the release. {FAULT}.")
        self.rows[volume] += 1
        waiting = self._waiting[bucket]
        waiting.append(row)
        if len(waiting) >= _BATCH_ROWS:
            self._flush(bucket)

    def file(self, volume: str) -> Path:
        """Return where a volume's rows are."""
        return self._path(self._buckets[volume])

    def _path(self, bucket: str) -> Path:
        return self._folder / f"{bucket}.arrow"

    def _flush(self, bucket: str) -> None:
        rows = self._waiting.pop(bucket)
        if bucket not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")  # a seventh of the size, at the speed of the disk
            sink = self._open.enter_context(pa.OSFile(os.fspath(self._path(bucket)), "wb"))
            writer = pa.ipc.new_stream(sink, self._schema, options=options)
            self._writers[bucket] = self._open.enter_context(writer)
        self._writers[bucket].write_batch(_to_batch(rows, self._schema, self._columns))


def _to_batch(rows: list[Quintuple], schema: pa.Schema, columns: set[str]) -> pa.RecordBatch:
    """Check rows against the schema and make a batch; ``from_pylist`` alone fills a missing column with null."""
    try:
        for row in rows:
            if row.keys() != columns:
                raise ValueError(f"columns {sorted(columns ^ row.keys())} that are missing or unknown")
        batch = pa.RecordBatch.from_pylist(rows, schema=schema)
        for name, column in zip(schema.names, batch.columns, strict=True):
            if column.null_count and name not in _NULLABLE:
                row = rows[column.is_null().index(True).as_py()]
                raise ValueError(f"nothing in column {name} of row {row['id']}")
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, OverflowError) as error:
        raise PrepareError(
            f"The rows from {rows[0].get('id')} to {rows[-1].get('id')} do not have the columns and types of "
            f"reasonknee_datasets.schema: {error}. {FAULT}."
        ) from error
    return batch


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to write: its path, its volumes in order, and the buckets with their rows."""

    root: Path
    path: str
    volumes: tuple[str, ...]
    buckets: tuple[Path, ...]
    schema: pa.Schema


def write_shard(task: ShardTask) -> tuple[Shard, int]:
    """Sort one shard's rows and write them; return the shard and its size in Arrow."""
    rank = {volume: number for number, volume in enumerate(task.volumes)}
    table = pa.concat_tables([pa.ipc.open_stream(pa.memory_map(os.fspath(path))).read_all() for path in task.buckets])
    ids = table.column("id").to_pylist()
    questions = table.column("question_id").to_pylist()
    keyed = [
        (rank[volume_of(row_id)], question, number)
        for number, (row_id, question) in enumerate(zip(ids, questions, strict=True))
        if volume_of(row_id) in rank
    ]
    keyed.sort()
    table = table.take([number for _, _, number in keyed])
    return write_parquet(task.root, task.path, table.cast(task.schema), [volume for volume, _, _ in keyed])


def write_parquet(root: Path, path: str, table: pa.Table, volumes: Sequence[Any]) -> tuple[Shard, int]:
    """Write one Parquet file, its row groups cut between volumes.

    `path`: the file, relative to it. `table`: its rows, in order. `volumes`: for every row, a value that is equal only
    for rows of one volume.
    """
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # The page index lets a reader fetch single pages, and content-defined chunks let the Hub store only what changed.
    options = {"compression": "zstd", "write_page_index": True, "use_content_defined_chunking": True}
    options["write_page_checksum"] = True  # every reader of this package verifies them
    with pa.OSFile(os.fspath(target), "wb") as sink, pq.ParquetWriter(sink, table.schema, **options) as writer:
        for start, stop in _groups(table, volumes):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)
    hashes = hash_file(target), hash_footer(target), hash_chunks(target)
    return Shard(path, table.num_rows, target.stat().st_size, *hashes), table.nbytes


def stock_schema(config: str, *, previews: bool = False) -> pa.Schema:
    """Return a config's schema with the metadata by which stock ``datasets`` reads its features."""
    from datasets import Features  # a second of imports, which worker processes are spared

    return Features.from_arrow_schema(arrow_schema(config, previews=previews)).arrow_schema


def hash_footer(path: Path) -> str:
    """Compute the SHA-256 of a Parquet file's footer: the metadata, their length and the closing magic."""
    with path.open("rb") as file:
        file.seek(-FOOTER_END, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little") + FOOTER_END
        file.seek(-length, os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


def hash_chunks(path: Path) -> tuple[str, ...]:
    """Compute the SHA-256 of each column chunk of a Parquet file, in the order of `chunk_ranges`."""
    hashes = []
    with path.open("rb") as file:
        for start, stop in chunk_ranges(pq.read_metadata(path)):
            file.seek(start)
            hashes.append(hashlib.sha256(file.read(stop - start)).hexdigest())
    return tuple(hashes)


def _groups(table: pa.Table, volumes: Sequence[Any]) -> list[tuple[int, int]]:
    """Cut rows into row groups of at most `GROUP_VOLUMES` whole volumes and about `GROUP_BYTES`."""
    starts = [row for row in range(len(volumes)) if row == 0 or volumes[row] != volumes[row - 1]]
    groups, first, held, size = [], 0, 0, 0
    for start, stop in zip(starts, [*starts[1:], len(volumes)], strict=True):
        volume_size = table.slice(start, stop - start).nbytes
        if held and (held == GROUP_VOLUMES or size + volume_size > GROUP_BYTES):
            groups.append((first, start))
            first, held, size = start, 0, 0
        held, size = held + 1, size + volume_size
    return [*groups, (first, len(volumes))]
