"""Words of the scales: the grade that a word of a slot's own scale means."""

from __future__ import annotations

import re
from functools import cache

from reasonknee_datasets.moaks import SLOTS, Slot

_YES_NO = {
    **dict.fromkeys(("yes", "true", "present", "positive"), 1),
    **dict.fromkeys(
        ("no", "false", "absent", "negative", "not present", "not seen", "not detected", "not identified"), 0
    ),
}
_INTACT = ("intact", "no tear", "not torn", "no tear seen", "no tear identified")
_NORMAL = {
    "meniscal_root_tear": _INTACT,
    "tendon": ("normal", "no signal abnormality", "normal signal"),
    "meniscal_hypertrophy": ("no hypertrophy", "not hypertrophied"),
}
_TORN = {
    "meniscal_root_tear": ("torn", "tear present"),
    "tendon": ("abnormal", "abnormal signal"),
    "meniscal_hypertrophy": ("hypertrophied",),
}
_SCALES: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("bone_marrow_lesion", "size"): (("none", "no bml"), ("<33%",), ("33-66%",), (">66%",)),
    ("bone_marrow_lesion", "number"): (
        ("none", "no bml"),
        ("1 bml",),
        ("2 bmls",),
        ("≥3 bmls", ">=3 bmls", "≥3", ">=3"),
    ),
    ("bone_marrow_lesion", "percent"): (("none", "no bml"), ("<33%",), ("33-66%",), (">66%",)),
    ("cartilage_lesion", "size"): (("none", "no lesion"), ("<10%",), ("10-75%",), (">75%",)),
    ("cartilage_lesion", "depth"): (("none", "no full-thickness loss"), ("<10%",), ("10-75%",), (">75%",)),
    ("osteophyte", "grade"): (("none", "no osteophyte"), ("small",), ("medium",), ("large",)),
    ("hoffa_synovitis", "grade"): (("normal",), ("mild",), ("moderate",), ("severe",)),
    ("effusion_synovitis", "grade"): (("physiologic", "physiologic amount"), ("small",), ("medium",), ("large",)),
    ("meniscal_extrusion", "grade"): (
        ("<2mm", "below 2mm", "under 2mm"),
        ("2-3mm", "2 to 3mm", "between 2 to 3mm", "between 2 and 3mm"),
        ("3-4.9mm", "3 to 4.9mm", "between 3 to 4.9mm", "between 3 and 4.9mm"),
        (">5mm", "over 5mm"),
    ),
    ("meniscal_morphology", "morphology"): (
        ("normal", "normal meniscus"),
        ("signal abnormality",),
        ("radial tear",),
        ("horizontal tear",),
        ("vertical tear",),
        ("complex tear",),
        ("partial maceration",),
        ("progressive partial maceration",),
        ("complete maceration",),
    ),
}


def plain(text: str) -> str:
    """Reduce a value to what its spellings share: case, outer marks and the blanks inside bands go.

    Examples
    --------
    >>> plain(" **Radial  tear.** "), plain("10 – 75 %"), plain("Between 2 to 3 mm")
    ('radial tear', '10-75%', 'between 2 to 3mm')
    """
    text = re.sub(r"\s+", " ", text.casefold()).strip(" .!*_`'\"()[]")
    text = text.replace("–", "-").replace("—", "-").replace("≤", "<=")
    return re.sub(r" ?(?<![a-z])([<>%]|mm\b|-(?= ?\d)) ?", r"\1", text).replace("full thickness", "full-thickness")


def _tear_locations(slot: Slot) -> tuple[tuple[str, ...], ...]:
    side = slot.subregion.split("_")[0]
    letters = ("MM" if side == "medial" else "LM").casefold()
    places = (("anterior", "a"), ("body", "b"), ("posterior", "p"))
    rows = [(name, f"{name} horn", f"{letters}{letter}", f"{side} meniscus {name}") for name, letter in places]
    return (*rows, ("no tear", "no tear detected"))


@cache
def scale_of(slot_id: int) -> dict[str, int]:
    """Return the grade that each word of a slot's scale means, by its `plain` form.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> scale_of(QUESTIONS[42].slots[0].id)
    {'normal': 0, 'mild': 1, 'moderate': 2, 'severe': 3}
    """
    slot = SLOTS[slot_id]
    if slot.scale == "binary":
        return (
            _YES_NO | dict.fromkeys(_NORMAL.get(slot.category, ()), 0) | dict.fromkeys(_TORN.get(slot.category, ()), 1)
        )
    rows = _tear_locations(slot) if slot.attribute == "tear_location" else _SCALES[slot.category, slot.attribute]
    return {plain(word): grade for grade, row in enumerate(rows) for word in row}


def is_zero(slot: Slot, grade: int) -> bool:
    """Check whether a grade says that nothing is there: 0, or "no tear" where that is another number.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> is_zero(QUESTIONS[54].slots[1], 3), is_zero(QUESTIONS[54].slots[1], 0)
    (True, False)
    """
    return grade == (slot.high if slot.attribute == "tear_location" else slot.low)
