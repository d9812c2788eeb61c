"""Pools: the confusions of slots of one scale and range within each group, by patient, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.metrics import METRICS, WEIGH_GRADES_ALIKE, apply_rule, common_scale, compute
from reasonknee_datasets.bench.metrics import merge_macerations as merged
from reasonknee_datasets.bench.results import Condition, Counts, Rule, Scale
from reasonknee_datasets.bench.scoring.batches import Batch, Key, enough_patients, make_batch, resample
from reasonknee_datasets.bench.scoring.groups import Grouping, compact, count_distinct
from reasonknee_datasets.bench.scoring.slot_table import NORMAL, Ints, Marked, Mask, Sheet
from reasonknee_datasets.moaks import SLOTS

# Pools whose resampled confusions are held at a time: 2,000 resamples of 48 times 4 by 5 grades are 8 MB.
_AT_ONCE = 48

_IN_CONDITION: Mapping[Condition, frozenset[str]] = {
    "size_above_0": frozenset({"number", "percent", "depth"}),
    "true_tear": frozenset({"tear_location"}),
    "grades_6_7_merged": frozenset({"morphology"}),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What the slots of a pool have in common."""

    scale: Scale
    low: int
    high: int
    condition: Condition
    slots: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name by which differences call it."""
        return f"{self.scale} {self.low}-{self.high} ({self.condition})"

    @property
    def grades(self) -> int:
        """How many there are."""
        return self.high - self.low + 1


def _kinds() -> tuple[Kind, ...]:
    scored = [slot for slot in SLOTS if slot.question_id <= 62]
    ranges = dict.fromkeys((slot.scale, slot.low, slot.high) for slot in scored)
    found = []
    for scale, low, high in ranges:
        ids = tuple(slot.id for slot in scored if (slot.scale, slot.low, slot.high) == (scale, low, high))
        found.append(Kind(scale, low, high, "all", ids))
    for condition, attributes in _IN_CONDITION.items():
        slots = [slot for slot in scored if slot.attribute in attributes]
        scale, low, high = common_scale(slots)
        high -= condition == "grades_6_7_merged"
        found.append(Kind(scale, low, high, condition, tuple(slot.id for slot in slots)))
    return tuple(found)


KINDS = _kinds()


@dataclass(frozen=True, slots=True, eq=False)
class PoolSet:
    """The pools of one kind in all groups of a grouping; G of them.

    Attributes
    ----------
    grouping : Grouping
    kind : Kind
    values : tuple of str
        The groups that have such slots.
    slots : tuple of (tuple of int)
        Slot ids of each pool.
    confusions : (P, G, K, K + 1) float32 array
        By patient.
    filled : the same with priors in place of missing answers, or None
    counts : mapping of rule to (sequence of Counts)
    unknown : (G,) int array
        Slots left out because the truth that the condition asks for is missing.
    """

    grouping: Grouping
    kind: Kind
    values: tuple[str, ...]
    slots: tuple[tuple[int, ...], ...]
    confusions: NDArray[np.float32]
    filled: NDArray[np.float32] | None
    counts: Mapping[Rule, Sequence[Counts]]
    unknown: Ints


def build_pools(sheet: Sheet, marked: Marked, grouping: Grouping, kind: Kind) -> PoolSet | None:
    """Count the pools of a kind; None where no slot is of it."""
    able = np.isin(sheet.slot, kind.slots)
    inside = able & _condition(sheet, kind.condition)
    rows = np.flatnonzero(inside)
    if not len(rows):
        return None
    present, group = compact(grouping.of_row[rows])
    many = len(present)
    true, answer = sheet.grade[rows], marked.grade[rows]
    filled = None if marked.filled is None else marked.filled[rows]
    if kind.condition == "grades_6_7_merged":
        true, answer, filled = merged(true), merged(answer), None if filled is None else merged(filled)
    cells = (sheet.patient[sheet.record[rows]] * many + group, true - kind.low)
    shape = (len(sheet.patients), many, kind.grades, kind.grades + 1)
    confusions = _confusions(*cells, answer - kind.low, shape)
    unknown = np.bincount(grouping.of_row[able & _unknown(sheet, kind.condition)], minlength=len(grouping.values))
    by_rule: dict[Rule, Sequence[Counts]] = {}
    for rule in ("wrong", "parsed", "prior"):
        if rule == "prior" and filled is None:
            continue
        kept = answer >= 0 if rule == "parsed" else np.ones(len(rows), dtype=np.bool_)
        seen = confusions[..., :-1] if rule == "parsed" else confusions
        by_rule[rule] = _counts(sheet, rows[kept], group[kept], seen)
    pairs = np.unique(group * len(SLOTS) + sheet.slot[rows])
    return PoolSet(
        grouping=grouping,
        kind=kind,
        values=tuple(grouping.values[code] for code in present),
        slots=tuple(tuple((pairs[pairs // len(SLOTS) == g] % len(SLOTS)).tolist()) for g in range(many)),
        confusions=confusions,
        filled=None if filled is None else _confusions(*cells, filled - kind.low, shape),
        counts=by_rule,
        unknown=unknown[present],
    )


def _condition(sheet: Sheet, condition: Condition) -> Mask:
    if condition == "size_above_0":
        return sheet.size > 0
    if condition == "true_tear":
        return np.asarray(sheet.grade != NORMAL[sheet.slot], dtype=np.bool_)
    return np.ones(len(sheet.slot), dtype=np.bool_)


def _unknown(sheet: Sheet, condition: Condition) -> Mask:
    return sheet.size < (0 if condition == "size_above_0" else -1)


def _confusions(pool: Ints, true: Ints, answer: Ints, shape: tuple[int, int, int, int]) -> NDArray[np.float32]:
    grades = shape[2]
    columns = np.where(answer < 0, grades, answer)
    cells = np.bincount((pool * grades + true) * (grades + 1) + columns, minlength=int(np.prod(shape)))
    return cells.reshape(shape).astype(np.float32)


def _counts(sheet: Sheet, rows: Ints, group: Ints, confusions: NDArray[np.float32]) -> list[Counts]:
    """Count what each pool rests on; ``confusions`` holds the same rows, by patient."""
    many = confusions.shape[1]
    columns = {
        "slots": np.bincount(group, minlength=many),
        "records": count_distinct(group, sheet.record[rows], many),
        "positives": np.bincount(group[sheet.positive[rows]], minlength=many),
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
    columns["rarest_patients"] = np.where(slots > 0, patients, len(sheet.patients)).min(axis=-1)
    return [
        Counts(**dict(zip(columns, each, strict=True)))
        for each in np.stack(list(columns.values()), axis=1).astype(np.int64).tolist()
    ]


def pool_batches(pools: PoolSet, weights: NDArray[np.float32], rules: Sequence[Rule]) -> Iterator[Batch]:
    """Compute every metric of every pool, for the sample and each resample."""
    kind, by = pools.kind, pools.grouping.by
    for start in range(0, len(pools.values), _AT_ONCE):
        chosen = slice(start, start + _AT_ONCE)
        counted = resample(weights, pools.confusions[:, chosen])
        for rule in rules:
            if rule == "prior":
                if pools.filled is None:
                    continue
                counted = resample(weights, pools.filled[:, chosen])
            settled = apply_rule(counted, kind.scale, rule)
            occurring = settled[0].sum(axis=-1) > 0
            keys, columns, counts, enough = [], [], [], []
            for metric in METRICS[kind.scale]:
                draws = compute(metric, settled, kind.scale, subject=kind.label, occurring=occurring)
                columns.append(draws)
                for value, rest in zip(pools.values[chosen], pools.counts[rule][chosen], strict=True):
                    keys.append(Key(by, value, "pool", rule, kind.label, None, metric))
                    counts.append(rest)
                    alike = metric in WEIGH_GRADES_ALIKE
                    enough.append(enough_patients(rest.rarest_patients if alike else rest.rarer_patients))
                    # The rarest grade that occurs may be the only one.
                    enough[-1] &= enough_patients(rest.rarer_patients)
            yield make_batch(keys, np.concatenate(columns, axis=1), counts, enough=enough)
