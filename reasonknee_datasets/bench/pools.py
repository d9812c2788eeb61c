"""Totals of each group, and confusions of slots of one scale and range with their metrics, counted by patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import Floats, Ints, Mask
from reasonknee_datasets.bench.bootstrap import (
    Key,
    Statistic,
    Statistics,
    by_group,
    enough_patients,
    mean_of_defined,
    resample,
    sum_by_patient,
)
from reasonknee_datasets.bench.group_results import By, Condition, Counts, Rule, Scale
from reasonknee_datasets.bench.metrics import METRICS, WEIGH_GRADES_ALIKE, apply_rule, common_scale, compute, ratio
from reasonknee_datasets.bench.metrics import merge_macerations as merged
from reasonknee_datasets.bench.slot_table import (
    CATEGORY_OF,
    NORMAL,
    OF_KNEES,
    SCORED,
    SCORED_CATEGORIES,
    Grouping,
    SlotTable,
    compact,
    count_distinct,
)
from reasonknee_datasets.moaks import CATEGORIES, SLOTS

_SCORED_CATEGORY = np.array([SCORED_CATEGORIES.index(name) if name in SCORED_CATEGORIES else -1 for name in CATEGORIES])


def _count_totals(table: SlotTable, grouping: Grouping, rule: Rule) -> list[Counts]:
    """Count the slots, records and patients that the totals of each group are computed from."""
    many, patients = len(grouping.values), len(table.patients)
    rows = np.flatnonzero(~np.isnan(table.right(rule)))
    slots = np.bincount(grouping.of_row[rows], minlength=many)
    if grouping.of_record is None:
        group, who, positive = grouping.of_row[rows], table.patient[table.record[rows]], table.positive[rows]
        records = count_distinct(group, table.record[rows], many)
    else:
        chosen = np.flatnonzero(~np.isnan(table.exact[rule]))
        group, who = grouping.of_record[chosen], table.patient[chosen]
        positive = table.positive_record[chosen]
        records = np.bincount(group, minlength=many)
    shape = (patients, many)
    with_positive = sum_by_patient(who[positive], group[positive], shape) > 0
    with_normal = sum_by_patient(who[~positive], group[~positive], shape) > 0
    rarer = np.minimum(with_positive.sum(axis=0), with_normal.sum(axis=0))
    columns = (
        slots,
        records,
        (with_positive | with_normal).sum(axis=0),
        np.bincount(group[positive], minlength=many),
        rarer,
        rarer,
    )
    return [Counts(*each) for each in np.stack(columns, axis=1).astype(np.int64).tolist()]


def total_statistics(table: SlotTable, grouping: Grouping, weights: NDArray[np.float32], rule: Rule) -> Statistics:
    """Compute the totals of each group under a rule, the headline first: means of `record_exact` and right slots."""
    many, group, counts = len(grouping.values), grouping.of_record, _count_totals(table, grouping, rule)
    columns = {}
    if group is not None:
        columns["record_exact"] = _mean(weights, table.patient, group, table.exact[rule], many)
    columns["slot_micro"] = _mean(weights, table.patient[table.record], grouping.of_row, table.right(rule), many)
    enough = [enough_patients(rest.rarer_patients) for rest in counts]
    found = by_group(grouping.by, grouping.values, columns, counts, enough=enough, kind="total", rule=rule)
    if group is None or grouping.by not in OF_KNEES:
        return found
    question = table.truth.question.astype(np.int64)
    for metric, part, parts in (
        ("question_macro", question - 1, len(SCORED)),
        ("category_macro", _SCORED_CATEGORY[CATEGORY_OF[question]], len(SCORED_CATEGORIES)),
    ):
        shares = _mean(weights, table.patient, part * many + group, table.exact[rule], parts * many)
        means, undefined = mean_of_defined(shares.reshape(-1, parts, many), axis=1)
        for place, value in enumerate(grouping.values):
            statistic = Statistic(means[:, place], counts[place], enough[place], int(undefined[place]))
            found[Key(grouping.by, value, "total", rule)][metric] = statistic
    return found


def _mean(weights: NDArray[np.float32], patient: Ints, group: Ints, values: Floats, groups: int) -> Floats:
    """Average values that are not NaN over each group of the sample and of each resample: shape (1 + R, G)."""
    rows = np.flatnonzero(~np.isnan(values))
    shape = (weights.shape[1], groups)
    whole = sum_by_patient(patient[rows], group[rows], shape)
    part = sum_by_patient(patient[rows], group[rows], shape, values[rows])
    both = resample(weights, np.stack([part, whole], axis=1).astype(np.float32))
    return ratio(both[:, 0], both[:, 1])


# Pools whose resampled confusions are held at a time: 2,000 resamples of 48 times 4 by 5 grades are 8 MB.
_AT_ONCE = 48

_IN_CONDITION: Mapping[Condition, frozenset[str]] = {
    "size_above_0": frozenset({"number", "percent", "depth"}),
    "true_tear": frozenset({"tear_location"}),
    "grades_6_7_merged": frozenset({"morphology"}),
}
# A slot occurs on both sides and at every visit, so its own metrics do not describe these.
_WITH_MEANS: frozenset[By] = frozenset({"all", "category", "question", "attribute", "subregion"})


@dataclass(frozen=True, slots=True)
class SlotKind:
    """Slots that may be pooled: of one scale and range, under one condition."""

    scale: Scale
    low: int
    high: int
    condition: Condition
    slots: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name of a pool in a `Difference`."""
        return f"{self.scale} {self.low}-{self.high} ({self.condition})"

    @property
    def grades(self) -> int:
        """The number of grades."""
        return self.high - self.low + 1


