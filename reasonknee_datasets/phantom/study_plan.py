"""Plan of the synthetic study, drawn from a seed: visits, grids, grades and irregularities, before any voxel.

A patient's knees depend on the seed and the patient's number alone, so that they are the same however the work is
shared out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.phantom.anomalies import add_oddities
from reasonknee_datasets.phantom.grade_sampling import (
    MISSING,
    RECORD_SLOTS,
    as_mapping,
    sample_knee,
    sample_missing,
    sample_patient,
)
from reasonknee_datasets.phantom.planned_scan import (
    OFFICIAL_SPLITS,
    PhantomError,
    PlannedVolume,
    Stream,
    seed_of,
    stream,
)
from reasonknee_datasets.phantom.scan_grids import SIZES, Size, sample_geometry
from reasonknee_datasets.schema import SIDES, VISITS

if TYPE_CHECKING:
    from numpy.typing import NDArray


MAX_PATIENTS = 8_999_999  # OAI's patient numbers begin at 9,000,000: the phantom's must never reach them

_SHARES = {"val": 0.10, "test": 0.15}
_VISIT_COUNTS = (0.45, 0.27, 0.16, 0.12)  # with both knees in 55 % this gives 3 volumes a patient, as officially
_BOTH_KNEES = 0.55
_FROM_BASELINE = 0.92
_PATIENTS_FOR_ODDITIES = 3


@dataclass(frozen=True, slots=True, eq=False)
class StudyPlan:
    """Everything about a synthetic release but its voxels and boxes.

    Attributes
    ----------
    seed, patients, size
        Seed and sizes of the plan.
    volumes : tuple of PlannedVolume
        In the order of their mask numbers, which is that of ``all_studies.csv``.
    true_grades : (volumes, 111) int8 array
        Grades to draw; complete.
    read_grades : (volumes, 111) int8 array
        Grades of the records: the same, or `grades.MISSING`.
    """

    seed: int
    patients: int
    size: Size
    volumes: tuple[PlannedVolume, ...]
    true_grades: NDArray[np.int8]
    read_grades: NDArray[np.int8]

    def truth(self, volume: PlannedVolume) -> Mapping[int, Mapping[str, int | None]]:
        """Return the grades to draw, by question and attribute."""
        return as_mapping(self.true_grades[volume.number])

    def reading(self, volume: PlannedVolume) -> Mapping[int, Mapping[str, int | None]]:
        """Return the grades to record, by question and attribute; None is missing."""
        return as_mapping(self.read_grades[volume.number])

    def of_split(self, split: str) -> Iterator[PlannedVolume]:
        """Return a split's volumes in order."""
        return (volume for volume in self.volumes if volume.split == split)


def plan_study(patients: int, *, size: Size = "tiny", seed: int = 0) -> StudyPlan:
    """Plan a synthetic release.

    Parameters
    ----------
    patients : int
        1 or more. From 3 on no split is empty, and every split has both sides, several visits and every category.
    size : {"tiny", "oai"}
        The voxel grid.
    seed : int
        Not negative. The same seed gives the same plan.

    Raises
    ------
    PhantomError
        If one of these is out of range.

    Examples
    --------
    >>> plan = plan_study(6)
    >>> plan.volumes[0].patient[:6], plan.volumes[0].mask_name
    ('000000', 'knee_000.nii.gz')
    """
    _check(patients, size, seed)
    splits = _assign_splits(patients, seed)
    first_of = {split: number for number, split in reversed(list(enumerate(splits, start=1)))}
    volumes = [
        volume
        for number, split in enumerate(splits, start=1)
        for volume in _plan_patient(number, split, size, seed, full=first_of[split] == number)
    ]
    if patients >= _PATIENTS_FOR_ODDITIES:
        volumes = add_oddities(volumes, size, seed)
    ordered = _number(volumes, seed)
    truth, reading = _sample_grades(ordered, seed)
    return StudyPlan(seed, patients, size, ordered, truth, reading)


