"""Plan of the synthetic study, drawn from a seed: visits, grids, grades and irregularities, before any voxel.

A patient's knees depend on the seed and the patient's number alone, so that they are the same however the work is
shared out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.phantom.grade_sampling import (
    MISSING,
    RECORD_SLOTS,
    as_mapping,
    sample_knee,
    sample_missing,
)
from reasonknee_datasets.phantom.scan_grids import SIZES, ScanGrid, Size, odd_grids, sample_geometry
from reasonknee_datasets.schema import SIDES, VISITS, Side
from reasonknee_datasets.volumes.reference import Geometry

OFFICIAL_SPLITS = ("train", "val", "test")


class PhantomError(ReasonKneeError, ValueError):
    """A synthetic release that cannot be planned or written."""


class Stream(IntEnum):
    """Purpose of a random stream; a stream is never used for two purposes."""

    SPLIT = 0
    PATIENT = 1
    KNEE = 2
    SCAN = 3
    ODDITY = 4
    ORDER = 5
    UNREAD = 6
    SEED = 7
    RECORD = 8
    BALANCE = 9
    BUILD = 10
    READER = 11


def stream(seed: int, purpose: Stream, *which: int) -> np.random.Generator:
    """Open a random stream that is independent of all other draws."""
    return np.random.default_rng((seed, int(purpose), *which))


def seed_of(seed: int, *which: int) -> int:
    """Derive a seed to hand on."""
    return int(np.random.SeedSequence((seed, int(Stream.SEED), *which)).generate_state(1)[0])


@dataclass(frozen=True, slots=True)
class PlannedVolume:
    """One scan of one knee: a row of the split files."""

    number: int  # number of its mask file, and its row in the grades of `StudyPlan`
    patient: str  # seven digits, 0000001 and up
    # As in the split files, but for ``side``, which is ``right`` or ``left``.
    visit: str
    side: Side
    study: str
    series: str
    split: str  # in the official spelling
    geometry: Geometry
    # For drawing: the patient's build, this knee's lesions, this scan's nuisances.
    patient_seed: int
    knee_seed: int
    scan_seed: int
    has_records: bool = True  # False for the rows that no record belongs to
    empty_label: str | None = None  # a label's name that the mask leaves out
    split_meniscus: bool = False  # the mask shows the medial meniscus in two pieces

    @property
    def side_code(self) -> int:
        """The split files' ``knee_side``: 1 right, 2 left."""
        return 1 if self.side == "right" else 2

    @property
    def image_key(self) -> str:
        """The image's path below ``data/images/``."""
        return f"{self.patient}/{self.visit}/{self.study}_{self.series}_{self.side_code}.nii.gz"

    @property
    def mask_name(self) -> str:
        """The mask's file name: three digits, growing to four."""
        return f"knee_{self.number:03d}.nii.gz"

    @property
    def key(self) -> tuple[int, int, int]:
        """Patient, visit and side as numbers, for `stream`."""
        return int(self.patient), VISITS.index(self.visit), SIDES.index(self.side)


_NO_RECORDS = 50 / 8020  # official rows without records
_ODD = 0.006  # share of scans off the protocol, besides those that are always there
_ALWAYS_ODD = (0, 1, 2)  # of `odd_grids`: 8 slices, a tenth more slices, a shorter field
# Labels that a failed segmentation leaves out: none of them tells medial from lateral, so sides can still be checked.
_EMPTY_LABELS = ("patellar_tendon", "posterior_cruciate_ligament", "anterior_cruciate_ligament")


