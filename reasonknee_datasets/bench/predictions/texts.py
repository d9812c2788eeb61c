"""`read_text`: one answer's text to grades, by the codec or as the authors' scripts read it."""

from __future__ import annotations

import json

from reasonknee_datasets.bench.answers import ParsedAnswer, SlotAnswer, official_parse, parse_answer
from reasonknee_datasets.moaks import Question


def read_text(
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
