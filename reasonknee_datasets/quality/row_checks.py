"""Checks of single rows: question, grades, texts and box.

Bounds of a box's size hold for its longest edge along the volume's own axes. Official boxes come from masks that models
predicted, mostly of regions; the labels of some findings are far smaller than their regions. So a box outside the usual
sizes is a warning, and an error only where no knee has such a structure.

Grades that a reasoning text states outright are read, such as "the size is grade 2" or "size 2 and depth 1". The texts
of the release are templates of one author, so that a few patterns suffice. Free text of models is read by
`reasonknee_datasets.bench`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from reasonknee_datasets.moaks import QUESTIONS, Question, write_answer
from reasonknee_datasets.quality.data_checks import Findings
from reasonknee_datasets.schema import Quintuple

# A label may be of a finding: then a box contains only a lesion. The smallest that readers grade are some mm wide.
_LESION_MM = 3.0
_LESIONS = frozenset({"bone_marrow_lesion", "cartilage_lesion", "osteophyte", "meniscal_cyst", "effusion_synovitis"})
# Edges of usual boxes are longer: a slice is 0.7 mm, a pixel 0.36 mm. A lesion may be in one slice.
THINNEST_MM = 1.0
# Impossible: a longest edge below this is a single slice or two pixels, a sign of normalised coordinates.
SMALLEST_MM = 1.0
# Impossible: this many times the largest usual size, which is at least 1.3 times the median over 68 OAI masks already.
OVERSIZE = 1.5

# By the first word of the subregion.
_BY_STRUCTURE: Mapping[str, tuple[float, float]] = {
    # Adult patellae are 35 to 55 mm high and wide (median over 68 OAI masks: 44 x 23 x 42).
    "patella": (10.0, 75.0),
    # The distal femur within the field is 80 x 66 x 84 mm (the same median), of which a subregion is a part.
    "femur": (10.0, 115.0),
    # The proximal tibia within the field is 76 x 57 x 65 mm.
    "tibia": (10.0, 110.0),
    # A meniscus is 30 to 50 mm long; for extrusion, boxes include the compartment below it (80 mm).
    "medial": (8.0, 110.0),
    "lateral": (8.0, 110.0),
    # Cruciate ligaments are 25 to 45 mm long.
    "anterior": (8.0, 80.0),
    "posterior": (8.0, 80.0),
    # The patellar tendon is 35 to 65 mm long.
    "patellar": (12.0, 110.0),
    # The fat pad is 20 to 50 mm high.
    "hoffa": (10.0, 90.0),
    # Fluid may be a small pocket, or reach into the suprapatellar bursa, beyond the field's upper edge.
    "joint": (3.0, 160.0),
}


def size_bounds(question: Question) -> tuple[float, float]:
    """Return the lowest and highest usual longest edge of a question's box in mm.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> size_bounds(QUESTIONS[61])
    (8.0, 80.0)
    """
    low, high = _BY_STRUCTURE.get(question.subregion.partition("_")[0], (_LESION_MM, 160.0))
    return (min(low, _LESION_MM) if question.finding in _LESIONS else low), high


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


_Grades: TypeAlias = "tuple[int | None, ...]"
_OUTSIDE = "axis {axis}: {start} to {stop} of {size} voxels"


@dataclass(slots=True)
class RowChecks:
    """Checks rows one by one, and remembers which grades each reasoning text was used for."""

    findings: Findings
    _grades_of: dict[tuple[int, int], dict[_Grades, tuple[int, str]]] = field(default_factory=dict)

    def check(self, row: Quintuple) -> None:
        """Check everything about a row that needs no volume."""
        question = QUESTIONS.get(row["question_id"])
        if question is None:
            self.findings.add("question-mismatch", row["id"], f"question {row['question_id']} does not exist")
            return
        self._check_question(row, question)
        self._check_grades(row, question)

    def finish(self) -> None:
        """Report the texts that are used for several grades; the rows with the commonest grades are not counted."""
        for (number, _), held in self._grades_of.items():
            question = QUESTIONS[number]
            common, *others = sorted(held, key=lambda grades: -held[grades][0])
            for grades in others:
                count, first = held[grades]
                usual, place = held[common]
                message = (
                    f"{_spell(question, grades)}; the same text has {_spell(question, common)} in {usual:,} rows such "
                    f"as {place}"
                )
                self.findings.add("shared-reasoning", first, message, float(usual), count)

    def check_box(self, row: Quintuple, shape: Sequence[int], spacing: Sequence[float]) -> bool:
        """Check a row's box against the grid of its volume, and return whether it is inside."""
        start, stop = row["box"][:3], row["box"][3:]
        if any(b <= a for a, b in zip(start, stop, strict=True)):
            self.findings.add("box-empty", row["id"], f"the box {row['box']} has no voxels")
            return False
        beyond = [max(-a, b - size) for a, b, size in zip(start, stop, shape, strict=True)]
        if max(beyond) > 0:
            axis = beyond.index(max(beyond))
            message = _OUTSIDE.format(axis=axis, start=start[axis], stop=stop[axis], size=shape[axis])
            self.findings.add("box-outside", row["id"], message, float(max(beyond)))
            return False
        question = QUESTIONS.get(row["question_id"])
        if question is not None:
            self._check_size(row, question, [(b - a) * mm for a, b, mm in zip(start, stop, spacing, strict=True)])
        return True

    def _check_size(self, row: Quintuple, question: Question, edges: list[float]) -> None:
        low, high = size_bounds(question)
        longest, shortest = max(edges), min(edges)
        told = " x ".join(f"{edge:.1f}" for edge in edges)
        place = question.subregion.replace("_", " ")
        impossible = longest < SMALLEST_MM or longest > high * OVERSIZE
        check = "box-size" if impossible else "unusual-box-size"
        if longest < low or shortest < THINNEST_MM:
            message = f"{told} mm; a usual box of the {place} has a longest edge of at least {low:g} mm"
            if longest >= low:
                message = f"{told} mm; no edge of a usual box is below {THINNEST_MM:g} mm"
            self.findings.add(check, row["id"], message, max(low / longest, THINNEST_MM / shortest))
        elif longest > high:
            message = f"{told} mm; a usual box of the {place} has a longest edge of at most {high:g} mm"
            self.findings.add(check, row["id"], message, longest / high)

    def _check_question(self, row: Quintuple, question: Question) -> None:
        for name in ("category", "finding", "subregion"):
            expected = getattr(question, name)
            if row[name] != expected:
                message = f"{name} is {row[name]!r}, but question {question.id} is about {expected!r}"
                self.findings.add("question-mismatch", row["id"], message)
                return
        other = _other_subject(question.id, row["question"])
        if other is not None:
            message = f"the prompt asks for {other!r}, but question {question.id} is {question.subject_key!r}"
            self.findings.add("question-mismatch", row["id"], message)

    def _check_grades(self, row: Quintuple, question: Question) -> None:
        held = {grade["attribute"]: grade["grade"] for grade in row["grades"]}
        slots = question.slots
        if list(held) != [slot.attribute for slot in slots] or len(row["grades"]) != len(slots):
            message = f"question {question.id} has the slots {', '.join(slot.attribute for slot in slots)}, not {held}"
            self.findings.add("bad-grade", row["id"], message)
            return
        for slot in slots:
            grade = held[slot.attribute]
            if grade is not None and grade not in slot.legal:
                message = f"{slot.attribute} is {grade}, but its slot goes from {slot.low} to {slot.high}"
                self.findings.add("bad-grade", row["id"], message)
                return
        grades = tuple(held.values())
        text = "\n".join(row["reasoning"])
        self._check_text(row, question, grades, text)
        held_by_text = self._grades_of.setdefault((question.id, hash(text)), {})
        count, first = held_by_text.get(grades, (0, row["id"]))
        held_by_text[grades] = count + 1, first

    def _check_text(self, row: Quintuple, question: Question, grades: tuple[int | None, ...], text: str) -> None:
        for slot, grade, stated in zip(question.slots, grades, read_stated_grades(question.id, text), strict=True):
            if stated is not None and grade is not None and stated != grade:
                message = f"{slot.attribute} is {grade}, but the reasoning states {stated}"
                self.findings.add("grade-contradiction", row["id"], message, abs(stated - grade))
                return
        expected = _answer(question.id, grades)
        if row["answer"] != expected:
            self.findings.add(
                "grade-contradiction", row["id"], f"the grades make {expected}, but the answer is {row['answer']}"
            )


def _spell(question: Question, grades: tuple[int | None, ...]) -> str:
    return ", ".join(f"{slot.attribute} {grade}" for slot, grade in zip(question.slots, grades, strict=True))


@lru_cache(maxsize=10_000)
def _answer(question_id: int, grades: tuple[int | None, ...]) -> str:
    slots = QUESTIONS[question_id].slots
    return write_answer(question_id, {slot.attribute: grade for slot, grade in zip(slots, grades, strict=True)})


@lru_cache(maxsize=10_000)
def _other_subject(question_id: int, prompt: str) -> str | None:
    """Return the subject that a prompt's answer schema names in place of the question's own."""
    if QUESTIONS[question_id].subject_key in prompt:
        return None
    others = [each.subject_key for each in QUESTIONS.values() if f'"{each.subject_key}"' in prompt]
    return max(others, key=len, default=None)
