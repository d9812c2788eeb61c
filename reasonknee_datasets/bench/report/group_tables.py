"""Tables by group: metrics of a category or attribute, totals of all groups, differences, and lost shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reasonknee_datasets.bench.report.report_table import (
    LEGEND,
    Table,
    format_count,
    format_estimate,
    format_number,
    signed,
)
from reasonknee_datasets.bench.results import (
    CONDITIONS,
    HEADLINE,
    Baseline,
    By,
    Comparison,
    Difference,
    ErrorDecomposition,
    Estimate,
    Group,
    LostShares,
    Results,
    Rule,
)
from reasonknee_datasets.moaks import QUESTIONS

RESTS_ON = ("patients", "records", "positives")
# Rules for missing answers, as names of columns.
RULE_NAMES: Mapping[Rule, str] = {
    "missing_as_wrong": "missing count as wrong",
    "answered_only": "missing left out",
    "missing_as_prior": "missing replaced by train majority",
}
_MISSING = "Missing answers count as wrong"


def metric_tables(results: Results) -> tuple[Table, ...]:
    """Make one table for each category and each attribute: every metric of the scales that its slots have."""
    majority = find_majority(results)
    second = {_key(row): row for row in majority.differences} if majority else {}
    groups = [group for by in ("category", "attribute") for group in results.groups if group.by == by]
    return tuple(_metrics(group, second) for group in groups)


def group_table(results: Results, by: By) -> Table:
    """Make one table of all groups of a kind, with totals alone."""
    majority = find_majority(results)
    rows = [_group(group, majority) for group in results.groups if group.by == by]
    extra = ("majority", "model less majority") if majority else ()
    columns = (by, HEADLINE, "slot_micro", *extra, "IoU", *RESTS_ON)
    used = [place for place in range(len(columns)) if place == 0 or any(row[place] for row in rows)]
    named = tuple(columns[place] for place in used)
    caption = _MISSING
    if "majority" in named:
        caption += f"; majority: {HEADLINE} of question_majority; {LEGEND}"
    cells = tuple(tuple(row[place] for place in used) for row in rows)
    return Table(f"By {by}", named, cells, caption, folded=by != "category", detail=by in ("question", "slot"))


def find_majority(results: Results) -> Baseline | None:
    """Return the baseline ``question_majority`` where the results have it."""
    return next((base for base in results.baselines if base.name == "question_majority"), None)


def find_total(rows: Iterable[Difference], by: str, value: str, metric: str) -> Difference | None:
    """Return the difference of one total, or of one metric of boxes over records."""
    for row in rows:
        ours = (row.by, row.value, row.metric) == (by, value, metric) and row.kind in {"total", "localisation"}
        if ours and row.rule in {"missing_as_wrong", None} and row.unit in {"record", None}:
            return row
    return None


def group_name(by: str, value: str) -> str:
    """Return a group's name in words; a question's id is followed by its subject.

    Examples
    --------
    >>> group_name("question", "q19"), group_name("side", "left")
    ('q19 cartilage lesion, femur medial central', 'left')
    """
    question, _, attribute = value.partition(".")
    if by not in ("question", "slot"):
        return value
    asked = QUESTIONS[int(question[1:])]
    name = f"{question} {asked.finding}, {asked.subregion}".replace("_", " ")
    return f"{name}: {attribute.replace('_', ' ')}" if attribute else name


_Key = tuple[str, str, str, str | None, str]


def _key(row: Difference) -> _Key | None:
    return (row.by, row.value, row.kind, row.pool, row.metric) if row.rule == "missing_as_wrong" else None


def _metrics(group: Group, majority: Mapping[_Key | None, Difference]) -> Table:
    rows: list[tuple[str, ...]] = []
    totals = group.totals["missing_as_wrong"]
    for name, value in totals.metrics.items():
        base = majority.get((group.by, group.value, "total", None, name))
        at_stake = (format_count(getattr(totals.counts, each)) for each in ("patients", "slots", "positives"))
        rows.append(("all slots", name, *_beside(value, base), *at_stake))
    for pool in group.pools:
        scores = pool.rules["missing_as_wrong"]
        slots = f"{pool.scale} {pool.low}-{pool.high}"
        if pool.condition != "all":
            slots += f", {CONDITIONS[pool.condition]}"
        key = f"{pool.scale} {pool.low}-{pool.high} ({pool.condition})"
        counts = tuple(format_count(getattr(scores.counts, each)) for each in ("patients", "slots", "positives"))
        for name, value in scores.metrics.items():
            base = majority.get((group.by, group.value, "pool", key, name))
            rows.append((slots, name, *_beside(value, base), *counts))
    columns: tuple[str, ...] = (
        "scale",
        "metric",
        "value",
        "majority",
        "model less majority",
        "patients",
        "slots",
        "positives",
    )
    caption = f"{_MISSING}. Majority: question_majority; {LEGEND}"
    if not majority:
        rows = [(*row[:3], *row[5:]) for row in rows]
        columns, caption = (*columns[:3], *columns[5:]), _MISSING
    title = f"Metrics of {group.by} {group_name(group.by, group.value)}".replace("_", " ")
    return Table(title, columns, tuple(rows), caption, folded=True)


def _beside(value: Estimate, base: Difference | None) -> tuple[str, str, str]:
    if base is None:
        return (format_estimate(value), "", "")
    return (format_estimate(value), format_number(base.second), signed(base.difference, base.metric))


def _group(group: Group, majority: Baseline | None) -> tuple[str, ...]:
    scores = group.totals["missing_as_wrong"]
    exact, micro = scores.metrics.get(HEADLINE), scores.metrics.get("slot_micro")
    cells = [
        group_name(group.by, group.value),
        format_estimate(exact) if exact else "",
        format_estimate(micro) if micro else "",
    ]
    if majority:
        row = find_total(majority.differences, group.by, group.value, HEADLINE)
        cells += [format_number(row.second), signed(row.difference)] if row else ["", ""]
    boxes = group.localisation
    cells.append(format_estimate(boxes.units["record"]["iou"]) if boxes else "")
    return (*cells, *(format_count(getattr(scores.counts, each)) for each in RESTS_ON))


def comparison_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Make every table of a comparison."""
    rows = [row for row in comparison.differences if row.rule in ("missing_as_wrong", None)]
    everything = [row for row in rows if row.by == "all" and row.kind in ("total", "localisation")]
    categories = [row for row in rows if row.by == "category" and row.metric == HEADLINE]
    rest = [row for row in comparison.differences if row not in everything and row not in categories]
    caption = f"First less second, with the same resamples of patients. {LEGEND}"
    return (
        Table("Difference", _DIFFERENCE, tuple(map(_difference, everything)), caption),
        Table("Difference by category", _DIFFERENCE, tuple(map(_difference, categories)), caption),
        Table("Every difference", _DIFFERENCE, tuple(map(_difference, rest)), caption, folded=True, detail=True),
    )


