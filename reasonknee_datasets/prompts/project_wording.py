"""The 69 prompts in the project's own words, at the official lengths and with the official answer schemas.

Three wordings of each, as officially: *full* asks for the bounding box too, *guided* and *zeroshot* do not, and
*zeroshot* leaves out what the finding looks like. The last two were made from the first by cutting the box out of the
schema, which went wrong in questions 58 and 59 officially; it goes wrong in the same way here.

The generated records use the guided wording.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from reasonknee_datasets.moaks import QUESTIONS, Question, Slot
from reasonknee_datasets.prompts import category_texts
from reasonknee_datasets.prompts.subregion_text import describe_subregion

Wording = Literal["guided", "zeroshot"]
FullWording = Literal["full", "guided", "zeroshot"]

BOX_SCHEMA = '"bounding_box": [start_slice, end_slice, x_min, x_max, y_min, y_max], '
DAMAGED = frozenset({58, 59})
_CUT_FROM, _CUT_TO = "your reasoning and ", "end_slice"

_PLANES = {"anterior": "sagittal", "medial": "coronal", "lateral": "coronal"}
_LIGAMENT_GRADES = "Each value is 0 for no and 1 for yes. "


def _value(slot: Slot) -> str:
    """Show the legal values the way this question's official schema shows them."""
    if slot.finding == "meniscal_cyst":
        return "0 | 1" if slot.attribute == "presence" else f"({slot.low}-{slot.high})"
    return "(0 | 1)" if slot.scale == "binary" else f"(grade from {slot.low}-{slot.high})"


def answer_schema(question: Question, *, box: bool = False) -> str:
    """Write the answer schema of a prompt, in the official spelling.

    Examples
    --------
    >>> answer_schema(QUESTIONS[45])
    '{"MOAKS_grade": {"medial meniscus medial extrusion": (grade from 0-3)}}'
    """
    first = question.slots[0]
    fields = ", ".join(f'"{slot.prompt_key}": {_value(slot)}' for slot in question.slots)
    inner = _value(first) if first.prompt_key is None else f"{{{fields}}}"
    schema = f'"{question.subject_key}": {inner}'
    if question.wrapper_key is not None:
        schema = f'"{question.wrapper_key}": {{{schema}}}'
    end = "." if question.finding == "meniscal_cyst" else ""
    return f"{{{BOX_SCHEMA if box else ''}{schema}}}{end}"


def _texts(question: Question) -> tuple[str, str, str, str]:
    task, look, grading, request = category_texts.PARTS[question.category]
    words = {"place": describe_subregion(question)}
    if question.category == "meniscal_extrusion":
        words["plane"] = _PLANES[question.subregion.rsplit("_", 1)[1]]
    elif question.category == "ligament":
        look, grading = category_texts.LIGAMENT_LOOK[question.finding], _LIGAMENT_GRADES
        words["count"] = f"the {'three' if len(question.slots) == 3 else 'two'} values"
    elif question.category == "periarticular":
        words["name"], words["look"] = category_texts.PERIARTICULAR_LOOK[question.finding]
    return (task.format(**words), look.format(**words), grading, request.format(**words))


@cache
def project_prompt(question_id: int, wording: FullWording = "guided") -> str:
    """Write one prompt.

    Parameters
    ----------
    question_id : int
        1 to 69.
    wording : {"guided", "full", "zeroshot"}
        As the module describes.

    Examples
    --------
    >>> project_prompt(58, "zeroshot")[-110:]
    'your reasoning and end_slice, x_min, x_max, y_min, y_max], "medial_meniscal_root_tear": {"presence": (0 | 1)}}'
    """
    question = QUESTIONS[question_id]
    task, look, grading, request = _texts(question)
    cut = question_id in DAMAGED and wording != "full"
    schema = answer_schema(question, box=wording == "full" or cut)
    text = f"{task}{'' if wording == 'zeroshot' else look}{grading}{request}{schema}"
    return _damage(text) if cut else text


def _damage(text: str) -> str:
    """Cut the request together with half of the box schema, as happened to the official prompts 58 and 59."""
    start = text.index(_CUT_FROM) + len(_CUT_FROM)
    return text[:start] + text[text.index(_CUT_TO, start) :]


def project_prompts(wording: FullWording) -> dict[str, str]:
    """Write all 69 prompts of one wording, keyed ``"1"`` to ``"69"`` as in the official question files.

    Examples
    --------
    >>> len(project_prompts("guided"))
    69
    """
    return {str(number): project_prompt(number, wording) for number in QUESTIONS}
