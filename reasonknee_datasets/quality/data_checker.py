"""All data checks over one repository: rows and images are added one by one, findings are collected."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.quality.data_checks import Findings, QualityReport
from reasonknee_datasets.quality.image_checks import (
    ImageStatistics,
    check_brightness,
    check_duplicates,
    check_image,
    check_spacing,
)
from reasonknee_datasets.quality.row_checks import RowChecks
from reasonknee_datasets.release.release_volumes import describe_side
from reasonknee_datasets.schema import VISITS, Quintuple, parse_id, quintuple_id

_PROVENANCE: tuple[Literal["patient", "visit", "side", "study"], ...] = ("patient", "visit", "side", "study")
_APART_MM = 5.0  # between the medial and the lateral boxes; below, the side is not known


@dataclass(frozen=True, slots=True)
class CheckedVolume:
    """One volume: its id, provenance and grid; ``shape`` and ``affine`` are None without an image.

    ``description`` is what the header says, where it is known.
    """

    id: str
    split: str
    patient: str
    visit: str
    side: str
    study: str
    shape: tuple[int, ...] | None
    affine: NDArray[np.float64] | None
    description: str = ""


class DataChecker:
    """Runs all data checks.

    Parameters
    ----------
    volumes : iterable of CheckedVolume
        All volumes of the repository.
    synthetic : bool
        Whether the phantom made them: its grids are coarser than the protocol's.
    """

    def __init__(self, volumes: Iterable[CheckedVolume], *, synthetic: bool) -> None:
        self._volumes = {volume.id: volume for volume in volumes}
        self._synthetic = synthetic
        self._spacing = {
            volume.id: np.linalg.norm(volume.affine[:3, :3], axis=0).tolist()
            for volume in self._volumes.values()
            if volume.affine is not None
        }
        self._findings = Findings()
        self._rows = RowChecks(self._findings)
        # World x of the boxes on the medial and on the lateral side, by volume.
        self._middles: defaultdict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        self._images: dict[str, ImageStatistics] = {}
        self._voxels: dict[str, str] = {}
        self._patients: defaultdict[str, dict[str, str]] = defaultdict(dict)  # an id of each split, by patient
        for volume in self._volumes.values():
            self._patients[volume.patient].setdefault(volume.split, volume.id)
        self._counts = [0, 0]

    def add_row(self, row: Quintuple, split: str) -> None:
        """Check one row of a split."""
        self._counts[0] += 1
        self._rows.check(row)
        self._patients[row["patient"]].setdefault(split, row["id"])
        name = parse_id(row["id"])
        volume = self._volumes.get(row["id"].rpartition("/")[0] if name.question_id is not None else row["id"])
        if volume is None:
            self._findings.add("volume-mismatch", row["id"], "no row of the config volumes has its volume")
            return
        self._check_volume(volume, row, split)
        if name.question_id is not None and row["id"] != quintuple_id(volume.id, row["question_id"]):
            self._findings.add("question-mismatch", row["id"], f"its question_id is {row['question_id']}")
        if volume.shape is None or volume.affine is None:
            return
        if self._rows.check_box(row, volume.shape, self._spacing[volume.id]):
            self._add_middle(volume, row)

    def add_image(self, volume: str, found: ImageStatistics | str, voxels_sha256: str | None = None) -> None:
        """Check one decoded image; a text is the reason why it cannot be decoded."""
        self._counts[1] += 1
        if isinstance(found, str):
            self._findings.add("unreadable-image", volume, found)
        elif check_image(found, volume, self._findings):
            self._images[volume] = found
            if voxels_sha256 is not None:
                self._voxels[volume] = voxels_sha256

    def finish(self, allow: frozenset[str] = frozenset()) -> QualityReport:
        """Run the checks that compare volumes with each other, and report all findings."""
        self._check_patients()
        self._rows.finish()
        for volume in self._volumes.values():
            if volume.shape is not None and volume.affine is not None:
                check_spacing(volume.shape, volume.affine, volume.id, self._synthetic, self._findings)
            self._check_side(volume)
        check_brightness(self._images, self._findings)
        splits = {volume.id: volume.split for volume in self._volumes.values()}
        check_duplicates(self._images, self._voxels, splits, self._findings)
        rows, images = self._counts
        return QualityReport(rows, len(self._volumes), images, self._findings.group(allow))

    def _check_volume(self, volume: CheckedVolume, row: Quintuple, split: str) -> None:
        """Compare a row's columns on its volume with the volume's own row."""
        stated: dict[str, object] = {name: row[name] for name in _PROVENANCE}
        stated["split"] = split
        for name, value in stated.items():
            expected = getattr(volume, name)
            if value != expected:
                message = f"{name} is {value!r}, and that of the volume {volume.id} is {expected!r}"
                self._findings.add("volume-mismatch", row["id"], message)
                return

    def _add_middle(self, volume: CheckedVolume, row: Quintuple) -> None:
        words = row["subregion"].split("_")
        medial, lateral = "medial" in words, "lateral" in words
        if medial == lateral:
            return
        box, affine = row["box"], volume.affine
        assert affine is not None
        middle = float(sum(affine[0, axis] * (box[axis] + box[axis + 3] - 1) / 2 for axis in range(3)))
        self._middles[volume.id][0 if medial else 1].append(middle)

    def _check_side(self, volume: CheckedVolume) -> None:
        """Infer the side from the boxes: lateral ones are on the side away from the other leg."""
        medial, lateral = self._middles[volume.id]
        if not medial or not lateral:
            return
        apart = float(np.median(lateral) - np.median(medial))
        side = "right" if apart > 0 else "left"
        if abs(apart) >= _APART_MM and side != volume.side:
            message = describe_side(volume.side, side, "boxes", volume.description, volume.shape, volume.affine)
            self._findings.add("side-mismatch", volume.id, message, abs(apart))

    def _check_patients(self) -> None:
        by_patient: defaultdict[str, list[CheckedVolume]] = defaultdict(list)
        for volume in self._volumes.values():
            by_patient[volume.patient].append(volume)
        for patient, volumes in by_patient.items():
            self._check_visits(patient, volumes)
        for patient, first in self._patients.items():
            if len(first) > 1:
                held = ", ".join(f"{first[split]} in {split}" for split in sorted(first))
                self._findings.add("patient-in-two-splits", patient, held, len(first))

    def _check_visits(self, patient: str, volumes: list[CheckedVolume]) -> None:
        for volume in volumes:
            if not _is_date(volume.study):
                self._findings.add("visit-order", volume.id, f"the study {volume.study!r} is not a date")
                return
        ordered = sorted(volumes, key=lambda volume: _months(volume.visit))
        for before, after in itertools.pairwise(ordered):
            if before.visit != after.visit and before.study >= after.study:
                message = f"{before.id} is of {before.study}, and {after.id} of {after.study}"
                self._findings.add("visit-order", patient, message)
                return


def _months(visit: str) -> int:
    return int(visit[:-1]) if visit in VISITS else -1


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False
