"""Untrusted JSON: parsed within bounds, and compared with the shape that it must have.

Manifests and priors come from folders and servers of other people. Nothing that they hold may end in a raw
RecursionError, OverflowError, UnicodeDecodeError or TypeError, and no wrong type may travel on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

MOST = 2**53
"""Above any size, count or grade; below, every reader of JSON agrees on a whole number."""

_DEEPEST = 12
_SHA256 = re.compile("[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class FieldKind:
    """One value: what it must be, in words, and the check of it."""

    wanted: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list with items of one shape, of a given length where one is named."""

    items: Shape
    length: int | None = None


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any keys, or keys of one kind, and values of one shape."""

    values: Shape
    keys: FieldKind | None = None


@dataclass(frozen=True, slots=True)
class Maybe:
    """A field that may be null or absent."""

    shape: Shape


Shape: TypeAlias = "FieldKind | ListOf | MapOf | Maybe | Mapping[str, Shape]"
"""Form of a value; a mapping is an object with these fields, and any others, which are not checked."""


def whole(most: int = MOST) -> FieldKind:
    """Return the kind of whole numbers from 0 to `most`."""
    return FieldKind(f"a whole number from 0 to {most}", lambda value: type(value) is int and 0 <= value <= most)


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


ANY = FieldKind("a value", lambda value: True)
WHOLE = whole()
NUMBER = FieldKind("a finite number", _is_finite)
FLAG = FieldKind("true or false", lambda value: isinstance(value, bool))
SHA256 = FieldKind(
    "a SHA-256 in 64 hexadecimal digits", lambda value: isinstance(value, str) and bool(_SHA256.fullmatch(value))
)
# Text may be shown in a terminal.
TEXT = FieldKind(
    "text without control characters", lambda value: isinstance(value, str) and _CONTROL.search(value) is None
)


def parse_json(data: bytes) -> Any:
    """Parse JSON in UTF-8, without NaN and Infinity, nested at most 12 deep.

    Raises
    ------
    ValueError
        If it is none, or nested deeper; also where Python raises RecursionError or UnicodeDecodeError.
    """
    try:
        tree = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
        if _depth(tree) <= _DEEPEST:
            return tree
        problem = "it is nested too deeply"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)[:200]
    raise ValueError(f"it is not readable JSON: {problem}")


def check_shape(value: Any, shape: Shape, place: str = "") -> None:
    """Compare a parsed value with the shape that it must have.

    Parameters
    ----------
    value : object
        Value that `parse_json` returned, or a part of it.
    shape : Shape
        What it must be.
    place : str, optional
        Names of the fields that lead to it, for messages, as in ``"volumes/x/shape"``.

    Raises
    ------
    ValueError
        With the first field that is absent or of another type or size.

    Examples
    --------
    >>> check_shape({"rows": 3, "names": ["a"]}, {"rows": WHOLE, "names": ListOf(TEXT)})
    >>> check_shape({"rows": -1}, {"rows": WHOLE})
    Traceback (most recent call last):
        ...
    ValueError: its field 'rows' must be a whole number from 0 to 9007199254740992, not -1
    """
    if isinstance(shape, Maybe):
        if value is not None:
            check_shape(value, shape.shape, place)
    elif isinstance(shape, FieldKind):
        if not shape.accepts(value):
            raise _wrong(place, shape.wanted, value)
    elif isinstance(shape, ListOf):
        if not isinstance(value, list) or shape.length not in (None, len(value)):
            raise _wrong(place, "a list" if shape.length is None else f"a list of {shape.length}", value)
        for number, item in enumerate(value):
            check_shape(item, shape.items, f"{place}/{number}")
    elif not isinstance(value, dict):
        raise _wrong(place, "an object", value)
    elif isinstance(shape, MapOf):
        for key, item in value.items():
            if shape.keys is not None and not shape.keys.accepts(key):
                raise ValueError(f"a key of {_named(place)} must be {shape.keys.wanted}, not {_short(key)}")
            check_shape(item, shape.values, f"{place}/{key}")
    else:
        for key, inner in shape.items():
            if key in value:
                check_shape(value[key], inner, f"{place}/{key}")
            elif not isinstance(inner, Maybe):
                raise ValueError(f"{_named(place)} has no field {key!r}")


def _wrong(place: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{_named(place)} must be {wanted}, not {_short(value)}")


def _named(place: str) -> str:
    return f"its field {ascii(place.strip('/'))[:200]}" if place else "it"


def _short(value: object) -> str:
    """Show a value in at most 80 characters of ASCII, whatever its size."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > MOST:
        return f"a number of {value.bit_length()} bits"
    text = ascii(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth(tree: Any) -> int:
    """Measure the nesting, without recursion."""
    deepest, level = 0, [tree]
    while level and deepest <= _DEEPEST:
        deepest += 1
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return deepest
