"""What the loader has to know of a dataset's rows before it reads any: who they are, where they look, what they weigh.

Only a few short columns are read, straight from Arrow; nothing is decoded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonknee_datasets.errors import LoaderError, ReasonKneeError, explain
from reasonknee_datasets.loader.epoch_order import number
from reasonknee_datasets.volumes import Geometry, open_volume

# What makes a row the row that it was; texts and grades come with the id.
_IDENTIFYING = ("id", "volume_path", "question_id", "box")
GRADE = "grade"
_USUAL_ITEMSIZE = 2
_GRADES = "grades"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a dataset, as far as their order is concerned.

    Attributes
    ----------
    fingerprint : str
        The same for the same rows in the same order, on every machine.
    volumes : (n,) int array
        Which volume each row looks at.
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
        Columns with one number or word a row, or ``grade``: the highest grade of a row, -1 where all are missing.
    """
    if not len(dataset):
        remedy = "Check split=, filters= and the last .filter()"
        raise LoaderError(explain("the dataset", "hold at least one example", "none", remedy))
    names = column_names(dataset)
    identifying = [name for name in _IDENTIFYING if name in names]
    if not identifying:
        remedy = "Keep the column id, which names a row for ever"
        rule = f"have a column by which its rows are known ({', '.join(_IDENTIFYING)})"
        raise LoaderError(explain("the dataset", rule, ", ".join(names), remedy))
    paths = [name for name in ("volume_path", "volume") if name in names][:1]
    wanted = dict.fromkeys([*identifying, *paths, *(["volume"] if "volume" in names else [])])
    table = read_columns(dataset, [*wanted, *_balance_columns(balance, names)])
    return Rows(
        _fingerprint(table, identifying),
        _volumes(table, paths),
        _classes(table, balance) if balance else None,
        _largest(table),
    )


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
    # In a sequence of examples a volume is an image, which is told by its file.
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
    """Return what stands in a column numbers by first appearance."""
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
    """Find how many bytes the voxels of an example's volume take; 0 where that cannot be told."""
    reference = _reference((example or {}).get("volume"))
    return 0 if reference is None else _volume_bytes(reference.rpartition("#")[0], 0)


def _volume_bytes(place: str, voxels: int) -> int:
    try:
        volume = open_volume(place)
        proxy: Any = volume.dataobj
        itemsize: int = np.dtype(proxy.dtype).itemsize
        return max(voxels, math.prod(volume.shape)) * itemsize
    except ReasonKneeError:  # reading it raises the error; here it only decides on room
        return voxels * _USUAL_ITEMSIZE


def _balance_columns(balance: Sequence[str], names: Sequence[str]) -> list[str]:
    for name in balance:
        if (_GRADES if name == GRADE else name) not in names:
            remedy = f"Balance by {GRADE} or by a column: {', '.join(names)}"
            raise LoaderError(explain("balance", "name columns of the dataset", repr(name), remedy))
    return [_GRADES if name == GRADE else name for name in balance]


def _classes(table: pa.Table, balance: Sequence[str]) -> NDArray[np.int64]:
    """Return rows that agree in everything that is balanced the same number."""
    classes = np.zeros(len(table), np.int64)
    for name in balance:
        part = number(highest_grades(table[_GRADES])) if name == GRADE else _labels(table, name)
        classes = number(classes * (part.max() + 1) + part)
    return classes


def _labels(table: pa.Table, name: str) -> NDArray[np.int64]:
    column = table[name]
    if pa.types.is_nested(column.type):
        remedy = "Balance by a column of one word or number a row"
        raise LoaderError(explain(f"the column {name}", "hold one value a row", str(column.type), remedy))
    return _codes(column)


def highest_grades(grades: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the highest grade of each row; -1 where all are missing.

    Examples
    --------
    >>> rows = [[{"grade": 0}, {"grade": 2}], [{"grade": None}], []]
    >>> highest_grades(pa.chunked_array([rows])).tolist()
    [2, -1, -1]
    """
    highest = np.full(len(grades), -1, np.int64)
    start = 0
    for chunk in grades.chunks:
        parents = pc.list_parent_indices(chunk).to_numpy(zero_copy_only=False)
        values = pc.fill_null(pc.struct_field(pc.list_flatten(chunk), "grade"), -1)
        np.maximum.at(highest, start + parents, values.to_numpy(zero_copy_only=False))
        start += len(chunk)
    return highest
