"""How a report prints numbers."""

from __future__ import annotations

from reasonknee_datasets.bench.results import Estimate


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
    """Print a number with its interval, or without where there is none.

    Examples
    --------
    >>> estimate(Estimate(0.7, 0.65, 0.75)), estimate(Estimate(0.7, no_interval="few_patients"))
    ('0.700 [0.650, 0.750]', '0.700')
    """
    if value.value is None or value.low is None or value.high is None:
        return number(value.value)
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def signed(value: Estimate) -> str:
    """Print a difference with its sign, in bold where its interval leaves 0 out.

    Examples
    --------
    >>> signed(Estimate(0.1, 0.05, 0.15)), signed(Estimate(-0.01, -0.03, 0.01))
    ('**+0.100 [+0.050, +0.150]**', '-0.010 [-0.030, +0.010]')
    """
    if value.value is None:
        return number(None)
    if value.low is None or value.high is None:
        return f"{value.value:+.3f}"
    text = f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
    return f"**{text}**" if value.low > 0 or value.high < 0 else text
