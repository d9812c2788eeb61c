"""The canonical writer, and what the authors' scripts do with a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError, explain
from reasonknee_datasets.moaks import Question, write_answer

BOX_KEY = "bounding_box"


def write(
    question: int | Question,
    grades: Mapping[str, int | None],
    box: Box | None = None,
    convention: BoxConvention | None = None,
    shape: Sequence[int] | None = None,
) -> str:
    """Write an answer as the prompts ask for it; `parse_answer` and `parse_box` give the same back.

    Parameters
    ----------
    question : int or Question
        The question, or its number.
    grades : mapping of attribute to int or None
        By attribute; one that is left out is missing, and missing is written as null, never 0.
    box : Box, optional
        Written first, under ``bounding_box``, as the full prompts have it.
    convention : BoxConvention, optional
        How to write the box; needed with ``box``.
    shape : three ints, optional
        Voxels of the volume along each axis; needed where the convention is normalised.

    Raises
    ------
    GradeError
        If a grade is not legal, or an attribute is not the question's.
    BenchError
        If a box comes without its convention, or a normalised one without the shape.

    Examples
    --------
    >>> write(44, {"grade": 1})
    '{"MOAKS_scores": {"medial meniscus anterior extrusion": 1}}'
    >>> write(62, {"signal": None}, Box((1, 2, 3), (4, 5, 6)), BoxConvention())
    '{"bounding_box": [1, 4, 2, 5, 3, 6], "Patellar_Tendon": {"Signal Abnormality": null}}'
    """
    answer = write_answer(question, grades)
    if box is None:
        return answer
    if convention is None or (convention.normalised and shape is None):
        missing = "convention" if convention is None else "shape"
        remedy = "A box is six numbers in a convention, and shares of a volume need its shape"
        raise BenchError(explain("box", f"be written with its {missing}", "none", remedy))
    numbers = convention.encode(box, () if shape is None else shape)
    return json.dumps({BOX_KEY: numbers, **json.loads(answer)})


def official_parse(text: str | None) -> object | None:
    r"""Give what the authors' scripts get from a text: ``json.loads`` after the code fences are taken out.

    Parameters
    ----------
    text : str or None
        The model's text.

    Returns
    -------
    object or None
        The parsed JSON; None where the authors' scripts have no answer.

    Examples
    --------
    >>> official_parse('```json\n{"ACL": {"Complete Tear": 0}}\n```')
    {'ACL': {'Complete Tear': 0}}
    >>> official_parse("Grade 2.") is None
    True
    """
    if text is None:
        return None
    try:
        return json.loads(without_fences(text))  # type: ignore[no-any-return]  # whatever the model wrote
    except (ValueError, RecursionError):
        return None


def without_fences(text: str) -> str:
    """Take out code fences as the authors' scripts do, wherever they stand."""
    return text.replace("```json", "").replace("```", "").strip()
