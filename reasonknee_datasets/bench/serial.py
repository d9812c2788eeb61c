"""Results as JSON and JSON Schema, both by the types of the dataclasses."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.errors import BenchError

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_REMEDY = "Read files that this version of the package wrote; schema() describes them."
_PRIMITIVES: dict[type, tuple[str, tuple[type, ...]]] = {
    str: ("string", (str,)),
    int: ("integer", (int,)),
    float: ("number", (int, float)),
    bool: ("boolean", (bool,)),
}


@cache
def _fields(kind: type) -> tuple[tuple[Field[Any], Any], ...]:
    """Return the fields that are written, each with its resolved type; those that are not compared stay in memory."""
    hints = get_type_hints(kind)
    return tuple((each, hints[each.name]) for each in fields(kind) if each.compare)


def to_plain(value: object) -> Any:
    """Turn a value into what ``json.dumps`` takes: dataclasses and mappings into dicts, tuples into lists."""
    if isinstance(value, RunMetadata):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each, _ in _fields(type(value))}
    if isinstance(value, Mapping):
        return {name: to_plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return value


def from_plain(kind: Any, item: object, place: str) -> Any:
    """Read a value of a type; the opposite of `to_plain`.

    Raises
    ------
    BenchError
        If the item is not of that type; the message names the place.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if item is None else from_plain(_given(parts), item, place)
    if kind is RunMetadata:
        return RunMetadata.from_json(item)
    if is_dataclass(kind):
        return _read_dataclass(kind, item, place)
    if origin is tuple:
        if not isinstance(item, list):
            raise _wrong(place, "a list", item)
        return tuple(from_plain(parts[0], each, f"{place}[{number}]") for number, each in enumerate(item))
    if origin is Mapping:
        if not isinstance(item, dict):
            raise _wrong(place, "an object", item)
        names = parts[0] if get_origin(parts[0]) is Literal else str
        return {
            from_plain(names, name, place): from_plain(parts[1], each, f"{place}.{name}") for name, each in item.items()
        }
    if origin is Literal:
        if item not in parts:
            raise _wrong(place, f"one of {', '.join(map(str, parts))}", item)
        return item
    name, accepted = _PRIMITIVES[kind]
    if not isinstance(item, accepted) or (isinstance(item, bool) and kind is not bool):
        raise _wrong(place, f"of type {name}", item)
    return float(item) if kind is float else item  # type: ignore[arg-type]  # accepted holds numbers only


def _read_dataclass(kind: Any, item: object, place: str) -> Any:
    if not isinstance(item, dict):
        raise _wrong(place, "an object", item)
    known = {each.name: (each, hint) for each, hint in _fields(kind)}
    own = known["format"][0].default if "format" in known else None
    # First, since another format explains whatever else is other than it should be.
    if own is not None and item.get("format", own) != own:
        raise BenchError(
            f"These {place} have format {str(item['format'])[:40]!r}, and this version of the package reads format "
            f"{own}. Evaluate the predictions again: reasonknee evaluate."
        )
    unknown = [name for name in item if name not in known]
    missing = [name for name in known if name not in item]
    if unknown or missing:
        parts = (("unknown", unknown), ("missing", missing))
        found = "; ".join(f"{what}: {', '.join(map(str, names))[:200]}" for what, names in parts if names)
        raise BenchError(f"{place} does not have the right fields ({found}). {_REMEDY}")
    return kind(**{name: from_plain(hint, item[name], f"{place}.{name}") for name, (_, hint) in known.items()})


def _given(parts: tuple[Any, ...]) -> Any:
    """Return the type of an optional where there is one."""
    return next(part for part in parts if part is not type(None))


def _wrong(place: str, kind: str, got: object) -> BenchError:
    return BenchError(f"{place} must be {kind}, but it is {repr(got)[:200]}. {_REMEDY}")


def make_schema(kind: type, title: str) -> dict[str, Any]:
    """Build the JSON Schema (draft 2020-12) of a dataclass."""
    parts: dict[str, Any] = {}
    top = _schema_of(kind, parts)
    return {"$schema": DIALECT, "title": title, **top, "$defs": dict(sorted(parts.items()))}


def _schema_of(kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(_given(args), parts), {"type": "null"}]}
    if kind is RunMetadata:
        return {"type": "object", "description": _summary(kind)}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in parts:
            parts[kind.__name__] = {}  # a placeholder while its parts are described
            parts[kind.__name__] = _schema_of_dataclass(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(args[0], parts)}
    if origin is Mapping:
        found = {"type": "object", "additionalProperties": _schema_of(args[1], parts)}
        return found | ({"propertyNames": {"enum": list(get_args(args[0]))}} if get_origin(args[0]) is Literal else {})
    if origin is Literal:
        return {"enum": list(args)}
    return {"type": _PRIMITIVES[kind][0]}


def _schema_of_dataclass(kind: type, parts: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for each, hint in _fields(kind):
        fixed = each.name == "format" and each.default is not MISSING
        properties[each.name] = {"const": each.default} if fixed else _schema_of(hint, parts)
    return {
        "type": "object",
        "description": _summary(kind),
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _summary(kind: type) -> str:
    """Return the first paragraph of a docstring on one line."""
    return re.sub(r"\s+", " ", (inspect.getdoc(kind) or "").split("\n\n")[0])
