"""`write_losses`: where one model's points went, over several runs of it."""

from __future__ import annotations

import json
from pathlib import Path

from reasonknee_datasets.bench.report.folder import check_folder, write_folder
from reasonknee_datasets.bench.report.group_tables import RESTS_ON
from reasonknee_datasets.bench.report.html_page import to_html
from reasonknee_datasets.bench.report.markdown import to_markdown
from reasonknee_datasets.bench.report.names import LOSSES
from reasonknee_datasets.bench.report.numbers import count, estimate, signed
from reasonknee_datasets.bench.report.plots import draw_losses
from reasonknee_datasets.bench.report.report_table import Table
from reasonknee_datasets.bench.report.result_tables import identity_table
from reasonknee_datasets.bench.report.write import SYNTHETIC, about_intervals
from reasonknee_datasets.bench.results import HEADLINE, Losses, LostPoints

_COLUMNS = ("run", "group", "lost by grading", "lost because of the region", *RESTS_ON)


def write_losses(losses: Losses, out: str | Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write ``losses.json``, ``losses.md`` and ``losses.html``.

    Parameters
    ----------
    losses : Losses
    out : path
        A new or empty folder.
    overwrite : bool
        Replace an earlier one in the folder.

    Raises
    ------
    BenchError
        If the folder holds something else, or cannot be written.
    MissingExtraError
        If jinja2 or matplotlib is not installed.
    """
    folder = Path(out)
    check_folder(folder, LOSSES, overwrite=overwrite)
    title = f"ReasonKnee-Bench: lost points of {losses.given.model or 'a model'}"
    lead = [
        f"Shares of records that are not right ({HEADLINE}, slots without a grade count as wrong). What is lost with "
        "the true region given is lost by grading; what a run loses beyond that, because of the region that it saw. "
        "Below 0: it lost less than with the true region.",
        f"{about_intervals(losses.sampling)} All runs have the same resamples.",
    ]
    whole = [row for row in losses.rows if row.by == "all"]
    rest = [row for row in losses.rows if row.by != "all"]
    names = (losses.given.condition or "", *(str(each.condition) for each in losses.others))
    tables = [
        Table("Lost points", _COLUMNS, tuple(map(_row, whole)), "in bold where the interval leaves 0 out"),
        Table("Lost points by category", _COLUMNS, tuple(map(_row, rest))),
        identity_table(losses.given, *losses.others, names=names),
    ]
    banners = [SYNTHETIC] if losses.given.synthetic else []
    page = to_html(title, banners=banners, lead=lead, tables=tables, plots=draw_losses(losses))
    contents = {
        LOSSES: (json.dumps(losses.to_json(), allow_nan=False) + "\n").encode(),
        "losses.md": to_markdown(title, [*(f"**{line}**" for line in banners), *lead], tables).encode(),
        "losses.html": page.encode(),
    }
    write_folder(folder, LOSSES, contents)
    return tuple(folder / name for name in contents)


def _row(row: LostPoints) -> tuple[str, ...]:
    group = "everything" if row.by == "all" else f"{row.by} {row.value}"
    counts = (count(getattr(row, each)) for each in RESTS_ON)
    return (row.condition, group, estimate(row.grading), signed(row.region), *counts)
