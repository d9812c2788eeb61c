"""Labels of the mask, and those that make up the region of each question.

The ids 44, 49, 50-55, 58-64 and 62 mean the same as in the official masks; 56 and 57 are the patella as far as
is known; the names of the rest are this project's own. As officially, 42, 43, 45 and 46 are labels of findings next to
those of structures, and `labels.json` names the background, 0. Three structures without a known official id take ids
below 40. Every structure is the *healthy* anatomy: a finding is labelled only where no structure is, and moves none, so
that a box drawn around a region says nothing about the grade. The one exception is the effusion, which is a region
itself.

A subregion's label (50-64) reaches from its bone across the cartilage to the joint line; the cartilage in between
carries the cartilage's own label. What is left of the label beyond the cartilage is a film of less than 1 mm, which
makes the subregion's box hold its cartilage. To get a subregion's bone alone, open its label by one voxel (three
in-plane at 0.36 mm) and keep the largest piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reasonknee_datasets.moaks import QUESTIONS, Question

FINDINGS: Mapping[str, int] = {
    "marginal_osteophyte": 42,
    "meniscal_cyst": 43,
    "meniscal_extrusion": 45,  # tissue beyond the healthy meniscus, a hypertrophic one's too
    "joint_effusion": 46,
}
"""Labels of findings by name."""

STRUCTURES: Mapping[str, int] = {
    "lateral_meniscus": 37,
    "hoffa_fat_pad": 38,
    "patellar_tendon": 39,
    "anterior_cruciate_ligament": 40,  # with its two attachments, 4.5 mm deep into the bone
    "posterior_cruciate_ligament": 41,  # likewise
    "medial_meniscus": 44,
    "femoral_cartilage": 47,
    "patellar_cartilage": 48,
    "tibial_cartilage": 49,
    "femur_medial_anterior": 50,
    "femur_medial_central": 51,
    "femur_medial_posterior": 52,
    "femur_lateral_anterior": 53,
    "femur_lateral_central": 54,
    "femur_lateral_posterior": 55,
    "patella_medial": 56,
    "patella_lateral": 57,
    "tibia_medial_anterior": 58,
    "tibia_medial_central": 59,
    "tibia_medial_posterior": 60,
    "tibia_lateral_anterior": 61,
    "tibia_lateral_central": 62,
    "tibia_lateral_posterior": 63,
    "tibia_subspinous": 64,
}
"""Labels of structures by name."""

LABELS: Mapping[str, int] = MappingProxyType({**STRUCTURES, **FINDINGS})
"""Every label by name; 0 is the background."""

_PATELLA = ("patella_medial", "patella_lateral")
_MEDIAL_PLATEAU = ("tibia_medial_anterior", "tibia_medial_central", "tibia_medial_posterior")
_LATERAL_PLATEAU = ("tibia_lateral_anterior", "tibia_lateral_central", "tibia_lateral_posterior")

# Regions of questions where they are not simply the label of the question's own name.
_REGIONS: Mapping[str, tuple[str, ...]] = {
    "patella_superior": _PATELLA,
    "patella_inferior": _PATELLA,
    "tibia_medial": _MEDIAL_PLATEAU,
    "tibia_lateral": _LATERAL_PLATEAU,
    "joint_cavity": ("joint_effusion",),
    "medial_meniscus_root": ("medial_meniscus",),
    "lateral_meniscus_root": ("lateral_meniscus",),
}
# A meniscus that is extruded or too large leaves its healthy outline: the bones around it are wider and hold the
# overhang.
_BEYOND: Mapping[str, tuple[str, ...]] = {
    "medial_meniscus_anterior": ("medial_meniscus", "tibia_medial_anterior", "femur_medial_anterior"),
    "medial_meniscus_medial": ("medial_meniscus", "femur_medial_central", "tibia_medial_central"),
    "medial_meniscus": ("medial_meniscus", "femur_medial_central", "tibia_medial_central"),
    "lateral_meniscus_anterior": ("lateral_meniscus", "tibia_lateral_anterior", "femur_lateral_anterior"),
    "lateral_meniscus_lateral": ("lateral_meniscus", "femur_lateral_central", "tibia_lateral_central"),
    "lateral_meniscus": ("lateral_meniscus", "femur_lateral_central", "tibia_lateral_central"),
}


def _region(question: Question) -> tuple[str, ...]:
    if question.finding in ("meniscal_extrusion", "meniscal_hypertrophy"):
        return _BEYOND[question.subregion]
    if question.subregion in LABELS:
        return (question.subregion,)
    if question.subregion in _REGIONS:
        return _REGIONS[question.subregion]
    return (question.subregion.rsplit("_", 1)[0],)  # the horns and bodies of one meniscus share its label


REGION_NAMES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {question.id: _region(question) for question in QUESTIONS.values() if question.in_records}
)
"""Names of the labels of each question from 1 to 62: their common bounding box is its box."""


def region_of(question_id: int) -> tuple[int, ...]:
    """Return the label ids that make up a question's region.

    Examples
    --------
    >>> region_of(4), region_of(30), region_of(50)
    ((51,), (56, 57), (44,))
    """
    return tuple(LABELS[name] for name in REGION_NAMES[question_id])
