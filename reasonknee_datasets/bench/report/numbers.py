"""How a report prints numbers."""

from __future__ import annotations

from collections.abc import Mapping

from reasonknee_datasets.bench.results import Estimate, NoInterval

# Why a number has no interval, in few words; `WHY_NO_INTERVAL` explains each. Baselines are never resampled themselves.
_REASON: Mapping[NoInterval, str] = {
    "few_patients": "too few patients",
    "undefined_resamples": "undefined in resamples",
}
LEGEND = "**bold**: better, with the whole interval; worse: worse, with the whole interval"
# Metrics of which less is better.
_ERRORS = frozenset({"mae", "centre_mm"})


def count(value: int) -> str:
    """Print a count.

    Examples
    --------
    >>> count(76384)
    '76,384'
    """
    return f"{value:,}"


def number(value: float | None) -> str:
    """Print a statistic to three decimals; an undefined one as a dash, never as 0.

    Examples
    --------
    >>> number(0.72345), number(None)
    ('0.723', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def estimate(value: Estimate) -> str:
    """Print a number with its interval, or with the reason why it has none.

    Examples
    --------
    >>> estimate(Estimate(0.7, 0.65, 0.75)), estimate(Estimate(0.7, no_interval="few_patients"))
    ('0.700 [0.650, 0.750]', '0.700 [too few patients]')
    """
    if value.value is None or value.low is None or value.high is None:
        return number(value.value) + _why(value)
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
        return number(None)
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
    return f"{count(value)} {noun}{'s' * (value != 1)}"


def _why(value: Estimate) -> str:
    reason = _REASON.get(value.no_interval) if value.no_interval else None
    return f" [{reason}]" if reason and value.value is not None else ""
