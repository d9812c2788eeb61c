"""`Table`: a table of a report before it is rendered, and how its numbers are printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from reasonknee_datasets.bench.results import Estimate, NoInterval

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
        As they are printed.
    caption : str
        Explains the columns where their names do not.
    folded : bool
        The HTML page shows it on demand.
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
        columns = ([row[place] for row in self.rows] for place in range(1, len(self.columns)))
        numeric = (False, *(all(_NUMBER.match(cell) for cell in column) for column in columns))
        object.__setattr__(self, "numeric", numeric)


# Why a number has no interval, in few words; `WHY_NO_INTERVAL` explains each. Baselines are never resampled themselves.
_REASON: Mapping[NoInterval, str] = {
    "few_patients": "too few patients",
    "undefined_resamples": "undefined in resamples",
}
LEGEND = "**bold**: better, with the whole interval; worse: worse, with the whole interval"
# Metrics of which less is better.
_ERRORS = frozenset({"mae", "centre_mm"})


def format_count(value: int) -> str:
    """Print a count.

    Examples
    --------
    >>> format_count(76384)
    '76,384'
    """
    return f"{value:,}"


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
    return f"{format_count(value)} {noun}{'s' * (value != 1)}"


def _why(value: Estimate) -> str:
    reason = _REASON.get(value.no_interval) if value.no_interval else None
    return f" [{reason}]" if reason and value.value is not None else ""
