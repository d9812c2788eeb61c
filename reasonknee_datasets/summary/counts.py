"""Counts of a prepared repository's content, which ``reasonknee info`` prints.

Rows are counted from four Parquet columns, found through the manifest; no volume is opened.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.manifest import Shard, VolumeRecord
from reasonknee_datasets.moaks import SLOTS
from reasonknee_datasets.orientation import axcodes
from reasonknee_datasets.printable import printable
from reasonknee_datasets.sources import (
    Repository,
    find_place,
    keep_credentials,
    open_repository,
    read_shard,
    select,
)

# Counting needs these of each config, and reads no other column: the texts are most of the bytes.
_COLUMNS = {
    "quintuples": ("question_id", "category", "grades"),
    "volumes": ("patient", "visit", "side"),
}
_HIGHEST = max(slot.high for slot in SLOTS)
_THREADS = 8  # over HTTP the time goes into waiting

GradeCounts = Mapping[tuple[str, str, "int | None"], int]


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split, counted.

    Attributes
    ----------
    rows, volumes : int
        Quintuples and MRI volumes.
    patients : frozenset of str
        Their ids.
    questions, categories, visits, sides : mapping
        Rows by question id and by category, volumes by visit and by side.
    grades : mapping
        Slots by (category, attribute, grade); a missing grade is None.
    """

    rows: int
    volumes: int
    patients: frozenset[str]
    questions: Mapping[int, int]
    categories: Mapping[str, int]
    visits: Mapping[str, int]
    sides: Mapping[str, int]
    grades: GradeCounts


