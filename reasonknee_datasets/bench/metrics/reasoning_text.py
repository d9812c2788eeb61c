"""A model's text cut into its reasoning, the steps of the reasoning, and the final answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_TAG = re.compile(r"</?(?:think|thinking|reasoning|scratchpad|analysis)>|<\|[^|<>\n]{1,40}\|>", re.IGNORECASE)
_THOUGHTS_END = re.compile(r"</(?:think|thinking|reasoning|scratchpad|analysis)>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(?:answer|final_answer|final)>|<\|begin_of_(?:box|solution|answer)\|>", re.IGNORECASE)
_HEADING = re.compile(
    r"(?:^|(?<=[.!?:]\s)|(?<=\n))[#*_> \t]{0,8}(?:(?:my |the )?final (?:answer|diagnosis|assessment|grades?"
    r"|grading|scores?|result|output|conclusion)|answer)\b[*_ \t]{0,4}(?:(?:is|are)\b[^:\n{]{0,20})?"
    r":?[*_ \t]{0,4}(?=[:\n{]|\S)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:[A-Za-z]\w{0,9})?\s*$")
_REASONING_KEYS = ("reasoning", "rationale", "explanation", "steps", "chain_of_thought", "analysis", "thoughts")
_MARKER = re.compile(r"^\s*(?:[-*•#>]+\s+)*(?:\**step\s+\d{1,2}\**\s*[:.)-]*|\(?\d{1,2}[.)](?=\s))?\s*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(*]{0,3}[A-Z])")
WORD = re.compile(r"[A-Za-z]{2,}")


def split_answer(text: str) -> tuple[str, str]:
    r"""Cut a model's text into its reasoning and the final answer.

    The final answer begins at an answer tag, else at the last heading such as ``Final diagnosis:``, else at the last
    JSON object. What follows it is no reasoning: it explains an answer that is already given. A text with none of the
    three is all reasoning, unless it is a single sentence, or one behind a closing think tag.

    Parameters
    ----------
    text : str
        Everything that the model wrote, drafts in think tags included.

    Returns
    -------
    (str, str)
        The answer is empty where it cannot be told from the reasoning.

    Examples
    --------
    >>> split_answer("The pad is bright, so grade 2.\nFinal diagnosis: {'grade': 2}")
    ('The pad is bright, so grade 2.', "Final diagnosis: {'grade': 2}")
    >>> split_answer('{"grade": 2}')
    ('', '{"grade": 2}')
    """
    plain = text.strip()
    tag = _ANSWER_TAG.search(plain)
    headings = list(_HEADING.finditer(plain))
    start = _last_object(plain)
    if tag:
        cut = tag.start()
    elif headings and _has_answer(plain[headings[-1].end() :]):
        cut = headings[-1].start()
    elif start is not None:
        inner = _reasoning_in(plain[start:])
        if inner is not None:
            return f"{_untagged(plain[:start])}\n{inner}".strip(), plain[start:]
        cut = start - len(fence[0]) if (fence := _FENCE.search(plain[:start])) else start
    else:
        thoughts = list(_THOUGHTS_END.finditer(plain))
        cut = thoughts[-1].end() if thoughts else 0
        if len(steps(plain[cut:])) >= 2:
            cut = len(plain)
    return _untagged(plain[:cut]), plain[cut:]


def _has_answer(rest: str) -> bool:
    return bool(WORD.search(rest) or re.search(r"\d", rest))


def _untagged(text: str) -> str:
    return _TAG.sub(" ", text).strip()


def _last_object(text: str) -> int | None:
    """Return where the last JSON object begins; an unclosed one counts."""
    depth, last = 0, None
    for found in re.finditer(r"[{}]", text):
        if found[0] == "{":
            if depth == 0:
                last = found.start()
            depth += 1
        else:
            depth = max(0, depth - 1)
    return last


def _reasoning_in(text: str) -> str | None:
    """Return the reasoning that stands inside a JSON answer, before the grades or behind them."""
    try:
        item: Any = json.loads(text[: text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, Mapping):
        return None
    for key, value in item.items():
        if key.casefold() in _REASONING_KEYS:
            if isinstance(value, str):
                return value
            if isinstance(value, list):
                return "\n".join(map(str, value))
    return None


def steps(reasoning: str) -> tuple[str, ...]:
    """Cut a reasoning into its sentences, without the marks of a list.

    Examples
    --------
    >>> steps("Step 1: The pad is dark. It has no haze.")
    ('The pad is dark.', 'It has no haze.')
    """
    lines = (_MARKER.sub("", line).strip() for line in reasoning.splitlines())
    sentences = (_MARKER.sub("", sentence) for line in lines for sentence in _SENTENCE.split(line))
    return tuple(sentence for sentence in sentences if WORD.search(sentence))
