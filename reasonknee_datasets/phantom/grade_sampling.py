"""Sample grades like a cohort's: skewed to 0, correlated within a patient, never improving.

Every slot has a latent severity: a share of it belongs to the patient, a share to the knee, a share to the compartment,
the rest to the slot itself, and it only ever grows between visits. Cutting it at fixed thresholds gives grades whose
marginals are `GRADE_PREVALENCE`, whose two sides and neighbouring subregions are correlated, and that never improve
at a later visit.

Each knee is sampled at all four visits, scanned or not, so that what a visit shows does not depend on which others were
scanned.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.moaks import QUESTIONS, SLOTS, Question, Slot, find_question
from reasonknee_datasets.schema import VISITS

GRADE_PREVALENCE: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("bone_marrow_lesion", "size"): (0.74, 0.17, 0.06, 0.03),
    ("bone_marrow_lesion", "number"): (0.0, 0.70, 0.20, 0.10),
    ("bone_marrow_lesion", "percent"): (0.0, 0.07, 0.15, 0.78),
    ("cartilage_lesion", "size"): (0.722, 0.118, 0.130, 0.030),
    ("cartilage_lesion", "depth"): (0.45, 0.20, 0.28, 0.07),
    ("osteophyte", "grade"): (0.58, 0.28, 0.09, 0.05),
    ("hoffa_synovitis", "grade"): (0.50, 0.36, 0.11, 0.03),
    ("effusion_synovitis", "grade"): (0.46, 0.36, 0.13, 0.05),
    ("meniscal_extrusion", "grade"): (0.70, 0.15, 0.10, 0.05),
    ("meniscal_cyst", "presence"): (0.98, 0.02),
    ("meniscal_hypertrophy", "presence"): (0.96, 0.04),
    ("meniscal_root_tear", "presence"): (0.96, 0.04),
    ("anterior_cruciate_ligament", "complete_tear"): (0.96, 0.04),
    ("anterior_cruciate_ligament", "insertion_lesion"): (0.94, 0.06),
    ("posterior_cruciate_ligament", "complete_tear"): (0.975, 0.025),
    ("posterior_cruciate_ligament", "insertion_lesion"): (0.96, 0.04),
    ("patellar_tendon", "signal"): (0.90, 0.10),
}
"""Share of each grade. Attributes that need a lesion (number, percent, depth) give shares among the lesions."""

CARTILAGE_ZEROS: Mapping[str, float] = {
    "patella_medial": 0.45,
    "patella_lateral": 0.65,
    "femur_medial_anterior": 0.62,
    "femur_medial_central": 0.55,
    "femur_medial_posterior": 0.80,
    "femur_lateral_anterior": 0.67,
    "femur_lateral_central": 0.80,
    "femur_lateral_posterior": 0.80,
    "tibia_medial_anterior": 0.93,
    "tibia_medial_central": 0.68,
    "tibia_medial_posterior": 0.80,
    "tibia_lateral_anterior": 0.90,
    "tibia_lateral_central": 0.72,
    "tibia_lateral_posterior": 0.74,
}
"""Share of grade 0 in cartilage size by subregion: 0.722 on average, which is what the real val split shows."""


MISSING = -1

RECORD_SLOTS: tuple[Slot, ...] = tuple(slot for slot in SLOTS if QUESTIONS[slot.question_id].in_records)
"""The 111 slots of questions 1 to 62, in the order of a row of grades."""

_TORN = (0.62, 0.20, 0.13, 0.05)  # normal, signal, one simple tear, complex tear
_WORN = (0.68, 0.18, 0.11, 0.03)  # normal, signal, partial maceration, complete maceration
_PROGRESSED = 0.1  # latent growth since the first visit that turns partial maceration (6) into progressive (7)
_REPAIRED = 0.02
_CYST_AFTER_TEAR = 0.7  # a torn meniscus needs this much less latent severity for a cyst

_PATIENT, _KNEE, _COMPARTMENT, _SLOT = (float(np.sqrt(share)) for share in (0.30, 0.10, 0.20, 0.40))
_YEARS = np.array([int(visit[:-1]) / 12 for visit in VISITS])
_RATE, _JUMPS, _JUMP = 0.04, 0.03, 0.5  # drift a year; sudden worsenings a year, and their mean size
_MEAN_DRIFT = 0.08  # over the visits as they are scanned; keeps the shares where they are meant to be

_GATES = {"number": "size", "percent": "size", "depth": "size"}
_HORNS = ("anterior", "body", "posterior")
_SIMPLE_TEARS = (2, 3, 4)


@cache
def slot_column(question_id: int, attribute: str) -> int:
    """Find a slot's place in a row of grades."""
    return next(
        c for c, slot in enumerate(RECORD_SLOTS) if (slot.question_id, slot.attribute) == (question_id, attribute)
    )


