"""One official record: its content and its problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from reasonknee_datasets import moaks
from reasonknee_datasets.errors import GradeError, ReleaseError
from reasonknee_datasets.release.rebuild import AnswerText, describe_text, read_answer, write_extras

RECORD_KEYS = frozenset({"image", "prompt", "answer", "final_diagnosis"})
DIAGNOSIS_KEYS = frozenset({"bounding_box", "final_diagnosis"})
# Reasoning is one text per question and grades, some thousands in all: each is read once and found here afterwards.
_CACHED = 8192


class Fault(NamedTuple):
    """A kind of problem, and its message."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class RecordContent:
    """Content of a record without its place; one value serves every record of the same text."""

    number: int  # the question; 0 where a fault keeps the record from being a row
    grades: Mapping[str, int | None]  # by attribute; illegal ones are None
    # The question and answer columns.
    prompt: str
    answer: str
    steps: tuple[str, ...]  # the reasoning column
    extras: Mapping[str, Any]  # value of the record column for the text
    written: str  # the same as JSON
    faults: tuple[Fault, ...]  # problems of the text
    nulled: tuple[tuple[str, Any], ...] = ()  # attributes with illegal grades, and the values in the record
    told_box: Any = None  # the bounding box in the answer's text, where it repeats it


def check_record(record: Any) -> Fault | None:
    """Check a record's keys and types."""
    if not isinstance(record, dict) or record.keys() != RECORD_KEYS:
        found = sorted(map(str, record)) if isinstance(record, dict) else type(record).__name__
        message = f"must be an object with the keys {', '.join(sorted(RECORD_KEYS))}, not {found}"
        return Fault("record-shape", message)
    for key in ("image", "prompt", "answer"):
        if not isinstance(record[key], str):
            return Fault("record-shape", f"{key} must be text, not {record[key]!r}")
    diagnosis = record["final_diagnosis"]
    if not isinstance(diagnosis, dict) or diagnosis.keys() != DIAGNOSIS_KEYS:
        found = sorted(map(str, diagnosis)) if isinstance(diagnosis, dict) else repr(diagnosis)
        return Fault("record-shape", f"final_diagnosis must have bounding_box and final_diagnosis, not {found}")
    return None


def volume_key(image: str) -> str:
    """Return the part of an image path that records are joined by: what follows ``data/images/``.

    Examples
    --------
    >>> volume_key("/home/someone/data/images/9016403/00M/20050121_10329009_1.nii.gz")
    '9016403/00M/20050121_10329009_1.nii.gz'
    """
    return image.rpartition("data/images/")[2]


class RecordReader:
    """Reads the content of records, each distinct text once.

    `prompts`: official prompts, as far as the release has them, with the questions of each.
    """

    def __init__(self, prompts: Mapping[str, frozenset[int]]) -> None:
        self._prompts = prompts
        self._seen: dict[tuple[str, ...], RecordContent] = {}

    def read(self, record: Mapping[str, Any]) -> RecordContent:
        """Read a record that `check_record` passed."""
        whole = record["final_diagnosis"]
        text, box = record["answer"], whole["bounding_box"]
        same = (record["prompt"], repr(whole["final_diagnosis"]), next(iter(whole)))
        # Where answers repeat the box, no two texts are alike; without the box they are, and are compared 20 times
        # as fast without it.
        literal = repr(box)
        before, found, after = text.rpartition(literal)
        plain, shared = (*same, text), (*same, before, after)
        content = (self._seen.get(shared) if found else None) or self._seen.get(plain)
        if content is not None:
            return content if content.told_box in (None, box) else _disagree(box, content.told_box)
        content, tail = self._read(record["prompt"], text, whole)
        if len(self._seen) >= _CACHED:
            self._seen.clear()
        if content.told_box == box and found and literal in tail and literal not in before + after:
            content = replace(content, told_box=None)  # its key now includes the box
            self._seen[shared] = content
        else:
            self._seen[plain] = content
        return content if content.told_box in (None, box) else _disagree(box, content.told_box)

    def _read(self, prompt: str, text: str, whole: Mapping[str, Any]) -> tuple[RecordContent, str]:
        inner = whole["final_diagnosis"]
        try:
            question = _find_subject(inner)
            grades, bad = read_grades(question, inner)
        except GradeError as error:
            return _refuse("unknown-question", str(error)), ""
        if not question.in_records:
            return _refuse("unknown-question", f"question {question.id} is not one of 1 to 62, which have records"), ""
        asks = self._prompts.get(prompt)
        if asks is not None and question.id not in asks:
            got = f"the prompt is that of question {min(asks)}, but the diagnosis that of question {question.id}"
            return _refuse("prompt-mismatch", got), ""
        try:
            answer = read_answer(text)
        except ReleaseError as error:
            return _refuse("unreadable-answer", str(error)), ""
        fault = _compare(question, grades, bad, answer)
        if fault is not None:
            return _refuse(fault.kind, fault.message), ""
        extras = describe_text(answer, whole, question.id, grades)
        legal = {slot.attribute: slot.legal for slot in question.slots}
        faults = tuple(
            Fault("bad-grade", f"{name} of question {question.id} must be {_span(legal[name])} or null, not {raw!r}")
            for name, raw in bad.items()
        )
        written = moaks.write_answer(question, grades)
        steps, nulled = answer.steps, tuple(bad.items())
        box = answer.diagnosis.get("bounding_box") if isinstance(answer.diagnosis, dict) else None
        record = write_extras(extras)
        content = RecordContent(question.id, grades, prompt, written, steps, extras, record, faults, nulled, box)
        return content, answer.tail


