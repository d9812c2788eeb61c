"""`Truth` of a split, read from the Arrow columns of a prepared repository's annotations; no image is read."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonknee_datasets import __version__
from reasonknee_datasets.bench.arrays import NONE, WIDTH, Truth, sample_patients
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.errors import BenchError, RepositoryError, RepositoryNotFoundError, nearest
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.moaks import ATTRIBUTES, QUESTIONS, SLOTS
from reasonknee_datasets.schema import SIDES, VISITS
from reasonknee_datasets.sources import (
    Repository,
    find_place,
    find_repository,
    keep_credentials,
    name_setting,
    parse_split,
    read_shard,
    select,
)

COLUMNS = ("id", "volume_path", "patient", "visit", "side", "question_id", "box", "grades")
"""The columns of a row that scoring reads."""

_PREPARE_AGAIN = "Prepare the release again: reasonknee prepare --release RELEASE --out FOLDER"


def _to_truth(table: pa.Table, manifest: Manifest) -> Truth:
    """Turn `COLUMNS` of the ``quintuples`` config into a `Truth`, in their order, after checking every value."""
    ids = tuple(table["id"].to_pylist())
    if len(set(ids)) != len(ids):
        ((name, count),) = Counter(ids).most_common(1)
        raise RepositoryError(f"The id {name} occurs {count} times. {_PREPARE_AGAIN}.")
    question = table["question_id"].to_numpy().astype(np.int64)
    strange = np.setdiff1d(question, _scored())
    if len(strange):
        raise RepositoryError(f"question_id must be 1 to 62, got {strange.tolist()[:5]}. {_PREPARE_AGAIN}.")
    patient, patients = _codes(table, "patient")
    volume, volumes = _codes(table, "volume_path")
    boxes = _rows_of_six(table["box"].combine_chunks())
    _, region = np.unique(np.column_stack([volume, boxes]), axis=0, return_inverse=True)
    slots = _slots_of_questions()[question]
    shapes, affines = _geometries(volumes, manifest)
    return Truth(
        ids=ids,
        question=question.astype(np.int16),
        patient=patient,
        volume=volume,
        region=region.reshape(-1).astype(np.int32),
        side=_code_of(table, "side", SIDES),
        visit=_code_of(table, "visit", VISITS),
        slots=slots,
        grades=_read_grades(table["grades"].combine_chunks(), question, slots, ids),
        boxes=boxes,
        patients=patients,
        volumes=volumes,
        shapes=shapes,
        affines=affines,
    )


def _codes(table: pa.Table, name: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return each value of a column a number, in the order in which they come."""
    if table[name].null_count:
        raise RepositoryError(f"Column {name!r} has rows without a value. {_PREPARE_AGAIN}.")
    encoded = table[name].combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int32), tuple(encoded.dictionary.to_pylist())


def _code_of(table: pa.Table, name: str, known: tuple[str, ...]) -> NDArray[np.int8]:
    codes, values = _codes(table, name)
    for value in values:
        if value not in known:
            raise RepositoryError(f"Column {name!r} holds the unknown value {value!r}. {nearest(value, known)}.")
    return np.array([known.index(value) for value in values], dtype=np.int8)[codes]


def _rows_of_six(column: pa.ListArray) -> NDArray[np.int32]:
    if column.null_count or column.values.null_count or len(column.flatten()) != 6 * len(column):
        raise RepositoryError(f"Column 'box' has rows without six numbers. {_PREPARE_AGAIN}.")
    rows: NDArray[np.int32] = column.flatten().to_numpy().astype(np.int32).reshape(-1, 6)
    return rows


