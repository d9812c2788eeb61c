"""Nodes of JSON as models write it: objects that keep every pair, other values than JSON's, and quoted strings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Union

# A grade or a voxel has a few digits; int() and float() of millions of them would take quadratic time.
_LONGEST_NUMBER = 18
# Deeper than any answer, and shallow enough for plain recursion.
DEEPEST = 48


@dataclass(frozen=True, slots=True)
class Members:
    """An object's pairs in order: a repeated key is kept twice."""

    pairs: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Raw:
    """A value without quotes that JSON does not know, such as ``Grade 2`` or ``(grade from 0-3)``."""

    text: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A value that the end of the text may have cut off."""


@dataclass(frozen=True, slots=True)
class Huge:
    """A number with more digits than any answer has."""


Node = Union[None, bool, int, float, str, "list[Node]", Members, Raw, Cut, Huge]


def parse_number(digits: str) -> int | float | Huge:
    """Read a JSON number.

    Examples
    --------
    >>> parse_number("2"), parse_number("2.5"), parse_number("1" * 100)
    (2, 2.5, Huge())
    """
    if len(digits) > _LONGEST_NUMBER:
        # A share of a volume has up to 17 digits behind its point, and an exponent.
        return float(digits) if len(digits) <= 2 * _LONGEST_NUMBER and "." in digits else Huge()
    return float(digits) if any(mark in digits for mark in ".eE") else int(digits)


def _constant(name: str) -> Node:
    return None if name == "NaN" else Huge()


def loads(text: str) -> tuple[bool, Node]:
    """Read a text by ``json.loads`` alone, keeping keys that stand twice.

    Returns
    -------
    fine : bool
        Whether it is JSON.
    node : Node
        What it holds; None where it is not JSON.

    Examples
    --------
    >>> loads('{"grade": 1, "grade": 2}')
    (True, Members(pairs=(('grade', 1), ('grade', 2))))
    >>> loads("{'grade': 1}")
    (False, None)
    """
    try:
        return True, json.loads(
            text,
            object_pairs_hook=lambda pairs: Members(tuple(pairs)),
            parse_int=parse_number,
            parse_float=parse_number,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError):
        return False, None


CLOSING = {'"': '"', "'": "'", "“": "”", "”": "”", "„": "”", "‘": "’", "’": "’"}
"""The quotes that can open a string, and what closes it."""
OF_QUOTE = {'"': None, "'": "single_quotes"}
"""The rule that a quote calls for; every other quote is typographic."""

_BLANK = re.compile(r"[\s\u200b\u200c\u200d\u2060\ufeff]*")
NEW_KEY = re.compile(r"[A-Za-z_][\w \-]{0,60}[:=]")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/", "'": "'"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.)|$)", re.DOTALL)
_PLAIN = {opening: re.compile(rf"[^\\{closing}]*") for opening, closing in CLOSING.items()}
_CONTROL = re.compile(r"[\x00-\x1f]")
_AFTER_COMMA = re.compile(r"[\"'“”„‘’{}\[\]\-\d(/#.]|(?:true|false|null|True|False|None|NaN)\b")


def behind_blanks(text: str, at: int) -> int:
    """Skip white space and what has no width."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _ends_a_value(text: str, at: int) -> bool:
    """Check whether a string that would close before ``at`` is followed by what can follow a value."""
    after = behind_blanks(text, at)
    if after == len(text):
        return True
    mark = text[after]
    if mark in "}](":
        return True
    if mark in ",;，":
        then = behind_blanks(text, after + 1)
        return then == len(text) or bool(_AFTER_COMMA.match(text, then) or NEW_KEY.match(text, then))
    if mark in "/#":
        return True
    return "\n" in text[at:after] and (mark in CLOSING or bool(NEW_KEY.match(text, after)))


def _ends_a_key(text: str, at: int) -> bool:
    after = behind_blanks(text, at)
    return after == len(text) or text[after] in ":=：}],"


def read_string(text: str, at: int, *, key: bool) -> tuple[str, int, bool, set[str]]:
    """Read a quoted string.

    Parameters
    ----------
    text : str
        Its place in the text.
    at : int
        Place of the opening quote.
    key : bool
        Whether a key is expected here rather than a value.

    Returns
    -------
    value : str
    end : int
        Place behind the closing quote.
    closed : bool
        False where the text ends before the string does.
    rules : set of str
        What had to be repaired.
    """
    opening = text[at]
    plain = _PLAIN[opening]
    rule = OF_QUOTE.get(opening, "curly_quotes")
    rules = {rule} if rule else set()
    start = place = at + 1
    closed = False
    while True:
        found = plain.match(text, place)
        place = found.end() if found else len(text)
        if place >= len(text):
            break
        if text[place] == "\\":
            place += 2
            continue
        place += 1
        if (_ends_a_key if key else _ends_a_value)(text, place):
            closed = True
            break
        rules.add("inner_quotes")
    end = min(place, len(text))
    return _unescape(text[start : end - 1 if closed else end], rules), end, closed, rules


def _unescape(body: str, rules: set[str]) -> str:
    if _CONTROL.search(body):
        rules.add("raw_newline")

    def stand_for(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        letter = match[2] or ""
        if letter not in _ESCAPES or letter == "'":
            rules.add("bad_escape")
        return _ESCAPES.get(letter, letter)

    if "\\" not in body:
        return body
    fine, plain = loads(f'"{body}"')  # JSON's own reading where it is JSON: surrogate pairs, for one
    if fine and isinstance(plain, str):
        return plain
    return _ESCAPE.sub(stand_for, body)
