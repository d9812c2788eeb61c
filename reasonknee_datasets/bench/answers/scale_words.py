"""The words and bands that stand for one grade of a slot, as the prompts' own scales have them."""

from __future__ import annotations

import re
from functools import cache

from reasonknee_datasets.bench.answers.vocabulary import names
from reasonknee_datasets.moaks import SLOTS, Slot

NUMBER_WORDS: dict[str, int] = {
    word: number for number, word in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight"))
}
ROMAN: dict[str, int] = {
    word: number for number, word in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii"), start=1)
}
# Full-width forms of ASCII and single characters of Roman numerals: not superscripts or fractions, which are no grades.
_NARROW = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_NARROW |= {
    first + place: word
    for first in (0x2160, 0x2170)
    for place, word in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii"))
}


def narrow(text: str) -> str:
    """Write full-width characters and Roman numeral characters as ASCII.

    Examples
    --------
    >>> narrow("Grade \uff12"), narrow("Grade \u2161"), narrow("\u00b9")
    ('Grade 2', 'Grade ii', '\u00b9')
    """
    return text if text.isascii() else text.translate(_NARROW)


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
    """Return the grade that each word of a slot's scale stands for, by its `plain` form.

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


def says_nothing(text: str) -> bool:
    """Check whether a value says that there is none.

    Examples
    --------
    >>> says_nothing("N/A"), says_nothing("2")
    (True, False)
    """
    return text.casefold().strip(" .*_`'\"()[]") in ("", *names("value", "nothing"))


def is_placeholder(text: str, slot: Slot) -> bool:
    """Check whether a value only repeats the prompt's schema: the whole legal range, or a word for any value.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> size = QUESTIONS[19].slots[0]
    >>> [is_placeholder(text, size) for text in ("(grade from 0-3)", "0 | 1 | 2 | 3", "<int>", "1-2", "2")]
    [True, True, True, False, False]
    """
    text = text.casefold().strip()
    if re.fullmatch(r"<[^<>]{1,60}>", text):
        return True
    text = text.strip(" .*_`'\"()[]<>").replace("–", "-")
    if text in names("value", "placeholder"):
        return True
    text = re.sub(
        r"^(?:(?:an?|the|moaks|grade|score|value|integer|int|number|from|between|in|range|of|either)\b[ :]*)+", "", text
    )
    numbers = re.findall(r"[0-9]+", text)
    if len(numbers) < 2 or re.sub(r"[0-9]+|\b(?:to|or|and)\b|[-|/, ]", "", text):
        return False
    found = [int(digits[:3]) for digits in numbers]
    return found in ([slot.low, slot.high], list(slot.legal))


_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)? (?:sorry|afraid|apologi[sz]e)\b|i (?:can(?:no|')t|can not|won't|will not)\b"
    r"|i am (?:unable|not able) to\b"
    r"|i'm (?:unable|not able) to\b|as an ai\b|do(?:n't| not) have the ability|not (?:qualified|licensed) to"
    r"|(?:unable to|not able to|cannot) (?:provide|assist|help|diagnose|interpret|analy[sz]e|view|see|grade|comply)\b)"
)


def refuses(text: str) -> bool:
    """Check whether a text says that its writer cannot or will not answer.

    Examples
    --------
    >>> refuses("I’m sorry, but I can’t interpret medical images."), refuses("No lesion can be seen.")
    (True, False)
    """
    return bool(_REFUSAL.search(text.casefold().replace("’", "'")))
