"""Results of one group of records, from one number with its interval upwards, and the terms that name its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Rule = Literal["missing_as_wrong", "answered_only", "missing_as_prior"]
Unit = Literal["record", "region"]
By = Literal["all", "category", "question", "slot", "attribute", "subregion", "side", "visit"]
Condition = Literal["all", "size_above_0", "true_tear", "grades_6_7_merged"]
NoInterval = Literal["undefined", "no_resamples", "few_patients", "undefined_resamples"]
Scale = Literal["ordinal", "nominal", "binary"]
StatisticKind = Literal["total", "pool", "slot_mean", "localisation"]

STATISTIC_KINDS: tuple[StatisticKind, ...] = ("total", "pool", "slot_mean", "localisation")

RULES: Mapping[Rule, str] = {
    "missing_as_wrong": "a missing answer counts as wrong: as the legal grade farthest from the truth where grades "
    "have an order, as the other class of a binary slot, in a column of its own where they have none",
    "answered_only": "slots without a grade, and records that lack one, are left out",
    "missing_as_prior": "a missing answer is replaced by the slot's most frequent grade in train",
}
"""Rules for slots without an answered grade."""

TOTALS: Mapping[str, str] = {
    "record_exact": "share of records of which every slot is right (the headline)",
    "slot_micro": "share of graded slots that are right",
    "question_macro": "mean of record_exact over the questions",
    "category_macro": "mean of record_exact over the scored categories",
}
"""The four totals; none of them is called "overall"."""

HEADLINE = "record_exact"

ABOUT_TOTALS = (
    "Which total the paper used is unknown: it defines none, and no scorer was published. The four named here differ, "
    "so none of them can be compared with the paper's numbers as if it were the same."
)

CONDITIONS: Mapping[Condition, str] = {
    "all": "every slot with a true grade",
    "size_above_0": "number, percent and depth where the true size is above 0",
    "true_tear": "tear location where the truth is a tear",
    "grades_6_7_merged": "meniscal morphology with 6 and 7, the two partial macerations, taken as one",
}
"""Which of its slots a pool holds."""

WHY_NO_INTERVAL: Mapping[NoInterval, str] = {
    "undefined": "the statistic itself is undefined",
    "no_resamples": "none were asked for",
    "few_patients": "fewer than 10 patients have the rarer grade; for boxes, there are fewer than 10 patients",
    "undefined_resamples": "more than 5 % of the resamples leave it undefined",
}

BOX_METRICS: Mapping[str, str] = {
    "iou": "voxels in both boxes over voxels in either; 0 without a box",
    "giou": "IoU less the empty share of the smallest box around both; -1 without a box, as for a box infinitely far",
    "acc@0.1": "share with an IoU of at least 0.1",
    "acc@0.25": "share with an IoU of at least 0.25",
    "acc@0.5": "share with an IoU of at least 0.5",
    "acc@0.75": "share with an IoU of at least 0.75",
    "centre_mm": "mean distance of the centres in mm, of those with a box and an affine",
    "coverage": "share of the true box's voxels that the answer holds; 0 without a box",
    "volume_ratio": "voxels answered over voxels true, geometric mean of those with a box: half and double cancel",
}
"""Metrics of localisation."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with its confidence interval.

    Attributes
    ----------
    value : float or None
        None where it is undefined, such as a sensitivity without positives. Never 0, and left out of averages.
    low, high : float or None
        Ends of the 95 % percentile interval over bootstrap resamples of patients; None without an interval.
    no_interval : str or None
        Reason for a missing interval, a key of `WHY_NO_INTERVAL`.
    undefined_resamples : int
        Number of resamples in which the statistic is undefined.
    left_out : int
        For averages (``*_macro`` totals and means over slots): number of undefined parts, which are left out.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    no_interval: NoInterval | None = None
    undefined_resamples: int = 0
    left_out: int = 0

    def to_columns(self, name: str) -> dict[str, Any]:
        """Return value, interval and why there is none, as columns of a data frame."""
        return {name: self.value, "low": self.low, "high": self.high, "no_interval": self.no_interval}


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of slots, records and patients that a value is computed from.

    Attributes
    ----------
    slots, records, patients : int
        Graded slots, the records that they belong to, and their patients.
    positives : int
        Slots whose true grade is abnormal (not 0, and not 3 for tear location). For totals by record, records with
        such a slot.
    rarer_patients : int
        In pools, the smaller of two numbers: patients with the commonest grade, and patients with another one. In
        totals, the same of patients with a positive and with a normal one. Below 10 there is no interval.
    rarest_patients : int
        Patients with the rarest grade that occurs. Below 10, metrics that weigh every grade alike (balanced
        accuracy, macro-F1) get no interval. In totals the same as `rarer_patients`.
    """

    slots: int
    records: int
    patients: int
    positives: int
    rarer_patients: int
    rarest_patients: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Metrics by name under one rule for missing answers, with the counts that they are computed from."""

    counts: Counts
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Numbers of records and slots with and without an answer.

    Attributes
    ----------
    records, given : int
        Number of records, and of records with a prediction.
    texts, strict : int
        Records that were answered by a text, and those of them that a strict ``json.loads`` reads.
    complete : int
        Records with a grade in every slot.
    slots, parsed : int
        Slots with a true grade, and those of them that were given one.
    reasons : mapping of str to int
        Slots with a true grade and without an answered one, by reason: the names in ``answers.REASONS``, and
        ``no_prediction`` where the record has no prediction at all. They add up to ``slots - parsed``.
    missing_truth_slots : int
        Slots without a true grade: left out of everything.
    missing_truth_records : int
        Records that lack a true grade: left out of ``record_exact`` and the macros.
    """

    records: int
    given: int
    texts: int
    strict: int
    complete: int
    slots: int
    parsed: int
    reasons: Mapping[str, int]
    missing_truth_slots: int
    missing_truth_records: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Slots of one scale and range within a group, and their metrics.

    Metrics by scale: ordinal has accuracy, balanced_accuracy, mae, linear_kappa, quadratic_kappa; nominal has accuracy,
    balanced_accuracy, macro_f1, kappa; binary has accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv, f1,
    matthews.

    Attributes
    ----------
    scale, low, high
        Scale and range of the slots; ``grades_6_7_merged`` ends at 7, which is the former 8.
    condition : str
        A key of `CONDITIONS`.
    slots : tuple of str
        Names as in ``moaks`` (``q19.size``).
    confusion : (K, K + 1) ints
        True grade by row, answered grade by column; the last column holds slots without a grade.
    unknown : int
        Slots left out of a condition because the truth that it asks for is missing; 0 in condition ``all``.
    rules : mapping of rule to Scores
        Over the confusions of all slots added up.
    slot_means : mapping of rule to (mapping of str to Estimate)
        The mean of each metric over the slots, each computed by itself (``left_out`` counts those undefined); empty for
        a single slot, and by side and visit.
    """

    scale: Scale
    low: int
    high: int
    condition: Condition
    slots: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    unknown: int
    rules: Mapping[Rule, Scores]
    slot_means: Mapping[Rule, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True)
