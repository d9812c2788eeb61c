"""Pools: confusions of the slots of one scale and range, counted by patient, with their metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import Ints, Mask
from reasonknee_datasets.bench.bootstrap import (
    Key,
    Statistic,
    Statistics,
    enough_patients,
    mean_of_defined,
    resample,
)
from reasonknee_datasets.bench.group_results import By, Condition, Counts, Estimate, Pool, Rule, Scale, Scores
from reasonknee_datasets.bench.metrics import METRICS, WEIGH_GRADES_ALIKE, apply_rule, common_scale, compute
from reasonknee_datasets.bench.metrics import merge_macerations as merged
from reasonknee_datasets.bench.slot_table import (
    NORMAL,
    Grouping,
    SlotTable,
    compact,
    count_distinct,
)
from reasonknee_datasets.moaks import SLOTS

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
    """Count the data of each pool; ``confusions`` holds the same rows, by patient."""
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


def make_pool(confusions: Confusions, value: str, estimates: Mapping[Key, Mapping[str, Estimate]]) -> Pool:
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
