"""What the readers of JSON give: objects that keep every pair, and values that JSON does not know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Union

# A grade or a voxel has a few digits; int() and float() of millions of them would take quadratic time.
_LONGEST_NUMBER = 18
# Deeper than any answer, and shallow enough for plain recursion.
DEEPEST = 48


@dataclass(frozen=True, slots=True)
class Members:
    """An object's pairs in order: a key that stands twice is kept twice."""

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


def number(digits: str) -> int | float | Huge:
    """Read a JSON number.

    Examples
    --------
    >>> number("2"), number("2.5"), number("1" * 100)
    (2, 2.5, Huge())
    """
    if len(digits) > _LONGEST_NUMBER:
        return _long(digits)
    return float(digits) if any(mark in digits for mark in ".eE") else int(digits)


def _long(digits: str) -> float | Huge:
    # A share of a volume has up to 17 digits behind its point, and an exponent.
    return float(digits) if len(digits) <= 2 * _LONGEST_NUMBER and "." in digits else Huge()


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
            parse_int=number,
            parse_float=number,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError):
        return False, None
