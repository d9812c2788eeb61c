"""Tables of a report, the numbers in their cells, and the tables of groups, comparisons and error decompositions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reasonknee_datasets.bench.bootstrap import MIN_PATIENTS
from reasonknee_datasets.bench.group_results import (
    CONDITIONS,
    HEADLINE,
    WHY_NO_INTERVAL,
    By,
    Estimate,
    Group,
    NoInterval,
    Rule,
)
from reasonknee_datasets.bench.results import (
    Baseline,
    Comparison,
    Difference,
    ErrorDecomposition,
    LostShares,
    Results,
    Sampling,
)
from reasonknee_datasets.moaks import QUESTIONS, Question

# A number as `format_estimate` and `signed` print it, or a cell that is empty.
_NUMBER = re.compile(r"(\*\*)?[+-]?[0-9][0-9.,]*(%| \[[^]]*\])?(\*\*| worse)?$|–?$")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report.

    Attributes
    ----------
    title : str
    columns : tuple of str
        The first names the row.
    rows : tuple of tuple of str
        As they are printed. A column that is empty in every row is left out.
    caption : str
        Explains the columns where their names do not. Where cells are marked, a legend follows it.
    folded : bool
        The HTML page and Markdown show it on demand.
    detail : bool
        Left out of Markdown and LaTeX, which name the CSV file instead.
    numeric : tuple of bool
        Columns that hold numbers and nothing else, and are set to the right; never the first. Found once, when the
        table is made: a renderer asks for it at every cell.

    Examples
    --------
    >>> Table("", ("slot", "metric", "value"), (("q01", "mae", "**+0.1**"), ("q02", "mae", "–"))).numeric
    (False, False, True)
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False
    detail: bool = False
    numeric: tuple[bool, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        used = [n for n in range(len(self.columns)) if n == 0 or any(row[n] for row in self.rows)]
        marked = any(cell.startswith("**") or cell.endswith(" worse") for row in self.rows for cell in row)
        if self.rows and len(used) < len(self.columns):
            object.__setattr__(self, "columns", tuple(self.columns[n] for n in used))
            object.__setattr__(self, "rows", tuple(tuple(row[n] for n in used) for row in self.rows))
        if marked and self.caption and "**bold**" not in self.caption:
            object.__setattr__(self, "caption", f"{self.caption}. {LEGEND}")
        columns = ([row[place] for row in self.rows] for place in range(1, len(self.columns)))
        numeric = (False, *(all(_NUMBER.match(cell) for cell in column) for column in columns))
        object.__setattr__(self, "numeric", numeric)


# Why a number has no interval, in few words; `WHY_NO_INTERVAL` explains each. Baselines are never resampled themselves.
SHORT_REASONS: Mapping[NoInterval, str] = {
    "few_patients": "too few patients",
    "undefined_resamples": "undefined in resamples",
}
LEGEND = '**bold** marks a gain and "worse" a loss, where the interval excludes 0'
# Metrics of which less is better.
_ERRORS = frozenset({"mae", "centre_mm"})


def format_number(value: float | None) -> str:
    """Print a statistic to three decimals; an undefined one as a dash, never as 0.

    Examples
    --------
    >>> format_number(0.72345), format_number(None)
    ('0.723', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def format_estimate(value: Estimate) -> str:
    """Print a number with its interval, or with the reason why it has none.

    Examples
    --------
    >>> format_estimate(Estimate(0.7, 0.65, 0.75)), format_estimate(Estimate(0.7, no_interval="few_patients"))
    ('0.700 [0.650, 0.750]', '0.700 [too few patients]')
    """
    if value.value is None or value.low is None or value.high is None:
        return format_number(value.value) + _why(value)
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def signed(value: Estimate, metric: str = "") -> str:
    """Print a difference with its sign: a clear gain in bold, a clear loss with the word "worse".

    Parameters
    ----------
    value : Estimate
    metric : str
        Of `mae` and `centre_mm`, less is better.

    Examples
    --------
    >>> signed(Estimate(0.1, 0.05, 0.15)), signed(Estimate(-0.01, -0.03, 0.01)), signed(Estimate(-0.1, -0.2, -0.05))
    ('**+0.100 [+0.050, +0.150]**', '-0.010 [-0.030, +0.010]', '-0.100 [-0.200, -0.050] worse')
    >>> signed(Estimate(-0.1, -0.2, -0.05), "mae")
    '**-0.100 [-0.200, -0.050]**'
    """
    if value.value is None:
        return format_number(None)
    if value.low is None or value.high is None:
        return f"{value.value:+.3f}{_why(value)}"
    text = f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
    # Twice and half the volume are equally far from the truth: neither sign is a gain.
    if metric == "volume_ratio" or value.low <= 0 <= value.high:
        return text
    return f"**{text}**" if (value.low > 0) != (metric in _ERRORS) else f"{text} worse"


def plural(value: int, noun: str) -> str:
    """Print a count with its noun.

    Examples
    --------
    >>> plural(1, "patient"), plural(2000, "resample")
    ('1 patient', '2,000 resamples')
    """
    return f"{value:,} {noun}{'s' * (value != 1)}"


def _why(value: Estimate) -> str:
    reason = SHORT_REASONS.get(value.no_interval) if value.no_interval else None
    return f" [{reason}]" if reason and value.value is not None else ""


def about_intervals(sampling: Sampling) -> str:
    """Describe the intervals, or why there are none."""
    if not sampling.resamples:
        return "No intervals: no resamples were asked for."
    if sampling.patients < MIN_PATIENTS:
        return (
            f"No intervals: {plural(sampling.patients, 'patient')}; an interval needs at least {MIN_PATIENTS} patients."
        )
    return (
        f"Intervals: {sampling.level:.0%}, percentiles of {plural(sampling.resamples, 'resample')} of "
        f"{plural(sampling.patients, 'patient')} with all their records, seed {sampling.seed}."
    )


def missing_intervals(sampling: Sampling, shown: Iterable[Estimate]) -> Iterator[str]:
    """Explain each reason in the tables for a number without an interval, once."""
    if sampling.resamples and sampling.patients >= MIN_PATIENTS:  # else `about_intervals` says it of all numbers
        for reason in dict.fromkeys(value.no_interval for value in shown if value.value is not None):
            if reason is not None and reason in SHORT_REASONS:
                yield f"No interval, {SHORT_REASONS[reason]}: {WHY_NO_INTERVAL[reason]}."


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
    rows = tuple(_group(group, majority) for group in results.groups if group.by == by)
    columns = (by, HEADLINE, "slot_micro", "majority", "model less majority", "IoU", *RESTS_ON)
    caption = _MISSING + (f"; majority: {HEADLINE} of question_majority" if any(row[3] for row in rows) else "")
    return Table(
        f"By {by}", columns, rows, caption, folded=by != "category", detail=by not in ("category", "attribute")
    )


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
    name = f"{question} {name_subject(asked)}"
    return f"{name}: {attribute.replace('_', ' ')}" if attribute else name


def name_subject(question: Question) -> str:
    """Return a question's finding and subregion in words; once where they have one name.

    Examples
    --------
    >>> name_subject(QUESTIONS[19]), name_subject(QUESTIONS[61])
    ('cartilage lesion, femur medial central', 'posterior cruciate ligament')
    """
    return ", ".join(dict.fromkeys((question.finding, question.subregion))).replace("_", " ")


_Key = tuple[str, str, str, str | None, str]


def _key(row: Difference) -> _Key | None:
    return (row.by, row.value, row.kind, row.pool, row.metric) if row.rule == "missing_as_wrong" else None


def _metrics(group: Group, majority: Mapping[_Key | None, Difference]) -> Table:
    rows: list[tuple[str, ...]] = []
    for pool in group.pools:
        scores = pool.rules["missing_as_wrong"]
        slots = f"{pool.scale} {pool.low}-{pool.high}"
        if pool.condition != "all":
            slots += f", {CONDITIONS[pool.condition]}"
        key = f"{pool.scale} {pool.low}-{pool.high} ({pool.condition})"
        counts = tuple(f"{getattr(scores.counts, each):,}" for each in ("patients", "slots", "positives"))
        for name, value in scores.metrics.items():
            base = majority.get((group.by, group.value, "pool", key, name))
            rows.append((slots, name, *_with_majority(value, base), *counts))
    columns = ("scale", "metric", "value", "majority", "model less majority", "patients", "slots", "positives")
    caption = f"{_MISSING}. Majority: question_majority" if majority else _MISSING
    title = f"Metrics of {group.by} {group_name(group.by, group.value)}".replace("_", " ")
    return Table(title, columns, tuple(rows), caption, folded=True)


def _with_majority(value: Estimate, base: Difference | None) -> tuple[str, str, str]:
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
    row = find_total(majority.differences, group.by, group.value, HEADLINE) if majority else None
    cells += [format_number(row.second), signed(row.difference)] if row else ["", ""]
    boxes = group.localisation
    cells.append(format_estimate(boxes.units["record"]["iou"]) if boxes else "")
    return (*cells, *(f"{getattr(scores.counts, each):,}" for each in RESTS_ON))


def comparison_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Make every table of a comparison."""
    rows = [row for row in comparison.differences if row.rule in ("missing_as_wrong", None)]
    everything = [row for row in rows if row.by == "all" and row.kind in ("total", "localisation")]
    categories = [row for row in rows if row.by == "category" and row.metric == HEADLINE]
    rest = [row for row in comparison.differences if row not in everything and row not in categories]
    caption = "First less second, with the same resamples of patients"
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
    counts = (f"{getattr(row, each):,}" for each in RESTS_ON)
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
    caption = "**bold**: lost because of the region, and the interval excludes 0"
    return (
        Table("Lost shares", columns, tuple(map(_lost_row, whole)), caption),
        Table("Lost shares by category", columns, tuple(map(_lost_row, rest)), caption),
    )


def _lost_row(row: LostShares) -> tuple[str, ...]:
    group = "everything" if row.by == "all" else f"{row.by} {row.value}"
    counts = (f"{getattr(row, each):,}" for each in RESTS_ON)
    # Less lost than with the true region is not a loss.
    region = signed(row.region).removesuffix(" worse")
    return (row.condition, group, format_estimate(row.grading), region, *counts)