_DIFFERENCE = ("group", "statistic", "first", "second", "difference", *RESTS_ON)


def _difference(row: Difference) -> tuple[str, ...]:
    where = "everything" if row.by == "all" else f"{row.by} {group_name(row.by, row.value)}"
    what = ", ".join(
        part
        for part in (
            row.metric,
            row.rule and row.rule != "missing_as_wrong" and RULE_NAMES[row.rule],
            row.pool,
            row.unit,
        )
        if part
    )
    counts = (format_count(getattr(row, each)) for each in RESTS_ON)
    return (
        where,
        what,
        format_number(row.first),
        format_number(row.second),
        signed(row.difference, row.metric),
        *counts,
    )


def decomposition_tables(decomposition: ErrorDecomposition) -> tuple[Table, ...]:
    """Make the tables of lost shares: of everything, then by category."""
    whole = [row for row in decomposition.rows if row.by == "all"]
    rest = [row for row in decomposition.rows if row.by != "all"]
    columns = ("run", "group", "lost by grading", "lost because of the region", *RESTS_ON)
    caption = "in bold where the whole interval is above 0"
    return (
        Table("Lost shares", columns, tuple(map(_lost_row, whole)), caption),
        Table("Lost shares by category", columns, tuple(map(_lost_row, rest)), caption),
    )


def _lost_row(row: LostShares) -> tuple[str, ...]:
    group = "everything" if row.by == "all" else f"{row.by} {row.value}"
    counts = (format_count(getattr(row, each)) for each in RESTS_ON)
    return (row.condition, group, format_estimate(row.grading), signed(row.region), *counts)
