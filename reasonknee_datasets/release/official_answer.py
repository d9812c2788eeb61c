"""The text of an official answer, reasoning and then ``Final diagnosis: <dict>``, taken apart without a loss."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.errors import ReleaseError

_LEAD = re.compile(r"[*#]*final[ _]diagnosis[\"'*]*\s*:[\s*]*(?=[{0-9])", re.IGNORECASE)
_END = re.compile(r"[\s.*]*")
# A step that is numbered, at the start of a line or after a space: "1. ", "2) ", "Step 3: ".
_NUMBERED = re.compile(r"(?:step\s*[0-9]{1,2}\s*[:.)-]|[0-9]{1,2}[.)])\s+(?=\S)", re.IGNORECASE)
_NUMBERED_LINE = re.compile(rf"(?:^|\n)[ \t>*#-]*(?:\*\*)?(?={_NUMBERED.pattern})", re.IGNORECASE)
_BLANK_BETWEEN_LINES = re.compile(r"\s*\n\s*")
# A sentence ends before a capital or a digit, but not after the abbreviations that radiologists write.
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bapprox\.)(?<!\bca\.)(?<!\bno\.)(?<!\bfig\.)\s+(?=[A-Z0-9\"'(])"
)


@dataclass(frozen=True, slots=True)
class AnswerText:
    """An answer's parts; ``"".join`` of gaps and steps, then ``tail``, is its text.

    Parameters
    ----------
    steps : tuple of str
        The reasoning, step by step.
    gaps : tuple of str
        The text before the first step, between steps and after the last: one more than there are steps. The last
        contains the words ``Final diagnosis:``.
    tail : str
        The text of the diagnosis.
    end : str
        Text after the diagnosis.
    diagnosis : object
        The diagnosis, parsed.
    """

    steps: tuple[str, ...]
    gaps: tuple[str, ...]
    tail: str
    end: str
    diagnosis: Any

    @property
    def text(self) -> str:
        """The whole answer, as it was."""
        return join_steps(self.steps, self.gaps) + self.tail + self.end


def read_answer(text: str) -> AnswerText:
    r"""Take an official answer apart.

    Raises
    ------
    ReleaseError
        If it does not end in a readable ``Final diagnosis: <dict>``, or has no reasoning before it.

    Examples
    --------
    >>> answer = read_answer("Look at it.\nIt is smooth.\n\nFinal diagnosis: {'ACL': {'Complete Tear': 0}}")
    >>> answer.steps
    ('Look at it.', 'It is smooth.')
    >>> answer.gaps
    ('', '\n', '\n\nFinal diagnosis: ')
    >>> answer.diagnosis
    {'ACL': {'Complete Tear': 0}}
    """
    leads = list(_LEAD.finditer(text))
    if not leads:
        raise _unreadable("it has no such ending", text)
    # The first one whose value ends the text: {"final_diagnosis": {...}} names itself again, further in.
    for lead in leads:
        parsed = _parse_literal(text[lead.end() :])
        if parsed is not None and _END.fullmatch(text, lead.end() + parsed[1]):
            diagnosis, length = parsed
            stop = lead.end() + length
            steps, gaps = split_steps(text[: lead.start()])
            if not steps:
                raise _unreadable("it has no reasoning", text)
            gaps = (*gaps[:-1], gaps[-1] + text[lead.start() : lead.end()])
            return AnswerText(steps, gaps, text[lead.end() : stop], text[stop:], diagnosis)
    raise _unreadable("the diagnosis is neither JSON nor a Python literal", text)


def split_steps(reasoning: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split reasoning into steps and the gaps around them.

    Numbered steps are taken as they are numbered; else every line is a step; else every sentence of a single line.

    Examples
    --------
    >>> split_steps("1. Find the plateau. It is flat. 2. Measure.")[0]
    ('1. Find the plateau. It is flat.', '2. Measure.')
    >>> split_steps("Find the plateau. Measure 2.5 mm, e.g. with a ruler.")[0]
    ('Find the plateau.', 'Measure 2.5 mm, e.g. with a ruler.')
    """
    body = reasoning.strip()
    if not body:
        return (), (reasoning,)
    start = reasoning.index(body)
    cuts = [start + cut for cut in _find_cuts(body)]
    steps, gaps, place = [], [], 0
    for begin, end in zip([start, *cuts], [*cuts, start + len(body)], strict=True):
        step = reasoning[begin:end].strip()
        if not any(map(str.isalnum, step)):  # a rule such as "---" is a gap
            continue
        at = reasoning.index(step, begin)
        steps.append(step)
        gaps.append(reasoning[place:at])
        place = at + len(step)
    return tuple(steps), (*gaps, reasoning[place:])


def join_steps(steps: tuple[str, ...] | list[str], gaps: tuple[str, ...] | list[str]) -> str:
    """Undo `split_steps`."""
    return "".join(part for pair in zip(gaps, (*steps, ""), strict=True) for part in pair)


def _find_cuts(body: str) -> list[int]:
    """Find where all steps but the first begin."""
    lines = [match.start() for match in _NUMBERED_LINE.finditer(body)]
    if len(lines) > 1:
        return [cut for cut in lines if cut]
    if "\n" in body:
        return [match.end() for match in _BLANK_BETWEEN_LINES.finditer(body)]
    marks = [match for match in _NUMBERED.finditer(body) if match.start() == 0 or body[match.start() - 1] == " "]
    numbers = [int(re.sub("[^0-9]", "", mark.group())) for mark in marks]
    # "grade is 2. The" looks like a mark too: only marks that count 1, 2, 3 ... are steps.
    if len(numbers) > 1 and marks[0].start() == 0 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return [mark.start() for mark in marks[1:]]
    return [match.end() for match in _SENTENCE_END.finditer(body)]


def _parse_literal(text: str) -> tuple[Any, int] | None:
    """Parse the JSON or Python value at the start of a text, and return it with its length."""
    try:
        value, length = json.JSONDecoder().raw_decode(text)
    except ValueError:
        stop = max(text.rfind("}"), text.rfind("]")) + 1 or len(text.rstrip())
        try:
            # literal_eval makes values only: it never runs code of the file.
            value, length = ast.literal_eval(text[:stop]), stop
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value, length


def _unreadable(got: str, text: str) -> ReleaseError:
    return ReleaseError(
        f"The answer does not end in 'Final diagnosis: <dict>' (JSON or a Python dict) after its reasoning: {got}: "
        f"...{text[-120:]!r}."
    )
