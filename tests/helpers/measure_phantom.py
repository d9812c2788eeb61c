"""The measurer: grades of a drawn knee from its noise-free voxels, its mask, its affine and its side, and nothing else.

It knows the specification (`signs.py`: signals, targets and band limits; `labels.py`: label ids) and shares no code
with the drawing. Every slot comes with the quantity that its grade was read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom.grade_sampling import RECORD_SLOTS
from reasonknee_datasets.phantom.signs import SIGNS
from tests.helpers.measure_cartilage import PARTS, measure_cartilage
from tests.helpers.measure_extrusion import OUTWARD, measure_extrusion
from tests.helpers.measure_marrow import measure_marrow
from tests.helpers.measure_menisci import (
    cleft_mm2,
    cyst_mm3,
    has_fluid,
    hypertrophy_mm3,
    morphology,
    ring_of,
    root_share,
)
from tests.helpers.measure_osteophytes import measure_osteophyte
from tests.helpers.measure_soft import effusion_ml, gap_share, hoffa_share, insertion_share, screw_share, tendon_share
from tests.helpers.measure_view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from reasonknee_datasets.moaks import Question

    Place = tuple[int, str]

# Where voxels are as large as the cartilage is thick, a share is compared half-way between the shares that are drawn;
# and a defect loses a tenth of its area at its edges.
COARSE_SHARE = 0.9
# Drawn values are far from these: "present" is four to a hundred times as much as "absent".
PRESENT = {
    "gap": 0.5,
    "insertion": 0.15,
    "screw": 0.15,
    "tendon": 0.1,
    "root": 0.5,
    "cyst": 30.0,
    "hypertrophy": 60.0,
    "cleft": 5.5,
}
HORNS = ("anterior", "body", "posterior")


@dataclass(frozen=True, slots=True)
class Measured:
    """A grade, and the quantity it was read from (for a pattern, the grade again)."""

    grade: int
    value: float


def measure_knee(clean: NDArray[Any], mask: NDArray[Any], affine: NDArray[Any], side: str) -> dict[Place, Measured]:
    """Measure all 111 slots, by question id and attribute."""
    view = View.of(clean, mask, affine, side)
    found = {(number, name): Measured(grade, value) for number, name, grade, value in measure_view(view)}
    return {(slot.question_id, slot.attribute): found[slot.question_id, slot.attribute] for slot in RECORD_SLOTS}


def measure_view(view: View) -> Iterator[tuple[int, str, int, float]]:
    """Measure all 111 slots: question id, attribute, grade, quantity."""
    cartilage = {name: values for bone in PARTS for name, values in measure_cartilage(view, bone).items()}
    for question in QUESTIONS.values():
        if question.finding == "bone_marrow_lesion":
            yield from _graded(question, measure_marrow(view, question.subregion), coarse=False)
        elif question.finding == "cartilage_lesion":
            yield from _graded(question, cartilage[question.subregion], view.coarse)
        elif question.finding == "osteophyte":
            yield from _graded(question, {"grade": measure_osteophyte(view, question.id)}, coarse=False)
        elif question.id in OUTWARD:
            yield from _graded(question, {"grade": measure_extrusion(view, question.id)}, coarse=False)
    yield from _graded(QUESTIONS[42], {"grade": hoffa_share(view)}, coarse=False)
    yield from _graded(QUESTIONS[43], {"grade": effusion_ml(view)}, coarse=False)
    for side in ("medial", "lateral"):
        yield from _meniscus(view, f"{side}_meniscus")
    yield from _ligaments(view)


def _graded(question: Question, values: dict[str, float], coarse: bool) -> Iterator[tuple[int, str, int, float]]:
    for attribute, value in values.items():
        sign = SIGNS[question.finding, attribute]
        limits: Sequence[float] = sign.limits
        if coarse:
            half_way = COARSE_SHARE * (np.array(sign.targets[2:]) + np.array(sign.targets[1:-1])) / 2
            limits = (sign.limits[0], *half_way)
        yield question.id, attribute, min(3, int(np.searchsorted(limits, value, side="right"))), value


def _meniscus(view: View, name: str) -> Iterator[tuple[int, str, int, float]]:
    ids = {
        (question.finding, question.subregion): question.id
        for question in QUESTIONS.values()
        if question.subregion.startswith(name)
    }
    ring = ring_of(view, name)
    clefts = [cleft_mm2(ring, third) for third in range(3)]
    for third, horn in enumerate(HORNS):
        pattern = 2 * int(has_fluid(ring, third)) if view.coarse else morphology(ring, third)
        yield ids["meniscal_morphology", f"{name}_{horn}"], "morphology", pattern, float(pattern)
    widest = int(np.argmax(clefts))
    torn = widest if clefts[widest] > PRESENT["cleft"] else 3
    yield ids["meniscal_cyst", name], "tear_location", torn, float(torn)
    for finding, subregion, sign, value in (
        ("meniscal_cyst", name, "cyst", cyst_mm3(view, name)),
        ("meniscal_hypertrophy", name, "hypertrophy", hypertrophy_mm3(view, name)),
        ("meniscal_root_tear", f"{name}_root", "root", root_share(ring)),
    ):
        yield ids[finding, subregion], "presence", int(value > PRESENT[sign]), value


def _ligaments(view: View) -> Iterator[tuple[int, str, int, float]]:
    for number, name in ((60, "anterior_cruciate_ligament"), (61, "posterior_cruciate_ligament")):
        values = {"complete_tear": ("gap", gap_share), "insertion_lesion": ("insertion", insertion_share)}
        if number == 60:
            values["repair"] = ("screw", screw_share)
        for attribute, (sign, measure) in values.items():
            value = measure(view, name)
            yield number, attribute, int(value > PRESENT[sign]), value
    value = tendon_share(view)
    yield 62, "signal", int(value > PRESENT["tendon"]), value