class BoxCounts:
    """The data behind a number of localisation.

    Attributes
    ----------
    records, regions, patients : int
        Records that a box was asked for, the distinct (volume, box) that they are about, and their patients.
    missing : int
        Records without a box: they score 0.
    without_mm : int
        Records with a box whose volume has no affine (annotations prepared without images): no distance in mm.
    """

    records: int
    regions: int
    patients: int
    missing: int
    without_mm: int


@dataclass(frozen=True, slots=True)
class Localisation:
    """Metrics of boxes.

    Attributes
    ----------
    counts : BoxCounts
    reasons : mapping of str to int
        Records without a box by reason, as in `Coverage`; they add up to ``counts.missing``.
    histogram : 20 ints
        Records by IoU in steps of 0.05, 1 in the last; those without a box are not in it.
    units : mapping of {"record", "region"} to (mapping of str to Estimate)
        `BOX_METRICS`, over records, and over distinct regions of a volume: the mean within a region first, since
        several questions ask about one.
    """

    counts: BoxCounts
    reasons: Mapping[str, int]
    histogram: tuple[int, ...]
    units: Mapping[Unit, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True)
class BoxAlternative:
    """Mean IoU of the answered boxes under another convention.

    Attributes
    ----------
    change : str
        In words: ``x and y swapped``.
    mean_iou : float
        Mean IoU over records.
    gain : Estimate
        Gain over the mean IoU as read, with its interval over resamples of patients.
    """

    change: str
    mean_iou: float
    gain: Estimate


