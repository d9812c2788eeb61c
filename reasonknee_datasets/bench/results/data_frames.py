"""Results as pandas data frames: one row a statistic, in full precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.bench.results.details import Difference, LostShares
from reasonknee_datasets.bench.results.group_results import Estimate, Group

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # no stubs among the test dependencies

_GROUP_COLUMNS = (
    *("by", "group", "kind", "scale", "condition", "rule", "unit", "metric"),
    *("value", "low", "high", "no_interval", "patients", "records", "slots", "positives"),
)


def groups_to_pandas(groups: Iterable[Group]) -> pd.DataFrame:
    """Return every total, metric of a scale and metric of boxes, one a row."""
    import pandas as pd

    rows = ({"by": group.by, "group": group.value} | row for group in groups for row in _rows(group))
    return pd.DataFrame(list(rows), columns=list(_GROUP_COLUMNS))


def differences_to_pandas(rows: Iterable[Difference]) -> pd.DataFrame:
    """Return every difference, one a row, with both values."""
    import pandas as pd

    names = ("kind", "pool", "rule", "unit", "metric", "first", "second", "patients", "records", "positives")
    found = (
        {"by": row.by, "group": row.value}
        | {name: getattr(row, name) for name in names}
        | _interval(row.difference, "difference")
        for row in rows
    )
    return pd.DataFrame(list(found))


def lost_shares_to_pandas(rows: Iterable[LostShares]) -> pd.DataFrame:
    """Return the lost shares of each run and group: one row by grading, one because of the region."""
    import pandas as pd

    found = (
        {"run": row.condition, "by": row.by, "group": row.value, "lost": name}
        | _interval(part, "value")
        | {each: getattr(row, each) for each in ("patients", "records", "positives")}
        for row in rows
        for name, part in (("grading", row.grading), ("region", row.region))
    )
    return pd.DataFrame(list(found))


def _rows(group: Group) -> Iterator[dict[str, Any]]:
    for rule, scores in group.totals.items():
        yield from _metrics(scores.metrics, scores.counts, kind="total", rule=rule)
    for pool in group.pools:
        scale = {"scale": f"{pool.scale} {pool.low}-{pool.high}", "condition": pool.condition}
        for rule, scores in pool.rules.items():
            yield from _metrics(scores.metrics, scores.counts, kind="pool", rule=rule, **scale)
            means = pool.slot_means.get(rule, {})
            yield from _metrics(means, scores.counts, kind="slot_mean", rule=rule, **scale)
    if group.localisation is not None:
        for unit, metrics in group.localisation.units.items():
            yield from _metrics(metrics, group.localisation.counts, kind="localisation", unit=unit)


def _metrics(metrics: Mapping[str, Estimate], counts: Any, **where: str) -> Iterator[dict[str, Any]]:
    names = ("patients", "records", "slots", "positives")
    held = {name: getattr(counts, name) for name in names if hasattr(counts, name)}
    for name, value in metrics.items():
        yield {**where, "metric": name, **_interval(value, "value"), **held}


def _interval(value: Estimate, name: str) -> dict[str, Any]:
    return {name: value.value, "low": value.low, "high": value.high, "no_interval": value.no_interval}
