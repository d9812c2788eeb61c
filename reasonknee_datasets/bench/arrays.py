"""`Truth` and `Answers`, from which everything is scored, and `Outcomes`, what became of each record: one row a record.

All are columns of numpy arrays, so that 76,384 records take a few megabytes and a metric is a few array operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.errors import BenchError, nearest
from reasonknee_datasets.moaks import ATTRIBUTES, SLOTS

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# No question has more slots; questions with fewer are padded with NONE.
WIDTH = 3
# No value, in columns of grades, reasons and slots.
NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The true answers of one split.

    Attributes
    ----------
    ids : (N,) tuple of str
        ``patient/visit/side/qNN``.
    question : (N,) int16 array
        1 to 62.
    patient, volume, region : (N,) int32 array
        Codes into `patients` and `volumes`; ``region`` numbers the distinct (volume, box), since several questions ask
        about one region of a volume.
    side, visit : (N,) int8 array
        Codes into ``schema.SIDES`` and ``schema.VISITS``.
    slots : (N, 3) int16 array
        Ids into ``moaks.SLOTS`` in the question's order; -1 is padding.
    grades : (N, 3) int8 array
        True grades; -1 where the truth is missing, and in padding.
    boxes : (N, 6) int32 array
        i0 j0 k0 i1 j1 k1: half-open voxels, array order of the stored volume.
    patients, volumes : tuple of str
        Names of the codes; a volume's is its ``volume_path``.
    shapes : (V, 3) int32 array
        Voxels of each volume along its array axes; 0 where the annotations were prepared without images.
    affines : (V, 4, 4) float64 array
        Voxel centre to world (RAS+, mm); NaN where the annotations were prepared without images.
    """

    ids: tuple[str, ...]
    question: NDArray[np.int16]
    patient: NDArray[np.int32]
    volume: NDArray[np.int32]
    region: NDArray[np.int32]
    side: NDArray[np.int8]
    visit: NDArray[np.int8]
    slots: NDArray[np.int16]
    grades: NDArray[np.int8]
    boxes: NDArray[np.int32]
    patients: tuple[str, ...]
    volumes: tuple[str, ...]
    shapes: NDArray[np.int32]
    affines: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_lengths(self, len(self.ids), ("question", "patient", "volume", "region", "side", "visit"), ())
        _check_lengths(self, len(self.ids), ("slots", "grades"), (WIDTH,))
        _check_lengths(self, len(self.ids), ("boxes",), (6,))
        _check_lengths(self, len(self.volumes), ("shapes",), (3,))
        _check_lengths(self, len(self.volumes), ("affines",), (4, 4))

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers of one model, one row a record as in the `Truth`.

    Attributes
    ----------
    given : (N,) bool array
        There is a prediction for this record at all.
    grades : (N, 3) int8 array
        Legal grades; -1 where there is none, and in padding.
    reasons : (N, 3) int8 array
        Why there is no grade: ids into ``answers.REASONS``; -1 where there is one, and in padding.
    strict : (N,) bool array
        A text that a strict ``json.loads`` reads; never grades that came as slots.
    boxes : (N, 6) int32 array
        Half-open voxels in the array order of the stored volume; zeros where there is none.
    has_box : (N,) bool array
    box_reasons : (N,) int8 array
        Why there is no box: ids into ``answers.REASONS``; -1 where there is one, or where none was asked for.
    text : (N,) bool array, optional
        The answer came as a text, not as slots; by default none did.
    """

    given: NDArray[np.bool_]
    grades: NDArray[np.int8]
    reasons: NDArray[np.int8]
    strict: NDArray[np.bool_]
    boxes: NDArray[np.int32]
    has_box: NDArray[np.bool_]
    box_reasons: NDArray[np.int8]
    text: NDArray[np.bool_] = None  # type: ignore[assignment]  # replaced in __post_init__

    def __post_init__(self) -> None:
        rows = len(self.given)
        if self.text is None:
            object.__setattr__(self, "text", np.zeros(rows, dtype=np.bool_))
        _check_lengths(self, rows, ("given", "strict", "has_box", "box_reasons"), ())
        _check_lengths(self, rows, ("grades", "reasons"), (WIDTH,))
        _check_lengths(self, rows, ("boxes",), (6,))

    def __len__(self) -> int:
        return len(self.given)


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Outcome of every record as columns, in the order of the `Truth`.

    Attributes
    ----------
    ids : (N,) tuple of str
    question, patient : (N,) int array
        As in the `Truth`.
    grades, answers, reasons : (N, 3) int8 array
        True grades, answered grades, and why there is none (ids into ``answers.REASONS``); -1 for nothing.
    right : (N,) int8 array
        1 where every slot is right, 0 where one is wrong or has no grade, -1 where a true grade is missing.
    parsed : (N,) bool array
        Every slot has a grade.
    loss : (N,) float array
        0 to 1, see `Case`; NaN where no slot has a true grade.
    iou : (N,) float array
        0 without a box; NaN where none was asked for.
    boxes, true_boxes : (N, 6) int32 array
    has_box : (N,) bool array
    """

    ids: tuple[str, ...]
    question: NDArray[np.int16]
    patient: NDArray[np.int32]
    grades: NDArray[np.int8]
    answers: NDArray[np.int8]
    reasons: NDArray[np.int8]
    right: NDArray[np.int8]
    parsed: NDArray[np.bool_]
    loss: NDArray[np.float64]
    iou: NDArray[np.float64]
    boxes: NDArray[np.int32]
    true_boxes: NDArray[np.int32]
    has_box: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def to_table(self) -> pa.Table:
        """Return them as an Arrow table, for a Parquet file; NaN becomes null."""
        import pyarrow as pa

        wide = {name: getattr(self, name) for name in ("grades", "answers", "reasons", "boxes", "true_boxes")}
        columns = {
            "id": pa.array(self.ids, pa.string()),
            "question_id": pa.array(self.question),
            "right": pa.array(self.right, mask=self.right < 0),
            "parsed": pa.array(self.parsed),
            "loss": pa.array(self.loss, from_pandas=True),
            "iou": pa.array(self.iou, from_pandas=True),
            "has_box": pa.array(self.has_box),
        }
        columns |= {name: pa.array(list(values)) for name, values in wide.items()}
        return pa.table(columns)