def _slot_kinds() -> tuple[SlotKind, ...]:
    scored = [slot for slot in SLOTS if slot.question_id <= 62]
    ranges = dict.fromkeys((slot.scale, slot.low, slot.high) for slot in scored)
    found = []
    for scale, low, high in ranges:
        ids = tuple(slot.id for slot in scored if (slot.scale, slot.low, slot.high) == (scale, low, high))
        found.append(SlotKind(scale, low, high, "all", ids))
    for condition, attributes in _IN_CONDITION.items():
        slots = [slot for slot in scored if slot.attribute in attributes]
        scale, low, high = common_scale(slots)
        high -= condition == "grades_6_7_merged"
        found.append(SlotKind(scale, low, high, condition, tuple(slot.id for slot in slots)))
    return tuple(found)


_KINDS = _slot_kinds()


@dataclass(frozen=True, slots=True, eq=False)
class Confusions:
    """Confusions of one kind of slots, by patient (P) and group (G).

    Attributes
    ----------
    by : str
    values : tuple of str
        The groups that have such slots.
    kind : SlotKind
    slots : tuple of (tuple of int)
        Slot ids of each group.
    by_patient : (P, G, K, K + 1) float32 array
    filled : the same with priors in place of missing answers, or None
    counts : mapping of rule to (sequence of Counts)
    unknown : (G,) int array
        Slots left out because the truth that the condition asks for is missing.
    """

    by: By
    values: tuple[str, ...]
    kind: SlotKind
    slots: tuple[tuple[int, ...], ...]
    by_patient: NDArray[np.float32]
    filled: NDArray[np.float32] | None
    counts: Mapping[Rule, Sequence[Counts]]
    unknown: Ints


def count_confusions(table: SlotTable, grouping: Grouping) -> list[Confusions]:
    """Count the confusions of every kind of slots that occurs."""
    return [found for kind in _KINDS if (found := _count(table, grouping, kind)) is not None]


