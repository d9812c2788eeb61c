"""A report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reasonknee_datasets.bench.report.report_table import LEGEND, Table
from reasonknee_datasets.printable import printable


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
    parts = [f"# {_plain(title)}", *[_paragraph(line) for line in lead]]
    for table in tables:
        if table.detail:
            continue
        parts.append(f"## {_plain(table.title)}")
        if table.caption:
            caption = _paragraph(table.caption).replace(_plain(LEGEND), LEGEND)
            parts.append(f"{caption}.".replace("..", "."))
        marks = ("---:" if numeric else "---" for numeric in table.numeric)
        head = ["| " + " | ".join(map(_cell, table.columns)) + " |", f"|{'|'.join(marks)}|"]
        parts.append("\n".join([*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows)]))
    return "\n\n".join(parts) + "\n"


# What could begin a tag, an entity, a link, an image, a link's definition or an address that is linked by itself.
_ACTIVE = re.compile(r"[\\`*~]|(?<=\])[(\[:]|(?<=:)(?=//)|&(?=#?\w+;)")


def _plain(text: str) -> str:
    """Keep a text on one line, and every character of it text: it may be a model's name or a system prompt."""
    line = printable(" ".join(text.split()))
    if len(line) > 4 and line.startswith("**") and line.endswith("**"):
        return f"**{_plain(line[2:-2])}**"
    return _ACTIVE.sub(r"\\\g<0>", line).replace("<", "&lt;")


def _paragraph(text: str) -> str:
    """Keep the first character of a paragraph from making it a heading, a quote, a rule or a table."""
    return re.sub(r"^[#>=+|-]", r"\\\g<0>", _plain(text))


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")
