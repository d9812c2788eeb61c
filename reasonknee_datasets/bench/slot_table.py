"""`SlotTable`: truth and answers as one long table, a row for each slot with a true grade; and its groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.arrays import NONE, Answers, Floats, Ints, Mask, Truth
from reasonknee_datasets.bench.group_results import By, Rule
from reasonknee_datasets.bench.metrics import BoxScores, record_exact, score_boxes
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import ATTRIBUTES, CATEGORIES, QUESTIONS, SLOTS
from reasonknee_datasets.schema import SIDES, VISITS

_HIGH = np.array([slot.high for slot in SLOTS])
_IS_SIZE = np.array([slot.attribute == "size" for slot in SLOTS])
# 0 means normal in every slot but tear location, where 3 is "no tear".
NORMAL = np.array([3 if slot.attribute == "tear_location" else 0 for slot in SLOTS])


@dataclass(frozen=True, slots=True, eq=False)
class SlotTable:
    """Everything that is counted: N records of P patients, and n rows, one for each slot with a true grade.

    Attributes
    ----------
    truth : Truth
    answers : Answers
    patients : tuple of str
        Patients that have records.
    patient : (N,) int array
        Code of each record into `patients`.
    record, place, slot : (n,) int array
        Record of each row, place among the record's slots, and slot id.
    true, answered : (n,) int array
        Grades; an answer of -1 is none.
    filled : (n,) int array or None
        Answers with priors in place of -1; None without priors.
    size : (n,) int array
        True size in the same record; -1 where it is missing or not asked.
    positive : (n,) bool array
        The true grade is not the normal one.
    positive_record : (N,) bool array
    complete : (N,) bool array
        Every slot of the record has an answer, whether its true grade is known or not.
    exact : mapping of rule to (N,) float array
        `record_exact` of each record: 1 or 0; NaN where the record is not counted.
    boxes : BoxScores or None
        Metrics of each record's box; None where no boxes were asked for.
    """

    truth: Truth
    answers: Answers
    patients: tuple[str, ...]
    patient: Ints
    record: Ints
    place: Ints
    slot: Ints
    true: Ints
    answered: Ints
    filled: Ints | None
    size: Ints
    positive: Mask
    positive_record: Mask
    complete: Mask
    exact: Mapping[Rule, Floats]
    boxes: BoxScores | None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules for missing answers that can be applied."""
        return tuple(self.exact)

    def right(self, rule: Rule) -> Floats:
        """Return 1 or 0 for each row; NaN where the rule leaves it out."""
        if rule == "missing_as_prior" and self.filled is not None:
            return np.asarray(self.filled == self.true, dtype=np.float64)
        right = np.asarray(self.answered == self.true, dtype=np.float64)
        return np.where(self.answered < 0, np.nan, right) if rule == "answered_only" else right


def make_slot_table(truth: Truth, answers: Answers, priors: ArrayLike | None, boxes_asked: bool | None) -> SlotTable:
    """Arrange truth and answers for counting.

    Parameters
    ----------
    truth : Truth
    answers : Answers
    priors : (118,) int array or None
        Grades that replace missing answers under the rule ``missing_as_prior``.
    boxes_asked : bool or None
        Whether the run asked for boxes; None to find out by `has_boxes`.

    Raises
    ------
    BenchError
        If the truth is empty or holds a question that no record asks, or if the number of answers differs. Also if a
        grade is illegal, a box is empty, or a prior is missing.
    """
    _check(truth, answers)
    asked = truth.slots >= 0
    used, patient = np.unique(truth.patient, return_inverse=True)
    record, place = np.nonzero(asked & (truth.grades >= 0))
    slot = truth.slots[record, place].astype(np.int64)
    true = truth.grades[record, place].astype(np.int64)
    sized = asked & _IS_SIZE[truth.slots]
    sizes = np.where(sized.any(axis=1), np.where(sized, truth.grades, NONE).max(axis=1), NONE).astype(np.int64)
    positive = true != NORMAL[slot]
    positive_record = np.zeros(len(truth), dtype=np.bool_)
    positive_record[record[positive]] = True
    exact: dict[Rule, Floats] = {
        "missing_as_wrong": record_exact(truth.grades, answers.grades, asked),
        "answered_only": record_exact(truth.grades, answers.grades, asked, answered_only=True),
    }
    filled = None
    if priors is not None:
        grades = np.where(asked & (answers.grades < 0), _prior_grades(priors, slot)[truth.slots], answers.grades)
        filled = grades[record, place].astype(np.int64)
        exact["missing_as_prior"] = record_exact(truth.grades, grades, asked)
    boxed = has_boxes(answers) if boxes_asked is None else boxes_asked
    return SlotTable(
        truth=truth,
        answers=answers,
        patients=tuple(truth.patients[code] for code in used),
        patient=patient.astype(np.int64),
        record=record,
        place=place,
        slot=slot,
        true=true,
        answered=answers.grades[record, place].astype(np.int64),
        filled=filled,
        size=sizes[record],
        positive=positive,
        positive_record=positive_record,
        complete=np.asarray(~(asked & (answers.grades < 0)).any(axis=1), dtype=np.bool_),
        exact=exact,
        boxes=score_boxes(answers.boxes, truth.boxes, answers.has_box, truth.affines[truth.volume]) if boxed else None,
    )


