"""`score`: everything about one set of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.bootstrap import LEVEL, draw, estimate
from reasonknee_datasets.bench.results import (
    Estimate,
    Group,
    Localisation,
    Pool,
    Results,
    Rule,
    Sampling,
    Scores,
)
from reasonknee_datasets.bench.run_metadata import Identity
from reasonknee_datasets.bench.scoring.attribution import attribute
from reasonknee_datasets.bench.scoring.batches import Batch
from reasonknee_datasets.bench.scoring.box_diagnosis import check_convention
from reasonknee_datasets.bench.scoring.context import Workings, work_out
from reasonknee_datasets.bench.scoring.coverage import count_coverage
from reasonknee_datasets.bench.scoring.groups import BYS, Grouping, group_by
from reasonknee_datasets.bench.scoring.localisation import UNITS, count_boxes, count_reasons, histograms
from reasonknee_datasets.bench.scoring.pools import PoolSet
from reasonknee_datasets.bench.scoring.record_outcomes import find_worst, make_outcomes
from reasonknee_datasets.bench.scoring.slot_table import lay_out, mark
from reasonknee_datasets.bench.scoring.totals import count_totals
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.moaks import SLOTS

_GroupKey = tuple[str, str]
_Metrics = dict[str, Estimate]


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
    identity: Identity | None = None,
    worst: int = 5,
) -> Results:
    """Score answers.

    Parameters
    ----------
    truth : Truth
    answers : Answers
        Row for row beside the truth.
    priors : (118,) int array, optional
        Each slot's most frequent grade in train (``TrainPriors.most_frequent``). Left out, rule ``prior`` is too.
    resamples, seed : int
        Of patients with all their records, for the intervals; 0 for none.
    boxes_asked : bool, optional
        Whether the run asked for boxes; by default it did if any record has a box or a reason for having none. Then
        every record without one is missing it.
    convention : BoxConvention, optional
        In which the answered numbers were read, for the diagnosis.
    numbers : (N, 6) array, optional
        The numbers as answered, NaN where there are none, for the diagnosis: with them, it also sees numbers that are
        no box as read.
    identity : Identity, optional
        What this is a result of.
    worst : int
        How many of the worst records to give of each category.

    Returns
    -------
    Results

    Raises
    ------
    BenchError
        If answers and truth do not go together, or hold what is no grade or no box.
    """
    sheet = lay_out(truth)
    marked = mark(sheet, answers, priors, boxes_asked)
    workings = work_out(sheet, marked, [group_by(sheet, by) for by in BYS])
    weights = draw(sheet.patients, resamples, seed)
    found = _gather(workings.batches(weights))
    iou = None if workings.boxes is None else workings.boxes.scores.iou
    outcomes = make_outcomes(sheet, marked, workings.right["wrong"], iou)
    conventions = check_convention(sheet, marked, weights, convention, numbers) if iou is not None else None
    groups = tuple(group for grouping in workings.groupings for group in _groups(workings, grouping, found))
    verdict = None if conventions is None else conventions.verdict
    return Results(
        sampling=Sampling(resamples, seed, LEVEL, len(sheet.patients)),
        rules=workings.rules,
        groups=groups,
        conventions=conventions,
        attribution=None if iou is None else attribute(sheet, workings.right["wrong"], iou, weights),
        worst=find_worst(sheet, marked, outcomes, worst),
        warnings=(verdict,) if verdict else (),
        identity=identity,
        outcomes=outcomes,
    )


def _gather(batches: Iterable[Batch]) -> dict[tuple[object, ...], _Metrics]:
    """Estimate everything; metrics by all of their key but its last field."""
    found: dict[tuple[object, ...], _Metrics] = {}
    for batch in batches:
        for key, each in zip(batch.keys, estimate(batch.draws, batch.enough, batch.left_out), strict=True):
            found.setdefault(tuple(key[:-1]), {})[key.metric] = each
    return found


def _groups(workings: Workings, grouping: Grouping, found: Mapping[tuple[object, ...], _Metrics]) -> list[Group]:
    """Put a grouping's groups together from what was counted and estimated."""
    by, sheet = grouping.by, workings.sheet
    coverage = count_coverage(sheet, workings.marked, grouping)
    counts = {rule: count_totals(sheet, workings.right[rule], grouping) for rule in workings.rules}
    localisation = _localisation(workings, grouping, found)
    groups = []
    for number, value in enumerate(grouping.values):
        totals = {
            rule: Scores(counts[rule][number], _ordered(found[by, value, "total", rule, None, None]))
            for rule in workings.rules
        }
        pools = tuple(
            _pool(pools, pools.values.index(value), workings.rules, found)
            for pools in workings.pools_by(by)
            if value in pools.values
        )
        groups.append(Group(by, value, coverage[number], totals, pools, localisation[number]))
    return groups


def _ordered(metrics: _Metrics) -> _Metrics:
    """Put the headline first."""
    return {name: metrics[name] for name in sorted(metrics, key=lambda name: name != "record_exact")}


def _pool(pools: PoolSet, number: int, rules: Iterable[Rule], found: Mapping[tuple[object, ...], _Metrics]) -> Pool:
    kind, by, value = pools.kind, pools.grouping.by, pools.values[number]
    confusion = pools.confusions[:, number].sum(axis=0).astype(np.int64)
    means = {rule: found.get((by, value, "slot_mean", rule, kind.label, None)) for rule in rules}
    return Pool(
        scale=kind.scale,
        low=kind.low,
        high=kind.high,
        condition=kind.condition,
        slots=tuple(SLOTS[slot].name for slot in pools.slots[number]),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        unknown=int(pools.unknown[number]),
        rules={
            rule: Scores(pools.counts[rule][number], found[by, value, "pool", rule, kind.label, None]) for rule in rules
        },
        slot_means={rule: each for rule, each in means.items() if each is not None},
    )


def _localisation(
    workings: Workings, grouping: Grouping, found: Mapping[tuple[object, ...], _Metrics]
) -> list[Localisation | None]:
    if workings.boxes is None or grouping.of_record is None:
        return [None] * len(grouping.values)
    sheet, marked = workings.sheet, workings.marked
    parts = zip(
        grouping.values,
        count_boxes(sheet, marked, grouping),
        count_reasons(sheet, marked, grouping),
        histograms(sheet, marked, workings.boxes, grouping),
        strict=True,
    )
    return [
        Localisation(
            counts,
            reasons,
            histogram,
            {unit: found[grouping.by, value, "localisation", None, None, unit] for unit in UNITS},
        )
        for value, counts, reasons, histogram in parts
    ]
