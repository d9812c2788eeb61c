"""Scoring: from a `Truth` and `Answers` to `Results`.

Everything is counted once by patient (confusions, right records, sums over boxes); a resample of patients is then a row
of a matrix product, whatever the number of records. `score` reads in this order: a `SlotTable`, the statistics of each
grouping by `Key`, and from these the groups of the results; then coverage, the outcome of every record, and the worst.
``record_exact`` itself is in `reasonknee_datasets.bench.metrics.grades`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.arrays import Answers, Ints, Mask, Outcomes, Truth
from reasonknee_datasets.bench.bootstrap import LEVEL, Key, Statistics, draw_patients, estimate_all
from reasonknee_datasets.bench.group_results import (
    STATISTIC_KINDS,
    Counts,
    Coverage,
    Estimate,
    Group,
    Pool,
    Scores,
    StatisticKind,
)
from reasonknee_datasets.bench.localisation import box_statistics, check_convention, make_localisation
from reasonknee_datasets.bench.metrics import farthest, ratio
from reasonknee_datasets.bench.pools import (
    Confusions,
    count_confusions,
    pool_statistics,
    slot_mean_statistics,
    total_statistics,
)
from reasonknee_datasets.bench.results import Case, Results, Sampling
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.slot_table import (
    BYS,
    CATEGORY_OF,
    NO_PREDICTION,
    REASON_NAMES,
    Grouping,
    SlotTable,
    count_by_reason,
    group_by,
    make_slot_table,
)
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.moaks import SLOTS

_Weights = NDArray[np.float32]


def score(
    truth: Truth,
    answers: Answers,
    *,
    priors: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    boxes_asked: bool | None = None,
    convention: BoxConvention | None = None,
    numbers: ArrayLike | None = None,
    identity: RunMetadata | None = None,
    worst: int = 5,
) -> Results:
    """Score answers.

    Parameters
    ----------
    truth : Truth
    answers : Answers
        One row a record, as in the truth.
    priors : (118,) int array, optional
        Each slot's most frequent grade in train (``TrainPriors.most_frequent``). Without it the rule
        ``missing_as_prior`` is not applied.
    resamples, seed : int
        Of patients with all their records, for the intervals; 0 for none.
    boxes_asked : bool, optional
        Whether the run asked for boxes; by default it did if any record has a box or a reason for having none. Then
        every record without one is missing it.
    convention : BoxConvention, optional
        In which the answered numbers were read, for the check of the convention.
    numbers : (N, 6) array, optional
        The numbers as answered, NaN where there are none: with them the check includes numbers that are not a box as
        read.
    identity : RunMetadata, optional
        Metadata of the run.
    worst : int
        How many of the worst records of each category to return.

    Returns
    -------
    Results

    Raises
    ------
    BenchError
        If answers and truth do not match, or hold an illegal grade or an empty box.
    """
    table = make_slot_table(truth, answers, priors, boxes_asked)
    weights = draw_patients(table.patients, resamples, seed)
    slots = slot_statistics(table, weights)
    groups = [group for by in BYS for group in _score_groups(table, group_by(table, by), weights, slots)]
    outcomes = make_outcomes(table)
    check = None if table.boxes is None else check_convention(table, weights, convention, numbers)
    return Results(
        sampling=Sampling(resamples, seed, LEVEL, len(table.patients)),
        rules=table.rules,
        groups=tuple(groups),
        conventions=check,
        worst=find_worst(table, outcomes, worst),
        warnings=(check.verdict,) if check is not None and check.verdict else (),
        identity=identity,
        outcomes=outcomes,
    )


def slot_statistics(table: SlotTable, weights: _Weights) -> Statistics:
    """Compute each slot's own metrics, which the means over slots are made of."""
    return pool_statistics(count_confusions(table, group_by(table, "slot")), weights)


def compute_statistics(
    table: SlotTable,
    grouping: Grouping,
    confusions: Sequence[Confusions],
    weights: _Weights,
    slots: Statistics,
    kinds: Collection[StatisticKind] = STATISTIC_KINDS,
) -> Statistics:
    """Compute the statistics of the groups of one grouping.

    Parameters
    ----------
    table : SlotTable
    grouping : Grouping
    confusions : sequence of Confusions
        From `count_confusions`; empty where ``kinds`` has neither pool nor slot_mean.
    weights : (1 + R, P) float32 array
        From `draw_patients`.
    slots : dict
        From `slot_statistics`; empty where confusions are.
    kinds : collection of {"total", "pool", "slot_mean", "localisation"}

    Returns
    -------
    dict of Key to (dict of str to Statistic)
        Two sets of answers to one truth have the same keys.
    """
    found: Statistics = {}
    if "total" in kinds:
        for rule in table.rules:
            found |= total_statistics(table, grouping, weights, rule)
    if "localisation" in kinds and table.boxes is not None and grouping.of_record is not None:
        found |= box_statistics(table, grouping, weights)
    if "pool" in kinds:
        found |= slots if grouping.by == "slot" else pool_statistics(confusions, weights)
    if "slot_mean" in kinds:
        found |= slot_mean_statistics(confusions, slots)
    return found


