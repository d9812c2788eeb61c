"""Localisation of groups over records and regions, and the check of the convention in which boxes were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.arrays import Floats, Ints
from reasonknee_datasets.bench.bootstrap import Key, Statistics, by_group, enough_patients, estimate, resample
from reasonknee_datasets.bench.group_results import (
    BOX_METRICS,
    BoxAlternative,
    BoxCounts,
    ConventionCheck,
    Estimate,
    Localisation,
    Unit,
)
from reasonknee_datasets.bench.metrics import THRESHOLDS, BoxScores, iou, ratio
from reasonknee_datasets.bench.slot_table import Grouping, SlotTable, count_by_reason, count_distinct
from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention
from reasonknee_datasets.errors import BenchError

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


def _count_boxes(table: SlotTable, group: Ints) -> list[BoxCounts]:
    many = int(group.max()) + 1  # every group has records
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


def box_statistics(table: SlotTable, grouping: Grouping, weights: NDArray[np.float32]) -> Statistics:
    """Compute every metric of the boxes of each group of records, over records and over regions."""
    assert grouping.of_record is not None
    assert table.boxes is not None
    many, patients, counts = len(grouping.values), len(table.patients), _count_boxes(table, grouping.of_record)
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


def make_localisation(
    table: SlotTable, grouping: Grouping, statistics: Statistics, estimates: Mapping[Key, Mapping[str, Estimate]]
) -> list[Localisation | None]:
    """Arrange the statistics of boxes as results, one a group; None where no boxes were asked for, and for slots."""
    group, by = grouping.of_record, grouping.by
    if table.boxes is None or group is None:
        return [None] * len(grouping.values)
    answers, many = table.answers, len(grouping.values)
    lacking, has = np.flatnonzero(~answers.has_box), answers.has_box
    codes, given = answers.box_reasons[lacking].astype(np.int64), answers.given[lacking]
    reasons = count_by_reason(group[lacking], codes, given, many)
    # A hair more, so that 0.15 is in the bin that begins with it, whatever 0.15 * 20 comes to.
    bins = np.minimum((table.boxes.iou[has] * _BINS + 1e-9).astype(np.int64), _BINS - 1)
    histograms = np.bincount(group[has] * _BINS + bins, minlength=many * _BINS).reshape(many, _BINS).tolist()
    found: list[Localisation | None] = []
    for value, why, histogram in zip(grouping.values, reasons, histograms, strict=True):
        keys = {unit: Key(by, value, "localisation", unit=unit) for unit in UNITS}
        counts = statistics[keys["record"]]["iou"].counts
        assert isinstance(counts, BoxCounts)
        units = {unit: estimates[key] for unit, key in keys.items()}
        found.append(Localisation(counts, why, tuple(histogram), units))
    return found


# An alternative is reported from this gain of the mean IoU on; one voxel more or less gains that much by chance.
_WORTH = 0.02
# Among alternatives whose gains differ by less than this, the one with the fewest changes is reported.
_EQUAL = 0.01
_SHOWN = 5
_SAMPLE = Box((0, 1, 2), (10, 11, 12))
_SCALES = {1000.0: "thousandths", 100.0: "percent"}


def check_convention(
    table: SlotTable,
    weights: NDArray[np.float32],
    convention: BoxConvention | None = None,
    numbers: ArrayLike | None = None,
) -> ConventionCheck | None:
    """Read the boxes in every other convention, with flips, sizes and other units, and report what would gain.

    Parameters
    ----------
    table : SlotTable
        With boxes.
    weights : (1 + R, P) float32 array
        From `draw_patients`.
    convention : BoxConvention, optional
        In which the numbers were read.
    numbers : (N, 6) array, optional
        The numbers as answered, NaN where there are none: then those that are not a box as read count too. By default
        they are computed back from the boxes.

    Returns
    -------
    ConventionCheck or None
        None where no record has a box or numbers.
    """
    truth, answers = table.truth, table.answers
    read = BoxConvention() if convention is None else convention
    shapes = truth.shapes[truth.volume]
    if numbers is None:
        chosen = np.flatnonzero(answers.has_box)
        if read.normalised and not (shapes[chosen] > 0).all():
            return None
        given = write_numbers(answers.boxes[chosen], read, shapes[chosen])
    else:
        rows = np.asarray(numbers, dtype=np.float64)
        if rows.shape != (len(truth), 6):
            raise BenchError(
                f"numbers must have shape {(len(truth), 6)}, one row a record and NaN where no six numbers were "
                f"answered, got {rows.shape}."
            )
        chosen = np.flatnonzero(np.isfinite(rows).all(axis=1))
        given = rows[chosen]
    if not len(chosen):
        return None
    true = truth.boxes[chosen].astype(np.float64)
    tried = [
        (name, changes, _sum(table, chosen, iou(boxes, true)))
        for name, changes, boxes in _alternatives(given, read, shapes[chosen])
    ]
    own = np.flatnonzero(answers.has_box)
    as_read = _sum(table, own, iou(answers.boxes[own].astype(np.float64), truth.boxes[own].astype(np.float64)))
    records = np.bincount(table.patient, minlength=len(table.patients)).astype(np.float64)
    drawn = resample(weights, np.stack([*(sums for _, _, sums in tried), as_read, records], axis=1))
    means = ratio(drawn[:, :-1], drawn[:, -1:])
    return _report(table, str(read), [each[:2] for each in tried], means, len(chosen))


def _report(
    table: SlotTable, convention: str, tried: list[tuple[str, int]], means: Floats, records: int
) -> ConventionCheck:
    """Order the alternatives, the best first; the last column of the means is the boxes as read."""
    gains = means[:, :-1] - means[:, -1:]
    gained = estimate(gains, np.full(len(tried), enough_patients(len(table.patients))))
    near_best = gains[0] >= gains[0].max() - _EQUAL
    order = sorted(
        range(len(tried)), key=lambda n: (not near_best[n], tried[n][1] if near_best[n] else 0, -gains[0, n])
    )
    found = [BoxAlternative(tried[n][0], float(means[0, n]), gained[n]) for n in order[:_SHOWN]]
    mean, best = float(means[0, -1]), found[0]
    clear = best.gain.value is not None and best.gain.value >= _WORTH and (best.gain.low is None or best.gain.low > 0)
    verdict = f"{best.change} would raise the mean IoU from {mean:.2f} to {best.mean_iou:.2f}" if clear else None
    return ConventionCheck(convention, records, mean, tuple(found), verdict)


def _sum(table: SlotTable, chosen: NDArray[np.int64], values: Floats) -> Floats:
    sums = np.bincount(table.patient[chosen], weights=values, minlength=len(table.patients))
    return np.asarray(sums, dtype=np.float64)


def write_numbers(rows: ArrayLike, convention: BoxConvention, shapes: NDArray[np.int32]) -> Floats:
    """Write boxes as the six numbers that a convention reads them from.

    Parameters
    ----------
    rows : (n, 6) int array
        Half-open voxels i0 j0 k0 i1 j1 k1.
    convention : BoxConvention
    shapes : (n, 3) int array
        Voxels of each volume; only normalised numbers depend on it.

    Examples
    --------
    >>> write_numbers([[40, 100, 60, 50, 200, 80]], BoxConvention.parse("slice2-x1-y0-pairs-inclusive-voxel"),
    ...               np.array([[384, 384, 160]], np.int32))
    array([[ 60.,  79., 100., 199.,  40.,  49.]])
    """
    given = np.asarray(rows, dtype=np.float64).copy()
    given[:, 3:] -= convention.inclusive
    plain = BoxConvention(convention.order, convention.layout, False, False, convention.axes)
    held = [_SAMPLE.to_row().index(int(number)) for number in plain.encode(_SAMPLE, ())]
    if convention.normalised:
        given /= np.tile(shapes, 2)
    return given[:, held]


def _alternatives(
    numbers: Floats, convention: BoxConvention, shapes: NDArray[np.int32]
) -> Iterator[tuple[str, int, Floats]]:
    """Yield the description (``x and y swapped``), number of changes and boxes of every other way to read the numbers.

    Boxes are half-open voxels, zeros where the numbers form no box. Without known shapes fewer ways are tried.
    """
    sized = bool((shapes > 0).all())
    for other in CONVENTIONS:
        changes = _name_changes(convention, other)
        if changes and (sized or not (other.normalised or convention.normalised)):
            rows, valid = other.decode_rows(numbers, shapes)
            yield " and ".join(changes), len(changes), np.where(valid[:, None], rows, 0.0)
    rows, valid = convention.decode_rows(numbers, shapes)
    rows = np.where(valid[:, None], rows, 0.0)
    if sized:
        yield from _flipped(rows, valid, convention, shapes)
    yield from _resized(numbers, convention, shapes)
    if sized:
        shares = BoxConvention(convention.order, convention.layout, False, True, convention.axes)
        for scale, name in _SCALES.items():
            rows, valid = shares.decode_rows(numbers / scale, shapes)
            yield f"the numbers read as {name} of the volume", 1, np.where(valid[:, None], rows, 0.0)


def _name_changes(read: BoxConvention, other: BoxConvention) -> list[str]:
    """Describe how a convention differs from the one that the numbers were read in."""
    changes = []
    meant = [read.order[read.array_axes.index(axis)] for axis in other.array_axes]
    moved = [name for name, own in zip(meant, read.order, strict=True) if name != own]
    if len(moved) == 2:
        changes.append(f"{' and '.join(sorted(moved))} swapped")
    elif moved:
        changes.append(f"{', '.join(read.order)} read as {', '.join(meant)}")
    if other.layout != read.layout:
        changes.append("start and end side by side" if other.layout == "pairs" else "all starts before all ends")
    if other.inclusive != read.inclusive:
        changes.append(f"ends read as {'the last voxel' if other.inclusive else 'one past the last voxel'}")
    if other.normalised != read.normalised:
        changes.append(f"the numbers read as {'shares of the volume' if other.normalised else 'voxels'}")
    return changes


def _flipped(
    rows: Floats, valid: NDArray[np.bool_], convention: BoxConvention, shapes: NDArray[np.int32]
) -> Iterator[tuple[str, int, Floats]]:
    for flips in product((False, True), repeat=3):
        names = [name for name, axis in zip(convention.order, convention.array_axes, strict=True) if flips[axis]]
        if not names:
            continue
        turned = rows.copy()
        for axis in np.flatnonzero(flips):
            turned[:, axis] = shapes[:, axis] - rows[:, axis + 3]
            turned[:, axis + 3] = shapes[:, axis] - rows[:, axis]
        yield f"{' and '.join(names)} counted from the other end", len(names), np.where(valid[:, None], turned, 0.0)


def _resized(
    numbers: Floats, convention: BoxConvention, shapes: NDArray[np.int32]
) -> Iterator[tuple[str, int, Floats]]:
    """Read ends as sizes: some models answer "x, y, width, height"."""
    plain = BoxConvention(convention.order, convention.layout, False, convention.normalised, convention.axes)
    starts = [place for place, name in enumerate(plain.positions) if name.endswith("_start")]
    ends = [plain.positions.index(plain.positions[place].replace("_start", "_end")) for place in starts]
    moved = numbers.copy()
    moved[:, ends] += numbers[:, starts]
    rows, valid = plain.decode_rows(moved, shapes)
    yield "ends read as sizes", 1, np.where(valid[:, None], rows, 0.0)
