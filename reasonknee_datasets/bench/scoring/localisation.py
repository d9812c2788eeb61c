"""Localisation within groups, over records and over distinct regions of a volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.metrics import THRESHOLDS, BoxScores, ratio, score_boxes
from reasonknee_datasets.bench.results import BOX_METRICS, BoxCounts, Unit
from reasonknee_datasets.bench.scoring.batches import Batch, Floats, Key, enough_patients, make_batch, resample
from reasonknee_datasets.bench.scoring.coverage import NAMES, NO_PREDICTION, tally
from reasonknee_datasets.bench.scoring.groups import Grouping, count_distinct
from reasonknee_datasets.bench.scoring.slot_table import Marked, Sheet

UNITS: tuple[Unit, ...] = ("record", "region")
_BINS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Metrics of every record's box.

    Attributes
    ----------
    scores : BoxScores
    columns : mapping of str to (N,) float array
        By the names of `BOX_METRICS`, as they are averaged (the volume ratio by its logarithm); NaN where left out.
    """

    scores: BoxScores
    columns: Mapping[str, Floats]


def score_records(sheet: Sheet, marked: Marked) -> Boxes:
    """Score every record's box."""
    truth, answers = sheet.truth, marked.answers
    found = score_boxes(answers.boxes, truth.boxes, answers.has_box, truth.affines[truth.volume])
    reached = {f"acc@{threshold:g}": (found.iou >= threshold).astype(np.float64) for threshold in THRESHOLDS}
    columns = {
        "iou": found.iou,
        "giou": found.giou,
        **reached,
        "centre_mm": found.centre_mm,
        "coverage": found.coverage,
        "volume_ratio": np.log(found.volume_ratio),
    }
    return Boxes(found, {name: columns[name] for name in BOX_METRICS})


def count_boxes(sheet: Sheet, marked: Marked, grouping: Grouping) -> list[BoxCounts]:
    """Count what the localisation of each group rests on."""
    assert grouping.of_record is not None  # slots have no boxes of their own
    group, many = grouping.of_record, len(grouping.values)
    has = marked.answers.has_box
    unplaced = has & ~np.isfinite(sheet.truth.affines[sheet.truth.volume]).all(axis=(1, 2))
    columns = (
        np.bincount(group, minlength=many),
        count_distinct(group, sheet.truth.region, many),
        count_distinct(group, sheet.patient, many),
        np.bincount(group[~has], minlength=many),
        np.bincount(group[unplaced], minlength=many),
    )
    return [BoxCounts(*each) for each in np.stack(columns, axis=1).tolist()]


def histograms(sheet: Sheet, marked: Marked, boxes: Boxes, grouping: Grouping) -> list[tuple[int, ...]]:
    """Count each group's records by IoU in steps of 0.05, those without a box left out."""
    assert grouping.of_record is not None
    has = marked.answers.has_box
    # A hair more, so that 0.15 is in the bin that begins with it, whatever 0.15 * 20 comes to.
    places = np.minimum((boxes.scores.iou[has] * _BINS + 1e-9).astype(np.int64), _BINS - 1)
    cells = grouping.of_record[has] * _BINS + places
    counts = np.bincount(cells, minlength=len(grouping.values) * _BINS).reshape(-1, _BINS)
    return [tuple(each) for each in counts.tolist()]


def count_reasons(sheet: Sheet, marked: Marked, grouping: Grouping) -> list[dict[str, int]]:
    """Count why records of each group have no box."""
    assert grouping.of_record is not None
    answers = marked.answers
    lacking = np.flatnonzero(~answers.has_box)
    codes = answers.box_reasons[lacking].astype(np.int64)
    # Without a box and without a reason, it was left out of the answer.
    codes = np.where(codes < 0, NAMES.index("missing"), codes)
    codes = np.where(answers.given[lacking], codes, NAMES.index(NO_PREDICTION))
    return tally(grouping.of_record[lacking], codes, len(grouping.values), NAMES)


def box_batches(
    sheet: Sheet, marked: Marked, boxes: Boxes, grouping: Grouping, weights: NDArray[np.float32]
) -> Iterator[Batch]:
    """Compute every metric of every group's boxes, over records and over regions."""
    assert grouping.of_record is not None
    counts = count_boxes(sheet, marked, grouping)
    enough = [enough_patients(rest.patients) for rest in counts]
    many, patients = len(grouping.values), len(sheet.patients)
    span = int(sheet.truth.region.max()) + 1
    region = grouping.of_record * span + sheet.truth.region
    for unit in UNITS:
        for metric, values in boxes.columns.items():
            known = np.flatnonzero(~np.isnan(values))
            share = np.ones(len(known))
            if unit == "region":
                # Several questions ask about one region: together they weigh as one record does.
                share = 1.0 / np.bincount(region[known])[region[known]]
            cells = sheet.patient[known] * many + grouping.of_record[known]
            sums = [
                np.bincount(cells, weights=each, minlength=patients * many).reshape(patients, many)
                for each in (share * values[known], share)
            ]
            drawn = resample(weights, np.stack(sums, axis=1))
            means = ratio(drawn[:, 0], drawn[:, 1])
            if metric == "volume_ratio":
                means = np.exp(means)
            keys = [Key(grouping.by, value, "localisation", None, None, unit, metric) for value in grouping.values]
            yield make_batch(keys, means, counts, enough=enough)
