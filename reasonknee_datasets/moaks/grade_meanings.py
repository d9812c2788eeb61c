"""Meaning of each grade, in this project's own short words."""

from __future__ import annotations

from math import inf

from reasonknee_datasets.moaks.values import Slot

EXTRUSION_BANDS_MM: tuple[tuple[float, float], ...] = ((0.0, 2.0), (2.0, 3.0), (3.0, 5.0), (5.0, inf))
"""Meniscal extrusion in mm per grade, as MOAKS defines it; the prompts' text says "3 to 4.9mm" for grade 2."""

BONE_MARROW_BANDS: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.0, 0.33), (0.33, 0.66), (0.66, 1.0))
"""Bone-marrow lesion per grade: size as a share of the subregion, percent as the share of the lesion without cyst."""

CARTILAGE_BANDS: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.0, 0.10), (0.10, 0.75), (0.75, 1.0))
"""Cartilage lesion per grade: size as a share of the surface, depth as the share of the lesion worn to the bone."""

MORPHOLOGIES: tuple[str, ...] = (
    "normal",
    "signal abnormality, no tear",
    "radial tear",
    "horizontal tear",
    "vertical tear",
    "complex tear",
    "partial maceration",
    "progressive partial maceration (follow-up only)",
    "complete maceration",
)
"""Meniscal morphology 0 to 8: kinds without an order."""

TEAR_LOCATIONS: tuple[str, ...] = ("anterior horn", "body", "posterior horn", "no tear")
"""Tear location 0 to 3: kinds without an order, and 3, not 0, is "no tear"."""

_SHARE_OF_SUBREGION = ("none", "under 33 % of the subregion", "33-66 % of the subregion", "over 66 % of the subregion")
_ABSENT_PRESENT = ("absent", "present")

_MEANINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("bone_marrow_lesion", "size"): _SHARE_OF_SUBREGION,
    ("bone_marrow_lesion", "number"): ("none", "one lesion", "two lesions", "three lesions or more"),
    ("bone_marrow_lesion", "percent"): (
        "none",
        "under 33 % of the lesion is not cyst",
        "33-66 % of the lesion is not cyst",
        "over 66 % of the lesion is not cyst",
    ),
    ("cartilage_lesion", "size"): (
        "none",
        "under 10 % of the surface",
        "10-75 % of the surface",
        "over 75 % of the surface",
    ),
    ("cartilage_lesion", "depth"): (
        "no full-thickness loss",
        "full-thickness loss in under 10 % of the lesion",
        "full-thickness loss in 10-75 % of the lesion",
        "full-thickness loss in over 75 % of the lesion",
    ),
    ("osteophyte", "grade"): ("none", "small", "medium", "large"),
    ("hoffa_synovitis", "grade"): ("normal", "mild", "moderate", "severe"),
    ("effusion_synovitis", "grade"): ("physiologic", "small", "medium", "large"),
    ("meniscal_extrusion", "grade"): ("under 2 mm", "2 to 3 mm", "3 to 5 mm", "over 5 mm"),
    ("meniscal_morphology", "morphology"): MORPHOLOGIES,
    ("meniscal_cyst", "tear_location"): TEAR_LOCATIONS,
}


def meanings(slot: Slot) -> tuple[str, ...]:
    """Return the meaning of each legal grade of a slot, from the lowest.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> meanings(QUESTIONS[44].slots[0])
    ('under 2 mm', '2 to 3 mm', '3 to 5 mm', 'over 5 mm')
    """
    return _MEANINGS.get((slot.category, slot.attribute), _ABSENT_PRESENT)


def meaning(slot: Slot, grade: int | None) -> str:
    """Describe the meaning of one grade.

    Raises
    ------
    GradeError
        If the grade is not legal in this slot.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> meaning(QUESTIONS[54].slots[1], 3), meaning(QUESTIONS[54].slots[1], None)
    ('no tear', 'missing')
    """
    return "missing" if grade is None else meanings(slot)[slot.check(grade) - slot.low]
