"""One planned scan and the random streams that everything about it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.schema import SIDES, VISITS

if TYPE_CHECKING:
    from reasonknee_datasets.schema import Side
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
    """One scan of one knee: a row of the split files.

    Attributes
    ----------
    number : int
        Number of its mask file, and its row in the grades of `StudyPlan`.
    patient : str
        Seven digits, 0000001 and up.
    visit, side, study, series : str
        As in the split files, but for ``side``, which is ``right`` or ``left``.
    split : {"train", "val", "test"}
        In the official spelling.
    geometry : Geometry
        The grid.
    patient_seed, knee_seed, scan_seed : int
        For drawing: the patient's build, this knee's lesions, this scan's nuisances.
    has_records : bool
        False for the rows that no record belongs to.
    empty_label : str or None
        A label's name that the mask leaves out.
    split_meniscus : bool
        The mask shows the medial meniscus in two pieces.
    """

    number: int
    patient: str
    visit: str
    side: Side
    study: str
    series: str
    split: str
    geometry: Geometry
    patient_seed: int
    knee_seed: int
    scan_seed: int
    has_records: bool = True
    empty_label: str | None = None
    split_meniscus: bool = False

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
