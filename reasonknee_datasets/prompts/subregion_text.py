"""Plain words for the subregions, for prompts and reasoning.

Medial and lateral, never left or right: the wording of a question is the same for both knees, and stays true when a
transform mirrors one into the other.
"""

from __future__ import annotations

from reasonknee_datasets.moaks import Question

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
