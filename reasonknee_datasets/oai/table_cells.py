"""Tables as text cells: OAI's ASCII and CSV files, and SAS files read by pyreadstat."""

from __future__ import annotations

import csv
import importlib
import io
from pathlib import Path
from typing import Any

from reasonknee_datasets.errors import ConvertError, missing_extra
from reasonknee_datasets.safe_paths import read_regular

SAS_SUFFIXES = (".sas7bdat", ".xpt")
_LARGEST = 1 << 29  # bytes; OAI's largest MOAKS table has some 2,400 rows


def read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a table as text.

    Parameters
    ----------
    path : Path
        ``.sas7bdat`` or ``.xpt`` (SAS, extra ``sas``), or text with a header row that is separated by ``|``, tab or
        comma. Text is UTF-8 or else Latin-1.

    Returns
    -------
    columns : list of str
        Names as written; a name may occur twice.
    rows : list of (int, list of str)
        Line number (1 is the header) and cells.

    Raises
    ------
    ConvertError
        If the file cannot be read, or a row has another number of cells than the header.
    """
    try:
        if path.suffix.lower() in SAS_SUFFIXES:
            return _read_sas(path)
        return _read_text(path)
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error


def _read_text(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    data = read_regular(path, _LARGEST)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # str.splitlines would also cut a row at byte 0x85, which is an ellipsis in Windows' Latin-1.
    lines = io.StringIO(text, newline="")
    head = lines.readline()
    lines.seek(0)
    delimiter = max("|\t,", key=head.count)
    # OAI writes labels with stray quotes into its |-separated files and quotes nothing there.
    if delimiter == "|":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if not columns:
                columns = [name.strip() for name in row]
            elif row:
                rows.append((reader.line_num, _fit(row, len(columns), f"{path} line {reader.line_num}")))
    except csv.Error as error:
        raise ConvertError(f"{path} line {reader.line_num} is not a table row: {error}. Download it again.") from error
    return columns, rows


def _fit(row: list[str], wanted: int, where: str) -> list[str]:
    """Cut empty cells after the last column, and refuse any other number of cells."""
    if len(row) < wanted or any(cell.strip() for cell in row[wanted:]):
        raise ConvertError(f"{where} has {len(row)} cells, but the header names {wanted}. Download the table again.")
    return row[:wanted]


def _read_sas(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        pyreadstat = importlib.import_module("pyreadstat")
    except ImportError as error:
        raise missing_extra("pyreadstat", "sas", "SAS tables") from error
    read = pyreadstat.read_xport if path.suffix.lower() == ".xpt" else pyreadstat.read_sas7bdat
    if not path.is_file():
        raise ConvertError(f"{path} is not a file. Name a table, or a folder of tables.")
    try:
        found, _ = read(str(path), output_format="dict")
    except (pyreadstat.ReadstatError, ValueError) as error:
        raise ConvertError(f"{path} cannot be read as a SAS table: {error}. Download it again.") from error
    columns = list(found)
    rows = zip(*found.values(), strict=True)
    return columns, [(number, [_text(value) for value in row]) for number, row in enumerate(rows, start=2)]


def _text(value: Any) -> str:
    """Write a SAS value as the ASCII tables do; a missing one is empty."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):  # NumPy's float64 too
        return repr(float(value)).removesuffix(".0")
    return str(value).strip()
