"""The knees that are measured: every slot runs through its legal grades, over both sides, all layouts and tilts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom.grade_sampling import RECORD_SLOTS
from reasonknee_datasets.phantom.knee import KneeSpec
from reasonknee_datasets.phantom.scan_grids import SIZES
from reasonknee_datasets.volumes.reference import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.scan_grids import Size
    from reasonknee_datasets.schema import Side

    Grades = dict[int, dict[str, int | None]]

NEEDS_A_LESION = {"number": "size", "percent": "size", "depth": "size"}
HORNS = ("anterior", "body", "posterior")

# Which world axis each array axis follows, and in which direction.
LAYOUTS = (
    ((0, 1), (1, 1), (2, 1)),  # (160, 384, 384), RAS
    ((1, -1), (2, -1), (0, 1)),  # (384, 384, 160)
    ((1, -1), (2, -1), (0, -1)),
    ((2, 1), (0, -1), (1, 1)),
)
TILTS = (0.0, 4.9, 16.0, 9.0)  # degrees: none, the median of real scans, their maximum, between


def rotation(degrees: float, axis: Sequence[float]) -> NDArray[np.float64]:
    """Turn by so many degrees about an axis."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    found: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return found


def grid(size: Size, side: Side, *, layout: int, tilt: float, axis: Sequence[float] = (1.0, 0.6, -0.4)) -> Geometry:
    """Lay a grid around a knee: the right one is where world x is positive."""
    counts, spacing = SIZES[size].counts, SIZES[size].spacing
    turned = rotation(tilt, axis)
    along = LAYOUTS[layout]
    affine = np.eye(4)
    affine[:3, :3] = np.stack([sign * spacing[world] * turned[:, world] for world, sign in along], axis=1)
    shape = [counts[world] for world, _ in along]
    middle = np.array([90.0 if side == "right" else -90.0, 7.0, -11.0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def _spread(values: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Deal values out evenly, in random order."""
    dealt = np.resize(rng.permutation(np.asarray(values)), count)
    return [int(value) for value in rng.permutation(dealt)]


def deal_grades(knees: int, seed: int) -> list[Grades]:
    """Deal out grades so that every slot shows every legal grade evenly often over the knees.

    The combinations are random, within what can be seen together: no number, percent or depth without a lesion (and,
    with one, some number and percent), no enlarged meniscus, torn root or cleft where the tissue is gone, no torn
    graft.
    """
    rng = np.random.default_rng(seed)
    out: list[Grades] = [{} for _ in range(knees)]
    for slot in RECORD_SLOTS:
        needed = NEEDS_A_LESION.get(slot.attribute)
        here = [grades.setdefault(slot.question_id, {}) for grades in out]
        able = [grades for grades in here if needed is None or grades[needed]]
        low = 1 if slot.attribute in ("number", "percent") else slot.low
        for grades in here:
            grades[slot.attribute] = 0
        for grades, grade in zip(able, _spread(range(low, slot.high + 1), len(able), rng), strict=True):
            grades[slot.attribute] = grade
    for knee in out:
        _reconcile(knee)
    return out


def _reconcile(grades: Grades) -> None:
    for side in ("medial", "lateral"):
        ids = [_question("meniscal_morphology", f"{side}_meniscus_{horn}") for horn in HORNS]
        horns = [grades[number]["morphology"] or 0 for number in ids]
        if max(horns) >= 6:
            grades[_question("meniscal_hypertrophy", f"{side}_meniscus")]["presence"] = 0
        if horns[2] >= 6:
            grades[_question("meniscal_root_tear", f"{side}_meniscus_root")]["presence"] = 0
        cyst = grades[_question("meniscal_cyst", f"{side}_meniscus")]
        where = cyst["tear_location"]
        if where is not None and where < 3 and horns[where] >= 6:
            cyst["tear_location"] = 3
    ligament = grades[_question("anterior_cruciate_ligament", "anterior_cruciate_ligament")]
    if ligament["repair"]:
        ligament["complete_tear"] = 0


def _question(finding: str, subregion: str) -> int:
    return next(q.id for q in QUESTIONS.values() if (q.finding, q.subregion) == (finding, subregion))


def deal_knees(size: Size, knees: int, seed: int) -> list[KneeSpec]:
    """Deal out knees: grades from `deal_grades`, both sides, every layout, every tilt, a patient for each two."""
    rng = np.random.default_rng([seed, 1])
    out: list[KneeSpec] = []
    for number, grades in enumerate(deal_grades(knees, seed)):
        side: Side = "left" if number % 2 else "right"
        axis = rng.standard_normal(3)
        layout, tilt = number % len(LAYOUTS), TILTS[(number // 2) % len(TILTS)]
        geometry = grid(size, side, layout=layout, tilt=tilt, axis=[float(part) for part in axis])
        patient, knee, visit = (int(value) for value in rng.integers(1, 2**31, 3))
        if number % 2:
            patient = out[-1].patient_seed
        out.append(KneeSpec(patient, knee, visit, side, grades, geometry))
    return out
