"""Index of the rows of a prepared repository: filters, neighbours, other visits, and whole rows on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.schema import CONFIGS
from reasonknee_datasets.sources import Repository, read_shard, select

# Columns for lists and filters: about 150 bytes, 75 MB for the whole dataset. Texts are read on demand.
_COLUMNS = (
    *("id", "volume_path", "patient", "visit", "side", "question_id", "category", "finding", "subregion"),
    *("box", "grades"),
)
_COMPARE = {"at least": pc.greater_equal, "exactly": pc.equal, "not graded": None}


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are listed; an empty field admits all.

    Attributes
    ----------
    split, category, patient, visit, side : str
        The value of the column.
    subregion : str
        A part of the subregion's name; spaces match underscores.
    attribute : str
        Attribute of a grade; empty for any.
    compare : str
        ``at least``, ``exactly`` or ``not graded``.
    grade : str
        A whole number.
    """

    split: str = ""
    category: str = ""
    subregion: str = ""
    patient: str = ""
    visit: str = ""
    side: str = ""
    attribute: str = ""
    compare: str = "at least"
    grade: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> RowFilter:
        """Read the filter from a URL's query; other parameters are ignored.

        Raises
        ------
        RepositoryError
            If the grade is not a whole number, or the comparison is unknown.
        """
        found = cls(**{field.name: query[field.name].strip() for field in fields(cls) if field.name in query})
        if found.compare not in _COMPARE:
            raise RepositoryError(f"Unknown comparison {found.compare[:40]!r}. Available: {', '.join(_COMPARE)}.")
        if found.grade and not (found.grade.isascii() and found.grade.isdigit() and len(found.grade) < 4):
            raise RepositoryError(f"The grade {found.grade[:40]!r} is not a whole number. Write for example 2.")
        return found

    def to_query(self, **more: str) -> str:
        """Write the filter as a URL's query, without fields that admit all rows."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        graded = self.grade or self.compare == "not graded"
        kept = {name: value for name, value in given.items() if value and (name != "compare" or graded)}
        return urlencode(kept | {name: value for name, value in more.items() if value})


class RowIndex:
    """The rows of a prepared repository in memory, without their texts.

    Parameters
    ----------
    repository : Repository
        A folder; its shards are compared with the manifest as they are read.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._shards = [
            (split, shard) for split, shards in repository.manifest.configs["quintuples"].items() for shard in shards
        ]
        self.table = pa.concat_tables(self._read()).combine_chunks()
        self._row = lru_cache(maxsize=256)(self._read_row)
        self.masks = _read_masks(repository)

    def __len__(self) -> int:
        """Count the rows."""
        return int(self.table.num_rows)

    def _read(self) -> Iterator[pa.Table]:
        selection = select("quintuples", list(_COLUMNS))
        yield (
            selection.stored_schema.empty_table()
            .append_column("split", pa.array([], pa.string()))
            .append_column("shard", pa.array([], pa.int32()))
        )
        for number, (split, shard) in enumerate(self._shards):
            for part in read_shard(self.repository.url(shard.path), shard, selection):
                rows = part.num_rows
                yield part.append_column("split", pa.array([split] * rows, pa.string())).append_column(
                    "shard", pa.array([number] * rows, pa.int32())
                )

    def choices(self, column: str) -> list[str]:
        """List the values of a column, or of ``attribute`` in the grades."""
        values = pc.struct_field(pc.list_flatten(self.table["grades"]), "attribute") if column == "attribute" else None
        return sorted(pc.unique(self.table[column] if values is None else values).to_pylist())

    def find(self, wanted: RowFilter) -> NDArray[np.int64]:
        """Find the positions of the rows that a filter admits, in order."""
        keep = pa.array(np.ones(len(self), dtype=bool))
        for column in ("split", "category", "patient", "visit", "side"):
            if value := getattr(wanted, column):
                keep = pc.and_(keep, pc.equal(self.table[column], value))
        if wanted.subregion:
            text = wanted.subregion.replace(" ", "_")
            keep = pc.and_(keep, pc.match_substring(self.table["subregion"], text, ignore_case=True))
        found = np.flatnonzero(keep.to_numpy(zero_copy_only=False))
        if wanted.grade or wanted.compare == "not graded":
            found = np.intersect1d(found, self._find_graded(wanted))
        elif wanted.attribute:
            found = np.intersect1d(found, self._find_graded(wanted, any_grade=True))
        return found.astype(np.int64)

    def _find_graded(self, wanted: RowFilter, *, any_grade: bool = False) -> NDArray[Any]:
        column = self.table["grades"]
        flat, parents = pc.list_flatten(column), pc.list_parent_indices(column)
        values = pc.struct_field(flat, "grade")
        compare = _COMPARE[wanted.compare]
        if any_grade:
            keep = pc.is_valid(pc.struct_field(flat, "attribute"))
        elif compare is None:
            keep = pc.is_null(values)
        else:
            keep = pc.fill_null(compare(values, int(wanted.grade)), False)
        if wanted.attribute:
            keep = pc.and_(keep, pc.equal(pc.struct_field(flat, "attribute"), wanted.attribute))
        return np.unique(parents.filter(keep).to_numpy())

    def position(self, row_id: str) -> int | None:
        """Find the position of a row by its id."""
        found = pc.index(self.table["id"], row_id).as_py()
        return None if found < 0 else int(found)

    def brief(self, position: int) -> dict[str, Any]:
        """Return a row without its texts."""
        row: dict[str, Any] = self.table.slice(position, 1).to_pylist()[0]
        return row

    def row(self, position: int) -> dict[str, Any]:
        """Return a whole row, read from its shard."""
        return dict(self._row(position))

    def _read_row(self, position: int) -> dict[str, Any]:
        brief = self.brief(position)
        _, shard = self._shards[brief["shard"]]
        wanted = select("quintuples", filters=[("id", "==", brief["id"])])
        for part in read_shard(self.repository.url(shard.path), shard, wanted):
            return {**part.to_pylist()[0], "split": brief["split"]}
        raise RepositoryError(f"{brief['id']} is no longer in {shard.path}. Start the browser again.")

    def other_visits(self, position: int) -> list[int]:
        """Find the same question about the same knee at every visit, this one included, in order of visits."""
        row = self.brief(position)
        same = pc.equal(self.table["patient"], row["patient"])
        for column in ("side", "question_id"):
            same = pc.and_(same, pc.equal(self.table[column], row[column]))
        found = np.flatnonzero(same.to_numpy(zero_copy_only=False)).tolist()
        return sorted(found, key=lambda each: str(self.table["visit"][each]))


def _read_masks(repository: Repository) -> dict[str, str]:
    """Read the mask of each volume, where the repository has masks."""
    if "mask_path" not in [column.name for column in CONFIGS["volumes"]]:
        return {}
    masks: dict[str, str] = {}
    wanted = select("volumes", ["volume_path", "mask_path"])
    for shards in repository.manifest.configs["volumes"].values():
        for shard in shards:
            for part in read_shard(repository.url(shard.path), shard, wanted):
                pairs = zip(part["volume_path"].to_pylist(), part["mask_path"].to_pylist(), strict=True)
                masks |= {volume: mask for volume, mask in pairs if mask}
    return masks


def pretty_answer(answer: str) -> str:
    """Indent an answer's JSON; return any other text as it is."""
    try:
        return json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return answer
