"""Results beside those of the groups: conventions, worst cases, differences, lost shares, reasoning, outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.results.group_results import By, Estimate, Rule, StatisticKind, Unit

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class BoxAlternative:
    """Another way to read the answered boxes.

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
    """Whether another convention explains the boxes better.

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
class Case:
    """One record with its truth, answer and loss.

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
        What it rests on; under the rule ``answered_only`` the first's, since the two may have answered different slots.
        For localisation ``positives`` is 0.
    """

    by: By
    value: str
    kind: StatisticKind
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


@dataclass(frozen=True, slots=True)
class LostShares:
    """Shares of records that one run lost by grading, and because of the region.

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
class ReasoningMetric:
    """One metric of the reasoning, with what it rests on.

    Attributes
    ----------
    value : Estimate
    count : int
        How many slots or records it is a share of.
    unit : {"slots", "records"}
    patients : int
        How many patients these are of.
    """

    value: Estimate
    count: int
    unit: Literal["slots", "records"]
    patients: int


@dataclass(frozen=True, slots=True)
class ReasoningScores:
    """Metrics of the reasoning of one set of answers; none of them is a part of the headline.

    Attributes
    ----------
    records : int
        Scored records. One without a prediction or without reasoning counts as one whose reasoning is empty.
    with_reasoning : int
        Records with a reasoning before the final answer.
    unseparated : int
        Records of which the final answer cannot be told from the reasoning; they have no consistency.
    metrics : mapping of str to ReasoningMetric
        Of `REASONING_METRICS`, those that were asked for.
    """

    records: int
    with_reasoning: int
    unseparated: int
    metrics: Mapping[str, ReasoningMetric]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Outcome of every record as columns, in the order of the `Truth`.

    Attributes
    ----------
    ids : (N,) tuple of str
    question, patient : (N,) int array
        As in the `Truth`.
    grades, answers, reasons : (N, 3) int8 array
        True grades, answered grades, and why there is none (ids into ``answers.REASONS``); -1 for nothing.
    right : (N,) int8 array
        1 where every slot is right, 0 where one is wrong or has no grade, -1 where a true grade is missing.
    parsed : (N,) bool array
        Every slot has a grade.
    loss : (N,) float array
        0 to 1, see `Case`; NaN where no slot has a true grade.
    iou : (N,) float array
        0 without a box; NaN where none was asked for.
    boxes, true_boxes : (N, 6) int32 array
    has_box : (N,) bool array
    """

    ids: tuple[str, ...]
    question: NDArray[np.int16]
    patient: NDArray[np.int32]
    grades: NDArray[np.int8]
    answers: NDArray[np.int8]
    reasons: NDArray[np.int8]
    right: NDArray[np.int8]
    parsed: NDArray[np.bool_]
    loss: NDArray[np.float64]
    iou: NDArray[np.float64]
    boxes: NDArray[np.int32]
    true_boxes: NDArray[np.int32]
    has_box: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def to_table(self) -> pa.Table:
        """Return them as an Arrow table, for a Parquet file; NaN becomes null."""
        import pyarrow as pa

        wide = {name: getattr(self, name) for name in ("grades", "answers", "reasons", "boxes", "true_boxes")}
        columns = {
            "id": pa.array(self.ids, pa.string()),
            "question_id": pa.array(self.question),
            "right": pa.array(self.right, mask=self.right < 0),
            "parsed": pa.array(self.parsed),
            "loss": pa.array(self.loss, from_pandas=True),
            "iou": pa.array(self.iou, from_pandas=True),
            "has_box": pa.array(self.has_box),
        }
        columns |= {name: pa.array(list(values)) for name, values in wide.items()}
        return pa.table(columns)
