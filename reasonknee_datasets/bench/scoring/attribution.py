"""Where the points of ``record_exact`` went: by grading, or with the location."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.bootstrap import estimate
from reasonknee_datasets.bench.metrics import ratio
from reasonknee_datasets.bench.results import Attribution
from reasonknee_datasets.bench.scoring.batches import Floats, enough_patients, resample, sum_by_patient
from reasonknee_datasets.bench.scoring.groups import SCORED
from reasonknee_datasets.bench.scoring.slot_table import Sheet
from reasonknee_datasets.bench.scoring.totals import Right

THRESHOLD = 0.5


def attribute(sheet: Sheet, right: Right, iou: Floats, weights: NDArray[np.float32]) -> Attribution:
    """Part the share of records that are wrong into what grading and what localisation lost.

    Within a question, located records are right with share ``p``. Had all its ``n`` records been graded like these,
    ``n (1 - p)`` points would be lost: by grading. Its ``m`` missed records, ``r`` of them right, lost ``m p - r``
    more: with the location. Both together are exactly what the question lost.

    Parameters
    ----------
    sheet : Sheet
    right : Right
        Under rule ``wrong``.
    iou : (N,) float array
    weights : (1 + R, P) float32 array
    """
    rows = np.flatnonzero(right.record_counted)
    located, good = iou[rows] >= THRESHOLD, right.record[rows]
    cell = (sheet.truth.question[rows].astype(np.int64) - 1) * 4 + np.where(located, 0, 2) + np.where(good, 0, 1)
    sums = sum_by_patient(sheet.patient[rows], cell, (len(sheet.patients), len(SCORED) * 4))
    drawn = resample(weights, sums.astype(np.float32)).reshape(len(weights), len(SCORED), 4).astype(np.float64)
    located_right, located_wrong, missed_right, missed_wrong = np.moveaxis(drawn, -1, 0)
    share = ratio(located_right, located_right + located_wrong)
    known = ~np.isnan(share)
    missed, everything = missed_right + missed_wrong, drawn.sum(axis=-1)
    total = np.where(known, everything, 0.0).sum(axis=1)
    by_grading = ratio(np.where(known, everything * (1 - share), 0.0).sum(axis=1), total)
    by_location = ratio(np.where(known, missed * share - missed_right, 0.0).sum(axis=1), total)
    enough = np.full(2, enough_patients(len(np.unique(sheet.patient[rows]))))
    grading, localisation = estimate(np.stack([by_grading, by_location], axis=1), enough)
    counts = [int(each) for each in drawn[0].sum(axis=0)]
    return Attribution(
        threshold=THRESHOLD,
        located_right=counts[0],
        located_wrong=counts[1],
        missed_right=counts[2],
        missed_wrong=counts[3],
        grading=grading,
        localisation=localisation,
        unattributed=int(everything[0][~known[0]].sum()),
    )
