"""The 69 prompts in the project's own words, at the official lengths and with the official answer schemas.

Three wordings of each, as officially: *full* asks for the bounding box too, *guided* and *zeroshot* do not, and
*zeroshot* does not describe the finding. The last two were made from the first by cutting the box out of the schema,
which damaged questions 58 and 59 officially; they are damaged in the same way here.

The generated records use the guided wording. Subregions are named medial and lateral, never left or right: the wording
of a question is the same for both knees, and stays true when a transform mirrors one into the other.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from reasonknee_datasets.moaks import QUESTIONS, Question, Slot
from reasonknee_datasets.prompts import category_texts

_FEMUR = {
    "anterior": "{side} side of the femoral trochlea",
    "central": "central, weight-bearing part of the {side} femoral condyle",
    "posterior": "posterior part of the {side} femoral condyle",
}
_PATELLAR_MARGIN = {
    "superior": "superior pole of the patella",
    "inferior": "inferior pole of the patella",
    "medial": "medial edge of the patella",
    "lateral": "lateral edge of the patella",
}
_HORN = {"anterior": "anterior horn", "body": "body", "posterior": "posterior horn"}


def describe_subregion(question: Question) -> str:
    """Describe in words the subregion of a question.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> describe_subregion(QUESTIONS[19]), describe_subregion(QUESTIONS[45])
    ('central, weight-bearing part of the medial femoral condyle', 'body of the medial meniscus')
    """
    bone, *rest = question.subregion.split("_")
    if question.finding == "osteophyte":
        return _margin(bone, rest)
    if question.category.startswith("meniscal"):
        return _meniscus(rest, bone)
    if question.category == "periarticular":
        return question.subregion.replace("_", " ")
    if bone == "patella":
        return f"{rest[0]} half of the patella"
    if bone == "femur":
        return _FEMUR[rest[1]].format(side=rest[0])
    if bone == "tibia":
        return (
            "subspinous part of the tibia"
            if rest == ["subspinous"]
            else f"{rest[1]} part of the {rest[0]} tibial plateau"
        )
    return question.subregion.replace("_", " ")


def _margin(bone: str, rest: list[str]) -> str:
    if bone == "patella":
        return _PATELLAR_MARGIN[rest[0]]
    if bone == "tibia":
        return f"{rest[0]} margin of the tibial plateau"
    return f"{rest[1]} margin of the {rest[0]} femoral condyle"


def _meniscus(rest: list[str], side: str) -> str:
    part = rest[1] if len(rest) > 1 else ""
    if part == "root":
        return f"posterior root of the {side} meniscus"
    if part == side:  # extrusion of the body is measured towards the joint's own side, and is named after it
        part = "body"
    return f"{_HORN[part]} of the {side} meniscus" if part else f"{side} meniscus"


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