def _score_groups(table: SlotTable, grouping: Grouping, weights: _Weights, slots: Statistics) -> list[Group]:
    """Return the groups of one grouping with everything that was counted and estimated."""
    confusions = count_confusions(table, grouping)
    statistics = compute_statistics(table, grouping, confusions, weights, slots)
    estimates = estimate_all(statistics)
    coverage = count_coverage(table, grouping)
    localisation = make_localisation(table, grouping, statistics, estimates)
    groups = []
    for place, value in enumerate(grouping.values):
        totals = {}
        for rule in table.rules:
            key = Key(grouping.by, value, "total", rule)
            counts = statistics[key]["slot_micro"].counts
            assert isinstance(counts, Counts)
            totals[rule] = Scores(counts, estimates[key])
        pools = tuple(_pool(each, value, estimates) for each in confusions if value in each.values)
        groups.append(Group(grouping.by, value, coverage[place], totals, pools, localisation[place]))
    return groups


def _pool(confusions: Confusions, value: str, estimates: Mapping[Key, Mapping[str, Estimate]]) -> Pool:
    """Return one group's slots of one kind, with their confusion and metrics."""
    by, kind, place = confusions.by, confusions.kind, confusions.values.index(value)
    means = {rule: estimates.get(Key(by, value, "slot_mean", rule, kind.label)) for rule in confusions.counts}
    counted = confusions.by_patient[:, place].sum(axis=0).astype(np.int64).tolist()
    return Pool(
        scale=kind.scale,
        low=kind.low,
        high=kind.high,
        condition=kind.condition,
        slots=tuple(SLOTS[slot].name for slot in confusions.slots[place]),
        confusion=tuple(tuple(row) for row in counted),
        unknown=int(confusions.unknown[place]),
        rules={
            rule: Scores(counts[place], estimates[Key(by, value, "pool", rule, kind.label)])
            for rule, counts in confusions.counts.items()
        },
        slot_means={rule: metrics for rule, metrics in means.items() if metrics is not None},
    )


def count_coverage(table: SlotTable, grouping: Grouping) -> list[Coverage]:
    """Count each group's coverage.

    In groups of slots, the records are those that have a true grade in such a slot, and complete those of them that
    have an answer in it.
    """
    answers, many = table.answers, len(grouping.values)
    parsed = table.answered >= 0
    missing = _missing_truth(table, grouping)
    if grouping.of_record is None:
        # A slot occurs once in a record, and so does an attribute: rows are records.
        group, record = grouping.of_row, table.record
        complete = np.bincount(group[parsed], minlength=many)
        missing_records = missing
    else:
        group, record = grouping.of_record, np.arange(len(table.truth))
        complete = np.bincount(group[table.complete], minlength=many)
        missing_records = np.bincount(group[np.isnan(table.exact["missing_as_wrong"])], minlength=many)
    columns = {
        "records": np.bincount(group, minlength=many),
        "given": np.bincount(group[answers.given[record]], minlength=many),
        "texts": np.bincount(group[answers.text[record]], minlength=many),
        "strict": np.bincount(group[answers.strict[record]], minlength=many),
        "complete": complete,
        "slots": np.bincount(grouping.of_row, minlength=many),
        "parsed": np.bincount(grouping.of_row[parsed], minlength=many),
        "missing_truth_slots": missing,
        "missing_truth_records": missing_records,
    }
    reasons = _count_reasons(table, grouping, ~parsed)
    rows = np.stack(list(columns.values()), axis=1).tolist()
    return [
        Coverage(**dict(zip(columns, row, strict=True)), reasons=why) for row, why in zip(rows, reasons, strict=True)
    ]


def _missing_truth(table: SlotTable, grouping: Grouping) -> Ints:
    """Count each group's slots without a true grade."""
    truth = table.truth
    record, place = np.nonzero((truth.slots >= 0) & (truth.grades < 0))
    if grouping.of_record is not None:
        return np.bincount(grouping.of_record[record], minlength=len(grouping.values))
    slot = [SLOTS[number] for number in truth.slots[record, place].tolist()]
    names = [each.name if grouping.by == "slot" else each.attribute for each in slot]
    return np.array([names.count(value) for value in grouping.values], dtype=np.int64)


