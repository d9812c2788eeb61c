"""Everything that is computed from one set of answers, as batches in a fixed order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.results import By, Rule
from reasonknee_datasets.bench.scoring.batches import STATISTICS, Batch, Statistic
from reasonknee_datasets.bench.scoring.groups import BYS, Grouping
from reasonknee_datasets.bench.scoring.localisation import Boxes, box_batches, score_records
from reasonknee_datasets.bench.scoring.pools import KINDS, PoolSet, build_pools, pool_batches
from reasonknee_datasets.bench.scoring.slot_means import SlotDraws
from reasonknee_datasets.bench.scoring.slot_table import Marked, Sheet
from reasonknee_datasets.bench.scoring.totals import Right, find_right, total_batches


@dataclass(frozen=True, slots=True, eq=False)
class Workings:
    """What the statistics of one set of answers are made from; see `work_out`."""

    sheet: Sheet
    marked: Marked
    groupings: Sequence[Grouping]
    rules: tuple[Rule, ...]
    right: dict[Rule, Right]
    pools: Sequence[PoolSet]
    boxes: Boxes | None

    def pools_by(self, by: By) -> Iterator[PoolSet]:
        """Return the pool sets of one grouping."""
        return (pools for pools in self.pools if pools.grouping.by == by)

    def batches(
        self,
        weights: NDArray[np.float32],
        by: Collection[By] = BYS,
        statistics: Collection[Statistic] = STATISTICS,
    ) -> Iterator[Batch]:
        """Compute the wanted statistics of the wanted groupings.

        Two sets of answers to one truth give the same keys in the same order, so that they can be subtracted.
        """
        slots = SlotDraws()
        for grouping in self.groupings:
            if grouping.by not in by:
                continue
            if "total" in statistics:
                for rule in self.rules:
                    yield from total_batches(self.sheet, self.right[rule], grouping, weights, rule)
            if "localisation" in statistics and self.boxes is not None and grouping.of_record is not None:
                yield from box_batches(self.sheet, self.marked, self.boxes, grouping, weights)
            if "pool" in statistics:
                for pools in self.pools_by(grouping.by):
                    for batch in pool_batches(pools, weights, self.rules):
                        slots.keep(batch)
                        yield batch
        if "slot_mean" in statistics:
            self._draw_slots(slots, weights)
            for pools in self.pools:
                if pools.grouping.by in by:
                    yield from slots.batches(pools, self.rules)

    def _draw_slots(self, slots: SlotDraws, weights: NDArray[np.float32]) -> None:
        """Compute every slot's own metrics, if the statistics have not come by them."""
        if not slots:
            for pools in self.pools_by("slot"):
                for batch in pool_batches(pools, weights, self.rules):
                    slots.keep(batch)


def work_out(
    sheet: Sheet, marked: Marked, groupings: Sequence[Grouping], statistics: Collection[Statistic] = STATISTICS
) -> Workings:
    """Count everything that the statistics need; nothing is resampled yet."""
    rules: tuple[Rule, ...] = ("wrong", "parsed") if marked.filled is None else ("wrong", "parsed", "prior")
    pooled = "pool" in statistics or "slot_mean" in statistics
    made = (build_pools(sheet, marked, grouping, kind) for grouping in groupings if pooled for kind in KINDS)
    return Workings(
        sheet=sheet,
        marked=marked,
        groupings=groupings,
        rules=rules,
        right={rule: find_right(sheet, marked, rule) for rule in rules},
        pools=[pools for pools in made if pools is not None],
        boxes=score_records(sheet, marked) if marked.boxes_asked else None,
    )
