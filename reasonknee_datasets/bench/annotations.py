"""The annotations' Arrow columns as the arrays of a `Truth`."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import NONE, WIDTH, Truth
from reasonknee_datasets.errors import RepositoryError, nearest
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.moaks import ATTRIBUTES, QUESTIONS, SLOTS
from reasonknee_datasets.schema import SIDES, VISITS

COLUMNS = ("id", "volume_path", "patient", "visit", "side", "question_id", "box", "grades")
"""What scoring reads of a row."""

_PREPARE_AGAIN = "Prepare the release again: reasonknee prepare --release RELEASE --out FOLDER"


def to_truth(table: pa.Table, manifest: Manifest) -> Truth:
    """Turn rows into a `Truth`, in their order.

    Parameters
    ----------
    table : pyarrow.Table
        `COLUMNS` of the ``quintuples`` config; at least one row.
    manifest : Manifest
        For the volumes' geometry.

    Raises
    ------
    RepositoryError
        If an id occurs twice, a question or attribute is unknown, or a grade or box is not legal.
    """
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
