"""The diagnosis of convention errors: whether another reading of the numbers would find the boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.bootstrap import estimate
from reasonknee_datasets.bench.metrics import iou, ratio
from reasonknee_datasets.bench.results import ConventionCheck, Misreading
from reasonknee_datasets.bench.scoring.batches import Floats, enough_patients, resample
from reasonknee_datasets.bench.scoring.box_alternatives import other_readings, write_numbers
from reasonknee_datasets.bench.scoring.slot_table import Marked, Sheet
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BenchError, explain

# What a reading must add to the mean IoU before it is worth a sentence; less is within what a change by one voxel does
# to boxes that are off anyway.
_WORTH = 0.02
# Of readings that gain equally but for this, the one that changes least is meant.
_EQUAL = 0.01
_SHOWN = 5


def check_convention(
    sheet: Sheet,
    marked: Marked,
    weights: NDArray[np.float32],
    convention: BoxConvention | None = None,
    numbers: ArrayLike | None = None,
) -> ConventionCheck | None:
    """Read the boxes in every other convention, and with flips, sizes and other units, and tell what would gain.

    Parameters
    ----------
    sheet, marked, weights
        What is true, what was answered, and the draws.
    convention : BoxConvention, optional
        In which the numbers were read.
    numbers : (N, 6) array, optional
        The numbers as answered, NaN where there are none: then those that are no box as read count too. Left out, they
        are written back from the boxes.

    Returns
    -------
    ConventionCheck or None
        None where no record has a box or numbers.
    """
    truth, answers = sheet.truth, marked.answers
    read = BoxConvention() if convention is None else convention
    shapes = truth.shapes[truth.volume]
    if numbers is None:
        chosen = np.flatnonzero(answers.has_box)
        if read.normalised and not (shapes[chosen] > 0).all():
            return None
        given = write_numbers(answers.boxes[chosen], read, shapes[chosen])
    else:
        table = np.asarray(numbers, dtype=np.float64)
        if table.shape != (len(truth), 6):
            remedy = "Give one row a record, NaN where no six numbers were answered"
            raise BenchError(explain("numbers", f"have shape {(len(truth), 6)}", str(table.shape), remedy))
        chosen = np.flatnonzero(np.isfinite(table).all(axis=1))
        given = table[chosen]
    if not len(chosen):
        return None
    true = truth.boxes[chosen].astype(np.float64)
    names, changes, columns = [], [], []
    for name, many, rows in other_readings(given, read, shapes[chosen]):
        names.append(name)
        changes.append(many)
        columns.append(_sum(sheet, chosen, iou(rows, true)))
    own = np.flatnonzero(answers.has_box)
    found = _sum(sheet, own, iou(answers.boxes[own].astype(np.float64), truth.boxes[own].astype(np.float64)))
    records = np.bincount(sheet.patient, minlength=len(sheet.patients)).astype(np.float64)
    drawn = resample(weights, np.stack([*columns, found, records], axis=1))
    means = ratio(drawn[:, :-1], drawn[:, -1:])
    gains = means[:, :-1] - means[:, -1:]
    enough = np.full(len(names), enough_patients(len(sheet.patients)))
    readings = [
        Misreading(name, float(mean), gain)
        for name, mean, gain in zip(names, means[0, :-1], estimate(gains, enough), strict=True)
    ]
    best = gains[0].max()
    order = sorted(
        range(len(names)),
        key=lambda n: (gains[0, n] < best - _EQUAL, changes[n] if gains[0, n] >= best - _EQUAL else 0, -gains[0, n]),
    )
    mean = float(means[0, -1])
    return ConventionCheck(
        convention=str(read),
        records=len(chosen),
        mean_iou=mean,
        readings=tuple(readings[n] for n in order[:_SHOWN]),
        verdict=_verdict(mean, readings[order[0]]),
    )


def _sum(sheet: Sheet, chosen: NDArray[np.int64], values: Floats) -> Floats:
    sums = np.bincount(sheet.patient[chosen], weights=values, minlength=len(sheet.patients))
    return np.asarray(sums, dtype=np.float64)


def _verdict(mean: float, best: Misreading) -> str | None:
    gain = best.gain
    if gain.value is None or gain.value < _WORTH or (gain.low is not None and gain.low <= 0):
        return None
    return f"{best.change} would raise the mean IoU from {mean:.2f} to {best.mean_iou:.2f}"
