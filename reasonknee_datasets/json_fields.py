"""Untrusted JSON: parsed within bounds, and read field by field with one named error for a wrong field.

Manifests and priors come from folders and servers of other people. Nothing that they hold may end in a raw
RecursionError, OverflowError, UnicodeDecodeError or TypeError, and no wrong type may travel on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from reasonknee_datasets.errors import ReasonKneeError

MOST = 2**53
"""Above any size, count or grade; below, every reader of JSON agrees on a whole number."""

_DEEPEST = 12
_SHA256 = re.compile("[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

T = TypeVar("T")


def parse_json(data: bytes) -> Any:
    """Parse JSON in UTF-8, without NaN and Infinity, nested at most 12 deep.

    Raises
    ------
    ValueError
        If it is none, or nested deeper; also where Python raises RecursionError or UnicodeDecodeError.
    """
    try:
        text = data.decode("utf-8-sig")
        tree = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _depth(tree) > _DEEPEST:
        raise ValueError("it is nested too deeply")
    return tree


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object with checked access to its fields.

    Parameters
    ----------
    tree : object
        Value that `parse_json` returned, or a part of it.
    place : str
        Where the object is, for messages: ``"manifest"``, ``"volumes/x of the manifest"``.
    fail : callable
        Makes the error from its message.
    """

    tree: Any
    place: str
    fail: Callable[[str], ReasonKneeError]

    def __post_init__(self) -> None:
        if not isinstance(self.tree, dict):
            raise self._wrong("", "an object", self.tree)

    def text(self, key: Any) -> str:
        """Return a string without control characters: it may be shown in a terminal."""
        value = self._get(key)
        if not isinstance(value, str) or _CONTROL.search(value):
            raise self._wrong(key, "text without control characters", value)
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def whole(self, key: Any, most: int = MOST) -> int:
        """Return a whole number from 0 to `most`."""
        value = self._get(key)
        if type(value) is not int or not 0 <= value <= most:
            raise self._wrong(key, f"a whole number from 0 to {most}", value)
        return value

    def number(self, key: Any) -> float:
        """Return a finite number."""
        value = self._get(key)
        if type(value) not in (int, float) or not math.isfinite(_to_float(value)):
            raise self._wrong(key, "a finite number", value)
        return float(value)

    def sha256(self, key: Any) -> str:
        """Return a SHA-256 in lower-case hexadecimal."""
        value = self._get(key)
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise self._wrong(key, "a SHA-256 in 64 hexadecimal digits", value)
        return value

    def items(self, key: Any, length: int | None = None) -> list[Any]:
        """Return a list, of a given length where one is named."""
        value = self._get(key)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise self._wrong(key, "a list" if length is None else f"a list of {length}", value)
        return value

    def inside(self, key: Any) -> Fields:
        """Return the object under a key."""
        return Fields(self._get(key), f"{_short(key)} of the {self.place}", self.fail)

    def each(self) -> Iterator[tuple[str, Fields]]:
        """Iterate over the objects under all keys."""
        for key in self.tree:
            yield key, self.inside(key)

    def optional(self, key: str, take: Callable[[str], T]) -> T | None:
        """Take a field that may be null or absent."""
        return None if self.tree.get(key) is None else take(key)

    def mapping(self, key: str, take: Callable[[Fields, str], T]) -> dict[str, T]:
        """Take an object with fields of one type, as ``mapping("counts", Fields.whole)``."""
        inner = self.inside(key)
        return {name: take(inner, name) for name in inner.tree}

    def texts(self, key: str) -> list[str]:
        """Return a list of strings without control characters."""
        values = Fields(dict(enumerate(self.items(key))), f"{key} of the {self.place}", self.fail)
        return [values.text(place) for place in values.tree]

    def numbers(self, key: Any, length: int) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        values = Fields(dict(enumerate(self.items(key, length))), f"{key} of the {self.place}", self.fail)
        return tuple(values.number(place) for place in values.tree)

    def _get(self, key: Any) -> Any:
        if key not in self.tree:
            raise self.fail(f"The {self.place} has no field {key!r}")
        return self.tree[key]

    def _wrong(self, key: object, wanted: str, value: object) -> ReasonKneeError:
        name = f"field {key!r} of the " if key != "" else ""
        return self.fail(f"The {name}{self.place} must be {wanted}, not {_short(value)}")


def _short(value: object) -> str:
    """Show a value in at most 80 characters of ASCII, whatever its size."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > MOST:
        return f"a number of {value.bit_length()} bits"
    text = ascii(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


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
