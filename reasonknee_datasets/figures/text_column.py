"""The text beside the slices: broken into measured lines first, then drawn from the top down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import text_to_path

from reasonknee_datasets.figures.example_text import ExampleText, GradeLine
from reasonknee_datasets.figures.line_breaking import Measure, break_lines
from reasonknee_datasets.figures.slice_drawing import BOX, FAINT, FONT, INK, PAPER, RULE, WARNING

_LEADING = 1.38  # line height over font size
_CHIP = 0.235  # inches across one grade's square
_LABEL = 1.12  # inches for an attribute's name


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text or one row of squares: where it stands (inches from the column's upper left) and how."""

    text: str
    x: float
    y: float
    size: float
    colour: str = INK
    weight: str = "normal"
    chip: str | None = None  # fill of the square round a grade


@dataclass(frozen=True, slots=True)
class Column:
    """A column of lines and its height in inches."""

    lines: tuple[Line, ...]
    height: float


def set_column(page: ExampleText, width: float, notes: tuple[str, ...], room: float) -> Column:
    """Set a page in a column, in smaller type where it is long, and taller than the room where that is not enough."""
    for scale in (1.0, 0.94, 0.88, 0.82):
        setter = _Setter(width, scale)
        setter.page(page, notes)
        if setter.y <= room:
            break
    return Column(tuple(setter.lines), setter.y)


def draw_column(figure: Figure, column: Column, left: float, top: float) -> None:
    """Draw a column; `left` and `top` are inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    for line in column.lines:
        x, y = (left + line.x) / width, 1 - (top + line.y) / height
        if line.chip is not None:
            _draw_chip(figure, line, left, top)
            continue
        figure.text(
            x,
            y,
            line.text,
            size=line.size,
            color=line.colour,
            weight=line.weight,
            family=FONT,
            ha="left",
            va="top",
            parse_math=False,
            usetex=False,
        )


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
    figure.text(
        (left + line.x + side / 2) / width,
        1 - (top + line.y + side * 0.53) / height,
        line.text,
        size=line.size,
        color=line.colour,
        weight=line.weight,
        family=FONT,
        ha="center",
        va="center",
        parse_math=False,
        usetex=False,
    )


class _Setter:
    """Sets type from the top of a column down, keeping the place reached."""

    def __init__(self, width: float, scale: float) -> None:
        self.width, self.scale = width, scale
        self.lines: list[Line] = []
        self.y = 0.0

    def page(self, page: ExampleText, notes: tuple[str, ...]) -> None:
        if page.synthetic:
            self.text("SYNTHETIC: drawn by the phantom, no patient", 9.5, weight="bold", colour=WARNING)
            self.y += 0.06
        if page.title:
            self.text(page.title, 16, weight="bold")
        if page.subtitle:
            self.text(page.subtitle, 12, colour=BOX)
        if page.identity:
            self.y += 0.03
            self.text(page.identity, 8.5, colour=FAINT)
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
            self.text(note, 7.5, colour=FAINT)

    def heading(self, text: str) -> None:
        self.y += 0.17
        self.text(text.upper(), 8, weight="bold", colour=FAINT)
        self.y += 0.03

    def text(
        self,
        text: str,
        size: float,
        *,
        indent: float = 0.0,
        width: float | None = None,
        weight: str = "normal",
        colour: str = INK,
    ) -> None:
        size *= self.scale
        room = (self.width - indent if width is None else width) * 72
        for line in break_lines(text, room, _ruler(size, weight)):
            self.lines.append(Line(line, indent, self.y, size, colour, weight))
            self.y += size * _LEADING / 72

    def step(self, number: int, text: str) -> None:
        self.lines.append(Line(str(number), 0.0, self.y, 9 * self.scale, BOX, "bold"))
        self.text(text, 9, indent=0.24)
        self.y += 0.035

    def grade(self, grade: GradeLine) -> None:
        start, x = self.y, _LABEL
        for chip in _chips(grade):
            self.lines.append(replace(chip, x=x, y=start))
            x += _CHIP
        ends = []
        for text, place, colour in (
            (grade.attribute, 0.0, INK),
            (grade.words, x + 0.08, FAINT if grade.grade is None else INK),
        ):
            self.y = start + 0.022  # level with the figures in the squares
            self.text(text, 9, indent=place, width=(self.width if place else _LABEL - 0.1) - place, colour=colour)
            ends.append(self.y)
        self.y = max(*ends, start + _CHIP) + 0.05


def _chips(grade: GradeLine) -> Iterator[Line]:
    """Squares for every grade of an ordinal scale with the true one filled; one square where there is no order."""
    if grade.highest is None or (grade.grade is not None and not 0 <= grade.grade <= grade.highest):
        given = [(str(grade.grade), True)] if grade.grade is not None else [("–", False)]
    else:
        given = [(str(value), value == grade.grade) for value in range(grade.highest + 1)]
    for text, filled in given:
        weight, colour = ("bold", PAPER) if filled else ("normal", FAINT)
        yield Line(text, 0.0, 0.0, 8.5, colour, weight, chip=BOX if filled else RULE)


def _ruler(size: float, weight: str) -> Measure:
    return lambda text: size * _width(text, weight)


@lru_cache(maxsize=4096)
def _width(text: str, weight: str) -> float:
    """Measure a word as a multiple of its type size."""
    font = FontProperties(family=FONT, size=100, weight=weight)
    # Unhinted, hence the 2 %: a renderer that rounds to pixels sets small type slightly wider.
    return 1.02 * float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 100
