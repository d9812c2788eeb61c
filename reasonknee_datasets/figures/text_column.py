"""The column of text of a figure: lines are measured and broken first, then drawn from the top down.

Text is broken by measured width, so that no text of any length runs over another or out of the figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import text_to_path

from reasonknee_datasets.figures.example_text import ExampleText, GradeLine
from reasonknee_datasets.figures.looks import Look
from reasonknee_datasets.figures.slice_drawing import FONT

Measure = Callable[[str], float]

# More text than this is not readable next to a picture; the official texts end at 1,078 characters.
LONGEST = 4000


def break_lines(text: str, width: float, measure: Measure) -> list[str]:
    """Break text into lines no wider than `width`, at spaces where there are any and inside a word where not.

    `text`: line breaks in it are kept; other white space collapses. Past `LONGEST` characters it is cut, and says so.
    `width`: in the unit of `measure`. `measure`: the width of a string on one line.

    Examples
    --------
    >>> break_lines("the medial meniscus", 11, len)
    ['the medial', 'meniscus']
    >>> break_lines("pneumonoultramicroscopic", 10, len)
    ['pneumonoul', 'tramicrosc', 'opic']
    """
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
    return [line for paragraph in text.splitlines() for line in _break_paragraph(paragraph, width, measure)]


def _break_paragraph(paragraph: str, width: float, measure: Measure) -> Iterator[str]:
    space, line, reached = measure(" "), "", 0.0
    for word in _printable(paragraph).split():
        # Word by word, so that a measure can remember them; kerning across a space is nil.
        for piece, length in _break_word(word, width, measure):
            if line and reached + space + length <= width:
                line, reached = f"{line} {piece}", reached + space + length
                continue
            if line:
                yield line
            line, reached = piece, length
    if line:
        yield line


def _break_word(word: str, width: float, measure: Measure) -> Iterator[tuple[str, float]]:
    length = measure(word)
    if length <= width:
        yield word, length
        return
    start, length = 0, 0.0
    for place, letter in enumerate(word):
        step = measure(letter)
        if length + step > width and place > start:
            yield word[start:place], width  # as wide as the line, so that nothing is set after it
            start, length = place, 0.0
        length += step
    yield word[start:], length


def _printable(text: str) -> str:
    # Control characters have no glyph: drawing them warns, and some would break the line unmeasured.
    return re.sub(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", "�", text)


_LEADING = 1.38  # line height over font size
_CHIP = 0.235  # inches across one grade's square
_LABEL = 1.12  # inches for an attribute's name


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text or one square of a grade: position (inches from the column's upper left), size and colour."""

    text: str
    x: float
    y: float
    size: float
    colour: str
    weight: str = "normal"
    chip: str | None = None  # fill of the square round a grade


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of lines and its height in inches."""

    lines: tuple[Line, ...]
    height: float


def set_column(page: ExampleText, width: float, notes: tuple[str, ...], room: float, look: Look) -> TextColumn:
    """Lay out a text in a column, in smaller type where it is long; it may still become taller than `room`."""
    for scale in (1.0, 0.94, 0.88, 0.82):
        setter = _Setter(width, scale, look)
        setter.page(page, notes)
        if setter.y <= room:
            break
    return TextColumn(tuple(setter.lines), setter.y)


def layout_caption(page: ExampleText, width: float, look: Look) -> TextColumn:
    """Lay out the caption of one slice of a gallery: finding, subregion, grades and id."""
    setter = _Setter(width, 1.0, look)
    setter.text(page.title, 10, weight="bold")
    setter.text(page.subtitle, 9, colour=look.accent)
    grades = (f"{line.attribute} {'–' if line.grade is None else line.grade}" for line in page.grades)
    setter.text(", ".join(grades), 9)
    setter.text(page.identity, 7.5, colour=look.faint)
    return TextColumn(tuple(setter.lines), setter.y)


def draw_column(figure: Figure, column: TextColumn, left: float, top: float) -> None:
    """Draw a column; `left` and `top` are inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    for line in column.lines:
        x, y = (left + line.x) / width, 1 - (top + line.y) / height
        if line.chip is not None:
            _draw_chip(figure, line, left, top)
            continue
        _draw_text(figure, line, x, y, ha="left", va="top")