def _count(table: SlotTable, grouping: Grouping, kind: SlotKind) -> Confusions | None:
    able = np.isin(table.slot, kind.slots)
    rows = np.flatnonzero(able & _condition(table, kind.condition))
    if not len(rows):
        return None
    present, group = compact(grouping.of_row[rows])
    many = len(present)
    true, answer = table.true[rows], table.answered[rows]
    filled = None if table.filled is None else table.filled[rows]
    if kind.condition == "grades_6_7_merged":
        true, answer, filled = merged(true), merged(answer), None if filled is None else merged(filled)
    cells = (table.patient[table.record[rows]] * many + group, true - kind.low)
    shape = (len(table.patients), many, kind.grades, kind.grades + 1)
    confusions = _confusions(*cells, answer - kind.low, shape)
    unknown = np.bincount(grouping.of_row[able & _unknown(table, kind.condition)], minlength=len(grouping.values))
    counts: dict[Rule, Sequence[Counts]] = {}
    for rule in table.rules:
        kept = answer >= 0 if rule == "answered_only" else np.ones(len(rows), dtype=np.bool_)
        seen = confusions[..., :-1] if rule == "answered_only" else confusions
        counts[rule] = _counts(table, rows[kept], group[kept], seen)
    pairs = np.unique(group * len(SLOTS) + table.slot[rows])
    return Confusions(
        by=grouping.by,
        values=tuple(grouping.values[code] for code in present),
        kind=kind,
        slots=tuple(tuple((pairs[pairs // len(SLOTS) == g] % len(SLOTS)).tolist()) for g in range(many)),
        by_patient=confusions,
        filled=None if filled is None else _confusions(*cells, filled - kind.low, shape),
        counts=counts,
        unknown=unknown[present],
    )


def _condition(table: SlotTable, condition: Condition) -> Mask:
    if condition == "size_above_0":
        return table.size > 0
    if condition == "true_tear":
        return np.asarray(table.true != NORMAL[table.slot], dtype=np.bool_)
    return np.ones(len(table.slot), dtype=np.bool_)


def _unknown(table: SlotTable, condition: Condition) -> Mask:
    return table.size < (0 if condition == "size_above_0" else -1)


def _confusions(pool: Ints, true: Ints, answer: Ints, shape: tuple[int, int, int, int]) -> NDArray[np.float32]:
    grades = shape[2]
    columns = np.where(answer < 0, grades, answer)
    cells = np.bincount((pool * grades + true) * (grades + 1) + columns, minlength=int(np.prod(shape)))
    return cells.reshape(shape).astype(np.float32)


def _counts(table: SlotTable, rows: Ints, group: Ints, confusions: NDArray[np.float32]) -> list[Counts]:
    """Count what each pool rests on; ``confusions`` holds the same rows, by patient."""
    many = confusions.shape[1]
    columns = {
        "slots": np.bincount(group, minlength=many),
        "records": count_distinct(group, table.record[rows], many),
        "positives": np.bincount(group[table.positive[rows]], minlength=many),
    }
    by_grade = confusions.sum(axis=-1)  # (P, G, K)
    slots = by_grade.sum(axis=0)
    patients = (by_grade > 0).sum(axis=0)
    commonest = slots.argmax(axis=-1)
    with_commonest = np.take_along_axis(patients, commonest[:, None], axis=-1)[:, 0]
    own = np.take_along_axis(by_grade, commonest[None, :, None], axis=-1)[..., 0]
    total = by_grade.sum(axis=-1)
    with_other = (total > own).sum(axis=0)
    columns["patients"] = (total > 0).sum(axis=0)
    columns["rarer_patients"] = np.minimum(with_commonest, with_other)
    columns["rarest_patients"] = np.where(slots > 0, patients, len(table.patients)).min(axis=-1)
    return [
        Counts(**dict(zip(columns, each, strict=True)))
        for each in np.stack(list(columns.values()), axis=1).astype(np.int64).tolist()
    ]


def pool_statistics(confusions: Sequence[Confusions], weights: NDArray[np.float32]) -> Statistics:
    """Compute every metric of every pool, for the sample and each resample."""
    found: Statistics = {}
    for each in confusions:
        for start in range(0, len(each.values), _AT_ONCE):
            for rule, settled in _settled(each, slice(start, start + _AT_ONCE), weights):
                _add_metrics(found, each, start, rule, settled)
    return found


def _settled(
    confusions: Confusions, chosen: slice, weights: NDArray[np.float32]
) -> Iterator[tuple[Rule, NDArray[np.float32]]]:
    """Resample some groups' confusions, and apply each rule to them."""
    counted = resample(weights, confusions.by_patient[:, chosen])
    for rule in confusions.counts:
        if rule == "missing_as_prior" and confusions.filled is not None:
            counted = resample(weights, confusions.filled[:, chosen])
        yield rule, apply_rule(counted, confusions.kind.scale, rule)


def _add_metrics(
    found: Statistics, confusions: Confusions, start: int, rule: Rule, settled: NDArray[np.float32]
) -> None:
    kind = confusions.kind
    occurring = settled[0].sum(axis=-1) > 0
    for metric in METRICS[kind.scale]:
        draws = compute(metric, settled, kind.scale, subject=kind.label, occurring=occurring)
        for place in range(draws.shape[1]):
            rest = confusions.counts[rule][start + place]
            # The rarest grade that occurs may be the only one, so that the rarer one counts as well.
            rarest = rest.rarest_patients if metric in WEIGH_GRADES_ALIKE else rest.rarer_patients
            enough = enough_patients(min(rarest, rest.rarer_patients))
            key = Key(confusions.by, confusions.values[start + place], "pool", rule, kind.label)
            found.setdefault(key, {})[metric] = Statistic(draws[:, place], rest, enough)


def slot_mean_statistics(confusions: Sequence[Confusions], slots: Statistics) -> Statistics:
    """Average each slot's own metrics over the slots of each pool that has several.

    Parameters
    ----------
    confusions : sequence of Confusions
    slots : dict
        `pool_statistics` of the grouping by slot.
    """
    found: Statistics = {}
    for each in confusions if confusions and confusions[0].by in _WITH_MEANS else ():
        label = each.kind.label
        for rule, counts in each.counts.items():
            for value, numbers, rest in zip(each.values, each.slots, counts, strict=True):
                if len(numbers) < 2:
                    continue
                own = [slots[Key("slot", SLOTS[number].name, "pool", rule, label)] for number in numbers]
                enough = enough_patients(rest.rarer_patients)
                metrics = found[Key(each.by, value, "slot_mean", rule, label)] = {}
                for metric in METRICS[each.kind.scale]:
                    draws = np.stack([one[metric].draws for one in own], axis=1)
                    means, undefined = mean_of_defined(draws, axis=1)
                    metrics[metric] = Statistic(means, rest, enough, int(undefined))
    return found
