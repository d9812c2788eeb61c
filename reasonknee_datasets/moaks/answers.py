"""Grades to and from the JSON that prompts ask for and records contain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from reasonknee_datasets.errors import GradeError
from reasonknee_datasets.moaks.spellings import find_question, find_slot, normal_form, slot_of_key
from reasonknee_datasets.moaks.values import Question
from reasonknee_datasets.moaks.vocabulary import get_question

# Keys that only wrap: of the prompts (MOAKS_scores, MOAKS_grade) and of the records (final_diagnosis, at times twice).
_WRAPPERS = frozenset(
    {"moaks scores", "moaks score", "moaks grades", "moaks grade", "final diagnosis", "diagnosis", "answer"}
)
# Keys next to a diagnosis that contain none.
_BESIDE = frozenset({"bounding box", "reasoning"})


def write_answer(question: int | Question, grades: Mapping[str, int | None]) -> str:
    """Write grades as JSON in the schema that this question's prompt asks for.

    Parameters
    ----------
    question : int or Question
        The question, or its number.
    grades : mapping of attribute to int or None
        By attribute; one that is left out is missing, and missing is written as null, never 0.

    Raises
    ------
    GradeError
        If a grade is not legal, or an attribute is not the question's.

    Examples
    --------
    >>> write_answer(19, {"size": 2, "depth": None})
    '{"MOAKS_scores": {"femur medial central cartilage lesion": {"Size of lesion": 2, "Depth of lesion": null}}}'
    >>> write_answer(45, {"grade": 1})
    '{"MOAKS_grade": {"medial meniscus medial extrusion": 1}}'
    """
    asked = get_question(question)
    checked = _check(asked, grades)
    value: object = {slot.prompt_key: checked[slot.attribute] for slot in asked.slots}
    if asked.bare:
        value = checked[asked.slots[0].attribute]
    answer: dict[str, object] = {asked.subject_key: value}
    return json.dumps({asked.wrapper_key: answer} if asked.wrapper_key else answer)


def write_diagnosis(question: int | Question, grades: Mapping[str, int | None]) -> dict[str, dict[str, int | None]]:
    """Write grades in the spelling of the generated records' ``final_diagnosis``.

    Examples
    --------
    >>> write_diagnosis(19, {"size": 2, "depth": 1})
    {'femur_medial_central_cartilage_lesion': {'size': 2, 'depth': 1}}
    """
    asked = get_question(question)
    checked = _check(asked, grades)
    return {asked.record_key: {slot.record_key: checked[slot.attribute] for slot in asked.slots}}


def _check(question: Question, grades: Mapping[str, int | None]) -> dict[str, int | None]:
    for attribute in grades:
        if attribute not in question.attributes:
            raise GradeError(
                f"Question {question.id} has no attribute {attribute!r}. Available: {', '.join(question.attributes)}. "
                "moaks.read_diagnosis translates official spellings."
            )
    given = {slot: grades.get(slot.attribute) for slot in question.slots}
    return {slot.attribute: None if value is None else slot.check(value) for slot, value in given.items()}


def read_diagnosis(question: int | Question | None, diagnosis: object) -> dict[str, int | None]:
    """Read grades from a record's ``final_diagnosis`` or from an answer, in either spelling.

    Wrappers (``MOAKS_scores``, ``MOAKS_grade``, ``final_diagnosis``) may be there, absent or nested; a bounding box
    next to the diagnosis is ignored. Where the question is known, its subject key may be absent as well.

    Parameters
    ----------
    question : int, Question or None
        The question; None to find it by the subject key.
    diagnosis : object
        Parsed JSON.

    Returns
    -------
    dict of str to (int or None)
        Every attribute of the question in order; None where the grade is null, NaN or left out.

    Raises
    ------
    GradeError
        If the subject, an attribute or a grade is not known or not legal, if something is given twice, or if the
        diagnosis is about another question.

    Examples
    --------
    >>> read_diagnosis(None, {"final_diagnosis": {"femur_medial_central_cartilage_lesion": {"size": 0, "depth": 0}}})
    {'size': 0, 'depth': 0}
    >>> read_diagnosis(44, {"MOAKS_scores": {"medial meniscus anterior extrusion": "1"}})
    {'grade': 1}
    """
    asked = None if question is None else get_question(question)
    found = list(_parts(asked, diagnosis))
    if len(found) != 1:
        got = " and ".join(part.subject_key for part, _ in found) or f"none in {diagnosis!r}"
        raise _malformed(asked, "name exactly one subject", got)
    about, value = found[0]
    if asked is not None and about.id != asked.id:
        raise _malformed(asked, f"be about {asked.subject_key}", f"{about.subject_key} (question {about.id})")
    return _grades(about, value)


def _parts(asked: Question | None, node: object) -> Iterator[tuple[Question, object]]:
    """Return each subject below the wrappers, with its value."""
    if not isinstance(node, Mapping):
        if asked is None or len(asked.slots) != 1:
            raise _malformed(asked, "be a JSON object with the subject as its key", repr(node))
        yield asked, node
        return
    keys = {key: normal_form(str(key)) for key in node}
    inner = [key for key, form in keys.items() if form not in _BESIDE]
    if asked is not None and inner and all(slot_of_key(asked, str(key)) for key in inner):
        yield asked, {key: node[key] for key in inner}
        return
    for key in inner:
        if keys[key] in _WRAPPERS:
            yield from _parts(asked, node[key])
        else:
            yield find_question(str(key)), node[key]


def _grades(question: Question, value: object) -> dict[str, int | None]:
    if not isinstance(value, Mapping):
        if len(question.slots) != 1:
            raise _malformed(question, f"have {' and '.join(question.attributes)} under its subject", repr(value))
        value = {question.slots[0].attribute: value}
    if len(value) == 1 and normal_form(str(next(iter(value)))) in _WRAPPERS:
        return _grades(question, next(iter(value.values())))
    grades: dict[str, int | None] = dict.fromkeys(question.attributes)
    seen: set[str] = set()
    for key, grade in value.items():
        slot = find_slot(question, str(key))
        if slot.attribute in seen:
            raise _malformed(question, f"give {slot.attribute} once", f"a second one under {key!r}")
        seen.add(slot.attribute)
        missing = grade is None or (isinstance(grade, float) and grade != grade)  # a bare NaN, as pandas writes it
        grades[slot.attribute] = None if missing else slot.check(grade)
    return grades


def _malformed(question: Question | None, rule: str, got: str) -> GradeError:
    subject = "diagnosis" if question is None else f"diagnosis of {question.subject_key} (question {question.id})"
    return GradeError(
        f"The {subject} must {rule}; found: {got}. moaks.write_answer and moaks.write_diagnosis show the two forms."
    )