def _draw_chip(figure: Figure, line: Line, left: float, top: float) -> None:
    width, height = figure.get_size_inches()
    side = _CHIP - 0.045
    square = FancyBboxPatch(
        ((left + line.x) / width, 1 - (top + line.y + side) / height),
        side / width,
        side / height,
        boxstyle="square,pad=0",
        facecolor=line.chip,
        edgecolor="none",
        transform=figure.transFigure,
    )
    figure.add_artist(square)
    x, y = (left + line.x + side / 2) / width, 1 - (top + line.y + side * 0.53) / height
    _draw_text(figure, line, x, y, ha="center", va="center")


def _draw_text(figure: Figure, line: Line, x: float, y: float, **style: Any) -> None:
    style |= {"size": line.size, "color": line.colour, "weight": line.weight, "family": FONT}
    figure.text(x, y, line.text, parse_math=False, usetex=False, **style)


class _Setter:
    """Layout of a column from the top down; `y` is the height reached, in inches."""

    def __init__(self, width: float, scale: float, look: Look) -> None:
        self.width, self.scale, self.look = width, scale, look
        self.lines: list[Line] = []
        self.y = 0.0

    def page(self, page: ExampleText, notes: tuple[str, ...]) -> None:
        if page.synthetic:
            self.text("SYNTHETIC: drawn by the phantom, no patient", 9.5, weight="bold", colour=self.look.warning)
            self.y += 0.06
        if page.title:
            self.text(page.title, 16, weight="bold")
        if page.subtitle:
            self.text(page.subtitle, 12, colour=self.look.accent)
        if page.identity:
            self.y += 0.03
            self.text(page.identity, 8.5, colour=self.look.faint)
        if page.question:
            self.heading("Question")
            self.text(page.question, 9)
        if page.steps:
            self.heading("Reasoning")
            for number, step in enumerate(page.steps, start=1):
                self.step(number, step)
        if page.grades:
            self.heading("Grades")
            for grade in page.grades:
                self.grade(grade)
        if notes:
            self.y += 0.12
        for note in notes:
            self.text(note, 7.5, colour=self.look.faint)

    def heading(self, text: str) -> None:
        self.y += 0.17
        self.text(text.upper(), 8, weight="bold", colour=self.look.faint)
        self.y += 0.03

    def text(
        self,
        text: str,
        size: float,
        *,
        indent: float = 0.0,
        width: float | None = None,
        weight: str = "normal",
        colour: str | None = None,
    ) -> None:
        size *= self.scale
        room = (self.width - indent if width is None else width) * 72
        for line in break_lines(text, room, _ruler(size, weight)):
            self.lines.append(Line(line, indent, self.y, size, colour or self.look.ink, weight))
            self.y += size * _LEADING / 72

    def step(self, number: int, text: str) -> None:
        self.lines.append(Line(str(number), 0.0, self.y, 9 * self.scale, self.look.accent, "bold"))
        self.text(text, 9, indent=0.24)
        self.y += 0.035

    def grade(self, grade: GradeLine) -> None:
        start, x = self.y, _LABEL
        for chip in _chips(grade, self.look):
            self.lines.append(replace(chip, x=x, y=start))
            x += _CHIP
        ends = []
        for text, place, colour in (
            (grade.attribute, 0.0, self.look.ink),
            (grade.words, x + 0.08, self.look.faint if grade.grade is None else self.look.ink),
        ):
            self.y = start + 0.022  # level with the figures in the squares
            self.text(text, 9, indent=place, width=(self.width if place else _LABEL - 0.1) - place, colour=colour)
            ends.append(self.y)
        self.y = max(*ends, start + _CHIP) + 0.05


def _chips(grade: GradeLine, look: Look) -> Iterator[Line]:
    """Make a square for each grade of an ordinal scale, the true one filled; one square for other scales."""
    if grade.highest is None or (grade.grade is not None and not 0 <= grade.grade <= grade.highest):
        given = [(str(grade.grade), True)] if grade.grade is not None else [("–", False)]
    else:
        given = [(str(value), value == grade.grade) for value in range(grade.highest + 1)]
    for text, filled in given:
        weight, colour = ("bold", look.paper) if filled else ("normal", look.faint)
        yield Line(text, 0.0, 0.0, 8.5, colour, weight, chip=look.accent if filled else look.rule)


def _ruler(size: float, weight: str) -> Measure:
    return lambda text: size * _width(text, weight)


@lru_cache(maxsize=4096)
def _width(text: str, weight: str) -> float:
    """Measure a word as a multiple of its type size."""
    font = FontProperties(family=FONT, size=100, weight=weight)
    # Unhinted, hence the 2 %: a renderer that rounds to pixels sets small type slightly wider.
    return 1.02 * float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 100