def add_oddities(volumes: list[PlannedVolume], size: Size, seed: int) -> list[PlannedVolume]:
    """Inject the irregularities of the real release, mostly into volumes of train, each into a separate volume."""
    rng = stream(seed, Stream.ODDITY)
    order = sorted(rng.permutation(len(volumes)).tolist(), key=lambda place: volumes[place].split != "train")
    empty, split, twice, *odd = order[: 3 + len(_ALWAYS_ODD)]
    grids = odd_grids(size)
    for place in np.flatnonzero(rng.random(len(volumes)) < _ODD).tolist():
        volumes[place] = _regrid(volumes[place], grids[int(rng.integers(len(grids)))], seed)
    for place, grid in zip(odd, _ALWAYS_ODD, strict=True):
        volumes[place] = _regrid(volumes[place], grids[grid], seed)
    label = _EMPTY_LABELS[int(rng.integers(len(_EMPTY_LABELS)))]
    volumes[empty] = replace(volumes[empty], empty_label=label)
    volumes[split] = replace(volumes[split], split_meniscus=True)
    _drop_records(volumes, {empty, split, twice, *odd}, rng)
    return [*volumes, _scan_again(volumes[twice], size, seed)]


def _scan_again(volume: PlannedVolume, size: Size, seed: int) -> PlannedVolume:
    """Plan a second series of one knee at one visit."""
    number, visit, side = volume.key
    return replace(
        volume,
        series=str(int(volume.series) + 3),
        geometry=sample_geometry(stream(seed, Stream.SCAN, number, visit, side, 1), SIZES[size], volume.side),
        scan_seed=seed_of(seed, number, 1 + side, 1 + visit, 2),
    )


def _regrid(volume: PlannedVolume, grid: ScanGrid, seed: int) -> PlannedVolume:
    return replace(volume, geometry=sample_geometry(stream(seed, Stream.SCAN, *volume.key, 2), grid, volume.side))


def _drop_records(volumes: list[PlannedVolume], needed: set[int], rng: np.random.Generator) -> None:
    """Leave some rows of train and test without records, where the split keeps both sides and several visits."""
    order = [place for place in rng.permutation(len(volumes)).tolist() if place not in needed]
    for split in ("train", "test"):
        places = [place for place in order if volumes[place].split == split]
        wanted = max(1, round(_NO_RECORDS * len(places)))
        kept = Counter(key for volume in volumes if volume.split == split for key in _spread(volume))
        for place in places:
            if wanted and all(kept[key] > 1 for key in _spread(volumes[place])):
                kept.subtract(_spread(volumes[place]))
                volumes[place] = replace(volumes[place], has_records=False)
                wanted -= 1


def _spread(volume: PlannedVolume) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("side", volume.side), ("visit", volume.visit)


MAX_PATIENTS = 8_999_999  # OAI's patient numbers begin at 9,000,000: the phantom's must never reach them

_SHARES = {"val": 0.10, "test": 0.15}
_VISIT_COUNTS = (0.45, 0.27, 0.16, 0.12)  # with both knees in 55 % this gives 3 volumes a patient, as officially
_BOTH_KNEES = 0.55
_FROM_BASELINE = 0.92
_PATIENTS_FOR_ODDITIES = 3


@dataclass(frozen=True, slots=True, eq=False)
class StudyPlan:
    """Everything about a synthetic release but its voxels and boxes."""

    # Seed and sizes of the plan.
    seed: int
    patients: int
    size: Size
    volumes: tuple[PlannedVolume, ...]  # in the order of their mask numbers, which is that of ``all_studies.csv``
    true_grades: NDArray[np.int8]  # (volumes, 111) int8 array: grades to draw; complete
    read_grades: NDArray[np.int8]  # (volumes, 111) int8 array: grades of the records: the same, or `grades.MISSING`

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
            f"Unknown size {size!r}. Available: {', '.join(SIZES)}. 'tiny' is quick, 'oai' has the voxels of real DESS."
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
        severity = float(stream(seed, Stream.KNEE, patient).standard_normal())
        grades = sample_knee(severity, stream(seed, Stream.KNEE, patient, 1 + side), first=min(scans)[0])
        for visit, number in scans:
            missing = sample_missing(stream(seed, Stream.UNREAD, patient, side, visit))
            truth[number] = grades[visit]
            reading[number] = np.where(missing, MISSING, grades[visit])
    return truth, reading