@dataclass(frozen=True, slots=True)
class ConventionCheck:
    """Comparison of the mean IoU under other box conventions.

    Attributes
    ----------
    convention : str
        The name of the ``BoxConvention`` that the numbers are taken to be written in.
    records : int
        Records with a box.
    mean_iou : float
        As read.
    alternatives : tuple of BoxAlternative
        The best five of those tried, best first.
    verdict : str or None
        ``x and y swapped would raise the mean IoU from 0.08 to 0.61``; None where none is clearly better.
    """

    convention: str
    records: int
    mean_iou: float
    alternatives: tuple[BoxAlternative, ...]
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Results of one group of records, such as all records, a category or a question.

    Attributes
    ----------
    by, value : str
        Grouping and name of the group: ``("all", "all")``, ``("category", "ligament")``, ``("question", "q19")``,
        ``("slot", "q19.size")``, ``("attribute", "size")``, ``("subregion", "femur_medial_central")``,
        ``("side", "right")``, ``("visit", "00M")``.
    coverage : Coverage
    totals : mapping of rule to Scores
        ``record_exact``, ``slot_micro``, ``question_macro`` and ``category_macro`` for everything, a side and a visit;
        the first two for a category, question and subregion; ``slot_micro`` for a slot and attribute.
    pools : tuple of Pool
        One for each scale, range and condition that occurs.
    localisation : Localisation or None
        None if no boxes were asked for, and for slots and attributes.
    """

    by: By
    value: str
    coverage: Coverage
    totals: Mapping[Rule, Scores]
    pools: tuple[Pool, ...]
    localisation: Localisation | None

    def to_rows(self) -> Iterator[dict[str, Any]]:
        """Return every total, metric of a scale and metric of boxes as `GROUP_COLUMNS`, one a row."""
        for rule, scores in self.totals.items():
            yield from self._to_rows(scores.metrics, scores.counts, kind="total", rule=rule)
        for pool in self.pools:
            scale = {"scale": f"{pool.scale} {pool.low}-{pool.high}", "condition": pool.condition}
            for rule, scores in pool.rules.items():
                yield from self._to_rows(scores.metrics, scores.counts, kind="pool", rule=rule, **scale)
                means = pool.slot_means.get(rule, {})
                yield from self._to_rows(means, scores.counts, kind="slot_mean", rule=rule, **scale)
        if self.localisation is not None:
            for unit, metrics in self.localisation.units.items():
                yield from self._to_rows(metrics, self.localisation.counts, kind="localisation", unit=unit)

    def _to_rows(
        self, metrics: Mapping[str, Estimate], counts: Counts | BoxCounts, **where: str
    ) -> Iterator[dict[str, Any]]:
        names = ("patients", "records", "slots", "positives")
        held = {name: getattr(counts, name) for name in names if hasattr(counts, name)}
        for name, value in metrics.items():
            yield {"by": self.by, "group": self.value, **where, "metric": name, **value.to_columns("value"), **held}


GROUP_COLUMNS = (
    *("by", "group", "kind", "scale", "condition", "rule", "unit", "metric"),
    *("value", "low", "high", "no_interval", "patients", "records", "slots", "positives"),
)