def _check(patients: int, size: str, seed: int) -> None:
    if not 1 <= patients <= MAX_PATIENTS:
        raise PhantomError(
            f"patients is {patients!r}, but must be from 1 to {MAX_PATIENTS:,}: OAI's own patient numbers begin above "
            "that, and synthetic patients must not be mistaken for them."
        )
    if size not in SIZES:
        raise PhantomError(
            f"Unknown size {size!r}. There are: {', '.join(SIZES)}. 'tiny' is quick, 'oai' has the voxels of real DESS."
        )
    if seed < 0:
        raise PhantomError(f"seed is {seed!r}, but must be 0 or more.")


def _assign_splits(patients: int, seed: int) -> list[str]:
    """Return each patient a split: 75, 10 and 15 %, and at least one patient each from three on."""
    counts = {split: max(1, round(share * patients)) for split, share in _SHARES.items()}
    if patients == 1:
        counts = {"val": 0, "test": 0}
    elif patients < len(OFFICIAL_SPLITS):
        counts = {"val": 0, "test": 1}
    splits = [split for split, count in counts.items() for _ in range(count)]
    splits += ["train"] * (patients - len(splits))
    return [splits[place] for place in stream(seed, Stream.SPLIT).permutation(patients)]


def _plan_patient(number: int, split: str, size: Size, seed: int, *, full: bool) -> Iterator[PlannedVolume]:
    """Plan a patient's scans; a ``full`` one has both knees at several visits, whatever the others have."""
    rng = stream(seed, Stream.PATIENT, number)
    count = 1 + int(rng.choice(len(VISITS), p=_VISIT_COUNTS))
    both, side = bool(rng.random() < _BOTH_KNEES), int(rng.integers(2))
    if full:
        count, both = 2, True
    visits = sorted(int(visit) for visit in rng.permutation(len(VISITS))[:count])
    if full or rng.random() < _FROM_BASELINE:
        visits[0] = 0
    start = date(2004, 2, 1) + timedelta(days=int(rng.integers(840)))
    for visit in visits:
        months = int(VISITS[visit][:-1])
        day = start + timedelta(days=int(months * 30.44) + (int(rng.integers(-25, 60)) if months else 0))
        barcode = 90_000_000 + (number * len(VISITS) + visit) * 16 + int(rng.integers(3))
        for place, knee in enumerate(SIDES if both else SIDES[side : side + 1]):
            code = SIDES.index(knee)
            yield PlannedVolume(
                number=-1,
                patient=f"{number:07d}",
                visit=VISITS[visit],
                side=knee,
                study=f"{day:%Y%m%d}",
                series=str(barcode + 6 * place),
                split=split,
                geometry=sample_geometry(stream(seed, Stream.SCAN, number, visit, code), SIZES[size], knee),
                patient_seed=seed_of(seed, number),
                knee_seed=seed_of(seed, number, 1 + code),
                scan_seed=seed_of(seed, number, 1 + code, 1 + visit, 1),
            )


def _number(volumes: Sequence[PlannedVolume], seed: int) -> tuple[PlannedVolume, ...]:
    """Return the masks their numbers visit by visit, patients and splits mixed, as the official files do."""
    shuffled = [volumes[place] for place in stream(seed, Stream.ORDER).permutation(len(volumes))]
    ordered = sorted(shuffled, key=lambda volume: volume.visit)
    return tuple(replace(volume, number=number) for number, volume in enumerate(ordered))


def _sample_grades(volumes: Sequence[PlannedVolume], seed: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Sample each knee once and take from it the visits that were scanned."""
    truth = np.zeros((len(volumes), len(RECORD_SLOTS)), np.int8)
    reading = truth.copy()
    knees: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for volume in volumes:
        patient, visit, side = volume.key
        knees.setdefault((patient, side), []).append((visit, volume.number))
    for (patient, side), scans in knees.items():
        severity = sample_patient(stream(seed, Stream.KNEE, patient))
        grades = sample_knee(severity, stream(seed, Stream.KNEE, patient, 1 + side), first=min(scans)[0])
        for visit, number in scans:
            missing = sample_missing(stream(seed, Stream.UNREAD, patient, side, visit))
            truth[number] = grades[visit]
            reading[number] = np.where(missing, MISSING, grades[visit])
    return truth, reading
