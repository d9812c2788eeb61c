"""CSV and LaTeX of a report's tables, and the Hub's evaluation results."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from reasonknee_datasets.bench.report.report_table import Table, format_number
from reasonknee_datasets.bench.results import TOTALS, Results
from reasonknee_datasets.errors import BenchError

DATASET = "rajpurkarlab/3DReasonKnee"
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


def to_eval_results(results: Results, *, dataset_id: str = DATASET) -> str:
    """Write the four totals, and the mean IoU where there are boxes, as the Hub's evaluation-results YAML.

    Parameters
    ----------
    results : Results
    dataset_id : str
        The benchmark's repository on the Hub.

    Raises
    ------
    BenchError
        If the results are of synthetic data: a leaderboard must not hold those.

    Notes
    -----
    Format: https://huggingface.co/docs/hub/eval-results, through ``huggingface_hub``'s own entries. The revision there
    is a commit of the Hub; the notes hold the digest of the prepared repository.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    identity = results.identity
    if identity is None or identity.synthetic is not False:
        got = "an unknown origin" if identity is None or identity.synthetic is None else "synthetic data"
        raise BenchError(
            f"Results for the Hub must be of real data, and these are of {got}. results.json holds them for your own "
            "use."
        )
    scores = results.group().totals["missing_as_wrong"].metrics
    values = {name: scores[name] for name in TOTALS}
    boxes = results.group().localisation
    if boxes is not None:
        values["iou"] = boxes.units["record"]["iou"]
    entries = []
    for name, value in values.items():
        if value.value is None:
            continue
        interval = (
            f"95 % interval {format_number(value.low)} to {format_number(value.high)}; "
            if value.low is not None
            else ""
        )
        notes = (
            f"{interval}{identity.condition or 'condition not stated'}; split {identity.split}, "
            f"{identity.records} records of {identity.patients} patients; prepared repository "
            f"{identity.dataset_revision}; reasonknee_datasets {identity.package_version}"
        )
        entries.append(EvalResultEntry(dataset_id=dataset_id, task_id=name, value=round(value.value, 6), notes=notes))
    return str(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False))
