"""Localisation within groups, over records and over distinct regions of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.metrics import THRESHOLDS, BoxScores, ratio
from reasonknee_datasets.bench.results import BOX_METRICS, BoxCounts, Unit
from reasonknee_datasets.bench.scoring.coverage import NAMES, NO_PREDICTION, tally
from reasonknee_datasets.bench.scoring.groups import Grouping, count_distinct
from reasonknee_datasets.bench.scoring.resampled_statistics import (
    Floats,
    Statistics,
    by_group,
    enough_patients,
    resample,
)
from reasonknee_datasets.bench.scoring.slot_table import SlotTable

UNITS: tuple[Unit, ...] = ("record", "region")
_BINS = 20


def _columns(found: BoxScores) -> dict[str, Floats]:
    """Return each metric's values by record, by the names of `BOX_METRICS`; of the volume ratio, its logarithm."""
    columns = {
        "iou": found.iou,
        "giou": found.giou,
        **{f"acc@{threshold:g}": (found.iou >= threshold).astype(np.float64) for threshold in THRESHOLDS},
        "centre_mm": found.centre_mm,
        "coverage": found.coverage,
        "volume_ratio": np.log(found.volume_ratio),
    }
    return {name: columns[name] for name in BOX_METRICS}


def count_boxes(table: SlotTable, grouping: Grouping) -> list[BoxCounts]:
    """Count what the localisation of each group rests on."""
    assert grouping.of_record is not None  # slots have no boxes of their own
    group, many = grouping.of_record, len(grouping.values)
    has = table.answers.has_box
    unplaced = has & ~np.isfinite(table.truth.affines[table.truth.volume]).all(axis=(1, 2))
    columns = (
        np.bincount(group, minlength=many),
        count_distinct(group, table.truth.region, many),
        count_distinct(group, table.patient, many),
        np.bincount(group[~has], minlength=many),
        np.bincount(group[unplaced], minlength=many),
    )
    return [BoxCounts(*each) for each in np.stack(columns, axis=1).tolist()]


def histograms(table: SlotTable, grouping: Grouping) -> list[tuple[int, ...]]:
    """Count each group's records by IoU in steps of 0.05, those without a box left out."""
    assert grouping.of_record is not None
    assert table.boxes is not None
    has = table.answers.has_box
    # A hair more, so that 0.15 is in the bin that begins with it, whatever 0.15 * 20 comes to.
    places = np.minimum((table.boxes.iou[has] * _BINS + 1e-9).astype(np.int64), _BINS - 1)
    cells = grouping.of_record[has] * _BINS + places
    counts = np.bincount(cells, minlength=len(grouping.values) * _BINS).reshape(-1, _BINS)
    return [tuple(each) for each in counts.tolist()]


def count_reasons(table: SlotTable, grouping: Grouping) -> list[dict[str, int]]:
    """Count why records of each group have no box."""
    assert grouping.of_record is not None
    answers = table.answers
    lacking = np.flatnonzero(~answers.has_box)
    codes = answers.box_reasons[lacking].astype(np.int64)
    # Without a box and without a reason, it was left out of the answer.
    codes = np.where(codes < 0, NAMES.index("missing"), codes)
    codes = np.where(answers.given[lacking], codes, NAMES.index(NO_PREDICTION))
    return tally(grouping.of_record[lacking], codes, len(grouping.values), NAMES)


def box_statistics(
    table: SlotTable, grouping: Grouping, counts: Sequence[BoxCounts], weights: NDArray[np.float32]
) -> Statistics:
    """Compute every metric of every group's boxes, over records and over regions.

    Parameters
    ----------
    table : SlotTable
        With boxes.
    grouping : Grouping
        Of records.
    counts : sequence of BoxCounts
        From `count_boxes`.
    weights : (1 + R, P) float32 array
    """
    assert grouping.of_record is not None
    assert table.boxes is not None
    many, patients = len(grouping.values), len(table.patients)
    span = int(table.truth.region.max()) + 1
    region = grouping.of_record * span + table.truth.region
    found: Statistics = {}
    for unit in UNITS:
        drawn = {}
        for metric, values in _columns(table.boxes).items():
            known = np.flatnonzero(~np.isnan(values))
            share = np.ones(len(known))
            if unit == "region":
                # Several questions ask about one region: together they weigh as one record does.
                share = 1.0 / np.bincount(region[known])[region[known]]
            cells = table.patient[known] * many + grouping.of_record[known]
            sums = [
                np.bincount(cells, weights=each, minlength=patients * many).reshape(patients, many)
                for each in (share * values[known], share)
            ]
            both = resample(weights, np.stack(sums, axis=1))
            means = ratio(both[:, 0], both[:, 1])
            drawn[metric] = np.exp(means) if metric == "volume_ratio" else means
        enough = [enough_patients(rest.patients) for rest in counts]
        found |= by_group(grouping.by, grouping.values, drawn, counts, enough=enough, kind="localisation", unit=unit)
    return found
