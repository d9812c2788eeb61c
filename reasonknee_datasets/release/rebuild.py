"""The ``record`` column: the data, besides the row, from which an official record is rebuilt exactly.

A row has a record's prompt as ``question``, its reasoning as steps, its grades as numbers and its box in voxels. Most
of the rest follows: the spelling of the diagnosis, the six numbers of the box, the text at the answer's end. The column
contains only the rest, as JSON with these keys, each left out where it is usual:

``gaps``
    The text before, between and after the steps; two or three strings serve for all where those between are alike.
``tail``
    How the answer writes its diagnosis, such as ``inner python`` (see `TAILS`), or ``[text]``.
``end``
    Text after the diagnosis in the answer.
``diagnosis``
    ``asked`` where the record spells it as the prompt does, or ``[object]`` as written.
``box``
    The six numbers as written.
``turn``
    Axes and flips from the mask's array, in which official boxes are defined, to the image's.
``swapped``
    1 where the diagnosis is written before the bounding box.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reasonknee_datasets import moaks
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import ReleaseError, add_note
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.schema import Quintuple

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
    """An answer's parts; ``"".join`` of gaps and steps, then ``tail``, is its text."""

    steps: tuple[str, ...]  # the reasoning, step by step
    # The text before the first step, between steps and after the last: one more than there are steps. The last contains
    # the words ``Final diagnosis:``.
    gaps: tuple[str, ...]
    tail: str  # the text of the diagnosis
    end: str  # text after the diagnosis
    diagnosis: Any  # the diagnosis, parsed

    @property
    def text(self) -> str:
        """The whole answer, as it was."""
        return join_steps(self.steps, self.gaps) + self.tail + self.end


