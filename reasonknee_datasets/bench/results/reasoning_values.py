"""Results about the reasoning that precedes the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from reasonknee_datasets.bench.results.result_values import Estimate

REASONING_METRICS: Mapping[str, str] = {
    "consistency": "share of answered grades that the reasoning states too",
    "contradicted": "share of answered grades of which the reasoning states another, or several",
    "not_stated": "share of answered grades of which the reasoning states none",
    "coverage": "share of the asked attributes that the reasoning assesses",
    "grounding": "share of records that name the asked subregion, and no wrong side or slice",
    "wrong_subregion": "share of records that name another subregion instead of the asked one",
    "wrong_side": "share of records naming a side of the body that name the other one",
    "outside_box": "share of records stating slice numbers that state one outside the true box",
    "agreement": "mean ROUGE-L (summary level, F) with the steps of the reference: the wording of a fixed template",
}
"""What is measured of reasoning, in the order of the report."""


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
