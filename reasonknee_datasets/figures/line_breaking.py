"""Break text into lines by measured width, so that no text of any length runs over another or out of the figure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Measure = Callable[[str], float]

# More text than this is not readable next to a picture; the official texts end at 1,078 characters.
LONGEST = 4000


def break_lines(text: str, width: float, measure: Measure) -> list[str]:
    """Break text into lines no wider than `width`, at spaces where there are any and inside a word where not.

    Parameters
    ----------
    text : str
        Line breaks in it are kept; other white space collapses. Past `LONGEST` characters it is cut, and says so.
    width : float
        In the unit of `measure`.
    measure : callable
        The width of a string on one line.

    Returns
    -------
    list of str

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