def read_answer(text: str) -> AnswerText:
    r"""Take an official answer apart.

    Raises ReleaseError if it does not end in a readable ``Final diagnosis: <dict>``, or has no reasoning before it.

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


_WRITERS: Mapping[str, Callable[[Any], str]] = {
    "python": repr,
    "json": partial(json.dumps, ensure_ascii=False),
    "compact": partial(json.dumps, ensure_ascii=False, separators=(",", ":")),
    "indent2": partial(json.dumps, ensure_ascii=False, indent=2),
    "indent4": partial(json.dumps, ensure_ascii=False, indent=4),
}
_PYTHON = "python"
_CONTENTS = ("inner", "whole", "nested", "asked")

TAILS: tuple[str, ...] = tuple(f"{content} {writer}" for content in _CONTENTS for writer in _WRITERS)
"""How an answer may write its diagnosis: the record's inner diagnosis, all of final_diagnosis, the inner one under its
key, or the schema that the prompt asks for; as a Python literal or as JSON."""

_USUAL_TAIL = TAILS[0]
_USUAL_GAPS = ("", "\n", "\n\nFinal diagnosis: ")


def describe_text(
    answer: AnswerText, final_diagnosis: Mapping[str, Any], question_id: int, grades: Mapping[str, int | None]
) -> dict[str, Any]:
    """Find the parts of a record's text that do not follow from its row.

    `answer`: the record's answer, taken apart. `final_diagnosis`: the record's. `question_id`, `grades`: content of the
    row.
    """
    extras: dict[str, Any] = {}
    if (gaps := _shorten(answer.gaps)) != _shorten(_spread(_USUAL_GAPS, len(answer.steps))):
        extras["gaps"] = list(gaps)
    if answer.end:
        extras["end"] = answer.end
    inner = final_diagnosis["final_diagnosis"]
    asked = moaks.write_answer(question_id, grades)
    if _dump(inner) != _dump(moaks.write_diagnosis(question_id, grades)):
        extras["diagnosis"] = "asked" if _dump(inner) == asked else [inner]
    python = "'" in answer.tail[:3]  # no JSON begins {' and no repr {"
    for tail in TAILS:
        if tail.endswith(_PYTHON) is python and _write_tail(tail, inner, final_diagnosis, asked) == answer.tail:
            break
    else:
        extras["tail"] = [answer.tail]
        tail = _USUAL_TAIL
    if tail != _USUAL_TAIL:
        extras["tail"] = tail
    if next(iter(final_diagnosis)) == "final_diagnosis":
        extras["swapped"] = 1
    return extras


def write_extras(extras: Mapping[str, Any]) -> str:
    """Write the ``record`` column."""
    return json.dumps(extras, ensure_ascii=False, separators=(",", ":"))


def describe_turn(turn: Reorientation) -> list[int]:
    """Write a reorientation as six whole numbers: axes, then flips."""
    return [*turn.axes, *map(int, turn.flips)]


def rebuild_record(
    row: Quintuple, *, image: str, convention: BoxConvention, shape: Sequence[int] | None
) -> dict[str, Any]:
    """Return the official record that a row was made from.

    Prompt, answer and final_diagnosis are the official ones, character for character once written as JSON; the image's
    path is whatever the caller says, since its prefix differs between official files.

    Parameters
    ----------
    row : Quintuple
        A row of the ``quintuples`` config.
    image : str
        Image path to write in the record.
    convention : BoxConvention
        The release's, from the manifest.
    shape : three ints or None
        Voxels of the stored volume along each axis, from the manifest; None is enough for boxes in voxels on the mask's
        own axes.

    Raises
    ------
    ReleaseError
        If the row's ``record`` cannot be read, or the shape is needed and missing.
    """
    try:
        return _rebuild(row, image, convention, shape)
    except ReleaseError as error:
        add_note(error, f"while rebuilding {row['id']}")
        raise
    except (ValueError, KeyError, TypeError, IndexError) as error:
        failed = ReleaseError(
            f"The record column has {row.get('record')!r}, which cannot be read. Take rows as they come from the "
            "prepared repository."
        )
        add_note(failed, f"while rebuilding {row['id']}")
        raise failed from error


def _rebuild(row: Quintuple, image: str, convention: BoxConvention, shape: Sequence[int] | None) -> dict[str, Any]:
    extras = json.loads(row["record"])
    number, grades = row["question_id"], {grade["attribute"]: grade["grade"] for grade in row["grades"]}
    spelling = extras.get("diagnosis")
    if spelling is None:
        inner: Any = moaks.write_diagnosis(number, grades)
    else:
        inner = json.loads(row["answer"]) if spelling == "asked" else spelling[0]
    numbers = extras["box"] if "box" in extras else _official_box(row, extras.get("turn"), convention, shape)
    whole = {"bounding_box": numbers, "final_diagnosis": inner}
    if extras.get("swapped"):
        whole = dict(reversed(whole.items()))
    tail = extras.get("tail", _USUAL_TAIL)
    text = tail[0] if isinstance(tail, list) else _write_tail(tail, inner, whole, row["answer"])
    steps = row["reasoning"]
    reasoning = join_steps(steps, _spread(extras.get("gaps", _USUAL_GAPS), len(steps)))
    answer = reasoning + text + extras.get("end", "")
    return {"image": image, "prompt": row["question"], "answer": answer, "final_diagnosis": whole}


def _official_box(
    row: Quintuple, turn: Sequence[int] | None, convention: BoxConvention, shape: Sequence[int] | None
) -> list[int] | list[float]:
    """Write a row's box as the official six numbers."""
    box = Box.from_row(row["box"])
    if turn is None and not convention.normalised:
        return convention.encode(box, ())
    if shape is None:
        raise ReleaseError(
            "This box cannot be turned back without the stored volume's shape. Pass that of the manifest."
        )
    back = Reorientation() if turn is None else _read_turn(turn).inverse()
    return convention.encode(back.apply_box(box, shape), back.apply_shape(shape))


def _read_turn(numbers: Sequence[int]) -> Reorientation:
    i, j, k, a, b, c = numbers
    return Reorientation((i, j, k), (bool(a), bool(b), bool(c)))


def _write_tail(tail: str, inner: Any, whole: Mapping[str, Any], asked: str) -> str:
    content, writer = tail.split()
    if content == "asked":
        return asked if writer == "json" else _WRITERS[writer](json.loads(asked))
    return _WRITERS[writer]({"inner": inner, "whole": whole, "nested": {"final_diagnosis": inner}}[content])


def _dump(value: Any) -> str:
    return json.dumps(value)


def _shorten(gaps: Sequence[str]) -> tuple[str, ...]:
    """Write the gaps between steps once where they are alike."""
    first, *between, last = gaps
    return (first, between[0], last) if between and len(set(between)) == 1 else tuple(gaps)


def _spread(gaps: Sequence[str], steps: int) -> tuple[str, ...]:
    """Undo `_shorten` for a number of steps."""
    if len(gaps) == steps + 1:
        return tuple(gaps)
    if steps == 1 and len(gaps) == 3:  # the usual gaps around a single step
        return gaps[0], gaps[2]
    first, between, last = gaps
    return (first, *[between] * (steps - 1), last)
