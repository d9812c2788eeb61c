"""Grades that a reasoning text states outright, such as "the size is grade 2" or "size 2 and depth 1".

The texts of the release are templates of one author, so that a few patterns suffice. Free text of models is read by
`reasonknee_datasets.bench`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from reasonknee_datasets.moaks import QUESTIONS

_WORDS = {
    "percent": "percent(?:age)?",
    "presence": "presence",
    "tear_location": "tear[ _]location",
    "complete_tear": "complete[ _]tear",
    "insertion_lesion": "(?:insertion[ _]lesion|lesion at the insertion)",
    "signal": "signal(?: abnormality)?",
}
# A number behind the attribute's name; no measurement, range or choice, and no entry of the scale.
_NUMBER = (
    r"['\"]?\s*(?:[:=]|is|was|of|has)?\s*(?:(?:a|the)\s+)?(?:grade[d]?|code|score)?\s*(?:as\s+|of\s+)?([0-9])"
    r"(?![0-9%]|\.[0-9]|\s*(?:%|mm|percent|to\s|or\s|-|–|=|/))"
)
_CONDITION = re.compile(r"\b(?:if|when|whether|would|could|might|not|unless|grade [0-9] (?:is|means))\b[^.;:]*$", re.I)


@lru_cache(maxsize=100_000)
def read_stated_grades(question_id: int, text: str) -> tuple[int | None, ...]:
    """Read the grade of each slot that a text states last; None where it states none.

    Examples
    --------
    >>> read_stated_grades(19, "It is wide, so the size is grade 2. So I grade: size 2 and depth not graded.")
    (2, None)
    """
    found: list[int | None] = []
    for slot in QUESTIONS[question_id].slots:
        word = _WORDS.get(slot.attribute, slot.attribute)
        stated = [
            int(match[1])
            for match in re.finditer(rf"\b{word}{_NUMBER}", text, re.IGNORECASE)
            if not _CONDITION.search(text, max(0, match.start() - 80), match.start())
        ]
        found.append(stated[-1] if stated else None)
    return tuple(found)
