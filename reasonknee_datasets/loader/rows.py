"""Rows that a loader reads: of a dataset, from which an epoch is planned, or of a streaming dataset in its own order.

Of a dataset only a few short columns are read, straight from Arrow; nothing is decoded.

The order of a streaming dataset is the one in which a single process would iterate over it: its shards in order, or as
``dataset.shuffle(seed=..., buffer_size=...)`` yields them. It does not depend on the number of workers, ranks and
examples a batch, and a state resumes it exactly. For that, the *main* process of every rank iterates over all rows,
which hold no voxels, and takes its own; workers get whole rows and do the rest. To resume, the rows before the place
are read again and dropped, at a fraction of a millisecond a row, since no shortcut of ``datasets`` keeps a shuffle
buffer. Shuffling by volumes, balancing and a length need all rows beforehand, and are not available. A buffered shuffle
mixes volumes only as far as its buffer reaches. A state is checked against the columns, the split and the first row of
the dataset alone.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonknee_datasets.errors import LoaderError, ReasonKneeError, nearest, shown
from reasonknee_datasets.loader.epoch_order import enumerate_labels
from reasonknee_datasets.volumes import Geometry, open_volume

# Columns that identify a row; texts and grades come with the id.
_IDENTIFYING = ("id", "volume_path", "question_id", "box")
GRADE = "grade"
_USUAL_ITEMSIZE = 2
_GRADES = "grades"
_GRADE_OF = "grade_"  # as in grade_size, a separate column in newer repositories


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a dataset, as far as their order is concerned.

    Attributes
    ----------
    fingerprint : str
        The same for the same rows in the same order, on every machine.
    volumes : (n,) int array
        Volume of each row.
    classes : (n,) int array or None
        For balancing.
    volume_bytes : int
        Size of the largest volume's voxels; 0 where that is not known.
    """

    fingerprint: str
    volumes: NDArray[np.int64]
    classes: NDArray[np.int64] | None
    volume_bytes: int


def read_rows(dataset: Any, balance: Sequence[str] = ()) -> Rows:
    """Read what the order depends on.

    Parameters
    ----------
    dataset : datasets.Dataset or sequence of mappings
        The rows.
    balance : sequence of str
        Columns with one number or word a row, ``grade`` for the highest grade of a row, or ``grade_size`` for that of
        an attribute; a row without the grade is in a separate class.
    """
    if not len(dataset):
        raise LoaderError("The dataset has no examples. Check split=, filters= and the last .filter().")
    names = column_names(dataset)
    identifying = [name for name in _IDENTIFYING if name in names]
    if not identifying:
        raise LoaderError(
            f"The dataset needs a column that identifies its rows ({', '.join(_IDENTIFYING)}), and has only "
            f"{', '.join(names)}. Keep the column id."
        )
    paths = [name for name in ("volume_path", "volume") if name in names][:1]
    wanted = dict.fromkeys([*identifying, *paths, *(["volume"] if "volume" in names else [])])
    table = read_columns(dataset, [*wanted, *_balance_columns(balance, names)])
    return Rows(
        _fingerprint(table, identifying),
        _volumes(table, paths),
        _classes(table, balance) if balance else None,
        _largest(table),
    )


def check_dataset(dataset: Any) -> None:
    """Raise a `LoaderError` for anything but a dataset: a name, a dictionary of splits, or a generator."""
    if isinstance(dataset, datasets.IterableDataset | datasets.Dataset):
        return
    if isinstance(dataset, str | bytes | os.PathLike):
        raise LoaderError(f"The dataset must be loaded first, not {shown(dataset)}. Write load_dataset(...).")
    if isinstance(dataset, dict):
        names = ", ".join(str(name) for name in list(dataset)[:5])
        raise LoaderError(
            f"The dataset must be one split, not a {type(dataset).__name__} of {names}. Choose one by name."
        )
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise LoaderError(f"The dataset must be a dataset or a sequence of examples, not {shown(dataset)}.")
    # Of other datasets no row is read here: reading may decode, draw from a generator or open files before a fork.
    if isinstance(dataset, Sequence) and len(dataset) and not isinstance(dataset[0], Mapping):
        raise LoaderError(f"The dataset must contain examples, which are mappings, not {shown(dataset[0])}.")