def has_boxes(answers: Answers) -> bool:
    """Check whether any answer has a box, or a reason why it has none."""
    return bool(answers.has_box.any() or (answers.box_reasons >= 0).any())


def _prior_grades(priors: ArrayLike, slots: Ints) -> Ints:
    table = np.asarray(priors, dtype=np.int64)
    if table.shape != (len(SLOTS),):
        raise BenchError(
            f"priors must hold one grade for each of {len(SLOTS)} slots, got an array of shape {table.shape}. "
            "TrainPriors.most_frequent is such an array."
        )
    lacking = [SLOTS[slot].name for slot in np.unique(slots) if not 0 <= table[slot] <= _HIGH[slot]]
    if lacking:
        raise BenchError(
            f"priors hold no legal grade for the scored slots {lacking}. Prepare the train split too, or score with "
            "priors=None, without the rule missing_as_prior."
        )
    return table


def _check(truth: Truth, answers: Answers) -> None:
    if not len(truth):
        raise BenchError("The truth holds no records to score. Score a split, or a sample of whole patients.")
    scored = {question.id for question in QUESTIONS.values() if question.in_records}
    unscored = sorted(set(truth.question.tolist()) - scored)
    if unscored:
        raise BenchError(
            f"The truth holds questions {unscored}, which no record asks. Score questions 1 to 62; 63 to 69 exist in "
            "the prompt files only."
        )
    if len(answers) != len(truth):
        raise BenchError(
            f"{len(answers)} answers cannot be scored against {len(truth)} true ones: the rows must match. Read the "
            "predictions with this truth."
        )
    _check_grades("true", truth.ids, truth.slots, truth.grades)
    _check_grades("answered", truth.ids, truth.slots, answers.grades)
    empty = answers.has_box & ~(answers.boxes[:, :3] < answers.boxes[:, 3:]).all(axis=1)
    if empty.any():
        first = int(np.argmax(empty))
        raise BenchError(
            f"{int(empty.sum())} answered boxes do not start below their stop on each axis, the first is "
            f"{answers.boxes[first].tolist()} at {truth.ids[first]}. Set has_box to False, with a reason, where a box "
            "cannot be read."
        )


def _check_grades(which: str, ids: tuple[str, ...], slots: NDArray[np.int16], grades: NDArray[np.int8]) -> None:
    wrong = np.where(slots >= 0, (grades > _HIGH[slots]) | (grades < NONE), grades != NONE)
    if wrong.any():
        record, place = (int(found[0]) for found in np.nonzero(wrong))
        slot = SLOTS[slots[record, place]].name if slots[record, place] >= 0 else "padding"
        raise BenchError(
            f"{int(wrong.sum())} {which} grades are not legal, the first is {grades[record, place]} in {slot} at "
            f"{ids[record]}. Grades are legal ones of their slot, or -1 for none; padding is -1."
        )


BYS: tuple[By, ...] = ("all", "category", "question", "slot", "attribute", "subregion", "side", "visit")
OF_SLOTS = frozenset({"slot", "attribute"})
"""Groupings that divide the slots of one record, and so have no totals of whole records."""
OF_KNEES = frozenset({"all", "side", "visit"})
"""Groupings whose groups hold every question, and so have macro totals."""

