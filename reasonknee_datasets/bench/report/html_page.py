"""A report as one self-contained HTML page, without scripts, other files or network access."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from reasonknee_datasets.bench.report.case_pictures import CasePicture
from reasonknee_datasets.bench.report.plots import Plot
from reasonknee_datasets.bench.report.report_table import Table
from reasonknee_datasets.errors import missing_extra


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
