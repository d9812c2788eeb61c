"""Index of NIfTI volumes by their names, side files and tables, and by the grids of masks."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reasonknee_datasets.errors import ConvertError, GeometryError, VolumeError, missing_extra
from reasonknee_datasets.oai.conversion_errors import Refusal, check_folder
from reasonknee_datasets.oai.image_files import CLEARLY, ImageFile, load_image, match_content, read_labels
from reasonknee_datasets.oai.image_grids import TargetGrid
from reasonknee_datasets.oai.series_identity import Claim, read_side
from reasonknee_datasets.orientation import between
from reasonknee_datasets.safe_paths import read_regular
from reasonknee_datasets.volumes import open_volume

_ENDS = (".nii", ".nii.gz")
_DIGITS = re.compile(r"[0-9]+")
_PATH = re.compile(r"([0-9]{7})/([0-9]{8})/([0-9]{8})$")
_TABLE = re.compile(r"subinfo.*\.xlsx", re.IGNORECASE)
_SIDECAR_BYTES = 1 << 20
# OAIZIB-CM's table has 507 rows, 8 columns and 30 kB.
_TABLE_BYTES = 32 << 20
_TABLE_ROWS = 100_000
_TABLE_COLUMNS = 64
_CENTRE_MM = 1.0
_FEW_MASKS = 64  # of a fifth of a second each
_KNOWN_COLUMNS = {"subjectid", "path", "mrbarcode", "kneeside", "klgrade"}
# Many tools write label maps into the folder of the images.
_LABELS = re.compile(r"(^|[/_.-])(labels?|labelstr|labelsts|masks?|segs?|segmentations?)([/_.-]|$)", re.IGNORECASE)


@dataclass(slots=True)
class ImageIndex:
    """NIfTI volumes by the row that they belong to."""

    root: Path  # the folder that was searched
    places: dict[Claim, list[ImageFile]] = field(default_factory=dict)  # candidates of each row
    unknown: dict[str, str] = field(default_factory=dict)  # volumes that fit no row or several, with the reason


def index_images(root: str | os.PathLike[str], grids: Mapping[Claim, TargetGrid | None]) -> ImageIndex:
    """Match NIfTI volumes with rows.

    Names decide first: a series number, or patient and date with the side where it is needed, in the path or in the
    ``.json`` next to the volume. Then tables (``subInfo_*.xlsx`` of OAIZIB-CM), then the grids of masks; and where few
    masks are left, their labels: the tissues of the right knee fit them clearly better than those of any other.

    `root`: the folder to search. `grids`: the rows, each with the grid of its mask. Raises ConvertError if there is no
    such folder, or a table cannot be read.
    """
    folder = Path(root)
    check_folder(folder, "Name the folder of converted volumes with --nifti.")
    index, leftover = ImageIndex(folder), list[Path]()
    rows, tables = _Rows(grids), _read_tables(folder)
    for path in _volumes(folder):
        relative = path.relative_to(folder).as_posix()
        claims, how = rows.by_words(f"{relative} {_sidecar(path)}"), "names"
        if not claims:
            claims, how = rows.by_key(tables.get(_stem(path), set())), "table"
        if len(claims) == 1:
            index.places.setdefault(claims[0], []).append(ImageFile(str(path), how))
        elif claims:
            named = ", ".join(map(str, claims[:3]))
            index.unknown[str(path)] = f"{path} fits {len(claims)} rows ({named}) by {how}: name its series."
        else:
            leftover.append(path)
    for path in leftover:
        _match_grid(path, grids, index)
    for path in [path for path in leftover if str(path) in index.unknown]:
        _match_labels(path, grids, index)
    return index


class _Rows:
    """The rows by each of their identifiers."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._series: dict[str, list[Claim]] = {}
        self._days: dict[tuple[str, str], list[Claim]] = {}
        self._keys: dict[tuple[str, str, str], Claim] = {}
        for claim in claims:
            self._series.setdefault(claim.series, []).append(claim)
            self._days.setdefault((claim.patient, claim.date), []).append(claim)
            self._keys[claim.patient, claim.date, claim.series] = claim

    def by_key(self, keys: Iterable[tuple[str, str, str]]) -> list[Claim]:
        return [self._keys[key] for key in sorted(keys) if key in self._keys]

    def by_words(self, text: str) -> list[Claim]:
        """Find rows whose identifiers are in a text as whole numbers; dcm2niix joins date and time."""
        words = set(_DIGITS.findall(text))
        words |= {word[:8] for word in words if len(word) == 14} | {word[4:] for word in words if len(word) == 12}
        exact = [claim for word in words for claim in self._series.get(word, ())]
        if exact:
            sure = [claim for claim in exact if {claim.patient, claim.date} & words]
            return sorted(set(sure or exact), key=str)
        patients = [word for word in words if len(word) == 7]
        days = [day for patient in patients for day in words if len(day) == 8 and (patient, day) in self._days]
        found = [claim for patient in patients for day in days for claim in self._days.get((patient, day), ())]
        side = read_side(text)
        if len(found) > 1 and side is not None:
            found = [claim for claim in found if claim.side == side]
        return sorted(set(found), key=str)


def _volumes(folder: Path) -> Iterator[Path]:
    for current, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(current, name)
            if name.endswith(_ENDS) and not _LABELS.search(path.relative_to(folder).as_posix()):
                yield path


def _stem(path: Path) -> str:
    """Name a volume without its ending and without nnU-Net's channel number."""
    return re.sub(r"_0000$", "", path.name.removesuffix(".gz").removesuffix(".nii"))


