"""Outcome of each row, and the report of a conversion as CSV, JSON and HTML, with the list of series to order."""

from __future__ import annotations

import csv
import html
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from reasonknee_datasets.atomic_files import check_writable, write_files
from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai.conversion_errors import REFUSALS

Status = Literal["converted", "present", "found", "missing", "refused", "pending"]

STATUSES: dict[Status, str] = {
    "converted": "written in this run",
    "present": "already there, written by an earlier run, and on its mask's grid",
    "found": "in the download, and its header agrees (dry run)",
    "missing": "not in the download",
    "refused": "in the download, but not converted: see kind and message",
    "pending": "not reached before the run ended",
}


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """One row of the report.

    Attributes
    ----------
    patient, visit, date, series, side, split : str
        The row; empty where it is not known.
    status : str
        One of `STATUSES`.
    kind : str
        One of `REFUSALS` where the row is refused.
    message : str
        Why it is refused or missing.
    output : str
        The image, relative to the output folder.
    source : str
        Where the series was read.
    shape, spacing : str
        Of the written array, such as 160x384x384 and 0.7x0.3646x0.3646 (mm).
    grid_mm : float or None
        How far the corners of the source's grid lay from the mask's; None without a mask.
    notes : str
        Images that were left out, and identity that could not be proven.
    address : str
        Where the series can be ordered.
    seconds : float
        Time that it took.
    """

    patient: str
    visit: str
    date: str
    series: str
    side: str
    split: str
    status: Status
    kind: str = ""
    message: str = ""
    output: str = ""
    source: str = ""
    shape: str = ""
    spacing: str = ""
    grid_mm: float | None = None
    notes: str = ""
    address: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the row as a mapping of its columns."""
        return asdict(self)


_PACKAGES = ("reasonknee_datasets", "pydicom", "nibabel", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
FOLDER = "convert_report"  # below the output folder

_COLUMNS = tuple(each.name for each in fields(RowOutcome))
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2em .5em;text-align:left;vertical-align:top}"
    ".refused{background:#fdd}.missing{background:#ffc}.converted,.present,.found{background:#efe}"
)


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """Outcome of every row.

    Attributes
    ----------
    rows : tuple of RowOutcome
        In the order of the split files, or of patient, date and series.
    unknown : mapping of str to str
        Files and folders that belong to no row, with the reason.
    folder : Path
        Where the report was written.
    """

    rows: tuple[RowOutcome, ...]
    unknown: dict[str, str]
    folder: Path

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by status, in the order of `STATUSES`."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES if found[status]}

    @property
    def kinds(self) -> dict[str, int]:
        """Number of refused rows by kind, the commonest first."""
        return dict(Counter(row.kind for row in self.rows if row.kind).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the report as a tree of plain values."""
        return {
            "converter": find_converter(),
            "counts": self.counts,
            "kinds": self.kinds,
            "unknown": self.unknown,
            "rows": [row.to_json() for row in self.rows],
        }

    def __str__(self) -> str:
        lines = [", ".join(f"{count:,} {status}" for status, count in self.counts.items()) or "no rows"]
        lines += [f"  {kind}: {count:,} ({REFUSALS[kind]})" for kind, count in self.kinds.items()]
        if self.unknown:
            lines.append(f"  {len(self.unknown):,} places that belong to no row, listed in the report")
        return "\n".join([*lines, f"report: {self.folder / 'report.html'}"])


def find_converter() -> dict[str, str]:
    """Return the versions of the packages that convert images, for the manifest of a prepared repository."""
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def read_converter(images: Path) -> dict[str, str] | None:
    """Read the versions that converted a folder of images; None without a report of `convert`."""
    try:
        tree = json.loads((images.parent / FOLDER / "report.json").read_text(encoding="utf-8"))
        found = tree["converter"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_sound = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if is_sound else None


def make_report_folder(folder: Path) -> None:
    """Make the folder of the report, and check that files can be written in it.

    Raises ConvertError if they cannot.
    """
    try:
        check_writable(folder)
    except OSError as error:
        raise ConvertError(f"Cannot write to {folder}: {error.strerror or error}. Name another folder.") from error


def write_reports(report: ConversionReport) -> None:
    """Write ``report.csv``, ``report.json``, ``report.html``, ``to_order.csv`` and ``to_order.txt``.

    Raises ConvertError if the folder cannot be written.
    """
    missing = [row for row in report.rows if row.status == "missing"]
    texts = {
        "report.csv": _csv(report.rows, _COLUMNS),
        "report.json": json.dumps(report.to_json(), indent=1) + "\n",
        "report.html": "\n".join(_page(report)) + "\n",
        "to_order.csv": _csv(missing, ("patient", "date", "series", "visit", "side", "split", "address")),
        "to_order.txt": "".join(f"{row.address}\n" for row in missing),
    }
    try:
        write_files(report.folder, {name: text.encode() for name, text in texts.items()})
    except OSError as error:
        raise ConvertError(f"Cannot write to {report.folder}: {error.strerror or error}. Name another one.") from error


def _csv(rows: Sequence[RowOutcome], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if (value := getattr(row, column)) is None else value for column in columns])
    return text.getvalue()


def _page(report: ConversionReport) -> Iterator[str]:
    """Write one page without scripts; everything that came from files is escaped."""
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>reasonknee convert</title><style>{_STYLE}</style>"
    yield "<h1>reasonknee convert</h1><table><tr><th>status<th>rows<th>meaning</tr>"
    for status, count in report.counts.items():
        yield f"<tr class={status}><td>{status}<td>{count:,}<td>{html.escape(STATUSES[status])}</tr>"  # type: ignore[index]
    yield "</table>"
    if report.kinds:
        yield "<h2>Refused, by kind</h2><table><tr><th>kind<th>rows<th>meaning</tr>"
        for kind, count in report.kinds.items():
            yield f"<tr><td>{kind}<td>{count:,}<td>{html.escape(REFUSALS[kind])}</tr>"
        yield "</table>"
    if report.unknown:
        yield "<h2>Belonging to no row</h2><table><tr><th>place<th>reason</tr>"
        for place, reason in report.unknown.items():
            yield f"<tr><td>{html.escape(place)}<td>{html.escape(reason)}</tr>"
        yield "</table>"
    yield f"<h2>Every row</h2><table><tr>{''.join(f'<th>{column}' for column in _COLUMNS)}</tr>"
    order = list(STATUSES)[::-1]
    for row in sorted(report.rows, key=lambda row: order.index(row.status)):
        cells = "".join(
            f"<td>{html.escape('' if (value := getattr(row, column)) is None else str(value))}" for column in _COLUMNS
        )
        yield f"<tr class={row.status}>{cells}</tr>"
    yield "</table></html>"
