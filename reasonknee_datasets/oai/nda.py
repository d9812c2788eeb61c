"""Index files of OAI downloads: NDA's ``image03.txt`` and OAI's own ``contents*.csv``."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai.proof import is_dess, read_side, read_visit
from reasonknee_datasets.private_files import open_regular
from reasonknee_datasets.schema import Side

_SERIES = re.compile(r"(?:^|/)([0-9]{7})/([0-9]{8})/([0-9]{8})(?:\.tar\.gz|\.tgz|\.zip)?$")
_CONTENTS = re.compile(r"contents.*\.csv", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One series as an index lists it.

    Parameters
    ----------
    where : str
        File and line, for messages.
    address : str
        NDA's ``s3://`` address; empty where the index has none.
    description : str
        Such as SAG_3D_DESS_RIGHT; empty where the index has none.
    side : {"right", "left"} or None
        From the descriptions.
    visit : str or None
        Such as 00M.
    contradiction : str
        Contradictions within the row; empty for most.
    """

    where: str
    address: str
    description: str
    side: Side | None
    visit: str | None
    contradiction: str = ""

    @property
    def is_dess(self) -> bool:
        """Whether the row is that of a sagittal DESS series, as far as it states it."""
        return not self.description or is_dess(self.description)


def is_index(name: str) -> bool:
    """Report whether a file is one of the known index files, by its name."""
    return name.lower() == "image03.txt" or _CONTENTS.fullmatch(name) is not None


def read_index(path: Path) -> dict[tuple[str, str, str], IndexRow]:
    """Read one index file by (patient, date, series); rows without a series are left out.

    ``image03.txt`` is separated by tabs and has two header rows, of which the second describes the columns.
    """
    rows: dict[tuple[str, str, str], IndexRow] = {}
    for number, row in _rows(path):
        address = row.get("image_file", "")
        match = _SERIES.search(address)
        if match:
            key = (match[1], match[2], match[3])
        else:
            folder = _SERIES.search(f"{row.get('folder', '')}")
            barcode = re.fullmatch(r"0?166([0-9]{8})", row.get("barcode", ""))
            if folder:
                key = (folder[1], folder[2], folder[3])
            elif barcode:
                key = (row.get("participantid", ""), row.get("studydate", ""), barcode[1])
            else:
                continue
        rows[key] = _make_row(f"{path} line {number}", address, row)
    return rows


def _make_row(where: str, address: str, row: Mapping[str, str]) -> IndexRow:
    description = row.get("image_description") or row.get("seriesdescription") or ""
    study = row.get("comments_misc") or row.get("studydescription") or ""
    sides = {side for side in map(read_side, (description, study)) if side is not None}
    contradiction = f"{description!r} and {study!r}" if len(sides) == 2 else ""
    side = sides.pop() if len(sides) == 1 else None
    return IndexRow(where, address, description.strip(), side, read_visit(study), contradiction)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the rows of a delimited file by lower-case column name; a file that breaks off ends there."""
    try:
        descriptor = open_regular(path)
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error.strerror}. Download it again, or remove it.") from error
    with os.fdopen(descriptor, encoding="utf-8-sig", errors="replace", newline="") as file:
        delimiter = "\t" if path.name.lower().endswith(".txt") else ","
        reader = csv.reader((line.replace("\0", "") for line in file), delimiter=delimiter)
        try:
            names = [name.strip().lower() for name in next(reader, [])]
            for values in reader:
                # The second header row of NDA's files has a sentence in every column and no address in image_file.
                yield reader.line_num, dict(zip(names, (value.strip() for value in values), strict=False))
        except csv.Error:
            return
