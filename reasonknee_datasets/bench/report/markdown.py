"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from reasonknee_datasets.bench.report.table import Table


def to_markdown(title: str, lead: Sequence[str], tables: Sequence[Table]) -> str:
    """Write a report.

    Parameters
    ----------
    title : str
    lead : sequence of str
        Paragraphs before the tables.
    tables : sequence of Table

    Examples
    --------
    >>> print(to_markdown("Report", [], [Table("Totals", ("total", "value"), (("record_exact", "0.5"),))]))
    # Report
    <BLANKLINE>
    ## Totals
    <BLANKLINE>
    | total | value |
    |---|---:|
    | record_exact | 0.5 |
    <BLANKLINE>
    """
    parts = [f"# {_plain(title)}", *[_plain(line) for line in lead]]
    for table in tables:
        parts.append(f"## {table.title}")
        if table.caption:
            parts.append(f"{_plain(table.caption)}.".replace("..", "."))
        marks = ("---:" if numeric else "---" for numeric in table.numeric)
        head = ["| " + " | ".join(table.columns) + " |", f"|{'|'.join(marks)}|"]
        parts.append("\n".join([*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows)]))
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Keep text of others (a model's name, a system prompt) from becoming markup."""
    return text.replace("<", "&lt;").replace("\r", " ")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")