def _column_of(finding: str, subregion: str, attribute: str) -> int:
    return slot_column(find_question(f"{subregion}_{finding}").id, attribute)


def _cuts(shares: tuple[float, ...]) -> NDArray[np.float64]:
    below = np.cumsum(shares)[:-1]
    return np.array([NormalDist().inv_cdf(min(max(float(p), 1e-9), 1 - 1e-9)) for p in below])


def _shares(question: Question, attribute: str) -> tuple[float, ...]:
    shares = GRADE_PREVALENCE[question.finding, attribute]
    if (question.finding, attribute) != ("cartilage_lesion", "size"):
        return shares
    zeros = CARTILAGE_ZEROS[question.subregion]
    scale = (1 - zeros) / (1 - shares[0])
    return (zeros, *(share * scale for share in shares[1:]))


@cache
def _thresholds() -> NDArray[np.float64]:
    """Cut points of every slot, (111, 3), infinite where a slot has fewer grades or goes by its own rules."""
    table = np.full((len(RECORD_SLOTS), 3), np.inf)
    for column, slot in enumerate(RECORD_SLOTS):
        question = QUESTIONS[slot.question_id]
        if (question.finding, slot.attribute) in GRADE_PREVALENCE:
            cuts = _cuts(_shares(question, slot.attribute)) + _MEAN_DRIFT
            table[column, : len(cuts)] = cuts
    return table


def _compartment(subregion: str) -> int:
    if subregion.startswith("patella_") or (subregion.startswith("femur") and subregion.endswith("anterior")):
        return 0
    return next((number for number, side in ((1, "medial"), (2, "lateral")) if side in subregion), 3)


@cache
def _gate_columns() -> tuple[tuple[int, int], ...]:
    return tuple(
        (column, slot_column(slot.question_id, _GATES[slot.attribute]))
        for column, slot in enumerate(RECORD_SLOTS)
        if slot.attribute in _GATES
    )


