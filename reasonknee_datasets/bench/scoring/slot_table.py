"""`Sheet` and `Marked`: the graded slots of a truth as one long table, and what was answered in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.arrays import NONE, Answers, Truth
from reasonknee_datasets.errors import BenchError, explain
from reasonknee_datasets.moaks import QUESTIONS, SLOTS

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_HIGH = np.array([slot.high for slot in SLOTS])
_IS_SIZE = np.array([slot.attribute == "size" for slot in SLOTS])
# 0 stands for nothing to see everywhere but in tear location, where 3 is "no tear".
NORMAL = np.array([3 if slot.attribute == "tear_location" else 0 for slot in SLOTS])


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """What is true, laid out for counting: n rows, one for each slot with a true grade.

    Attributes
    ----------
    truth : Truth
    patients : tuple of str
        Those who have records; P of them.
    patient : (N,) int array
        Code of each record into `patients`.
    record, place, slot, grade : (n,) int array
        Of each row: its record, its place among the record's slots, its slot id and true grade.
    size : (n,) int array
        True size in the same record; -1 where it is missing or not asked.
    positive : (n,) bool array
        The true grade is not the normal one.
    whole : (N,) bool array
        Every slot of the record has a true grade.
    positive_record : (N,) bool array
    """

    truth: Truth
    patients: tuple[str, ...]
    patient: Ints
    record: Ints
    place: Ints
    slot: Ints
    grade: Ints
    size: Ints
    positive: Mask
    whole: Mask
    positive_record: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """What was answered in each row of a `Sheet`.

    Attributes
    ----------
    answers : Answers
    grade : (n,) int array
        -1 where there is none.
    filled : (n,) int array or None
        The same with priors in place of -1; None without priors.
    complete : (N,) bool array
        Every slot of the record, graded or not in the truth, has an answer.
    boxes_asked : bool
        Whether the run asked for boxes at all: then a record without one is missing it.
    """

    answers: Answers
    grade: Ints
    filled: Ints | None
    complete: Mask
    boxes_asked: bool


def lay_out(truth: Truth) -> Sheet:
    """Lay a truth out for counting.

    Raises
    ------
    BenchError
        If it holds no records, a question without a truth, or a grade that its slot does not know.
    """
    if not len(truth):
        raise BenchError(explain("truth", "hold records", "none", "Score a split, or a sample of whole patients"))
    asked = truth.slots >= 0
    scored = {question.id for question in QUESTIONS.values() if question.in_records}
    unscored = sorted(set(truth.question.tolist()) - scored)
    if unscored:
        remedy = "Questions 63 to 69 are in the prompt files only: leave them out, and count them as unscored"
        raise BenchError(explain("questions of a truth", "be 1 to 62", str(unscored), remedy))
    _check_grades("true", truth.ids, truth.slots, truth.grades)
    used, patient = np.unique(truth.patient, return_inverse=True)
    record, place = np.nonzero(asked & (truth.grades >= 0))
    slot = truth.slots[record, place].astype(np.int64)
    grade = truth.grades[record, place].astype(np.int64)
    sized = asked & _IS_SIZE[truth.slots]
    sizes = np.where(sized.any(axis=1), np.where(sized, truth.grades, NONE).max(axis=1), NONE).astype(np.int64)
    positive = grade != NORMAL[slot]
    positive_record = np.zeros(len(truth), dtype=np.bool_)
    positive_record[record[positive]] = True
    return Sheet(
        truth=truth,
        patients=tuple(truth.patients[code] for code in used),
        patient=patient.astype(np.int64),
        record=record,
        place=place,
        slot=slot,
        grade=grade,
        size=sizes[record],
        positive=positive,
        whole=_without(asked & (truth.grades < 0)),
        positive_record=positive_record,
    )


def mark(sheet: Sheet, answers: Answers, priors: ArrayLike | None, boxes_asked: bool | None) -> Marked:
    """Put answers beside a sheet.

    Raises
    ------
    BenchError
        If they are not as many, hold an illegal grade or a box that is none, or if a prior is lacking.
    """
    truth = sheet.truth
    if len(answers) != len(truth):
        remedy = "Read the predictions against this truth: row stands beside row"
        raise BenchError(explain("answers", f"be {len(truth)} rows, as the truth is", len(answers), remedy))
    _check_grades("answered", truth.ids, truth.slots, answers.grades)
    _check_boxes(truth, answers)
    grade = answers.grades[sheet.record, sheet.place].astype(np.int64)
    filled = None if priors is None else np.where(grade < 0, _prior_grades(sheet.slot, priors), grade)
    complete = _without((truth.slots >= 0) & (answers.grades < 0))
    told = bool(answers.has_box.any() or (answers.box_reasons >= 0).any())
    return Marked(answers, grade, filled, complete, told if boxes_asked is None else boxes_asked)


def _without(found: Mask) -> Mask:
    """Find the records that have none of the requested slots."""
    return np.asarray(~found.any(axis=1), dtype=np.bool_)


def _prior_grades(slots: Ints, priors: ArrayLike) -> Ints:
    table = np.asarray(priors, dtype=np.int64)
    if table.shape != (len(SLOTS),):
        remedy = "TrainPriors.most_frequent is such an array"
        raise BenchError(explain("priors", f"be one grade for each of {len(SLOTS)} slots", str(table.shape), remedy))
    lacking = [SLOTS[slot].name for slot in np.unique(slots) if not 0 <= table[slot] <= _HIGH[slot]]
    if lacking:
        remedy = "Prepare the train split too, or score with priors=None, without the rule prior"
        raise BenchError(explain("priors", "hold a legal grade for every scored slot", f"none for {lacking}", remedy))
    return table[slots]


def _check_grades(which: str, ids: tuple[str, ...], slots: NDArray[np.int16], grades: NDArray[np.int8]) -> None:
    wrong = np.where(slots >= 0, (grades > _HIGH[slots]) | (grades < NONE), grades != NONE)
    if wrong.any():
        record, place = (int(found[0]) for found in np.nonzero(wrong))
        slot = SLOTS[slots[record, place]].name if slots[record, place] >= 0 else "padding"
        got = f"{grades[record, place]} in {slot} ({int(wrong.sum())} such)"
        remedy = "The codec gives legal grades, and -1 with a reason for all else"
        raise BenchError(explain(f"{which} grades", "be legal, or -1", got, remedy, where=f"at {ids[record]}"))


def _check_boxes(truth: Truth, answers: Answers) -> None:
    wrong = answers.has_box & ~(answers.boxes[:, :3] < answers.boxes[:, 3:]).all(axis=1)
    if wrong.any():
        first = int(np.argmax(wrong))
        got = f"{answers.boxes[first].tolist()} ({int(wrong.sum())} such)"
        remedy = "A box that cannot be read has has_box False and a reason"
        where = f"at {truth.ids[first]}"
        raise BenchError(explain("answered box", "have start below stop on each axis", got, remedy, where=where))
