"""Index of an OAI download: which series are where, by patient, date and series.

Any depth and any names of the folders above are accepted. A path that ends in patient, date and series is indexed by
its names; any other folder or archive by the headers of its files, each of its series. What is named is a claim only:
the header proves it when the series is converted. The download's own index files (NDA's ``image03.txt`` and OAI's
``contents*.csv``) are read on the way.
"""

from __future__ import annotations

import csv
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai.archives import SeriesPlace, is_tar, is_zip
from reasonknee_datasets.oai.conversion_errors import Refusal, check_folder
from reasonknee_datasets.oai.series import peek_headers
from reasonknee_datasets.oai.series_identity import is_dess, read_series_number, read_side, read_visit
from reasonknee_datasets.safe_paths import open_regular
from reasonknee_datasets.schema import Side

_SERIES = re.compile(r"(?:^|/)([0-9]{7})/([0-9]{8})/([0-9]{8})(?:\.tar\.gz|\.tgz|\.zip)?$")
_CONTENTS = re.compile(r"contents.*\.csv", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One series as an index lists it."""

    where: str  # file and line, for messages
    address: str  # NDA's ``s3://`` address; empty where the index has none
    description: str  # such as SAG_3D_DESS_RIGHT; empty where the index has none
    side: Side | None  # from the descriptions
    visit: str | None  # such as 00M
    contradiction: str = ""  # contradictions within the row; empty for most

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
    for number, row in _index_rows(path):
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


def _index_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
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


_NAMED = re.compile(r"(?:^|/)([0-9]{7})/(?:data/)?((?:19|20)[0-9]{6})/([0-9]{8})(?:\.tar|\.tar\.gz|\.tgz|\.zip)?$")
_ZIP_ENTRIES = 20_000_000
# Folder of every release by visit, as OAI names them.
RELEASE_VISITS = {
    **dict.fromkeys(("0.C.2", "0.E.1"), "00M"),
    **dict.fromkeys(("1.C.2", "1.E.1"), "12M"),
    "2.D.2": "18M",
    **dict.fromkeys(("3.C.2", "3.E.1"), "24M"),
    "4.G.1": "30M",
    **dict.fromkeys(("5.C.1", "5.E.1"), "36M"),
    **dict.fromkeys(("6.C.1", "6.E.1"), "48M"),
    **dict.fromkeys(("8.C.1", "8.E.1"), "72M"),
    **dict.fromkeys(("10.C.1", "10.E.1"), "96M"),
}
_MONTH_FOLDER = re.compile(r"([0-9]{2})m(?:DESS)?", re.IGNORECASE)

Key = tuple[str, str, str]


@dataclass(slots=True)
class DownloadIndex:
    """Series of a download."""

    root: Path  # the folder that was searched
    places: dict[Key, list[SeriesPlace]] = field(default_factory=dict)  # every place that claims to hold the series
    # Rows of NDA's and OAI's own index files, whether their series is on disk or not.
    listed: dict[Key, IndexRow] = field(default_factory=dict)
    # Places with files of unknown series, with the reason.
    unknown: dict[SeriesPlace, str] = field(default_factory=dict)

    def add(self, key: Key, place: SeriesPlace) -> None:
        """Add a place, once."""
        places = self.places.setdefault(key, [])
        if place not in places:
            places.append(place)


def index_download(root: str | os.PathLike[str]) -> DownloadIndex:
    """Search a folder for series.

    `root`: NDA packages, ``results`` trees, zip files of them, or any folder above. Raises ConvertError if the folder
    does not exist.
    """
    folder = Path(root)
    check_folder(folder, "Name the folder of the OAI download with --oai.")
    index = DownloadIndex(folder)
    for place in _candidates(folder, index):
        path = f"{place.path}/{place.inside}".rstrip("/").replace(os.sep, "/")
        key = _key_of_path(path)
        if key is not None:
            index.add(key, place)
        else:
            _add_by_header(place, path, index)
    return index


def visit_of(place: str, study_description: str) -> str | None:
    """Find the visit of a series from its StudyDescription, else from the names of its folders."""
    named = read_visit(study_description)
    if named is not None:
        return named
    for part in reversed(unquote(place).replace("\\", "/").split("/")):
        if part in RELEASE_VISITS:
            return RELEASE_VISITS[part]
    months = [match[1] for part in unquote(place).split("/") if (match := _MONTH_FOLDER.fullmatch(part))]
    return f"{months[-1]}M" if months else None


def _candidates(folder: Path, index: DownloadIndex) -> Iterator[SeriesPlace]:
    """List folders with files, tar archives, and both within zip archives; read index files on the way."""
    # Links to folders are not followed: they could lead round in circles.
    for current, folders, names in os.walk(folder):
        folders.sort()
        loose = False
        for name in sorted(names):
            path = Path(current, name)
            if is_tar(name):
                yield SeriesPlace(str(path))
            elif is_zip(name):
                yield from _zip_candidates(path, index)
            elif is_index(name):
                index.listed.update(read_index(path))
            else:
                loose = True
        if loose:
            yield SeriesPlace(current)


def _zip_candidates(path: Path, index: DownloadIndex) -> Iterator[SeriesPlace]:
    """List the folders and tar archives within a zip file; its members' names are never used as paths."""
    found: dict[str, None] = {}
    try:
        with os.fdopen(open_regular(path), "rb") as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) > _ZIP_ENTRIES:
                raise zipfile.BadZipFile(f"{len(infos):,} members")
            for info in infos:
                if not info.is_dir():
                    found[info.filename if is_tar(info.filename) else info.filename.rpartition("/")[0]] = None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        index.unknown[SeriesPlace(str(path))] = f"{path} cannot be read as a zip archive ({error}). Download it again."
    for inside in found:
        yield SeriesPlace(str(path), inside)


def _key_of_path(path: str) -> Key | None:
    match = _NAMED.search(unquote(path))
    return (match[1], match[2], match[3]) if match else None


def _add_by_header(place: SeriesPlace, path: str, index: DownloadIndex) -> None:
    """Index a place that is not named after its series by the headers of its files, else by the folders above it."""
    known = 0
    try:
        for header in peek_headers(place):
            series = read_series_number(header)
            key = (header.patient, header.study_date, series) if series is not None else _key_above(path)
            if key is None or not all(key):
                index.unknown[place] = (
                    f"{place} is not named patient/date/series, and its header does not have them (PatientID "
                    f"{header.patient!r}, StudyDate {header.study_date!r}, AccessionNumber {header.accession!r})."
                )
                continue
            index.add(key, place)
            known += 1
    except Refusal as error:
        if not known:  # the conversion of a known series names the damage
            index.unknown[place] = str(error)


def _key_above(path: str) -> Key | None:
    """Find patient, date and series in the folders above a place, the nearest ones."""
    folder = path.rpartition("/")[0]
    while folder:
        key = _key_of_path(folder)
        if key is not None:
            return key
        folder = folder.rpartition("/")[0]
    return None
