"""Means over slots of metrics that each slot has by itself: they cannot be raised by telling slots apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reasonknee_datasets.bench.metrics import METRICS
from reasonknee_datasets.bench.results import Rule
from reasonknee_datasets.bench.scoring.batches import Batch, Floats, Key, enough_patients, make_batch, mean_of_defined
from reasonknee_datasets.bench.scoring.pools import PoolSet
from reasonknee_datasets.moaks import SLOTS

# A slot is one side's and visit's too, so its own metrics say nothing about these.
WITH_MEANS = frozenset({"all", "category", "question", "attribute", "subregion"})


class SlotDraws:
    """The draws of every slot's own metrics, kept until the means over slots are made."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str | None, Rule | None, str, str], Floats] = {}

    def keep(self, batch: Batch) -> None:
        """Keep what a batch of pools says about single slots."""
        for place, key in enumerate(batch.keys):
            if key.by == "slot":
                self._columns[key.pool, key.rule, key.metric, key.value] = batch.draws[:, place]

    def __bool__(self) -> bool:
        return bool(self._columns)

    def batches(self, pools: PoolSet, rules: Sequence[Rule]) -> Iterator[Batch]:
        """Average over the slots of each pool that has several."""
        kind, by = pools.kind, pools.grouping.by
        chosen = [number for number, slots in enumerate(pools.slots) if len(slots) > 1]
        if by not in WITH_MEANS or not chosen:
            return
        for rule in rules:
            if rule not in pools.counts:
                continue
            keys, columns, counts, left_out = [], [], [], []
            for metric in METRICS[kind.scale]:
                for number in chosen:
                    names = [SLOTS[slot].name for slot in pools.slots[number]]
                    draws = np.stack([self._columns[kind.label, rule, metric, name] for name in names], axis=1)
                    means, undefined = mean_of_defined(draws, axis=1)
                    keys.append(Key(by, pools.values[number], "slot_mean", rule, kind.label, None, metric))
                    columns.append(means)
                    left_out.append(int(undefined))
                    counts.append(pools.counts[rule][number])
            enough = [enough_patients(rest.rarer_patients) for rest in counts]
            yield make_batch(keys, np.stack(columns, axis=1), counts, enough=enough, left_out=left_out)
