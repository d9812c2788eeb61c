"""`Collector`: read predictions, in any order, into the rows of `Answers`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from reasonknee_datasets.bench.answers import REASONS, ParsedAnswer, SlotAnswer, official_parse, parse_answer, parse_box
from reasonknee_datasets.bench.arrays import NONE, Answers, Truth
from reasonknee_datasets.bench.problem_log import ProblemLog
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError, BoxError, GradeError, RepositoryError
from reasonknee_datasets.moaks import QUESTIONS, Question, find_slot
from reasonknee_datasets.schema import parse_id
from reasonknee_datasets.sources import Repository, parse_split, read_shard, select

_REASON = {name: place for place, name in enumerate(REASONS)}


class Collector:
    """Fills a table of answers, one prediction at a time.

    Parameters
    ----------
    truth : Truth
        The records that are scored.
    problems : ProblemLog
        Receives every problem with a prediction.
    data : Repository or None
        Repository of the scored records. It identifies ids of other splits and of records that were not asked; without
        it they are unknown.
    split : str
        Split of the scored records.
    convention : BoxConvention
        Convention of the boxes.
    boxes : bool
        Whether texts are searched for boxes; a ``box`` next to a text is read anyway.
    official : bool
        Read texts as the authors' scripts do, by ``json.loads`` after the code fences are taken out, or not at all.
    each_text : callable, optional
        Called with the row and the text of each prediction that has one, its ``reasoning`` before it in think tags.

    Attributes
    ----------
    rules : Counter of str
        How many slots each rule of the parser was the gravest for.
    asked_boxes : bool
        Whether texts are searched for boxes, or some prediction had one.
    numbers : (N, 6) float array
        The six numbers as answered; NaN where there are none, or where the parser found no box in a text.
    """

    def __init__(
        self,
        truth: Truth,
        problems: ProblemLog,
        *,
        data: Repository | None,
        split: str,
        convention: BoxConvention,
        boxes: bool = False,
        official: bool = False,
        each_text: Callable[[int, str], None] | None = None,
    ) -> None:
        self.truth, self.problems, self.convention = truth, problems, convention
        self.boxes, self.official, self.each_text = boxes, official, each_text
        self.asked_boxes = boxes
        self.rules: Counter[str] = Counter()
        self.row = {name: place for place, name in enumerate(truth.ids)}
        self._data = data
        self._split = split if data is None else parse_split(split, data.manifest.splits())[0].name
        rows = len(truth)
        self.numbers = np.full((rows, 6), np.nan)
        self._answers = Answers(
            given=np.zeros(rows, dtype=np.bool_),
            grades=np.full(truth.grades.shape, NONE, dtype=np.int8),
            reasons=np.where(truth.slots == NONE, NONE, _REASON["missing"]).astype(np.int8),
            strict=np.zeros(rows, dtype=np.bool_),
            boxes=np.zeros((rows, 6), dtype=np.int32),
            has_box=np.zeros(rows, dtype=np.bool_),
            box_reasons=np.full(rows, _REASON["missing"], dtype=np.int8),
            text=np.zeros(rows, dtype=np.bool_),
        )

    def add(self, name: str, line: Mapping[str, Any], place: str) -> None:
        """Read one prediction into its row; one of a record that is not scored is a problem.

        Parameters
        ----------
        name : str
            The id.
        line : mapping
            With ``text`` or ``slots``, and perhaps ``reasoning``, ``box``, ``box_reason``, ``finish_reason`` and
            ``error``.
        place : str
            Its place in the predictions.
        """
        row = self.row.get(name)
        if row is None:
            self._note_unscored(name, place)
            return
        if self._answers.given[row]:
            self.problems.note("duplicate", f"{name} ({place})")
            return
        self._answers.given[row] = True
        question = QUESTIONS[int(self.truth.question[row])]
        if "slots" in line:
            self._take_slots(row, question, line["slots"], name)
        else:
            self._take_text(row, question, line)
        if "box" in line:
            self.asked_boxes = True
            self._take_box(row, line, name)
        elif self.boxes:
            self._read_box(row, line.get("text"), line)

    def finish(self) -> Answers:
        """Return the table; records without a prediction are noted."""
        for row in np.flatnonzero(~self._answers.given).tolist():
            self.problems.note("unanswered", self.truth.ids[row])
        if not self.asked_boxes:
            self._answers.box_reasons[:] = NONE
        return self._answers

    @cached_property
    def scans(self) -> dict[str, tuple[str, str]]:
        """Split and series of every volume of the repository by its id; read when it is first needed."""
        if self._data is None:
            return {}
        manifest, selection = self._data.manifest, select("volumes", ["id", "series"])
        return {
            row["id"]: (split, row["series"])
            for split in manifest.splits("volumes")
            for shard in manifest.shards("volumes", split)
            for table in read_shard(self._data.url(shard.path), shard, selection)
            for row in table.to_pylist()
        }

    def _note_unscored(self, name: str, place: str) -> None:
        """Note an id that is not scored: of another split, of a record that was not asked, or unknown."""
        try:
            question = QUESTIONS.get(parse_id(name).question_id or 0)
        except RepositoryError:
            question = None
        if question is not None and not question.in_records:
            self.problems.note("unscored", name)
            return
        scan = None if question is None else self.scans.get(name.rpartition("/q")[0])
        if scan is None:
            self.problems.note("unknown_id", f"{name[:80]} ({place})")
        elif scan[0] == self._split:
            self.problems.note("not_asked", f"{name} ({place})")
        else:
            self.problems.note("other_split", f"{name} is of {scan[0]} ({place})")

    def _take_text(self, row: int, question: Question, line: Mapping[str, Any]) -> None:
        text, thoughts = line.get("text"), line.get("reasoning")
        why = {key: line.get(key) for key in ("finish_reason", "error")}
        parsed = read_answer_text(question, text, **why, official=self.official)
        answers = self._answers
        answers.text[row], answers.strict[row] = isinstance(text, str), parsed.strict
        for place, answer in enumerate(parsed.slots):
            answers.grades[row, place] = NONE if answer.grade is None else answer.grade
            answers.reasons[row, place] = NONE if answer.reason is None else _REASON[answer.reason]
            if answer.rule is not None:
                self.rules[answer.rule] += 1
        if self.each_text is not None and isinstance(text, str):
            self.each_text(row, f"<think>{thoughts}</think>\n{text}" if isinstance(thoughts, str) else text)

    def _take_slots(self, row: int, question: Question, slots: Mapping[str, Any], name: str) -> None:
        """Read grades by slot; no text is parsed."""
        for key, value in slots.items():
            try:
                slot = find_slot(question, str(key))
            except GradeError:
                self.problems.note("illegal_grade", f"{name} {key}")
                continue
            place = question.slots.index(slot)
            if value is None:
                continue
            if _is_nan(value):
                self.problems.note("nan", f"{name} {key}")
                continue
            try:
                self._answers.grades[row, place] = slot.check(value)
                self._answers.reasons[row, place] = NONE
            except GradeError:
                self.problems.note("illegal_grade", f"{name} {key}={str(value)[:40]}")
                self._answers.reasons[row, place] = _REASON["out_of_range"]

    def _take_box(self, row: int, line: Mapping[str, Any], name: str) -> None:
        numbers, stated = line["box"], line.get("box_reason")
        if isinstance(numbers, str):  # the model's own words: their faults are not faults of the file
            self._read_box(row, numbers, line)
        elif numbers is None:
            self._set_box(row, None, stated if isinstance(stated, str) and stated in _REASON else "missing")
        else:
            self._set_box(row, self._decode_box(row, numbers, name), "out_of_range")

    def _decode_box(self, row: int, numbers: Any, name: str) -> Box | None:
        """Return the part of a box that is in its volume; None, with a problem, where there is none."""
        shape = self._shape(row)
        if self.convention.normalised and not all(shape):
            raise BenchError(
                "Boxes in shares of a volume need the shape of the volume, and the repository has none. Score against "
                "a repository that was prepared with images, or write boxes in voxels."
            )
        if isinstance(numbers, (Sequence, np.ndarray)) and any(map(_is_nan, numbers)):
            self.problems.note("nan", f"{name} box {list(numbers)}")
            return None
        try:
            given = np.asarray(numbers, dtype=np.float64)
            self.numbers[row] = given if given.shape == (6,) else np.nan
            box = self.convention.decode(numbers, shape)
        except (BoxError, OverflowError, TypeError, ValueError):
            self.problems.note("illegal_box", f"{name} {str(numbers)[:80]}")
            return None
        inside = box.intersect(Box((0, 0, 0), shape)) if all(shape) else box
        if inside != box:
            self.problems.note("box_outside", f"{name} {str(numbers)[:80]} in {shape}")
        return inside

    def _read_box(self, row: int, text: str | None, line: Mapping[str, Any]) -> None:
        shape, why = self._shape(row), {key: line.get(key) for key in ("finish_reason", "error")}
        found = parse_box(text, convention=self.convention, shape=shape, **why)
        if found.box is not None:
            self.numbers[row] = self.convention.encode(found.box, shape)
        self._set_box(row, found.box, found.reason)

    def _set_box(self, row: int, box: Box | None, reason: str | None) -> None:
        if box is not None:
            self._answers.boxes[row], self._answers.has_box[row] = box.to_row(), True
        self._answers.box_reasons[row] = NONE if box is not None else _REASON[reason or "missing"]

    def _shape(self, row: int) -> tuple[int, int, int]:
        i, j, k = self.truth.shapes[self.truth.volume[row]].tolist()
        return i, j, k


def _is_nan(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, Integral) and not math.isfinite(value)


def read_answer_text(
    question: Question,
    text: str | None,
    *,
    finish_reason: str | None = None,
    error: str | None = None,
    official: bool = False,
) -> ParsedAnswer:
    """Read the grades of one answer.

    Parameters
    ----------
    question : Question
    text, finish_reason, error : str or None
        As for `parse_answer`.
    official : bool
        Read by ``json.loads`` after the code fences are removed, as the authors' scripts do, or not at all.

    Returns
    -------
    ParsedAnswer
    """
    if official and text is not None and error is None:
        found = official_parse(text)
        if found is None:
            reason = "not_json" if text.strip() else "empty"
            return ParsedAnswer(question.id, tuple(SlotAnswer(slot, None, reason) for slot in question.slots), False)
        text = json.dumps(found)
    return parse_answer(question, text, finish_reason=finish_reason, error=error)
