"""CSV and LaTeX of a report's tables, from the same tables as its Markdown and its page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from reasonknee_datasets.bench.report.report_table import Table

_INTERVAL = re.compile(r"([+-]?[0-9.,]+) \[([+-]?[0-9.]+), ([+-]?[0-9.]+)\]$")
_NO_INTERVAL = re.compile(r"([+-]?[0-9.]+) \[([^]]*)\]$")
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def to_csv(tables: Sequence[Table]) -> str:
    """Write tables as one CSV text: the table's title first, then every column that any table has.

    An estimate fills up to four columns: the number, ``NAME low``, ``NAME high``, and ``NAME no interval`` with the
    reason. Select one table by its title, then drop the empty columns.

    Examples
    --------
    >>> print(to_csv([Table("Totals", ("total", "value"), (("record_exact", "0.500 [0.400, 0.600]"),))]), end="")
    table,total,value,value low,value high
    Totals,record_exact,0.500,0.400,0.600
    """
    rows = []
    for table in tables:
        for row in table.rows:
            cells = zip(table.columns, row, table.numeric, strict=True)
            rows.append({"table": table.title} | dict(_split(cells)))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def to_latex(tables: Sequence[Table]) -> str:
    r"""Write tables for LaTeX, with the rules of the package ``booktabs``; details are left to the CSV file.

    Examples
    --------
    >>> print(to_latex([Table("Totals", ("total", "value"), (("record_exact", "**0.5**"),))]))
    % Requires \usepackage{booktabs}
    \begin{table}
    \caption{Totals}
    \begin{tabular}{lr}
    \toprule
    total & value \\
    \midrule
    record\_exact & \textbf{0.5} \\
    \bottomrule
    \end{tabular}
    \end{table}
    <BLANKLINE>
    """
    lines = [r"% Requires \usepackage{booktabs}"]
    for table in tables:
        if table.detail:
            continue
        caption = f"{table.title}. {table.caption}" if table.caption else table.title
        body = [" & ".join(map(_escape, row)) + r" \\" for row in (table.columns, *table.rows)]
        align = "".join("r" if numeric else "l" for numeric in table.numeric)
        lines += [r"\begin{table}", rf"\caption{{{_escape(caption)}}}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines += [body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _split(cells: Iterable[tuple[str, str, bool]]) -> Iterable[tuple[str, str]]:
    for name, cell, numeric in cells:
        text = cell.replace("**", "").removesuffix(" worse") if numeric else _inert(cell)
        if numeric and (found := _INTERVAL.match(text)):
            yield from zip((name, f"{name} low", f"{name} high"), found.groups(), strict=True)
        elif numeric and (found := _NO_INTERVAL.match(text)):
            yield from zip((name, f"{name} no interval"), found.groups(), strict=True)
        else:
            yield name, text.replace(",", "") if numeric else text


def _inert(text: str) -> str:
    """Keep a spreadsheet from running a text, such as a model's name, as a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def _escape(text: str) -> str:
    line = " ".join(text.split())
    parts = re.split(r"\*\*(.+?)\*\*", line)
    plain = ["".join(_SPECIAL.get(sign, sign) for sign in part) for part in parts]
    return "".join(rf"\textbf{{{part}}}" if place % 2 else part for place, part in enumerate(plain))
