"""The parts of a result, from one number with its interval up to a group of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Rule = Literal["wrong", "parsed", "prior"]
Unit = Literal["record", "region"]
By = Literal["all", "category", "question", "slot", "attribute", "subregion", "side", "visit"]
Condition = Literal["all", "size_above_0", "true_tear", "grades_6_7_merged"]
NoInterval = Literal["undefined", "no_resamples", "few_patients", "undefined_resamples"]
Scale = Literal["ordinal", "nominal", "binary"]

RULES: Mapping[Rule, str] = {
    "wrong": "no grade counts as wrong: as the legal grade farthest from the truth where grades have an order, as the "
    "other class of a binary slot, in a column of its own where they have none",
    "parsed": "slots without a grade, and records that lack one, are left out",
    "prior": "no grade is replaced by the slot's most frequent grade in train",
}
"""What becomes of a slot that ended without a grade."""

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
    """One number, with what is known of its uncertainty.

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


@dataclass(frozen=True, slots=True)
class Misreading:
    """One way in which the boxes may be written other than they were read.

    Attributes
    ----------
    change : str
        In words: ``x and y swapped``.
    mean_iou : float
        What the mean IoU over records would be.
    gain : Estimate
        By how much that is more, with its interval over resamples of patients.
    """

    change: str
    mean_iou: float
    gain: Estimate


@dataclass(frozen=True, slots=True)
class ConventionCheck:
    """Whether another reading of the boxes explains them better.

    Attributes
    ----------
    convention : str
        The name of the ``BoxConvention`` that the numbers are taken to be written in.
    records : int
        Records with a box.
    mean_iou : float
        As read.
    readings : tuple of Misreading
        Those tried, best first, five at most.
    verdict : str or None
        ``x and y swapped would raise the mean IoU from 0.08 to 0.61``; None where no reading is clearly better.
    """

    convention: str
    records: int
    mean_iou: float
    readings: tuple[Misreading, ...]
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the points of ``record_exact`` (rule ``wrong``) went, in one run that gives boxes and grades.

    Within each question, records whose box has an IoU of at least `threshold` are set against the others. What the
    located ones lose is lost by grading; what the others lose beyond that is lost with the location. This tells what
    goes together, not what causes it: compare runs under ``region_given``, ``own_region`` and ``jittered_region`` for
    that.

    Attributes
    ----------
    threshold : float
    located_right, located_wrong, missed_right, missed_wrong : int
        Records by box and grades.
    grading, localisation : Estimate
        Shares of all attributed records; together the share lost. Localisation is negative where missed records are
        graded better.
    unattributed : int
        Records of questions in which none is located, so that nothing can be told apart: not in the shares.
    """

    threshold: float
    located_right: int
    located_wrong: int
    missed_right: int
    missed_wrong: int
    grading: Estimate
    localisation: Estimate
    unattributed: int


@dataclass(frozen=True, slots=True)
class LostPoints:
    """What one run lost against the run with the true region, and that one against a perfect one.

    Attributes
    ----------
    condition : str
        The run's: ``own_region``, say.
    by, value : str
        The group, as in `Group`.
    grading, region : Estimate
        Shares of records: lost even with the true region, and lost beyond that in this run.
    records, patients, positives : int
        What they rest on.
    """

    condition: str
    by: By
    value: str
    grading: Estimate
    region: Estimate
    records: int
    patients: int
    positives: int


@dataclass(frozen=True, slots=True)
class Case:
    """One record and how it went.

    Attributes
    ----------
    id : str
    truth, answer : mapping of attribute to (int or None)
        None where missing.
    reasons : mapping of attribute to str
        Why an attribute has no answer.
    loss : float
        0 to 1: the mean over its slots of the distance to the truth over the greatest possible one (ordinal), or of
        right and wrong; no grade counts 1.
    iou : float or None
        None where no box was asked for; 0 where none was given.
    box, true_box : tuple of 6 ints or None
        Half-open voxels; ``box`` is None where none was given.
    """

    id: str
    truth: Mapping[str, int | None]
    answer: Mapping[str, int | None]
    reasons: Mapping[str, str]
    loss: float
    iou: float | None
    box: tuple[int, ...] | None
    true_box: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One statistic of two answer sets over the same records, first less second, with the same draws.

    Attributes
    ----------
    by, value : str
        The group, as in `Group`.
    kind : {"total", "pool", "slot_mean", "localisation"}
    rule : str or None
        None for localisation.
    pool : str or None
        ``ordinal 0-3 (all)`` for pools and slot means: scale, range and condition.
    unit : {"record", "region"} or None
        For localisation.
    metric : str
    first, second : float or None
        The statistic of each.
    difference : Estimate
    patients, records, positives : int
        What it rests on; under rule ``parsed`` the first's, since the two may have parsed different slots. For
        localisation ``positives`` is 0.
    """

    by: By
    value: str
    kind: Literal["total", "pool", "slot_mean", "localisation"]
    rule: Rule | None
    pool: str | None
    unit: Unit | None
    metric: str
    first: float | None
    second: float | None
    difference: Estimate
    patients: int
    records: int
    positives: int
