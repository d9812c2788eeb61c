"""Break text into lines by measured width, so that no text of any length runs over another or out of the figure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Measure = Callable[[str], float]

# No reader takes in more beside a picture; the official texts end at 1,078 characters.
LONGEST = 4000


def break_lines(text: str, width: float, measure: Measure) -> list[str]:
    """Break text into lines no wider than `width`, at spaces where there are any and inside a word where not.

    Parameters
    ----------
    text : str
        Line breaks in it are kept; other white space collapses. Past `LONGEST` characters it is cut, and says so.
    width : float
        In the unit that `measure` answers in.
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
        length = measure(word)
        if line and reached + space + length <= width:
            line, reached = f"{line} {word}", reached + space + length
            continue
        if line:
            yield line
        line, reached = word, length
        while reached > width and len(line) > 1:
            fits = _longest_prefix(line, width, measure)
            yield line[:fits]
            line = line[fits:]
            reached = measure(line)
    if line:
        yield line


def _longest_prefix(word: str, width: float, measure: Measure) -> int:
    low, high = 1, len(word)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(word[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _printable(text: str) -> str:
    # Control characters have no glyph: drawing them warns, and some would break the line unmeasured.
    return re.sub(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", "�", text)
