"""The text of a template's fields for one example, and where steps, grades and the box are in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from reasonknee_datasets import moaks
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import GradeError, shown
from reasonknee_datasets.release.rebuild import rebuild_record
from reasonknee_datasets.transforms.base import Example, TransformError, require
from reasonknee_datasets.transforms.piece_cache import TextSpan
from reasonknee_datasets.transforms.regrid import current_grid, stored_volume
from reasonknee_datasets.transforms.templates import TEXT_FIELDS

Value = Any  # of one field: hashable, and the same for the same text

# A key of JSON or of a Python dict, and the value under it.
_PAIR = re.compile(
    r"""(?P<quote>["'])(?P<key>(?:\\.|(?!(?P=quote)).)*)(?P=quote)\s*:\s*"""
    r"""(?:(?P<value>-?[0-9]+(?:\.[0-9]+)?|null|None|NaN|nan|true|True|false|False)|(?P<mark>["'])(?P<text>.*?)(?P=mark))"""
)
_BOX = re.compile(r"""bounding_box["']\s*:\s*(?P<open>\[)(?P<numbers>[^\]]*)(?P<close>\])""")
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")
_ROWS = ("box", "box_volume", "frame_box")


def read_field(field: str, example: Example) -> Value:
    """Return the values from which a field's text is written; only columns of the example are read."""
    if field in TEXT_FIELDS:
        return _text(example, field)
    if field == "reasoning":
        return tuple(require(example, "reasoning", "{reasoning}"))
    if field == "answer":
        return int(require(example, "question_id", "{answer}")), _text(example, "answer")
    grades = require(example, "grades", "{official_answer}")
    return (
        int(require(example, "question_id", "{official_answer}")),
        _text(example, "record"),
        tuple(require(example, "reasoning", "{official_answer}")),
        _text(example, "answer"),
        tuple([grade["attribute"] for grade in grades]),
        tuple([grade["grade"] for grade in grades]),
    )


def write_field(field: str, value: Value, separator: str) -> tuple[str, list[TextSpan]]:
    """Return a field's text, with the characters of each step, each grade and the ends of the box."""
    if field == "reasoning":
        return separator.join(value), _step_marks(value, len(separator))
    if field == "answer":
        return value[1], grade_marks(value[0], value[1])
    if field in ("official_head", "official_tail"):
        part: tuple[str, list[TextSpan]] = getattr(official_answer(value), field.removeprefix("official_"))
        return part
    return value, []


def _text(example: Example, key: str) -> str:
    return str(require(example, key, f"{{{key}}}"))


def _step_marks(steps: Sequence[str], gap: int) -> list[TextSpan]:
    marks, place = [], 0
    for step in steps:
        marks.append(TextSpan("step", place, place + len(step)))
        place += len(step) + gap
    return marks


def grade_marks(question_id: int, text: str, start: int = 0) -> list[TextSpan]:
    """Find the characters of each grade in an answer, in the order of the question's slots.

    Raises TransformError if a grade is not there.

    Examples
    --------
    >>> text = moaks.write_answer(19, {"size": 2, "depth": None})
    >>> [text[mark.start : mark.stop] for mark in grade_marks(19, text)]
    ['2', 'null']
    """
    question = moaks.get_question(question_id)
    found: dict[str, TextSpan] = {}
    for pair in _PAIR.finditer(text, start):
        try:
            attribute = moaks.find_slot(question, pair["key"]).attribute
        except GradeError:
            if len(question.slots) > 1:
                continue
            attribute = question.slots[0].attribute  # a bare grade is under its subject
        group = "value" if pair["value"] is not None else "text"
        found.setdefault(attribute, TextSpan("grade", pair.start(group), pair.end(group)))
    missing = [name for name in question.attributes if name not in found]
    if missing:
        raise TransformError(
            f"The answer of question {question_id} lacks {' and '.join(missing)}: {text[start:]!r}. Use the answer "
            "column of the repository, or moaks.write_answer."
        )
    return [found[name] for name in question.attributes]


@dataclass(frozen=True, slots=True)
class OfficialAnswer:
    """An official answer around the six numbers of its box; all of it is ``head`` where the text has no box."""

    head: tuple[str, list[TextSpan]]
    gaps: tuple[str, ...]
    tail: tuple[str, list[TextSpan]]
    numbers: tuple[str, ...]


@lru_cache(maxsize=1 << 12)
def official_answer(value: Value) -> OfficialAnswer:
    """Write the official answer of a row, with any box: only ``numbers`` depend on it."""
    question_id, record, reasoning, answer, attributes, grades = value
    row = {
        "id": f"a row of question {question_id}",
        "question_id": question_id,
        "question": "",
        "record": record,
        "reasoning": list(reasoning),
        "answer": answer,
        "grades": [{"attribute": name, "grade": grade} for name, grade in zip(attributes, grades, strict=True)],
        "box": [0, 0, 0, 1, 1, 1],
    }
    text: str = rebuild_record(row, image="", convention=BoxConvention(), shape=(1, 1, 1))["answer"]  # type: ignore[arg-type]
    steps, place = [], 0
    for step in reasoning:
        place = text.index(step, place)
        steps.append(TextSpan("step", place, place + len(step)))
        place += len(step)
    grades_at = grade_marks(question_id, text, place)
    box = _BOX.search(text, place)
    numbers = list(_NUMBER.finditer(text, box.start("numbers"), box.end("numbers"))) if box else []
    if box is None or len(numbers) != 6:
        return OfficialAnswer((text, steps + grades_at), (), ("", []), ())
    start, stop = numbers[0].start(), numbers[-1].end()
    opened = TextSpan("open", box.start("open"), box.end("open"))
    head = (text[:start], [*steps, opened, *(mark for mark in grades_at if mark.stop <= start)])
    after = [
        *(mark for mark in grades_at if mark.start >= stop),
        TextSpan("close", box.start("close"), box.end("close")),
    ]
    gaps = tuple(text[one.end() : two.start()] for one, two in pairwise(numbers))
    tail = (text[stop:], [TextSpan(kind, low - stop, high - stop) for kind, low, high in after])
    return OfficialAnswer(head, ("", *gaps), tail, tuple(number.group() for number in numbers))


def official_numbers(example: Example, convention: BoxConvention) -> list[str]:
    """Write the six numbers of an official answer with their gaps; nothing where its text has no box."""
    value = read_field("official_answer", example)
    written = official_answer(value)
    if not written.gaps:
        return []
    record = value[1]
    if '"box":' in record:  # it keeps the numbers unchanged
        return [gap + number for gap, number in zip(written.gaps, written.numbers, strict=True)]
    box = example["box"] if example.get("box_volume") is None else example["box_volume"]
    numbers: Sequence[float]
    if '"turn":' in record or convention.normalised:
        keys = ("id", "question_id", "question", "record", "reasoning", "grades", "answer")
        volume = example.get("volume")
        shape = None if volume is None else stored_volume(volume).shape
        row = {key: example[key] for key in keys} | {"box": box}
        rebuilt = rebuild_record(row, image="", convention=convention, shape=shape)  # type: ignore[arg-type]
        numbers = rebuilt["final_diagnosis"]["bounding_box"]
    else:
        numbers = convention.encode(Box.from_row(box), ())
    return [f"{gap}{number!r}" for gap, number in zip(written.gaps, numbers, strict=True)]


def find_box_key(key: str | None, example: Example) -> str:
    """Find the key of the box to write: the one that was chosen, else the box in the frames or the current grid.

    That is ``frame_box`` where the example has frames, and ``box`` where it has none.

    Raises TransformError if there are frames, but no box in them.
    """
    if key is not None or "frame_box" in example:
        return key or "frame_box"
    if "frames" in example and example["frames"] is not None:
        raise TransformError(
            "The example has frames but no frame_box, so the box in them is not known. Make the frames with ToFrames, "
            "which adds frame_box, or choose box='box' to write voxels of the current grid."
        )
    return "box"


def box_numbers(chosen: str | None, convention: BoxConvention) -> Callable[[Example], list[str]]:
    """Return a function that writes an example's box as six numbers, each with the comma before it.

    Shares of a volume are written with four decimals, enough to find the voxel again in any volume of this data.
    """

    def write_shares(example: Example) -> list[str]:
        key = find_box_key(chosen, example)
        numbers = convention.encode(Box.from_row(require(example, key, "{box}")), _shape(key, example))
        return [f"{', ' if place else ''}{number:.4f}" for place, number in enumerate(numbers)]

    # The meaning of each number follows from known boxes: encoding one by one takes a third of an example's time.
    known = [int(number) for number in convention.encode(Box((0, 10, 20), (30, 40, 50)), (1, 1, 1))]
    picks = [(round(number / 10), number - 10 * round(number / 10)) for number in known]
    words: dict[int, str] = {}

    def write_voxels(example: Example) -> list[str]:
        row = require(example, find_box_key(chosen, example), "{box}")
        if not (len(row) == 6 and row[0] < row[3] and row[1] < row[4] and row[2] < row[5]):
            Box.from_row(row)  # raises the error for a wrong box
        numbers = [row[place] + shift for place, shift in picks]
        return [
            str(numbers[0]),
            *[words.get(number) or words.setdefault(number, f", {number}") for number in numbers[1:]],
        ]

    return write_shares if convention.normalised else write_voxels


def _shape(key: str, example: Example) -> tuple[int, ...]:
    """Return the shape of the grid that a box is in."""
    if key == "frame_box":
        return tuple(require(example, "frames", "shares of its sides").shape)
    volume = require(example, "volume", "shares of its sides")
    if key == "box_volume":
        return tuple(int(side) for side in stored_volume(volume).shape)
    return current_grid(volume)[0]


def check_box_key(key: str | None) -> str | None:
    """Check that a key names a box; None chooses by example (see `find_box_key`)."""
    if key is not None and not (isinstance(key, str) and key in _ROWS):
        raise TransformError(
            f"box must be 'box' (voxels of the current grid), 'box_volume' (voxels of the stored volume), 'frame_box' "
            f"(pixels of the frames) or None, not {shown(key)}. For a target without a box, choose a template without "
            "{box}, such as 'chat_without_box'."
        )
    return key


def as_convention(convention: BoxConvention | str) -> BoxConvention:
    """Convert a name to its convention; return a convention as it is."""
    return convention if isinstance(convention, BoxConvention) else BoxConvention.parse(convention)
