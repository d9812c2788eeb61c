"""The report's table about the reasoning."""

from __future__ import annotations

from reasonknee_datasets.bench.report.numbers import count, estimate
from reasonknee_datasets.bench.report.report_table import Table
from reasonknee_datasets.bench.results import REASONING_METRICS, Results


def reasoning_tables(results: Results) -> tuple[Table, ...]:
    """Return the table about the reasoning; none where no text had any."""
    found = results.reasoning
    if found is None:
        return ()
    rows = tuple(
        (name, estimate(metric.value), f"{count(metric.count)} {metric.unit}", count(metric.patients), about)
        for name, about in REASONING_METRICS.items()
        if (metric := found.metrics.get(name)) is not None
    )
    caption = (
        f"{count(found.with_reasoning)} of {count(found.records)} records have reasoning before the final answer; the "
        "others count as empty. These metrics are not a part of any total"
    )
    if found.unseparated:
        caption += f". In {count(found.unseparated)} the final answer cannot be told from it: no consistency there"
    return (Table("Reasoning", ("metric", "value", "share of", "patients", ""), rows, caption),)