def _count_reasons(table: SlotTable, grouping: Grouping, lacking: Mask) -> list[dict[str, int]]:
    rows = np.flatnonzero(lacking)
    record = table.record[rows]
    codes = table.answers.reasons[record, table.place[rows]].astype(np.int64)
    given = table.answers.given[record]
    return count_by_reason(grouping.of_row[rows], codes, given, len(grouping.values))


_HIGHEST = max(slot.high for slot in SLOTS) + 1


def _greatest_distances() -> NDArray[np.float64]:
    """Return for each slot and true grade the distance to the farthest legal grade."""
    table = np.ones((len(SLOTS), _HIGHEST))
    for slot in SLOTS:
        own = np.arange(slot.high + 1)
        table[slot.id, : slot.high + 1] = np.abs(farthest(slot.high + 1) - own)
    return table


_FARTHEST = _greatest_distances()
_ORDINAL = np.array([slot.scale == "ordinal" for slot in SLOTS])


def make_outcomes(table: SlotTable) -> Outcomes:
    """Compute the outcome of every record; missing answers count as wrong."""
    truth, answers, exact = table.truth, table.answers, table.exact["missing_as_wrong"]
    apart = np.abs(table.answered - table.true) / _FARTHEST[table.slot, table.true]
    wrong = (table.answered != table.true).astype(np.float64)
    losses = np.where((table.answered >= 0) & _ORDINAL[table.slot], apart, wrong)
    rows = len(truth)
    sums = np.bincount(table.record, weights=losses, minlength=rows)
    return Outcomes(
        ids=truth.ids,
        question=truth.question,
        patient=truth.patient,
        grades=truth.grades,
        answers=answers.grades,
        reasons=answers.reasons,
        right=np.where(np.isnan(exact), -1, exact).astype(np.int8),
        parsed=table.complete,
        loss=ratio(sums, np.bincount(table.record, minlength=rows)),
        iou=np.full(rows, np.nan) if table.boxes is None else table.boxes.iou,
        boxes=answers.boxes,
        true_boxes=truth.boxes,
        has_box=answers.has_box,
    )


def find_worst(table: SlotTable, outcomes: Outcomes, each: int) -> tuple[Case, ...]:
    """Return the records of each category that lost most by wrong grades, worst first, at most ``each``.

    Records that lost points only because a grade is missing are counted in the coverage instead.
    """
    wrong = (table.answered >= 0) & (table.answered != table.true)
    answered_wrong = np.bincount(table.record, weights=wrong, minlength=len(table.truth)) > 0
    loss = np.where(answered_wrong, np.nan_to_num(outcomes.loss, nan=0.0), 0.0)
    iou = np.nan_to_num(outcomes.iou, nan=1.0)
    names = np.array(outcomes.ids)
    order = np.lexsort((names, iou, -loss))
    category = CATEGORY_OF[table.truth.question]
    chosen: list[int] = []
    for code in np.unique(category):
        chosen += [int(n) for n in order[category[order] == code][:each] if loss[n] > 0]
    chosen.sort(key=lambda n: (-loss[n], iou[n], outcomes.ids[n]))
    return tuple(_case(table, outcomes, n) for n in chosen)


def _case(table: SlotTable, outcomes: Outcomes, n: int) -> Case:
    truth, answers = table.truth, table.answers
    slots = [SLOTS[number] for number in truth.slots[n].tolist() if number >= 0]
    true = {slot.attribute: _known(truth.grades[n, place]) for place, slot in enumerate(slots)}
    answer = {slot.attribute: _known(answers.grades[n, place]) for place, slot in enumerate(slots)}
    reasons = {}
    for place, slot in enumerate(slots):
        if answer[slot.attribute] is None:
            code = int(answers.reasons[n, place])
            reasons[slot.attribute] = REASON_NAMES[code] if answers.given[n] and code >= 0 else "missing"
            if not answers.given[n]:
                reasons[slot.attribute] = NO_PREDICTION
    return Case(
        id=truth.ids[n],
        truth=true,
        answer=answer,
        reasons=reasons,
        loss=float(outcomes.loss[n]),
        iou=float(outcomes.iou[n]) if table.boxes is not None else None,
        box=tuple(answers.boxes[n].tolist()) if answers.has_box[n] else None,
        true_box=tuple(truth.boxes[n].tolist()),
    )


def _known(grade: np.int8) -> int | None:
    return int(grade) if grade >= 0 else None
