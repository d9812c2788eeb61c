"""The official split files: which knee, at which visit, with which image and mask."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.errors import ReleaseError, os_remedy
from reasonknee_datasets.release.paths import OFFICIAL_PREFIX, ReleaseRoot, is_there
from reasonknee_datasets.release.report import Problems
from reasonknee_datasets.safe_paths import open_regular, stays_inside
from reasonknee_datasets.schema import SPLITS, VISITS, Side, Split, volume_id, volume_path

COLUMNS = (
    "patient_id",
    "time",
    "study_folder",
    "series_folder",
    "knee_side",
    "path",
    "image_filepath",
    "label_filepath",
)
OFFICIAL_SPLITS: Mapping[Split, str] = {"train": "train", "validation": "val", "test": "test"}
"""Our names of the splits, and those in official file names."""

_SIDES: Mapping[str, Side] = {"1": "right", "2": "left"}  # verified against OAI's own series index
_MASK = re.compile(r"\.\./data/masks/knee_[0-9]{3,}\.nii\.gz")


@dataclass(frozen=True, slots=True)
class Study:
    """One row of a split file: one series of one knee."""

    split: Split  # ``train``, ``validation`` or ``test``
    # Provenance; ``side`` is ``right`` or ``left``.
    patient: str
    visit: str
    side: Side
    study: str
    series: str
    key: str  # the image's path after ``data/images/``, by which records are joined
    # Where both should be; neither need exist.
    image: Path
    mask: Path
    volume_id: str  # with the series only where the release has two of this knee and visit
    where: str  # file and line, for messages
    folder: str = ""  # folder of the series in an OAI download, such as ``00mDESS/0.C.2/9016403/20050104/10097704``

    @property
    def volume_path(self) -> str:
        """Where a prepared repository puts the volume."""
        return volume_path(self.volume_id)


def read_splits(root: ReleaseRoot, problems: Problems) -> dict[str, Study]:
    """Read all split files.

    Returns dict of str to Study: by `Study.key`, in file order.
    """
    rows: list[tuple[Split, str, dict[str, str]]] = []
    for split, official in OFFICIAL_SPLITS.items():
        rows += [(split, *row) for row in _read_rows(root.data / "split_files" / f"{official}_split.csv", problems)]
    sound = [row for row in rows if _check_row(row[1], row[2], problems)]
    knees = Counter(_knee(row) for _, _, row in sound)
    studies: dict[str, Study] = {}
    masks: dict[Path, str] = {}
    for split, where, row in sound:
        study = _make_study(split, where, row, knees[_knee(row)] > 1, root, problems)
        if study is None:
            continue
        other = studies[study.key].where if study.key in studies else masks.get(study.mask)
        if other is not None:
            problems.add("duplicate-volume", f"image or mask is in {other} already", where=where)
            continue
        studies[study.key] = study
        masks[study.mask] = where
    _check_patients(studies.values(), problems)
    return studies


def is_synthetic(patient: str) -> bool:
    """Check whether a patient is the phantom's (0000001 ...); OAI's never begin with 0.

    Examples
    --------
    >>> is_synthetic("0000001"), is_synthetic("9016403")
    (True, False)
    """
    return patient.startswith("0")


def _read_rows(path: Path, problems: Problems) -> list[tuple[str, dict[str, str]]]:
    """Read one file as (place, row) pairs."""
    name = f"split_files/{path.name}"
    try:
        with os.fdopen(open_regular(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = tuple(reader.fieldnames or ())
            if sorted(found) != sorted(COLUMNS):
                message = f"columns must be {','.join(COLUMNS)}, not {','.join(found) or 'none'}"
                problems.add("split-columns", message, where=name)
                return []
            rows = [(f"{name} line {reader.line_num}", row) for row in reader]
    except OSError as error:
        problems.add(
            "missing-file",
            f"{error.strerror}: {os_remedy(error, 'download it with the rest of the release')}",
            where=name,
        )
        return []
    except (UnicodeDecodeError, csv.Error) as error:
        problems.add("split-columns", f"is not a readable CSV file in UTF-8: {error}", where=name)
        return []
    return rows


def _check_row(where: str, row: Mapping[str | None, str | None] | Mapping[str, str], problems: Problems) -> bool:
    """Check a row's values against the official patterns and against each other."""
    if None in row or None in row.values():
        problems.add("split-row", f"must have {len(COLUMNS)} values, not more or fewer", where=where)
        return False
    row = {str(key): str(value) for key, value in row.items()}
    patient, visit, study, series = (row[key] for key in ("patient_id", "time", "study_folder", "series_folder"))
    image = f"../data/images/{patient}/{visit}/{study}_{series}_{row['knee_side']}.nii.gz"
    faults = (
        (not re.fullmatch("[0-9]{7}", patient), "patient_id", "be seven digits", patient),
        (visit not in VISITS, "time", f"be one of {', '.join(VISITS)}", visit),
        (not re.fullmatch("[0-9]+", study), "study_folder", "be digits", study),
        (not re.fullmatch("[0-9]+", series), "series_folder", "be digits", series),
        (row["knee_side"] not in _SIDES, "knee_side", "be 1 (right) or 2 (left)", row["knee_side"]),
        (_leaves(row["image_filepath"]), "", "", row["image_filepath"]),
        (_leaves(row["label_filepath"]), "", "", row["label_filepath"]),
        (row["image_filepath"] != image, "image_filepath", f"be {image}", row["image_filepath"]),
        (not _MASK.fullmatch(row["label_filepath"]), "label_filepath", "be ../data/masks/knee_NNN.nii.gz", None),
        (not row["path"].endswith(f"/{patient}/{study}/{series}"), "path", "end in patient/study/series", row["path"]),
    )
    for wrong, column, rule, got in faults:
        if wrong and not column:
            problems.add("unsafe-path", f"the path {got!r} leaves the release", where=where)
            return False
        if wrong:
            problems.add("split-row", f"{column} must {rule}, not {got or row[column]!r}", where=where)
            return False
    return True


