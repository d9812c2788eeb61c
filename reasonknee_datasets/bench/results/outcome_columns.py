"""`Outcomes`: how every single record went, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How every record went, row for row beside the `Truth`.

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
        """Return them as an Arrow table, for a Parquet file beside ``results.json``; NaN as null."""
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