def read_grades(question: moaks.Question, diagnosis: Any) -> tuple[dict[str, int | None], dict[str, Any]]:
    """Read grades, and set illegal values apart instead of failing at the first.

    Returns `grades`: by attribute; illegal ones are None. Returns `bad`: the illegal ones, as written. Raises
    GradeError if the diagnosis is of another question, or its keys are not understood.

    Examples
    --------
    >>> read_grades(moaks.QUESTIONS[19], {"femur_medial_central_cartilage_lesion": {"size": 2, "depth": 9}})
    ({'size': 2, 'depth': None}, {'depth': 9})
    """
    try:
        return moaks.read_diagnosis(question, diagnosis), {}
    except GradeError:
        # If the keys alone are understood, it is the values; else this raises again, about the keys.
        grades = moaks.read_diagnosis(question, _with_values(diagnosis, None))
    bad: dict[str, Any] = {}
    for place, (key, raw) in enumerate(_leaves(diagnosis)):
        try:
            alone = moaks.read_diagnosis(question, _with_values(diagnosis, place))
            grades.update({attribute: grade for attribute, grade in alone.items() if grade is not None})
        except GradeError:
            slots = {slot.attribute: slot for slot in question.slots}
            slot = moaks.find_slot(question, key) if len(slots) > 1 else question.slots[0]
            bad[slot.attribute] = raw
    return grades, bad


def _compare(
    question: moaks.Question, grades: Mapping[str, int | None], bad: Mapping[str, Any], answer: AnswerText
) -> Fault | None:
    """Compare final_diagnosis with the diagnosis that the answer's text ends in."""
    try:
        told, told_bad = read_grades(question, answer.diagnosis)
    except GradeError as error:
        return Fault("truth-mismatch", f"the answer's final diagnosis is not of question {question.id}: {error}")
    if told != grades or told_bad != bad:
        got = f"{ {**grades, **bad} } and {answer.tail}"
        return Fault("truth-mismatch", f"final_diagnosis and the answer's final diagnosis differ: {got}")
    return None


def _disagree(box: Any, told: Any) -> RecordContent:
    message = f"the bounding boxes of final_diagnosis and answer differ: {box} and {told}"
    return _refuse("truth-mismatch", message)


def _refuse(kind: str, message: str) -> RecordContent:
    return RecordContent(0, {}, "", "", (), {}, "", (Fault(kind, message),))


def _span(legal: range) -> str:
    return f"{legal[0]} to {legal[-1]}"


def _find_subject(diagnosis: Any) -> moaks.Question:
    """Find the one question that a diagnosis is about."""
    numbers = {number for number in map(_question_of, _keys(diagnosis)) if number}
    if len(numbers) == 1:
        return moaks.QUESTIONS[numbers.pop()]
    if len(numbers) > 1:
        raise GradeError(f"the record names several findings, not one: {', '.join(_keys(diagnosis))}")
    moaks.read_diagnosis(None, diagnosis)  # raises with the closest subject
    raise GradeError(f"the record names no finding of moaks.QUESTIONS, but {diagnosis!r}")


@lru_cache(maxsize=4096)
def _question_of(key: str) -> int:
    try:
        return moaks.find_question(key).id
    except GradeError:
        return 0


def _keys(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key)
            yield from _keys(value)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values that are not objects, with their keys, in order."""
    if not isinstance(node, Mapping):
        yield key, node
        return
    for name, value in node.items():
        yield from _leaves(value, str(name))


def _with_values(diagnosis: Any, keep: int | None) -> Any:
    """Copy a diagnosis with null for every leaf but one."""
    places = iter(range(1_000_000))

    def copy(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: copy(value) for key, value in node.items()}
        return node if next(places) == keep else None

    return copy(diagnosis)
