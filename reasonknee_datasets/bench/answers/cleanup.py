"""What of a text is meant as its answer: without drafts, tags and tokens, cut into prose and fenced blocks."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

BLANKS = " \t\r\n"
"""What JSON knows as white space."""
_INVISIBLE = re.compile(r"[\u200b\u200c\u200d\u2060\ufeff]")
_CHANNEL = re.compile(r"<\|channel\|>\s{0,8}final\s{0,8}(?:<\|constrain\|>\s{0,8}\w{0,20}\s{0,8})?<\|message\|>")
_THOUGHTS = r"think|thinking|thought|thoughts|reasoning|scratchpad|analysis|reflection|seed:think|antthinking"
_THOUGHT = re.compile(
    rf"<(?P<end>/)?(?:{_THOUGHTS})(?:\s[^<>]{{0,100}})?>|\[(?P<end2>/)?THINK\]|◁(?P<end3>/)?think▷"
    r"|<\|(?:begin|(?P<end4>end))_of_thought\|>|<unused9(?:4>(?:thought)?|(?P<end5>5)>)",
    re.IGNORECASE,
)
_ANSWER = re.compile(
    r"<(?P<end>/)?(?:answer|final_answer|final|diagnosis)>|<\|(?:begin|(?P<end2>end))_of_(?:box|solution|answer)\|>",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:end|start)_of_turn>|\[/?INST\]|<(?:eos|bos|pad)>")
_FENCE = re.compile(r"(?:`{3,8}|~{3,8})(?:[A-Za-z][\w+.\-]{0,19}(?=[\s{\[]))?")
_ESCAPED = re.compile(r"\{(?:\s|\\n){0,20}\\\"")
_NAMES = r"answer|diagnosis|assessment|grades?|grading|scores?|moaks|results?|output|impression|conclusion|json"
_FINAL = re.compile(
    rf"(?<![\"'\w])final\s{{1,4}}(?:{_NAMES})\b(?:(?!\s(?:is|are)\b)[^:\n\"'{{}}]){{0,40}}:"
    rf"|^[#*_ \t]{{0,8}}final\s{{1,4}}(?:{_NAMES})[^:\n\"'{{}}.|]{{0,30}}$"
    r"|^[#*_ \t]{0,8}(?:answer|conclusion|impression)[*_ \t]{0,4}:",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of text: prose, or what stands between two fences."""

    text: str
    fenced: bool


@dataclass(frozen=True, slots=True)
class Spoken:
    """What of a text is meant as its answer.

    Attributes
    ----------
    text : str
        Without drafts, tags and tokens; blank where nothing is left.
    rules : frozenset of str
        What was done.
    unfinished : bool
        It ended in the middle of a draft.
    """

    text: str
    rules: frozenset[str]
    unfinished: bool


def spoken(text: str) -> Spoken:
    r"""Leave out of a text what is not meant as its answer.

    Examples
    --------
    >>> spoken("<think>Grade 1? No, it is larger.</think>\n{\"grade\": 2}<|im_end|>").text
    '{"grade": 2}'
    >>> spoken("<think>Let me look at").unfinished
    True
    """
    rules: set[str] = set()

    def note(rule: str, before: str, after: str) -> str:
        if after != before:
            rules.add(rule)
        return after

    text = note("invisible", text, _INVISIBLE.sub("", text))
    text = note("final_channel", text, _last_channel(text))
    kept, unfinished = _without_thoughts(text)
    text = note("thought_removed", text, kept)
    text = note("answer_tag", text, _answers(text))
    text = note("special_tokens", text, _TOKEN.sub(" ", text))
    if "{&quot;" in text or "&quot;:" in text:
        text = note("escaped_json", text, html.unescape(text))
    if _ESCAPED.search(text):
        text = note("escaped_json", text, text.replace('\\\\"', '"').replace('\\"', '"').replace("\\n", "\n"))
    text = note("invisible", text.strip(BLANKS), text.strip())
    return Spoken(text, frozenset(rules), unfinished)


def _last_channel(text: str) -> str:
    end = 0
    for found in _CHANNEL.finditer(text):
        end = found.end()
    return text[end:]


def _is_end(found: re.Match[str]) -> bool:
    return any(value for name, value in found.groupdict().items() if name.startswith("end"))


def _without_thoughts(text: str) -> tuple[str, bool]:
    """Leave out drafts: from an opening tag to its end, and all before an end that was never opened."""
    kept: list[str] = []
    at, thinking = 0, False
    for found in _THOUGHT.finditer(text):
        if _is_end(found):
            if not thinking:
                kept.clear()  # the template had opened it in the prompt
            thinking = False
        elif not thinking:
            kept.append(text[at : found.start()])
            thinking = True
        at = found.end()
    if not thinking:
        kept.append(text[at:])
    return "".join(kept), thinking


def _answers(text: str) -> str:
    """Keep what stands in answer tags, if there are any."""
    kept: list[str] = []
    at: int | None = None
    for found in _ANSWER.finditer(text):
        if not _is_end(found):
            at = found.end() if at is None else at
        elif at is not None:
            kept.append(text[at : found.start()])
            at = None
    if at is not None:
        kept.append(text[at:])
    return "\n".join(kept) if kept else text


def final_part(text: str) -> str | None:
    r"""Give what follows the first heading that announces the final answer; None where there is none.

    Examples
    --------
    >>> final_part("At first I thought grade 1.\nFinal answer: grade 2")
    ' grade 2'
    """
    found = _FINAL.search(text)
    return text[found.end() :] if found else None


def has_fence(text: str) -> bool:
    """Tell whether there is a code fence in a text."""
    return _FENCE.search(text) is not None


def parts(text: str) -> list[Part]:
    r"""Cut a text at its code fences.

    Examples
    --------
    >>> parts('Here:\n```json\n{"grade": 2}\n```')
    [Part(text='Here:\n', fenced=False), Part(text='\n{"grade": 2}\n', fenced=True)]
    """
    found: list[Part] = []
    at, fenced = 0, False
    for fence in _FENCE.finditer(text):
        found.append(Part(text[at : fence.start()], fenced))
        at, fenced = fence.end(), not fenced
    found.append(Part(text[at:], fenced))
    return [part for part in found if part.text.strip()]