def _sidecar(path: Path) -> str:
    """Read the identifiers in the .json that dcm2niix writes next to a volume."""
    side = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    try:
        facts = json.loads(read_regular(side, _SIDECAR_BYTES).decode("utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return ""
    keys = ("PatientID", "AccessionNumber", "StudyDate", "AcquisitionDateTime", "SeriesDescription")
    return " ".join(str(facts.get(key, "")) for key in keys) if isinstance(facts, dict) else ""


def _read_tables(folder: Path) -> dict[str, set[tuple[str, str, str]]]:
    """Read ``subInfo_*.xlsx`` tables: (patient, date, series) by the name of the case's volume."""
    paths = [Path(current, name) for current, _, names in os.walk(folder) for name in names if _TABLE.fullmatch(name)]
    if not paths:
        return {}
    cases: dict[str, set[tuple[str, str, str]]] = {}
    volumes = [_stem(path) for path in _volumes(folder)]
    for path in sorted(paths):
        try:
            rows = _workbook_rows(path)
        except OSError as error:
            raise ConvertError(f"{path} cannot be read: {error.strerror or error}. Remove or replace it.") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError, SyntaxError) as error:
            # SyntaxError: ParseError of xml.etree.
            raise ConvertError(f"{path} is not a readable .xlsx table: {error}. Remove or replace it.") from error
        for stem, key in _cases(rows, volumes):
            cases.setdefault(stem, set()).add(key)
    return cases


def _workbook_rows(path: Path) -> list[list[Any]]:
    """Read all cells of a workbook, whatever size it states."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise missing_extra("openpyxl", "dicom", "reading subInfo_*.xlsx") from error
    data = read_regular(path, _TABLE_BYTES)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if (size := sum(info.file_size for info in archive.infolist())) > _TABLE_BYTES:
            raise ValueError(f"it has {size:,} bytes, more than the limit of {_TABLE_BYTES:,}")
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    rows: list[list[Any]] = []
    for sheet in book.worksheets:
        sheet.reset_dimensions()
        rows += map(list, itertools.islice(sheet.iter_rows(values_only=True, max_col=_TABLE_COLUMNS), _TABLE_ROWS))
    book.close()
    return rows


def _cases(rows: Sequence[Sequence[Any]], stems: Sequence[str]) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Join table rows with volumes: a case id is a cell that is a volume's name, or the only number in it."""
    names = [str(cell or "").strip().lower().replace(" ", "") for cell in rows[0]] if rows else []
    if "path" not in names:
        return
    by_word: dict[str, list[str]] = {}
    for stem in stems:
        for word in {stem, *(str(int(number)) for number in _DIGITS.findall(stem)[-1:])}:
            by_word.setdefault(word, []).append(stem)
    for row in rows[1:]:
        match = _PATH.search(str(row[names.index("path")] or "").strip().rstrip("/"))
        if match is None:
            continue
        for name, cell in zip(names, row, strict=False):
            text = re.sub(r"(_0000)?\.nii(\.gz)?$", "", str(cell).strip()) if cell is not None else ""
            for stem in () if name in _KNOWN_COLUMNS else by_word.get(text, ()):
                yield stem, (match[1], match[2], match[3])


def _match_grid(path: Path, grids: Mapping[Claim, TargetGrid | None], index: ImageIndex) -> None:
    """Match a volume that no name identifies with the only mask that has its grid."""
    try:
        image = open_volume(path, cache=None)
        shape, affine = tuple(map(int, image.shape))[:3], np.asarray(image.affine, float)
        oriented = bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
    except VolumeError as error:
        index.unknown[str(path)] = str(error)
        return
    claims = [
        claim
        for claim, grid in grids.items()
        if oriented and grid is not None and sorted(grid.shape) == sorted(shape) and _same_grid(affine, shape, grid)
    ]
    if len(claims) == 1:
        index.places.setdefault(claims[0], []).append(ImageFile(str(path), "grid"))
    elif claims:
        index.unknown[str(path)] = f"{path} has the grid of {len(claims)} masks: name its patient, date and series."
    else:
        index.unknown[str(path)] = f"{path} names no row, and no mask has its grid."


def _match_labels(path: Path, grids: Mapping[Claim, TargetGrid | None], index: ImageIndex) -> None:
    """Match a volume with the one mask of its shape that its tissues fit, among the rows without a volume."""
    try:
        voxels, _, _ = load_image(str(path))
    except Refusal:
        return  # why it cannot be read is noted already
    left = [
        (claim, grid)
        for claim, grid in grids.items()
        if grid is not None and claim not in index.places and sorted(grid.shape) == sorted(voxels.shape)
    ]
    if not 0 < len(left) <= _FEW_MASKS:
        return
    found = [(match, claim) for claim, grid in left if (match := match_content(voxels, read_labels(grid.path)))]
    found.sort(key=lambda each: -each[0].score)
    if not found or not found[0][0].clear or (len(found) > 1 and found[0][0].score < CLEARLY * found[1][0].score):
        index.unknown[str(path)] += f" Its content fits none of {len(left)} masks of its shape clearly best."
        return
    del index.unknown[str(path)]
    index.places.setdefault(found[0][1], []).append(ImageFile(str(path), "content"))


def _same_grid(affine: np.ndarray[Any, Any], shape: tuple[int, ...], grid: TargetGrid) -> bool:
    centres = [a[:3, :3] @ ((np.array(s) - 1) / 2) + a[:3, 3] for a, s in ((affine, shape), (grid.affine, grid.shape))]
    if float(np.linalg.norm(centres[0] - centres[1])) > _CENTRE_MM:
        return False
    try:
        between(affine, shape, grid.affine, grid.shape)
    except GeometryError:
        return False
    return True
