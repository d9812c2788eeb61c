"""Render a report's tables as Markdown, HTML, CSV and LaTeX, and as the Hub's evaluation results."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from reasonknee_datasets.bench.group_results import TOTALS
from reasonknee_datasets.bench.report.group_tables import LEGEND, Table, format_number
from reasonknee_datasets.bench.report.plots import CasePicture, Plot
from reasonknee_datasets.bench.results import Results
from reasonknee_datasets.errors import BenchError, missing_extra
from reasonknee_datasets.printable import printable
from reasonknee_datasets.schema import OFFICIAL


def to_html(
    title: str,
    *,
    banners: Sequence[str] = (),
    lead: Sequence[str] = (),
    tables: Sequence[Table] = (),
    plots: Sequence[Plot] = (),
    pictures: Sequence[CasePicture] = (),
) -> str:
    """Write a page.

    Everything that came from elsewhere (a model's name, a system prompt, a volume's error) is escaped, and the page
    forbids itself scripts.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ModuleNotFoundError as error:
        raise missing_extra("jinja2", "bench", "the page of a report") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {
        "b64": lambda data: base64.b64encode(data).decode("ascii"),
        "bold": _bold,
        "bold_words": _bold_words,
    }
    environment.filters |= filters
    template = environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        banners=banners,
        lead=lead,
        tables=tables,
        plots=plots,
        confusions=[plot for plot in plots if plot.title.startswith("Confusion")],
        pictures=pictures,
    )


def _bold_words(text: str) -> Any:
    """Set in bold the parts of a caption that are marked so."""
    from markupsafe import Markup, escape

    parts = text.split("**")
    marked = [
        Markup("<strong>{}</strong>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    ]
    return Markup("").join(marked)


def _bold(text: str) -> Any:
    """Set in bold what the tables mark so; other names may break after an underscore."""
    from markupsafe import Markup, escape

    if text.startswith("**") and text.endswith("**") and len(text) > 4:
        return Markup("<strong>{}</strong>").format(text[2:-2])
    return escape(text).replace("_", Markup("_<wbr>"))


def to_markdown(title: str, lead: Sequence[str], tables: Sequence[Table]) -> str:
    """Write a report: folded tables open on demand, and consecutive tables share one caption.

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
    explained = ""
    for table in tables:
        if table.detail:
            continue
        name = _plain(table.title)
        parts.append(f"<details><summary>{name}</summary>" if table.folded else f"## {name}")
        if table.caption not in ("", explained):
            explained = table.caption
            caption = _paragraph(table.caption).replace(_plain(LEGEND), LEGEND)
            parts.append(f"{caption}.".replace("..", "."))
        marks = ("---:" if numeric else "---" for numeric in table.numeric)
        head = ["| " + " | ".join(map(_cell, table.columns)) + " |", f"|{'|'.join(marks)}|"]
        parts.append("\n".join([*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows)]))
        parts += ["</details>"] * table.folded
    return "\n\n".join(parts) + "\n"


# Characters that could begin a tag, an entity, a link, an image, a link's definition or an automatic link.
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
            yield name, _csv_number(text) if numeric else text


def _csv_number(text: str) -> str:
    """Write a number as other programs read it: a share as a fraction, an undefined number as an empty cell.

    Examples
    --------
    >>> _csv_number("76,384"), _csv_number("88.9%"), _csv_number("–")
    ('76384', '0.889', '')
    """
    if text.endswith("%"):
        return f"{float(text[:-1]) / 100:.3f}"
    return "" if text == "–" else text.replace(",", "")


def _inert(text: str) -> str:
    """Keep a spreadsheet from running a text, such as a model's name, as a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def _escape(text: str) -> str:
    line = " ".join(text.split())
    parts = re.split(r"\*\*(.+?)\*\*", line)
    plain = ["".join(_SPECIAL.get(sign, sign) for sign in part) for part in parts]
    return "".join(rf"\textbf{{{part}}}" if place % 2 else part for place, part in enumerate(plain))


def to_eval_results(results: Results, *, dataset_id: str = OFFICIAL) -> str:
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