def _leaves(official: str) -> bool:
    """Check whether a path leaves the ``../data/`` that every official path begins with."""
    return bool(official) and not stays_inside(official.removeprefix(OFFICIAL_PREFIX))


def _knee(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row["patient_id"], row["time"], row["knee_side"]


def _as_spelled(image: Path) -> Path:
    """Find the one file that differs from a missing image only in upper and lower case, as ``.NII.GZ`` does."""
    if is_there(image):  # also without permission, which is reported when the image is read
        return image
    names = [path for path in image.parent.glob("*") if path.name.lower() == image.name.lower()]
    return names[0] if len(names) == 1 and not names[0].is_symlink() else image


def _make_study(
    split: Split, where: str, row: Mapping[str, str], twice: bool, root: ReleaseRoot, problems: Problems
) -> Study | None:
    """Build the study; report a link that leads outside."""
    try:
        image, mask = root.locate(row["image_filepath"]), root.locate(row["label_filepath"])
    except ReleaseError as error:
        problems.add("unsafe-path", str(error), where=where)
        return None
    patient, visit, series, side = row["patient_id"], row["time"], row["series_folder"], _SIDES[row["knee_side"]]
    return Study(
        split=split,
        patient=patient,
        visit=visit,
        side=side,
        study=row["study_folder"],
        series=series,
        key=row["image_filepath"].removeprefix("../data/images/"),
        image=_as_spelled(image),
        mask=mask,
        volume_id=volume_id(patient, visit, side, series if twice else None),
        where=where,
        folder=row["path"].removeprefix("../data/OAI/"),
    )


def _check_patients(studies: Iterable[Study], problems: Problems) -> None:
    """Check that each patient has one split, and that synthetic and real patients are not mixed."""
    homes: dict[str, set[Split]] = {}
    for study in studies:
        homes.setdefault(study.patient, set()).add(study.split)
    for patient, splits in homes.items():
        if len(splits) > 1:
            named = ", ".join(split for split in SPLITS if split in splits)
            problems.add("patient-in-two-splits", f"is in several splits: {named}", where=f"patient {patient}")
    synthetic = sorted(patient for patient in homes if is_synthetic(patient))
    if synthetic and len(synthetic) < len(homes):
        problems.add("mixed-patients", f"{len(synthetic)} synthetic among {len(homes)} patients, first {synthetic[0]}")
