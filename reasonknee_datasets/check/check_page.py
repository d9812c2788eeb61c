"""The report of a data check as files: JSON, and an HTML page with pictures of the worst findings."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator
from pathlib import Path

from reasonknee_datasets.atomic_files import check_writable, write_files
from reasonknee_datasets.errors import MissingExtraError, ReasonKneeError, RepositoryError
from reasonknee_datasets.quality import Example, QualityReport
from reasonknee_datasets.schema import parse_id, volume_path

_PICTURES = 12  # of some 30 kB each
_DPI = 45
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2em auto;padding:0 1em;color:#1c2733}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccd;padding:.25em .7em;text-align:left;"
    "vertical-align:top}.error{color:#a33c14;font-weight:600}.warning{color:#8a6d00;font-weight:600}"
    ".allowed{color:#566370}figure{display:inline-block;margin:.6em 1em .6em 0;max-width:34rem}"
    "figcaption{font-size:.85em;overflow-wrap:anywhere}img{max-width:100%}li{overflow-wrap:anywhere}"
)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def make_check_folder(folder: Path) -> None:
    """Make the folder of a report, and check that files can be written in it.

    Raises
    ------
    RepositoryError
        If they cannot.
    """
    try:
        check_writable(folder)
    except OSError as error:
        raise RepositoryError(f"Cannot write to {folder}: {error.strerror or error}. Name another folder.") from error


def write_check_report(
    report: QualityReport, folder: str | os.PathLike[str], data_dir: str | os.PathLike[str], *, pictures: bool = True
) -> list[Path]:
    """Write ``check.json`` and ``check.html``.

    Parameters
    ----------
    report : QualityReport
        Report of `check_data`.
    folder : path
        Made where it is missing; files of an earlier report are replaced.
    data_dir : path
        The repository that was checked, from which the pictures are drawn.
    pictures : bool
        Whether pictures of the worst findings are drawn; needs matplotlib (extra ``figures``).

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    RepositoryError
        If the folder cannot be written.
    """
    drawn = dict(_draw_worst(report, data_dir)) if pictures else {}
    texts = {"check.json": report.to_json(), "check.html": "\n".join(_page(report, str(data_dir), drawn)) + "\n"}
    target = Path(folder)
    try:
        write_files(target, {name: text.encode() for name, text in texts.items()})
    except OSError as error:
        raise RepositoryError(f"Cannot write to {target}: {error.strerror or error}. Name another folder.") from error
    return [target / name for name in texts]


def _draw_worst(report: QualityReport, data_dir: str | os.PathLike[str]) -> Iterator[tuple[Example, bytes | str]]:
    """Draw the worst findings of each check in turn; a text is the reason why one cannot be drawn."""
    ranked = [
        (place, number, example)
        for number, group in enumerate(report.groups)
        for place, example in enumerate(group.examples)
    ]
    for _, _, example in sorted(ranked, key=lambda each: each[:2])[:_PICTURES]:
        try:
            name = parse_id(example.id)
        except RepositoryError:
            continue  # a patient
        try:
            yield example, _draw(data_dir, example.id, name.question_id is not None)
        except MissingExtraError as error:
            yield example, str(error)
        except (ReasonKneeError, ValueError) as error:  # a finding may be an image that cannot be drawn
            yield example, f"cannot be drawn: {error}"


def _draw(data_dir: str | os.PathLike[str], place: str, is_row: bool) -> bytes:
    from reasonknee_datasets.figures import show
    from reasonknee_datasets.load import find_example
    from reasonknee_datasets.sources import find_place, find_volumes, join
    from reasonknee_datasets.volumes import open_volume

    if is_row:
        example = dict(find_example(data_dir, place))
    else:
        root = find_place(data_dir)
        assert root is not None, "the check has found it"
        path = join(find_volumes(None, root), volume_path(place))
        example = {"id": place, "volume": open_volume(path, cache=None)}
    figure = show(example)
    file = io.BytesIO()
    figure.savefig(file, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 80})
    return file.getvalue()


def _page(report: QualityReport, place: str, drawn: dict[Example, bytes | str]) -> Iterator[str]:
    """Write one page without scripts; everything that came from files is escaped."""
    yield (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv="Content-Security-Policy" '
        f'content="{_POLICY}"><title>reasonknee check</title><style>{_STYLE}</style>'
    )
    yield f"<h1>reasonknee check</h1><p>{html.escape(place)}: {report.rows:,} rows, {report.images:,} decoded images."
    if not report.groups:
        yield "<p>Nothing found.</p>"
        return
    yield "<table><tr><th>check<th>severity<th>findings<th>meaning<th>remedy</tr>"
    for group in report.groups:
        tag = "allowed" if group.allowed else group.check.severity
        yield (
            f"<tr><td><a href=#{group.check.name}>{group.check.name}</a><td class={tag}>{tag}<td>{group.count:,}"
            f"<td>{html.escape(group.check.meaning)}<td>{html.escape(group.check.remedy)}</tr>"
        )
    yield "</table>"
    for group in report.groups:
        yield f"<h2 id={group.check.name}>{group.check.name}: {group.count:,}</h2><ul>"
        yield from (
            f"<li><code>{html.escape(example.id)}</code>: {html.escape(example.message)}" for example in group.examples
        )
        yield "</ul>"
        for example in group.examples:
            if example in drawn:
                yield _figure(example, drawn[example])


def _figure(example: Example, picture: bytes | str) -> str:
    caption = f"<figcaption><code>{html.escape(example.id)}</code> {html.escape(example.message)}</figcaption>"
    if isinstance(picture, str):
        return f"<figure><p>{html.escape(picture)}</p>{caption}</figure>"
    data = base64.b64encode(picture).decode("ascii")
    return f'<figure><img alt="{html.escape(example.id)}" src="data:image/jpeg;base64,{data}">{caption}</figure>'
