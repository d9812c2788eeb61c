"""Every official spelling of a subject or an attribute, found again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache, lru_cache

from reasonknee_datasets.errors import GradeError
from reasonknee_datasets.moaks.values import Question, Slot
from reasonknee_datasets.moaks.vocabulary import QUESTIONS, get_question

# Two spellings of one thing, in normal form; applied in this order to the words of any key.
_SAME_WORDS = (
    ("bone marrow lesions", "bml"),
    ("bone marrow lesion", "bml"),
    ("bmls", "bml"),
    ("trochlear", "anterior"),
    ("trochlea", "anterior"),
    ("anterior cruciate ligament", "acl"),
    ("posterior cruciate ligament", "pcl"),
    ("cartilage lesions", "cartilage lesion"),
    ("meniscus cyst", "meniscal cyst"),
    ("meniscus hypertrophy", "meniscal hypertrophy"),
    ("meniscus root tear", "meniscal root tear"),
)

# Names of attributes in the prompts' own text, besides the key that it asks for, by category.
_PROSE = {
    ("bone_marrow_lesion", "number"): ("number of BMLs", "number of BML"),
    ("bone_marrow_lesion", "percent"): ("percent of lesion that is BML", "% of lesion that is BML"),
    ("cartilage_lesion", "depth"): ("percent of full-thickness loss", "% of full-thickness loss"),
    ("ligament", "insertion_lesion"): ("associated with BML/cyst", "BML/cyst at site of insertion or origin"),
}


@lru_cache(maxsize=4096)  # half a million records repeat a few hundred keys
def normal_form(text: str) -> str:
    """Reduce a key to what its official spellings share: case, separators and synonyms go.

    Examples
    --------
    >>> normal_form("Femur_Medial_Trochlea bone-marrow lesion")
    'femur medial anterior bml'
    """
    words = " ".join(re.findall(r"[^\W_]+", text.casefold().replace("%", " percent ")))
    padded = f" {words} "
    for spelling, same in _SAME_WORDS:
        padded = padded.replace(f" {spelling} ", f" {same} ")
    return padded.strip()


def _subjects(question: Question) -> Iterator[str]:
    yield question.subject_key
    yield question.record_key
    yield f"{question.subregion}_{question.finding}"
    yield f"{question.finding}_{question.subregion}"
    if question.category == "meniscal_root_tear":
        yield "MMRT" if question.subregion.startswith("medial") else "LMRT"  # as the prompts' text says
    if question.category in ("ligament", "tendon", "periarticular", "hoffa_synovitis", "effusion_synovitis"):
        yield question.finding  # there is only one


@cache
def _questions_by_subject() -> dict[str, Question]:
    return {normal_form(name): question for question in QUESTIONS.values() for name in _subjects(question)}


def find_question(subject: str) -> Question:
    """Find the question that a prompt's or a record's key is about.

    Parameters
    ----------
    subject : str
        Any official spelling: the prompt's or the record's, in any case, words joined by blanks, hyphens or
        underscores, "BML" or "bone marrow lesion", "trochlea" or "anterior".

    Raises
    ------
    GradeError
        If no question has that subject; the message offers the closest.

    Examples
    --------
    >>> find_question("femur_medial_anterior_bone_marrow_lesion").id
    3
    >>> find_question("Femur medial trochlea BML").id
    3
    """
    known = _questions_by_subject()
    found = known.get(normal_form(subject))
    if found is None:
        close = get_close_matches(normal_form(subject), known, n=1)
        hint = f" Did you mean {known[close[0]].subject_key!r}?" if close else ""
        raise GradeError(
            f"No official prompt or record has the subject {subject!r}.{hint} moaks.QUESTIONS has "
            "every official spelling."
        )
    return found


@cache
def _slots_by_attribute(question_id: int) -> dict[str, Slot]:
    known: dict[str, Slot] = {}
    for slot in QUESTIONS[question_id].slots:
        names = [slot.attribute, slot.record_key, *_PROSE.get((slot.category, slot.attribute), ())]
        if slot.prompt_key is not None:
            names.append(slot.prompt_key)
        known.update((normal_form(name), slot) for name in names)
    return known


def slot_of_key(question: Question, key: str) -> Slot | None:
    """Return the slot that a key names, or None."""
    return _slots_by_attribute(question.id).get(normal_form(key))


def find_slot(question: int | Question, attribute: str) -> Slot:
    """Find the slot of a question that an attribute's key names.

    Parameters
    ----------
    question : int or Question
        The question, or its number.
    attribute : str
        Any official spelling: ``depth``, ``Depth of lesion``, ``Percent of full-thickness loss``.

    Raises
    ------
    GradeError
        If the question has no such attribute.

    Examples
    --------
    >>> find_slot(19, "Depth of lesion").attribute
    'depth'
    """
    asked = get_question(question)
    found = slot_of_key(asked, attribute)
    if found is None:
        spelled = " or ".join(
            repr(slot.attribute)
            if slot.prompt_key in (None, slot.attribute)
            else f"{slot.attribute!r} ({slot.prompt_key!r})"
            for slot in asked.slots
        )
        raise GradeError(
            f"{asked.subject_key} (question {asked.id}) has no attribute {attribute!r}. Available: {spelled}."
        )
    return found
