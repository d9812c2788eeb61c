"""Fill a layout in with one example: look its pieces up, and tokenize those that are not cached."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from reasonknee_datasets.transforms.base import Example
from reasonknee_datasets.transforms.fields import Value, read_field, write_field
from reasonknee_datasets.transforms.piece_cache import EncodedPiece, TextEncoder, TextSpan
from reasonknee_datasets.transforms.template_layout import DIGIT, Chunk, Control, Item, Numbers, Run
from reasonknee_datasets.transforms.templates import Vision

NOWHERE = (-1, -1)

Step = Callable[["Filled", Example], None]
Writers = dict[str, Callable[[Example], list[str]]]  # of the numbers of a field, each with what is before it

_EMPTY = EncodedPiece([], ())


class Filled:
    """The tokens of one example as they are put together."""

    __slots__ = ("box", "grades", "ids", "pictures", "steps")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.steps: list[list[int]] = []
        self.grades: list[list[int]] = []
        self.box = list(NOWHERE)
        self.pictures = 0

    def add(self, piece: EncodedPiece) -> None:
        """Put a piece's tokens at the end."""
        base = len(self.ids)
        self.ids += piece.ids
        for kind, start, stop in piece.marks:
            if kind == "step":
                self.steps.append([base + start, base + stop])
            elif kind == "grade":
                self.grades.append([base + start, base + stop])
            elif kind == "open":
                self.box[0] = base + start
            else:
                self.box[1] = base + stop


def compile_items(
    items: Sequence[Item], encoder: TextEncoder, vision: Vision | None, writers: Writers, prefix: Sequence[int] = ()
) -> list[Step]:
    """Compile the items of a layout into steps; text that is the same in every example is tokenized here."""
    steps: list[Step] = []
    alike = list(prefix)
    for item in items:
        if isinstance(item, Control):
            alike.append(encoder.control_id(item.token))
            continue
        if isinstance(item, Run):
            filler = _RunFiller(item, encoder, writers)
            if not filler.varies:
                filled = Filled()
                filler.fill(filled, {})
                alike += filled.ids
                continue
            step: Step = filler.fill_one if len(item.items) == 1 else filler.fill
        else:
            assert vision is not None  # without it the layout has no place for pictures
            step = _pictures(vision, encoder)
        steps += [_constant(alike), step] if alike else [step]
        alike = []
    return [*steps, _constant(alike)] if alike else steps


def control_ids(text: str, encoder: TextEncoder) -> list[int]:
    """Return the ids of a text of control tokens only."""
    return [encoder.control_id(piece) for piece in encoder.split(text) if piece]


def _constant(ids: Sequence[int]) -> Step:
    def fill(filled: Filled, example: Example) -> None:
        del example
        filled.ids += ids

    return fill


def _pictures(vision: Vision, encoder: TextEncoder) -> Step:
    before, one, after = (control_ids(text, encoder) for text in (vision.start, vision.token, vision.stop))

    def fill(filled: Filled, example: Example) -> None:
        number = vision.count_for(example)
        filled.pictures += number
        filled.ids += before + one * number + after

    return fill


@dataclass(frozen=True, slots=True)
class _Place:
    """A chunk, the places of its fields' values in the run, and the numbers next to it."""

    name: int
    chunk: Chunk
    values: tuple[int, ...]
    before: int | None
    after: int | None


