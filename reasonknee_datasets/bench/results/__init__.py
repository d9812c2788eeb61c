"""The structure of results: what stands where in ``results.json``, as values and as a JSON Schema.

- `Results.groups` holds everything that was counted: one `Group` for ``("all", "all")``, and one for each category,
  question, slot, attribute, subregion, side and visit. A group holds, in reading order,

  - ``coverage``: how much was answered, with the reason for each slot that was not;
  - ``totals``: by failure rule (`RULES`), the named totals (`TOTALS`) with what they rest on;
  - ``pools``: by scale, range and condition (`CONDITIONS`), the confusion and the metrics of that scale, pooled and as
    means over slots, again by failure rule;
  - ``localisation``: the metrics of boxes (`BOX_METRICS`) over records and over distinct regions.

- Every number is an `Estimate`: value (null where undefined), interval, why there is no interval, undefined resamples,
  parts left out. What it rests on (patients, records, positives) stands beside it in `Counts` or `BoxCounts`.
- ``Results.total()`` is the headline: ``record_exact`` of everything under rule ``wrong``.
- ``conventions``, ``attribution`` and ``worst`` say where points were lost; ``baselines`` what answers without looking
  score, and the paired differences from them.
- ``outcomes`` holds every record's outcome as numpy columns. It stays in memory (`Outcomes.to_table` for a file).
- `Comparison.differences` is a flat list: one `Difference` a statistic; `Losses.rows` one `LostPoints` a run and group.

``Results.from_json(results.to_json()) == results``, outcomes apart.
"""

from __future__ import annotations

from typing import Any

from reasonknee_datasets.bench.results.document import FORMAT, Baseline, Comparison, Losses, Results, Sampling
from reasonknee_datasets.bench.results.outcome_columns import Outcomes
from reasonknee_datasets.bench.results.reasoning_values import REASONING_METRICS, ReasoningMetric, ReasoningScores
from reasonknee_datasets.bench.results.result_values import (
    ABOUT_TOTALS,
    BOX_METRICS,
    CONDITIONS,
    HEADLINE,
    RULES,
    TOTALS,
    WHY_NO_INTERVAL,
    Attribution,
    BoxCounts,
    By,
    Case,
    Condition,
    ConventionCheck,
    Counts,
    Coverage,
    Difference,
    Estimate,
    Group,
    Localisation,
    LostPoints,
    Misreading,
    NoInterval,
    Pool,
    Rule,
    Scale,
    Scores,
    Unit,
)
from reasonknee_datasets.bench.results.serial import make_schema

__all__ = [
    "ABOUT_TOTALS",
    "BOX_METRICS",
    "CONDITIONS",
    "FORMAT",
    "HEADLINE",
    "REASONING_METRICS",
    "RULES",
    "TOTALS",
    "WHY_NO_INTERVAL",
    "Attribution",
    "Baseline",
    "BoxCounts",
    "By",
    "Case",
    "Comparison",
    "Condition",
    "ConventionCheck",
    "Counts",
    "Coverage",
    "Difference",
    "Estimate",
    "Group",
    "Localisation",
    "Losses",
    "LostPoints",
    "Misreading",
    "NoInterval",
    "Outcomes",
    "Pool",
    "ReasoningMetric",
    "ReasoningScores",
    "Results",
    "Rule",
    "Sampling",
    "Scale",
    "Scores",
    "Unit",
    "schema",
]


def schema(kind: type[Results] | type[Comparison] | type[Losses] = Results) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``results.json``, or of a comparison, or of losses.

    Examples
    --------
    >>> schema()["title"], sorted(schema()["$defs"])[:3]
    ('ReasonKnee-Bench results', ['Attribution', 'Baseline', 'BoxCounts'])
    """
    return make_schema(kind, f"ReasonKnee-Bench {kind.__name__.lower()}")