def _severity(patient: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Latent severity of every slot at every visit, (4, 111), never falling along the visits."""
    count = len(RECORD_SLOTS)
    knee, compartments, own = rng.standard_normal(), rng.standard_normal(4), rng.standard_normal(count)
    shared = compartments[[_compartment(slot.subregion) for slot in RECORD_SLOTS]]
    start = _PATIENT * patient + _KNEE * knee + _COMPARTMENT * shared + _SLOT * own
    gated = [column for column, _ in _gate_columns()]
    start[gated] = own[gated]  # the lesion they need already carries what is shared: sharing it twice would skew them
    gaps = np.diff(_YEARS, prepend=0.0)[:, None]
    jumps = (rng.random((len(gaps), count)) < _JUMPS * gaps) * rng.exponential(_JUMP, (len(gaps), count))
    drift = np.cumsum(rng.exponential(_RATE) * gaps + jumps, axis=0)
    severity: NDArray[np.float64] = start + drift
    return severity


def _horn(severity: NDArray[np.float64], first: int, tears: bool, tear: int) -> list[int]:
    """Morphology of one horn at every visit: it either tears (1, then 2-5) or wears (1, then 6-8), never both."""
    cuts = _cuts(_TORN if tears else _WORN) + _MEAN_DRIFT
    stages = np.searchsorted(cuts, severity, side="right")
    if tears:
        return [(0, 1, tear, 5)[stage] for stage in stages]
    grown = (severity - severity[first] > _PROGRESSED) & (stages[first] == 2) & (np.arange(len(stages)) > first)
    return [(0, 1, 7 if more else 6, 8)[stage] for stage, more in zip(stages, grown, strict=True)]


def _tear_location(horns: NDArray[np.int8]) -> list[int]:
    """Name the horn that tore first (the posterior one of several), at every visit from then on; 3 before."""
    torn = (horns >= 2) & (horns <= 5)
    location, out = 3, []
    for visit in range(len(torn)):
        if location == 3 and torn[visit].any():
            location = int(np.flatnonzero(torn[visit]).max())
        out.append(location)
    return out


def _add_meniscus(
    grades: NDArray[np.int8], severity: NDArray[np.float64], side: str, first: int, rng: np.random.Generator
) -> None:
    """Fill in the slots of one meniscus that depend on each other, so that its tissue can be drawn accordingly."""
    horns = []
    for horn in _HORNS:
        column = _column_of("meniscal_morphology", f"{side}_meniscus_{horn}", "morphology")
        grades[:, column] = _horn(severity[:, column], first, bool(rng.random() < 0.5), int(rng.choice(_SIMPLE_TEARS)))
        horns.append(grades[:, column])
    state = np.stack(horns, axis=1)
    presence, location = (_column_of("meniscal_cyst", f"{side}_meniscus", a) for a in ("presence", "tear_location"))
    grades[:, location] = _tear_location(state)
    eased = severity[:, presence] + _CYST_AFTER_TEAR * (grades[:, location] != 3)
    grades[:, presence] = eased > _thresholds()[presence, 0]
    if (state >= 6).any():  # neither an enlarged meniscus nor a torn root can be seen where the tissue is gone
        grades[:, _column_of("meniscal_hypertrophy", f"{side}_meniscus", "presence")] = 0
    if (state[:, 2] >= 6).any():
        grades[:, _column_of("meniscal_root_tear", f"{side}_meniscus_root", "presence")] = 0


def sample_knee(patient: float, rng: np.random.Generator, *, first: int = 0) -> NDArray[np.int8]:
    """Draw one knee's true grades at all four visits.

    Parameters
    ----------
    patient : float
        The severity that both knees of a patient share, in standard deviations.
    rng : numpy.random.Generator
        The knee's own stream.
    first : int
        Index in `VISITS` of the first visit scanned, against which maceration can be progressive (7).

    Returns
    -------
    (4, 111) int8 array
        One row a visit, one column a slot of `RECORD_SLOTS`. No grade improves along the visits.
    """
    severity = _severity(patient, rng)
    grades: NDArray[np.int8] = (severity[:, :, None] >= _thresholds()).sum(axis=2).astype(np.int8)
    for column, gate in _gate_columns():
        grades[:, column] *= grades[:, gate] > 0
    for side in ("medial", "lateral"):
        _add_meniscus(grades, severity, side, first, rng)
    ligament = find_question("anterior_cruciate_ligament").id
    repaired = bool(rng.random() < _REPAIRED)
    grades[:, slot_column(ligament, "repair")] = repaired
    if repaired:
        grades[:, slot_column(ligament, "complete_tear")] = 0
    return grades


def sample_missing(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which slots a visit's readers left ungraded: a category, a question or a single slot, about 2 % in all.

    Returns (111,) bool array.
    """
    categories: dict[str, bool] = {}
    questions: dict[int, bool] = {}
    missing = np.zeros(len(RECORD_SLOTS), np.bool_)
    for column, slot in enumerate(RECORD_SLOTS):
        category = QUESTIONS[slot.question_id].category
        if category not in categories:
            categories[category] = bool(rng.random() < 0.01)
        if slot.question_id not in questions:
            questions[slot.question_id] = bool(rng.random() < 0.008)
        missing[column] = categories[category] or questions[slot.question_id] or rng.random() < 0.004
    return missing


def as_mapping(row: NDArray[np.int8]) -> dict[int, dict[str, int | None]]:
    """Turn a row of grades into question id to attribute to grade; `MISSING` becomes None.

    Examples
    --------
    >>> row = np.zeros(111, np.int8)
    >>> row[0] = MISSING
    >>> as_mapping(row)[1]
    {'size': None, 'number': 0, 'percent': 0}
    """
    grades: dict[int, dict[str, int | None]] = {}
    for slot, grade in zip(RECORD_SLOTS, row.tolist(), strict=True):
        grades.setdefault(slot.question_id, {})[slot.attribute] = None if grade == MISSING else grade
    return grades