def _check_lengths(table: Truth | Answers, rows: int, names: tuple[str, ...], rest: tuple[int, ...]) -> None:
    for name in names:
        shape = getattr(table, name).shape
        if shape != (rows, *rest):
            raise BenchError(
                f"Column {name!r} has shape {shape}, and must have {(rows, *rest)}: one row a record (or a volume)."
            )


def take(truth: Truth, rows: ArrayLike) -> Truth:
    """Return some rows of a truth, in the order named; patients and volumes without rows go.

    Parameters
    ----------
    truth : Truth
    rows : (M,) int array, or (N,) bool array
    """
    places = np.asarray(rows)
    places = np.flatnonzero(places) if places.dtype == np.bool_ else places.astype(np.int64)
    patients, patient = np.unique(truth.patient[places], return_inverse=True)
    volumes, volume = np.unique(truth.volume[places], return_inverse=True)
    _, region = np.unique(truth.region[places], return_inverse=True)
    columns = ("question", "side", "visit", "slots", "grades", "boxes")
    return replace(
        truth,
        ids=tuple(truth.ids[place] for place in places.tolist()),
        patient=patient.astype(np.int32),
        volume=volume.astype(np.int32),
        region=region.astype(np.int32),
        patients=tuple(truth.patients[code] for code in patients.tolist()),
        volumes=tuple(truth.volumes[code] for code in volumes.tolist()),
        shapes=truth.shapes[volumes],
        affines=truth.affines[volumes],
        **{name: getattr(truth, name)[places] for name in columns},
    )


def sample_patients(truth: Truth, patients: int, seed: int = 0) -> Truth:
    """Draw whole patients, with all their records.

    Each patient's place in the draw depends on the seed and the patient alone: a larger sample holds the smaller ones,
    and the order of the rows does not matter.

    Raises
    ------
    BenchError
        If there are fewer.
    """
    there = len(truth.patients)
    if not 1 <= patients <= there:
        raise BenchError(f"Split has {there} patients, and {patients} were asked for. Ask for 1 to {there}.")
    ranks = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in truth.patients]
    drawn = sorted(range(there), key=ranks.__getitem__)[:patients]
    return take(truth, np.isin(truth.patient, drawn))


def keep_attributes(truth: Truth, attributes: Collection[str]) -> Truth:
    """Restrict a truth to some attributes; the other slots become padding.

    Parameters
    ----------
    truth : Truth
    attributes : collection of str
        Of ``moaks.ATTRIBUTES``.

    Raises
    ------
    BenchError
        If an attribute is unknown, or a question has none of them, so that there would be nothing to score.
    """
    for name in attributes:
        if name not in ATTRIBUTES:
            raise BenchError(f"Unknown attribute {name!r}. {nearest(name, ATTRIBUTES)}.")
    wanted = np.array([slot.attribute in attributes for slot in SLOTS])
    kept = (truth.slots != NONE) & wanted[truth.slots]
    empty = sorted(set(truth.question[~kept.any(axis=1)].tolist()))
    if empty:
        raise BenchError(
            f"{len(empty)} questions do not ask for {' or '.join(sorted(attributes))}, such as {empty[0]}. Score those "
            "that do: questions= (--questions)."
        )
    return replace(
        truth,
        slots=np.where(kept, truth.slots, NONE).astype(np.int16),
        grades=np.where(kept, truth.grades, NONE).astype(np.int8),
    )


def keep_answers(answers: Answers, truth: Truth) -> Answers:
    """Turn answered slots into padding where the truth has padding."""
    padding = truth.slots == NONE
    return replace(
        answers,
        grades=np.where(padding, NONE, answers.grades).astype(np.int8),
        reasons=np.where(padding, NONE, answers.reasons).astype(np.int8),
    )