SCORED = tuple(question for question in QUESTIONS.values() if question.in_records)
SCORED_CATEGORIES = tuple(name for name in CATEGORIES if any(question.category == name for question in SCORED))

_SUBREGIONS = tuple(dict.fromkeys(question.subregion for question in QUESTIONS.values()))


def _by_question(names: Sequence[str], field: str) -> NDArray[np.int64]:
    table = np.full(1 + max(QUESTIONS), -1)
    for question in QUESTIONS.values():
        table[question.id] = names.index(getattr(question, field))
    return table


CATEGORY_OF = _by_question(CATEGORIES, "category")
_SUBREGION_OF = _by_question(_SUBREGIONS, "subregion")
_ATTRIBUTE_OF = np.array([ATTRIBUTES.index(slot.attribute) for slot in SLOTS])


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """One way to divide everything into groups.

    Attributes
    ----------
    by : str
    values : tuple of str
        Names of the groups that have records, in the house order; G of them.
    of_record : (N,) int array or None
        Each record's group; None in groups of slots.
    of_row : (n,) int array
        The group of each row of the slot table.
    """

    by: By
    values: tuple[str, ...]
    of_record: Ints | None
    of_row: Ints


def compact(codes: Ints) -> tuple[Ints, Ints]:
    """Return the codes that occur, and each one's place among them: a tenth of the time of ``np.unique``."""
    occurs = np.bincount(codes) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[codes]


def count_distinct(group: Ints, code: Ints | NDArray[np.int32], groups: int) -> Ints:
    """Count the different codes in each group.

    Examples
    --------
    >>> count_distinct(np.array([0, 0, 2, 0]), np.array([7, 7, 7, 1]), 3)
    array([2, 0, 1])
    """
    if not len(code):
        return np.zeros(groups, dtype=np.int64)
    seen = np.zeros((groups, int(code.max()) + 1), dtype=np.bool_)
    seen[group, code] = True
    return np.asarray(seen.sum(axis=1), dtype=np.int64)


NO_PREDICTION = "no_prediction"
"""Reason where the record has no prediction; the parser's reasons are about answers."""

REASON_NAMES = (*REASONS, NO_PREDICTION)


def count_by_reason(group: Ints, codes: Ints, given: Mask, groups: int) -> list[dict[str, int]]:
    """Count what is missing in each group by its reason, those that occur.

    Parameters
    ----------
    group, codes : (m,) int array
        Group and reason (an id into ``answers.REASONS``, or -1) of each missing grade or box.
    given : (m,) bool array
        Whether its record has a prediction.
    groups : int
    """
    names = REASON_NAMES
    # Without an answer and without a reason, it was left out of the answer.
    found = np.where(codes < 0, names.index("missing"), codes)
    found = np.where(given, found, names.index(NO_PREDICTION))
    counts = np.bincount(group * len(names) + found, minlength=groups * len(names)).reshape(groups, len(names))
    return [{name: count for name, count in zip(names, row, strict=True) if count} for row in counts.tolist()]


def group_by(table: SlotTable, by: By) -> Grouping:
    """Divide a table into the groups that occur in it."""
    truth = table.truth
    if by in OF_SLOTS:
        names, codes = {
            "slot": (tuple(slot.name for slot in SLOTS), table.slot),
            "attribute": (ATTRIBUTES, _ATTRIBUTE_OF[table.slot]),
        }[by]
        present, places = compact(codes)
        return Grouping(by, tuple(names[code] for code in present), None, places)
    question = truth.question.astype(np.int64)
    names, codes = {
        "all": (("all",), np.zeros(len(truth), dtype=np.int64)),
        "category": (CATEGORIES, CATEGORY_OF[question]),
        "question": (tuple(f"q{number:02d}" for number in range(1 + max(QUESTIONS))), question),
        "subregion": (_SUBREGIONS, _SUBREGION_OF[question]),
        "side": (SIDES, truth.side.astype(np.int64)),
        "visit": (VISITS, truth.visit.astype(np.int64)),
    }[by]
    present, places = compact(codes)
    return Grouping(by, tuple(names[code] for code in present), places, places[table.record])