class _RunFiller:
    """Encoder of the text between two control tokens."""

    def __init__(self, run: Run, encoder: TextEncoder, writers: Writers) -> None:
        self._encoder = encoder
        self._name = encoder.number(run)
        self._writers = [writers[item.field] for item in run.items if isinstance(item, Numbers)]
        self._items: list[_Place | int] = []  # an int: numbers
        fields: dict[str, int] = {}
        seen = 0
        for place, item in enumerate(run.items):
            if isinstance(item, Numbers):
                self._items.append(seen)
                seen += 1
                continue
            named = [_column(text) for kind, text in item.parts if kind == "field"]
            values = tuple(fields.setdefault(name, len(fields)) for name in named)
            after = seen if place + 1 < len(run.items) else None
            self._items.append(_Place(encoder.number(item), item, values, seen - 1 if place else None, after))
        self._fields = tuple(fields)
        self.varies = bool(self._fields or self._writers)

    def fill(self, filled: Filled, example: Example) -> None:
        """Put the run's tokens at the end."""
        values = [read_field(field, example) for field in self._fields]
        numbers = [write(example) for write in self._writers]
        pieces = self._pieces(values, numbers)
        for piece in [self._whole(values, numbers)] if pieces is None else pieces:
            if piece.marks:
                filled.add(piece)
            else:
                filled.ids += piece.ids

    def fill_one(self, filled: Filled, example: Example) -> None:
        """Put the run's tokens at the end, where it is one chunk."""
        values = [read_field(field, example) for field in self._fields]
        key = (self._name, *values)
        piece = self._encoder.get(key)
        filled.add(piece or self._whole(values, []))

    def _pieces(self, values: list[Value], numbers: list[list[str]]) -> list[EncodedPiece] | None:
        """Look the pieces up; None where the text must be tokenized in one."""
        get, pieces = self._encoder.get, []
        for item in self._items:
            if isinstance(item, _Place):
                before, after = item.before is not None and bool(numbers[item.before]), False
                if item.after is not None:
                    after = bool(numbers[item.after])
                key: Hashable = (item.name, before, after, *[values[place] for place in item.values])
                piece = get(key) or self._encoder.keep(key, partial(self._make, item, values, before, after))
                if piece is None:
                    return None
                pieces.append(piece)
            else:
                words = numbers[item]
                for place, word in enumerate(words):
                    neighbours = (word, DIGIT if place else "[", words[place + 1][0] if place < len(words) - 1 else "]")
                    piece = get(neighbours) or self._encoder.keep(neighbours, partial(self._number, *neighbours))
                    if piece is None:
                        return None
                    pieces.append(piece)
        return pieces

    def _make(self, item: _Place, values: list[Value], before: bool, after: bool) -> EncodedPiece | None:
        """Tokenize a chunk."""
        chunk = item.chunk
        text, marks = _write(chunk, [values[place] for place in item.values])
        left = chunk.left if before or chunk.left != DIGIT else "}"  # where an official answer has no box
        right = chunk.right if after else ""
        return self._encode(text, marks, left, right, inside=chunk.inside) if text else _EMPTY

    def _encode(
        self, text: str, marks: Sequence[TextSpan], left: str, right: str, *, inside: bool
    ) -> EncodedPiece | None:
        """Tokenize next to numbers or after the prompt, where no token may cross the border."""
        piece = self._encoder.encode(text, marks, left=left, right=right, inside=inside)
        for other in () if left in ("", DIGIT) else ("]", ""):
            piece = piece or self._encoder.encode(text, marks, left=other, right=right, inside=inside)
        return piece

    def _number(self, word: str, left: str, right: str) -> EncodedPiece | None:
        if "-" in word:  # outside of the grid; a sign and what is before it are one token to many tokenizers
            return None
        return self._encoder.encode(word, left=left, right=right, inside=True)

    def _whole(self, values: list[Value], numbers: list[list[str]]) -> EncodedPiece:
        """Tokenize the whole run, for tokenizers with tokens that cross a box's edges."""
        key = (self._name, *values, *map("".join, numbers))
        piece = self._encoder.keep(key, partial(self._make_whole, values, numbers))
        assert piece is not None
        return piece

    def _make_whole(self, values: list[Value], numbers: list[list[str]]) -> EncodedPiece:
        text, marks, left, inside = "", list[TextSpan](), "", False
        for place, item in enumerate(self._items):
            if isinstance(item, _Place):
                part, own = _write(item.chunk, [values[index] for index in item.values])
                marks += [TextSpan(kind, len(text) + start, len(text) + stop) for kind, start, stop in own]
                text += part
                if not place:
                    left, inside = item.chunk.left, item.chunk.inside
            else:
                text += "".join(numbers[item])
        piece = self._encode(text, marks, left, "", inside=inside)
        assert piece is not None  # without neighbours no edge can be crossed
        return piece


def _column(name: str) -> str:
    """Return the field that the two halves of an official answer are read for."""
    return "official_answer" if name in ("official_head", "official_tail") else name


def _write(chunk: Chunk, values: Sequence[Value]) -> tuple[str, list[TextSpan]]:
    text, marks, given = "", list[TextSpan](), iter(values)
    for kind, part in chunk.parts:
        own: list[TextSpan] = []
        if kind == "field":
            part, own = write_field(part, next(given), chunk.separator)
        elif kind != "text":
            own = [TextSpan(kind, 0, len(part))]
        marks += [TextSpan(name, len(text) + start, len(text) + stop) for name, start, stop in own]
        text += part
    return text, marks
