"""Results of one group of records: from one number with its interval up to everything about the group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reasonknee_datasets.bench.results.terms import By, Condition, NoInterval, Rule, Scale, Unit


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with its confidence interval.

    Attributes
    ----------
    value : float or None
        None where it is undefined (no positives for a sensitivity, say): never 0, and left out of averages.
    low, high : float or None
        95 % percentile interval over resamples of patients; None where there is none.
    no_interval : str or None
        Why there is none, a key of `WHY_NO_INTERVAL`; None where there is one.
    undefined_resamples : int
        Resamples that left it undefined.
    left_out : int
        If it is an average (a ``*_macro`` total, a mean over slots): the parts left out because they are undefined.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    no_interval: NoInterval | None = None
    undefined_resamples: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a number rests on.

    Attributes
    ----------
    slots, records, patients : int
        Graded slots, the records that they belong to, and their patients.
    positives : int
        Slots whose true grade is not the normal one (0, and 3 for tear location); for totals by record, records that
        have such a slot.
    rarer_patients : int
        In pools, patients who have the commonest grade, or patients who have another: the fewer. In totals, patients
        who have a positive, or patients who have a normal one. Below 10 there is no interval.
    rarest_patients : int
        Patients who have the rarest grade that occurs. Below 10, metrics that weigh every grade alike (balanced
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
    """Metrics by name under one failure rule, and what they rest on."""

    counts: Counts
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was answered at all; read this first.

    Attributes
    ----------
    records, given : int
        Records, and those with a prediction.
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
        What they have in common; ``grades_6_7_merged`` ends at 7 and calls 8 so.
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
    """What a number of localisation rests on.

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
class Group:
    """One group of records: everything, a category, a question ...

    Attributes
    ----------
    by, value : str
        What they have in common: ``("all", "all")``, ``("category", "ligament")``, ``("question", "q19")``,
        ``("slot", "q19.size")``, ``("attribute", "size")``, ``("subregion", "femur_medial_central")``,
        ``("side", "right")``, ``("visit", "00M")``.
    coverage : Coverage
    totals : mapping of rule to Scores
        ``record_exact``, ``slot_micro``, ``question_macro`` and ``category_macro`` for everything, a side and a visit;
        the first two for a category, question and subregion; ``slot_micro`` for a slot and attribute.
    pools : tuple of Pool
        One for each scale, range and condition that occurs.
    localisation : Localisation or None
        None where no boxes were asked for, and for slots and attributes, which have none of their own.
    """

    by: By
    value: str
    coverage: Coverage
    totals: Mapping[Rule, Scores]
    pools: tuple[Pool, ...]
    localisation: Localisation | None