def _read_grades(
    column: pa.ListArray, question: NDArray[np.int64], slots: NDArray[np.int16], ids: tuple[str, ...]
) -> NDArray[np.int8]:
    """Read each row's grades in the order of the question's slots."""
    inner = column.flatten()
    row = np.repeat(np.arange(len(column)), pc.fill_null(pc.list_value_length(column), 0).to_numpy())
    attribute = pc.index_in(inner.field("attribute"), pa.array(ATTRIBUTES)).fill_null(NONE).to_numpy()
    value = inner.field("grade").fill_null(NONE).to_numpy().astype(np.int64)
    slot = _slots_by_attribute()[question[row], attribute]  # attribute -1 finds the last column, which holds NONE
    high = np.array([each.high for each in SLOTS])[slot]
    place = slot - slots[row, 0]
    twice = np.bincount(row * WIDTH + np.where(slot == NONE, 0, place), minlength=1) > 1
    bad = (slot == NONE) | (value < NONE) | (value > high) | twice[row * WIDTH + np.where(slot == NONE, 0, place)]
    if bad.any():
        first = int(np.argmax(bad))
        raise RepositoryError(
            f"The grade {inner[first].as_py()!r} of {ids[row[first]]} is illegal, occurs twice, or is of no slot of "
            f"the question. {_PREPARE_AGAIN}."
        )
    grades = np.full((len(column), WIDTH), NONE, dtype=np.int8)
    grades[row, place] = value
    return grades


def _geometries(volumes: tuple[str, ...], manifest: Manifest) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    shapes = np.zeros((len(volumes), 3), dtype=np.int32)
    affines = np.full((len(volumes), 4, 4), np.nan)
    for code, path in enumerate(volumes):
        record = manifest.volume(path)
        if record.shape is not None and record.affine is not None:
            shapes[code], affines[code] = record.shape, record.affine
    return shapes, affines


@cache
def _scored() -> NDArray[np.int64]:
    return np.array([number for number, question in QUESTIONS.items() if question.in_records])


@cache
def _slots_of_questions() -> NDArray[np.int16]:
    """Return the ids of each question's slots, by its number."""
    table = np.full((max(QUESTIONS) + 1, WIDTH), NONE, dtype=np.int16)
    for number, question in QUESTIONS.items():
        table[number, : len(question.slots)] = [slot.id for slot in question.slots]
    return table


@cache
def _slots_by_attribute() -> NDArray[np.int16]:
    """Return the slot of each question and attribute; one column more, where there is none."""
    table = np.full((max(QUESTIONS) + 1, len(ATTRIBUTES) + 1), NONE, dtype=np.int16)
    for slot in SLOTS:
        table[slot.question_id, ATTRIBUTES.index(slot.attribute)] = slot.id
    return table


Data = str | os.PathLike[str] | Repository