def column_names(dataset: Any) -> list[str]:
    """Name the columns of a dataset, or of the first of a sequence of examples."""
    if isinstance(dataset, datasets.Dataset):
        return list(dataset.column_names)
    return list(dataset[0])


def read_columns(dataset: Any, names: Sequence[str]) -> pa.Table:
    """Read columns as they are stored."""
    if isinstance(dataset, datasets.Dataset):
        table: pa.Table = dataset.select_columns(list(dict.fromkeys(names))).with_format("arrow")[:]
        return table
    # In a sequence of examples a volume is an image, which is identified by its file.
    columns = {
        name: [_plain(example[name]) for example in dataset] for name in dict.fromkeys(names) if name != "volume"
    }
    if "volume" in names:
        columns["volume"] = [_reference(example["volume"]) for example in dataset]
    return pa.table(columns)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _reference(volume: Any) -> str | None:
    """Name the file of an image; None for one that has none."""
    reference = getattr(volume, "reference", None)
    if reference is None and hasattr(volume, "get_filename"):
        reference = volume.get_filename()
    return reference if reference is None or "#" in reference else f"{reference}#"


def _volumes(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    """Assign numbers to volumes by first appearance; without a column, one to each row."""
    if not names:
        return np.arange(len(table))
    column = table[names[0]]
    if names[0] == "volume":  # the same file may be seen through many views
        column = pa.chunked_array([[str(text).rpartition("#")[0] for text in column.to_pylist()]])
    return _codes(column)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Assign numbers to the values of a column by first appearance."""
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode").indices
    return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.int64)


def _fingerprint(table: pa.Table, names: Sequence[str]) -> str:
    digest = hashlib.sha256(str(len(table)).encode())
    for name in names:
        column = table[name]
        digest.update(f"\1{name}\1".encode())
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            column = pc.list_flatten(column)
        if pa.types.is_integer(column.type) and not column.null_count:
            digest.update(column.to_numpy().astype("<i8").tobytes())
        else:
            digest.update("\0".join(map(str, column.to_pylist())).encode())
    return digest.hexdigest()[:32]


def _largest(table: pa.Table) -> int:
    """Find how many bytes the voxels of the largest volume take, from the references and one header."""
    if "volume" not in table.column_names:
        return 0
    references = [text for text in pc.unique(table["volume"]).to_pylist() if text is not None]
    tokens = {text.rpartition("#")[2].partition("@")[0] for text in references} - {""}
    voxels = max((Geometry.from_token(token).voxels for token in tokens), default=0)
    return _volume_bytes(references[0].rpartition("#")[0], voxels) if references else 0


def first_volume_bytes(example: Mapping[str, Any] | None) -> int:
    """Find how many bytes the voxels of an example's volume take; 0 where that is not known."""
    reference = _reference((example or {}).get("volume"))
    return 0 if reference is None else _volume_bytes(reference.rpartition("#")[0], 0)


def _volume_bytes(place: str, voxels: int) -> int:
    try:
        volume = open_volume(place)
        proxy: Any = volume.dataobj
        itemsize: int = np.dtype(proxy.dtype).itemsize
        return max(voxels, math.prod(volume.shape)) * itemsize + int(proxy.offset)  # an ordinary file is kept whole
    except ReasonKneeError:  # reading it raises the error; here it only decides on room
        return voxels * _USUAL_ITEMSIZE


def _balance_columns(balance: Sequence[str], names: Sequence[str]) -> list[str]:
    """Name the columns that are read for balancing: ``grades`` for a grade without a separate column."""
    columns = [_GRADES if _is_grade(name, names) else name for name in balance]
    for name, column in zip(balance, columns, strict=True):
        if column not in names:
            raise LoaderError(f"The dataset has no column to balance by {name!r}. {nearest(name, [GRADE, *names])}.")
    return columns


def _is_grade(name: str, names: Sequence[str]) -> bool:
    return name == GRADE or (name.startswith(_GRADE_OF) and name not in names)


def _classes(table: pa.Table, balance: Sequence[str]) -> NDArray[np.int64]:
    """Assign numbers to the classes of rows: rows with equal balanced values get the same number."""
    classes = np.zeros(len(table), np.int64)
    for name in balance:
        part = enumerate_labels(_labels(table, name))
        classes = enumerate_labels(classes * (part.max() + 1) + part)
    return classes


def _labels(table: pa.Table, name: str) -> NDArray[np.int64]:
    if _is_grade(name, table.column_names):
        attribute = None if name == GRADE else name.removeprefix(_GRADE_OF)
        labels = highest_grades(table[_GRADES], attribute)
        if labels.max() < 0:
            raise LoaderError(f"No row of the dataset has a grade to balance by {name!r}. {_known(table)}.")
        return labels
    column = table[name]
    if pa.types.is_nested(column.type):
        raise LoaderError(f"Cannot balance by the column {name} of type {column.type}: choose one of numbers or text.")
    return _codes(column)


def _known(table: pa.Table) -> str:
    attributes = pc.unique(pc.struct_field(pc.list_flatten(table[_GRADES]), "attribute")).to_pylist()
    return f"Its attributes are {', '.join(sorted(map(str, attributes)))}" if attributes else "Its grades are empty"


def highest_grades(grades: pa.ChunkedArray, attribute: str | None = None) -> NDArray[np.int64]:
    """Return the highest grade of each row, of all attributes or of one; -1 where it has none.

    Examples
    --------
    >>> rows = [[{"attribute": "size", "grade": 0}, {"attribute": "depth", "grade": 2}], []]
    >>> highest_grades(pa.chunked_array([rows])).tolist(), highest_grades(pa.chunked_array([rows]), "size").tolist()
    ([2, -1], [0, -1])
    """
    highest = np.full(len(grades), -1, np.int64)
    start = 0
    for chunk in grades.chunks:
        parents = pc.list_parent_indices(chunk).to_numpy(zero_copy_only=False)
        items = pc.list_flatten(chunk)
        values = pc.fill_null(pc.struct_field(items, "grade"), -1).to_numpy(zero_copy_only=False)
        if attribute is not None:
            names = pc.struct_field(items, "attribute")
            values = np.where(
                pc.fill_null(pc.equal(names, attribute), False).to_numpy(zero_copy_only=False), values, -1
            )
        np.maximum.at(highest, start + parents, values)
        start += len(chunk)
    return highest


class StreamedRows:
    """The rows of an ``IterableDataset``, which must not be split by node: a loader does that."""

    def __init__(self, dataset: datasets.IterableDataset) -> None:
        if getattr(dataset, "_distributed", None) is not None:
            raise LoaderError(
                "The streaming dataset was split by split_dataset_by_node. Pass the dataset as it was before: the "
                "loader takes each rank's part itself."
            )
        self.dataset = dataset
        dataset.set_epoch(0)
        self.first: Mapping[str, Any] | None = next(iter(dataset.take(1)), None)
        if self.first is None:
            raise LoaderError("The dataset has no examples. Check split= and the last .filter().")

    @property
    def fingerprint(self) -> str:
        """Columns, split and first row, as far as they can be written."""
        first = self.first or {}
        words = {name: value for name, value in first.items() if isinstance(value, str | int | float | list)}
        parts = (sorted(first), str(self.dataset.split), sorted(map(repr, words.items())))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def total(self) -> None:
        """Raise TypeError, since the length of an epoch is not known."""

    def rows(self, epoch: int, start: int) -> Iterator[tuple[Any, int]]:
        """Return whole rows, with their places."""
        self.dataset.set_epoch(epoch)
        # Not dataset.skip(start): behind a shuffle buffer it gives another order in every epoch but the first.
        return zip(itertools.islice(iter(self.dataset), start, None), itertools.count(start), strict=False)