@dataclass(frozen=True, slots=True)
class VolumeGrid:
    """A voxel grid that volumes share: shape, spacing (mm) and the directions its axes run to."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: str
    dtype: str


@dataclass(frozen=True, slots=True)
class GeometrySummary:
    """The volumes' geometry, from the manifest.

    Attributes
    ----------
    grids : mapping of VolumeGrid to int
        Volumes by grid.
    unknown : int
        Volumes prepared without images.
    bytes : int
        Size of all volume files together.
    tilts : (float, float)
        Median and greatest angle in degrees between a volume's axes and the patient's.
    """

    grids: Mapping[VolumeGrid, int]
    unknown: int
    bytes: int
    tilts: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """A prepared repository, counted; its string is what ``reasonknee info`` prints."""

    location: str
    name: str
    synthetic: bool
    digest: str
    source: Mapping[str, Any]
    box_convention: Mapping[str, Any]
    report: Mapping[str, Any]
    splits: Mapping[str, SplitSummary]
    geometry: GeometrySummary
    bytes: int = field(default=0)
    masks: int = field(default=0)
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def patients(self) -> frozenset[str]:
        """Every patient of every split."""
        return frozenset().union(*(split.patients for split in self.splits.values()))

    def __str__(self) -> str:
        from reasonknee_datasets.summary.text import render_summary  # the text is written from these classes

        return "\n".join(map(printable, render_summary(self)))  # names in rows and manifest may come from strangers


def summarise(data_dir: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> Summary:
    """Count the content of a prepared repository.

    Parameters
    ----------
    data_dir : str or path
        A folder or any fsspec URL.
    storage_options : mapping, optional
        Given to fsspec; never kept in the summary.

    Returns
    -------
    Summary

    Raises
    ------
    RepositoryNotFoundError
        If there is no manifest, or a shard that it lists is absent.
    RepositoryError
        If it is an official release, or a shard is not the one that the manifest lists.
    """
    place = find_place(data_dir)
    assert place is not None, "a place is found wherever one is named"
    keep_credentials(place, storage_options, None)
    repository = open_repository(place)
    manifest = repository.manifest
    return Summary(
        location=place,
        name=manifest.name,
        synthetic=manifest.synthetic,
        digest=manifest.digest,
        source=manifest.source,
        box_convention=manifest.box_convention,
        report=manifest.report,
        splits={split: _count_split(repository, split) for split in manifest.splits("quintuples")},
        geometry=_survey(manifest.volumes),
        bytes=sum(shard.bytes for shard in manifest.all_shards()),
        masks=len(manifest.masks),
        labels=manifest.labels,
    )


def _read(repository: Repository, config: str, split: str) -> Iterator[pa.Table]:
    """Read the counted columns of a split, a table a shard."""
    if split not in repository.manifest.splits(config):
        return
    selection = select(config, _COLUMNS[config])

    def read(shard: Shard) -> pa.Table:
        tables = list(read_shard(repository.url(shard.path), shard, selection))
        return pa.concat_tables(tables) if tables else selection.stored_schema.empty_table()

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(read, repository.manifest.shards(config, split))


def _count_split(repository: Repository, split: str) -> SplitSummary:
    questions: Counter[int] = Counter()
    categories: Counter[str] = Counter()
    grades: Counter[tuple[str, str, int | None]] = Counter()
    for table in _read(repository, "quintuples", split):
        questions.update(_tally(table["question_id"]))
        categories.update(_tally(table["category"]))
        grades.update(_tally_grades(table))
    visits: Counter[str] = Counter()
    sides: Counter[str] = Counter()
    patients: set[str] = set()
    for table in _read(repository, "volumes", split):
        visits.update(_tally(table["visit"]))
        sides.update(_tally(table["side"]))
        patients.update(table["patient"].to_pylist())
    return SplitSummary(
        rows=sum(questions.values()),
        volumes=sum(sides.values()),
        patients=frozenset(patients),
        questions=questions,
        categories=categories,
        visits=visits,
        sides=sides,
        grades=grades,
    )


def _tally(column: pa.ChunkedArray) -> dict[Any, int]:
    counts = pc.value_counts(column.combine_chunks())
    return {item["values"]: item["counts"] for item in counts.to_pylist()}


def _tally_grades(table: pa.Table) -> dict[tuple[str, str, int | None], int]:
    grades = table["grades"].combine_chunks()
    slots = pc.list_flatten(grades)
    flat = pa.table(
        {
            "category": pc.take(table["category"].combine_chunks(), pc.list_parent_indices(grades)),
            "attribute": pc.struct_field(slots, "attribute"),
            "grade": pc.struct_field(slots, "grade"),
        }
    )
    counted = flat.group_by(flat.column_names).aggregate([([], "count_all")]).to_pylist()
    for row in counted:
        if row["grade"] is not None and not 0 <= row["grade"] <= _HIGHEST:
            raise RepositoryError(
                f"A row has grade {row['grade']} of {ascii(row['attribute'])[:60]}, but grades go from 0 to "
                f"{_HIGHEST}. Do not use this repository; copy it again, or prepare it again."
            )
    return {(row["category"], row["attribute"], row["grade"]): row["count_all"] for row in counted}


def _survey(volumes: Mapping[str, VolumeRecord]) -> GeometrySummary:
    grids: Counter[VolumeGrid] = Counter()
    tilts = []
    for record in volumes.values():
        if record.shape is None or record.affine is None:
            continue
        affine = np.asarray(record.affine, dtype=np.float64)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        # Scanners write the same spacing with different noise behind the fifth digit, where 1.09375 is a tie.
        rounded = tuple(float(f"{mm:.4g}") for mm in spacing)
        grids[VolumeGrid(record.shape, rounded, "".join(axcodes(affine)), record.dtype or "unknown")] += 1
        cosines = np.abs(affine[:3, :3] / spacing).max(axis=0).min()
        tilts.append(float(np.degrees(np.arccos(min(1.0, cosines)))))
    sizes = sum(record.bytes or 0 for record in volumes.values())
    spread = (float(np.median(tilts)), max(tilts)) if tilts else (0.0, 0.0)
    return GeometrySummary(grids, len(volumes) - len(tilts), sizes, spread)
