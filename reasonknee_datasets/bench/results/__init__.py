"""The structure of results: the contents of ``results.json``, as values and as a JSON Schema.

- `Results.groups` holds everything that was counted: one `Group` for ``("all", "all")``, and one for each category,
  question, slot, attribute, subregion, side and visit. A group holds, in reading order,

  - ``coverage``: how much was answered, with the reason for each slot that was not;
  - ``totals``: by the rule for missing answers (`RULES`), the named totals (`TOTALS`) with what they rest on;
  - ``pools``: by scale, range and condition (`CONDITIONS`), the confusion and the metrics of that scale, pooled and as
    means over slots, again by rule;
  - ``localisation``: the metrics of boxes (`BOX_METRICS`) over records and over distinct regions.

- Every number is an `Estimate`: value (null where undefined), interval, why there is no interval, undefined resamples,
  parts left out. `Counts` or `BoxCounts` hold what it rests on (patients, records, positives).
- ``Results.total()`` is the headline: ``record_exact`` of everything; missing answers count as wrong.
- ``conventions`` and ``worst`` show where points were lost; ``baselines`` the scores of answers that do not depend on
  the image, and the paired differences from them.
- ``outcomes`` holds every record's outcome as numpy columns. It stays in memory (`Outcomes.to_table` for a file).
- `Comparison.differences` is a flat list: one `Difference` a statistic; `ErrorDecomposition.rows` one `LostShares` a
  run and group.

``Results.from_json(results.to_json()) == results``, outcomes apart.
"""

from __future__ import annotations

from typing import Any

from reasonknee_datasets.bench.results.details import (
    BoxAlternative,
    Case,
    ConventionCheck,
    Difference,
    LostShares,
    Outcomes,
    ReasoningMetric,
    ReasoningScores,
)
from reasonknee_datasets.bench.results.document import (
    FORMAT,
    Baseline,
    Comparison,
    ErrorDecomposition,
    Results,
    Sampling,
)
from reasonknee_datasets.bench.results.group_results import (
    ABOUT_TOTALS,
    BOX_METRICS,
    CONDITIONS,
    HEADLINE,
    REASONING_METRICS,
    RULES,
    STATISTIC_KINDS,
    TOTALS,
    WHY_NO_INTERVAL,
    BoxCounts,
    By,
    Condition,
    Counts,
    Coverage,
    Estimate,
    Group,
    Localisation,
    NoInterval,
    Pool,
    Rule,
    Scale,
    Scores,
    StatisticKind,
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
    "STATISTIC_KINDS",
    "TOTALS",
    "WHY_NO_INTERVAL",
    "Baseline",
    "BoxAlternative",
    "BoxCounts",
    "By",
    "Case",
    "Comparison",
    "Condition",
    "ConventionCheck",
    "Counts",
    "Coverage",
    "Difference",
    "ErrorDecomposition",
    "Estimate",
    "Group",
    "Localisation",
    "LostShares",
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
    "StatisticKind",
    "Unit",
    "schema",
]


def schema(kind: type[Results] | type[Comparison] | type[ErrorDecomposition] = Results) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``results.json``, or of a comparison, or of an error decomposition.

    Examples
    --------
    >>> schema()["title"], sorted(schema()["$defs"])[:3]
    ('ReasonKnee-Bench results', ['Baseline', 'BoxAlternative', 'BoxCounts'])
    """
    name = {Results: "results", Comparison: "comparison", ErrorDecomposition: "error decomposition"}[kind]
    return make_schema(kind, f"ReasonKnee-Bench {name}")