def open_data(
    data: Data | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Repository:
    """Open the prepared repository that is scored against; the phantom never replaces missing data.

    Parameters
    ----------
    data : str, path or Repository, optional
        A folder or fsspec URL; by default REASONKNEE_DATA, then ``./3dreasonknee``.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Raises
    ------
    RepositoryNotFoundError
        If nothing says where the data are, or they are not there.
    RepositoryError
        If what is there cannot be read, or is synthetic while REASONKNEE_REQUIRE_REAL is set.
    """
    if isinstance(data, Repository):
        return data
    root = find_place(data)
    if root is None:
        raise RepositoryNotFoundError(
            "No data to score against: neither data_dir nor REASONKNEE_DATA is set, and there is no ./3dreasonknee. "
            "Name a prepared repository with data_dir= or REASONKNEE_DATA."
        )
    keep_credentials(root, storage_options, token)
    return find_repository(root, setting=name_setting(data))


def filter_questions(questions: Collection[int] | None) -> Any:
    """Return the filter of the records that ask some questions; None for all.

    Raises
    ------
    BenchError
        If no record asks one of them.
    """
    scored = _scored().tolist()
    for number in questions or ():
        if number not in scored:
            raise BenchError(
                f"No record asks question {number!r}. Records ask questions 1 to 62; leave the others out."
            )
    asked = sorted(set(questions or scored))
    return None if len(asked) == len(scored) else [("question_id", "in", asked)]


def parse_questions(value: int | str | Sequence[int | str]) -> tuple[int, ...]:
    """Read question numbers and ranges of them.

    Examples
    --------
    >>> parse_questions("1-3,34"), parse_questions(45), parse_questions(["1-2", 5])
    ((1, 2, 3, 34), (45,), (1, 2, 5))
    """
    parts = [part for each in ([value] if isinstance(value, int | str) else value) for part in str(each).split(",")]
    found: list[int] = []
    for part in parts:
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise BenchError(f"Questions are numbers and ranges such as 1-15,34, got {part!r}.")
        found += range(first, last + 1)
    return tuple(found)


def read_truth(
    data: Data | None = None,
    split: str = "test",
    *,
    patients: int | None = None,
    seed: int = 0,
    filters: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Truth:
    """Read the true answers of one split.

    Parameters
    ----------
    data : str, path or Repository, optional
        The prepared repository, as for `open_data`.
    split : str
        ``train``, ``validation`` (or ``val``) or ``test``; a whole one.
    patients : int, optional
        Only so many patients, with all their records, drawn with ``seed``; a larger sample holds the smaller ones.
    seed : int
        Of that sample.
    filters : Expression or list of tuples, optional
        On stored columns, as for `reasonknee_datasets.load_dataset`: ``[("question_id", "==", 34)]``.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Returns
    -------
    Truth
        In the repository's order.

    Raises
    ------
    BenchError
        If nothing is left to score, or there are fewer patients than asked for.
    RepositoryError
        If the repository cannot be read, or its rows break the schema's rules.
    """
    repository = open_data(data, storage_options=storage_options, token=token)
    name = _one_split(split, repository.manifest)
    selection = select("quintuples", COLUMNS, filters)
    parts: list[pa.Table] = []
    for shard in repository.manifest.shards("quintuples", name):
        parts += read_shard(repository.url(shard.path), shard, selection)
    table = pa.concat_tables(parts) if parts else None
    if table is None or not table.num_rows:
        raise BenchError(
            f"Split {name!r} of {repository.root} holds no records to score. Choose another split, or other filters."
        )
    truth = _to_truth(table, repository.manifest)
    return truth if patients is None else sample_patients(truth, patients, seed)


def read_references(data: Repository, split: str, truth: Truth) -> dict[str, tuple[str, ...]]:
    """Read the steps of the true reasoning of some records.

    Parameters
    ----------
    data : Repository
        As returned by `open_data`.
    split : str
        As given to `read_truth`.
    truth : Truth
        The records.

    Returns
    -------
    dict of str to tuple of str
        By record id. Equal texts are one object: the references are templates, and few of them differ.
    """
    wanted, known = set(truth.ids), dict[tuple[str, ...], tuple[str, ...]]()
    found: dict[str, tuple[str, ...]] = {}
    selection = select("quintuples", ("id", "reasoning"))
    for shard in data.manifest.shards("quintuples", _one_split(split, data.manifest)):
        for table in read_shard(data.url(shard.path), shard, selection):
            for name, steps in zip(table["id"].to_pylist(), table["reasoning"].to_pylist(), strict=True):
                if name in wanted:
                    kept = tuple(steps or ())
                    found[name] = known.setdefault(kept, kept)
    return found


def identify(data: Repository, split: str, truth: Truth, **known: Any) -> RunMetadata:
    """Identify the records of a result; other fields are given by name.

    Parameters
    ----------
    data : Repository
        As returned by `open_data`.
    split : str
        As given to `read_truth`.
    truth : Truth
        The records.
    **known
        Further fields of `RunMetadata`: model, condition, seed, ...
    """
    return RunMetadata(
        **{
            "dataset_revision": data.manifest.digest,
            "split": _one_split(split, data.manifest),
            "records": len(truth),
            "patients": len(truth.patients),
            "records_sha256": _digest(truth.ids),
            "voxels_sha256": _digest_voxels(sorted(truth.volumes), data.manifest),
            "package_version": __version__,
            "synthetic": data.manifest.synthetic,
            **known,
        }
    )


def _one_split(split: str, manifest: Manifest) -> str:
    parts = parse_split(split, manifest.splits())
    if len(parts) != 1 or not parts[0].is_whole:
        raise BenchError(
            f"{split!r} is not one whole split, and a slice would cut patients apart. Take a sample of whole patients "
            "instead: patients= (--patients)."
        )
    return parts[0].name


def _digest(lines: tuple[str, ...] | list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest_voxels(volumes: list[str], manifest: Manifest) -> str | None:
    hashes = [manifest.volume(path).voxels_sha256 for path in volumes]
    if None in hashes:
        return None
    return _digest([f"{path} {found}" for path, found in zip(volumes, hashes, strict=True)])
