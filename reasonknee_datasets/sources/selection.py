"""Which splits, columns and rows of a config are read: decided before anything is opened, pushed down to Parquet."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from operator import ge, gt, le, lt
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reasonknee_datasets.errors import RepositoryError, nearest, shown
from reasonknee_datasets.moaks import CATEGORIES, QUESTIONS, SLOTS
from reasonknee_datasets.schema import (
    CONFIGS,
    GRADE_COLUMNS,
    PREVIEW,
    SIDES,
    SPLITS,
    VISITS,
    arrow_schema,
    with_images,
)

VOLUME = "volume"
VOLUME_PATH = "volume_path"
MASK = "mask"
LAZY = (VOLUME, MASK)
"""Columns that are joined at load, as lazy images."""
_VALUE = r'("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)'  # in the text of an Arrow expression
_CAST = re.compile(r"cast\((\w+), \{[^}]*\}\)")
_VALUE_FIRST = re.compile(rf"\({_VALUE} ([<>=!]=?) (\w+)\)")
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
# The columns whose values are known beforehand.
_CLOSED: Mapping[str, Sequence[str]] = {
    "side": SIDES,
    "visit": VISITS,
    "question_id": tuple(str(question.id) for question in QUESTIONS.values() if question.in_records),
    "category": CATEGORIES,
    "finding": tuple(dict.fromkeys(question.finding for question in QUESTIONS.values())),
    "subregion": tuple(dict.fromkeys(question.subregion for question in QUESTIONS.values())),
    **{
        column: tuple(map(str, range(1 + max(slot.high for slot in SLOTS if slot.attribute == attribute))))
        for attribute, column in GRADE_COLUMNS.items()
    },
}
ALIASES = {"val": "validation"}
_PART = re.compile(
    r"(?P<name>[\w.-]+)"
    r"(?:\[(?:(?P<start>-?[\d_]+)(?P<start_percent>%)?)?:(?:(?P<stop>-?[\d_]+)(?P<stop_percent>%)?)?\])?"
    r"(?:\((?P<rounding>\w+)\))?"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Columns and rows to read of one config.

    Attributes
    ----------
    config : str
        ``quintuples``, ``volumes`` or ``balanced``.
    columns : tuple of str
        The columns of an example, in order; `volume` and `mask` among them where they are joined.
    expression : pyarrow.compute.Expression or None
        The rows; None for all.
    stored : list of str
        The columns to read from Parquet.
    stored_schema : pyarrow.Schema
        Their Arrow schema.
    filtered : list of str
        The columns that the expression looks at.
    """

    config: str
    columns: tuple[str, ...]
    expression: pc.Expression | None = None
    stored: list[str] = field(init=False, repr=False, compare=False)
    stored_schema: pa.Schema = field(init=False, repr=False, compare=False)
    filtered: list[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = arrow_schema(self.config, previews=True)
        names = [name for name in self.columns if name not in LAZY]
        stored = names if VOLUME_PATH in names or names == list(self.columns) else [*names, VOLUME_PATH]
        words = set(re.findall(r"\w+", str(self.expression)))  # an expression shows its columns in its text only
        filtered = [] if self.expression is None else [name for name in known.names if name in words]
        object.__setattr__(self, "stored", stored)
        object.__setattr__(self, "stored_schema", with_images(pa.schema([known.field(name) for name in stored])))
        object.__setattr__(self, "filtered", filtered)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of an example; a volume or mask is a string here."""
        types = {field.name: field.type for field in arrow_schema(self.config, previews=True)}
        types |= dict.fromkeys(LAZY, pa.string())
        return with_images(pa.schema([(name, types[name]) for name in self.columns]))

    def with_mask(self) -> Selection:
        """Return this selection with the column ``mask``, after ``volume`` where there is one."""
        if MASK in self.columns:
            return self
        if VOLUME_PATH not in arrow_schema(self.config).names:
            raise RepositoryError(
                f"The config {self.config!r} has no volumes and therefore no masks. Leave out masks=True."
            )
        place = self.columns.index(VOLUME) + 1 if VOLUME in self.columns else len(self.columns)
        return replace(self, columns=(*self.columns[:place], MASK, *self.columns[place:]))

    @property
    def key(self) -> str:
        """A short name for columns and rows, the same in every process."""
        # An expression's text leaves out the middle of long lists; its pickle is the whole of it.
        rows = b"" if self.expression is None else pickle.dumps(self.expression, protocol=4)
        return hashlib.sha256("\n".join(self.columns).encode() + b"\0" + rows).hexdigest()[:16]


def select(config: str, columns: Sequence[str] | None = None, filters: Any = None, *, masks: bool = False) -> Selection:
    """Check a user's choice of config, columns and rows.

    Parameters
    ----------
    config : str
        ``quintuples``, ``volumes`` or ``balanced``.
    columns : sequence of str, optional
        Stored columns, `volume` and `mask`. Voxels are joined where ``volume`` or ``volume_path`` is named; without
        either, an example has no volume. By default all stored columns and the volume.
    filters : Expression, mapping, list of tuples, or list of lists of tuples, optional
        As for ``pyarrow.parquet.read_table``: ``[("question_id", "==", 19), ("side", "==", "left")]``; or a mapping of
        columns to a value, or to a list of values.
    masks : bool
        Add the column ``mask``.

    Raises
    ------
    RepositoryError
        If a name is unknown, or a filter does not fit its column's type or has a value that the column cannot
        have.

    Examples
    --------
    >>> select("quintuples", ["id", "volume_path", "box"]).columns
    ('id', 'volume_path', 'volume', 'box')
    >>> select("quintuples", ["id", "grades"]).columns
    ('id', 'grades')
    """
    if not (isinstance(config, str) and config in CONFIGS):
        remedy = f"Did you mean split={config!r}? " if config in (*SPLITS, *ALIASES) else ""
        raise RepositoryError(f"Unknown config {config!r} in name=. {remedy}{nearest(str(config), CONFIGS)}.")
    selection = Selection(config, _check_columns(config, columns), _check_filters(config, filters))
    return selection.with_mask() if masks else selection


def _check_columns(config: str, columns: Sequence[str] | None) -> tuple[str, ...]:
    stored = arrow_schema(config).names
    known = [*stored, *LAZY] if VOLUME_PATH in stored else stored
    known = [*known, PREVIEW.name] if config == "quintuples" else known  # read on request only
    wanted = stored if columns is None else columns
    is_list = isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes | Mapping)
    wanted = list(wanted) if is_list else []
    if not wanted or not all(isinstance(name, str) for name in wanted) or len(set(wanted)) != len(wanted):
        raise RepositoryError(
            f'columns must be a list of different names, such as ["id", "grades"], not {shown(columns)}.'
        )
    for name in wanted:
        if name not in known:
            raise RepositoryError(f"Unknown column {name!r} of {config!r} in columns=. {_nearest_column(name, known)}.")
    if VOLUME in wanted or VOLUME_PATH not in wanted:
        return tuple(wanted)
    place = list(wanted).index(VOLUME_PATH) + 1
    return (*wanted[:place], VOLUME, *wanted[place:])


def _nearest_column(name: object, known: Sequence[str]) -> str:
    """Suggest a column: of an attribute its grades, otherwise the one with the nearest name."""
    column = GRADE_COLUMNS.get(str(name))
    if column in known:
        others = ", ".join(other for other in known if other in GRADE_COLUMNS.values() and other != column)
        return f"Did you mean {column!r}? Every attribute has a column of its own; the others are {others}"
    return nearest(str(name), known)


def _check_filters(config: str, filters: Any) -> pc.Expression | None:
    """Bind the filters to an empty table, so that a wrong name, type or value shows now and not in a worker."""
    filters = _to_tuples(filters)
    if filters is None:
        return None
    schema = arrow_schema(config)
    try:
        expression = filters if isinstance(filters, pc.Expression) else pq.filters_to_expression(filters)
        schema.empty_table().filter(expression)
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        for name in _names(filters, error):
            if name not in schema.names:
                raise RepositoryError(
                    f"The filters name a column that {config!r} does not have: {name}. "
                    f"{_nearest_column(name, schema.names)}."
                ) from error
        found = " ".join(str(error).split()).rstrip(".")
        raise RepositoryError(
            f"The filters {filters!r} do not fit the columns of {config!r}: {found}. Write "
            '[("question_id", "==", 19), ...], {"side": "right"} or a pyarrow Expression.'
        ) from error
    text = _VALUE_FIRST.sub(
        lambda found: f"({found[3]} {_MIRRORED.get(found[2], found[2])} {found[1]})", _CAST.sub(r"\1", str(expression))
    )
    for name, value in _compared(text):
        _check_value(name, value)
    if "invert(" not in text:  # "not at least 9" is true for every row
        for name, order, value in re.findall(rf"\((\w+) ([<>]=?) {_VALUE}\)", text):
            _check_order(name, order, value.strip('"'))
    return expression


def _to_tuples(filters: Any) -> Any:
    """Write a mapping and a single tuple in the form that pyarrow takes: a list of tuples."""
    if isinstance(filters, Mapping):
        many = (list, tuple, set, frozenset)
        return [(name, "in" if isinstance(value, many) else "==", value) for name, value in filters.items()] or None
    if isinstance(filters, tuple) and len(filters) == 3 and isinstance(filters[0], str):
        return [filters]
    return filters


def _compared(text: str) -> Iterator[tuple[str, str]]:
    """Find the values that an expression compares a column with, in its own text."""
    for name, value in re.findall(rf"\((\w+) [!=]= {_VALUE}\)", text):
        yield name, value.strip('"')
    for name, values in re.findall(r"is_in\((\w+), \{value_set=\w+:\[(.*?)\n?\]", text, re.DOTALL):
        yield from ((name, value.strip('"')) for value in re.findall(rf"^\s*{_VALUE},?$", values, re.MULTILINE))


def _check_value(name: str, value: str) -> None:
    """Refuse a value that no row can have, where a column has a closed set of them: the answer would be 0 rows."""
    known = _CLOSED.get(name, ())
    if known and value not in known:
        spelt = {each.lower(): each for each in known}
        near = get_close_matches(value.lower(), spelt, n=1) or [each for each in spelt if value.lower() in each]
        near = [] if name == "question_id" else near  # 7 is not near 70
        hint = f" Did you mean {spelt[near[0]]!r}?" if near else ""
        raise RepositoryError(
            f"The filters ask for {name} {value!r}, which no row has.{hint} Available: {', '.join(known)}."
        )


def _check_order(name: str, order: str, value: str) -> None:
    """Refuse a bound that no value of a closed set is within: the answer would be 0 rows."""
    known = _CLOSED.get(name, ())
    is_number = bool(known) and known[0].isdigit()
    bound = float(value) if is_number else value
    if known and not any(_ORDERS[order](float(each) if is_number else each, bound) for each in known):
        raise RepositoryError(
            f"The filters ask for {name} {order} {value}, which no row has. Available: {', '.join(known)}."
        )


def _names(filters: Any, error: Exception) -> list[str]:
    """List the columns of filters in list form; of an Expression, only the one that Arrow misses."""
    if not isinstance(filters, list | tuple):
        return re.findall(r"No match for FieldRef\.Name\((\w+)\)", str(error))
    if filters and isinstance(filters[0], str):
        return [filters[0]]
    return [name for part in filters for name in _names(part, error)]


@dataclass(frozen=True, slots=True)
class SplitPart:
    """One term of a split, such as ``train[:10%]``.

    Attributes
    ----------
    name : str
        The split.
    text : str
        The term as ``datasets`` reads it.
    start, stop : int or None
        Bounds of the slice; None where they are left open.
    percent : bool
        Whether the bounds are percent.
    """

    name: str
    text: str
    start: int | None = None
    stop: int | None = None
    percent: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cut away."""
        return self.start is None and self.stop is None

    @property
    def counts_from_front(self) -> bool:
        """Whether the slice can be cut without knowing how many rows there are."""
        return not self.percent and (self.start or 0) >= 0 and (self.stop is None or self.stop >= 0)


def parse_split(split: object, available: Sequence[str]) -> tuple[SplitPart, ...]:
    """Read a split: names, ``val``, slices, sums and ``all``.

    Parameters
    ----------
    split : str, Split or ReadInstruction
        For example ``"train"``, ``"val[:10]"``, ``"train[:10%]+test"``.
    available : sequence of str
        The splits that there are.

    Raises
    ------
    RepositoryError
        If a split is unknown, or a slice cannot be read.

    Examples
    --------
    >>> [part.text for part in parse_split("train + val[:10]", ("train", "validation"))]
    ['train', 'validation[:10]']
    """
    text = str(split)
    if text == "all":
        return tuple(SplitPart(name, name) for name in available)
    return tuple(_parse_part(term.strip(), text, available) for term in text.split("+"))


def _parse_part(term: str, text: str, available: Sequence[str]) -> SplitPart:
    match = _PART.fullmatch(term)
    if match is None:
        raise RepositoryError(
            f"The split {text!r} cannot be read. Write a name, a slice or a sum: "
            '"train", "train[:10]", "train[10%:20%]", "train+validation".'
        )
    name = ALIASES.get(match["name"], match["name"])
    if name not in available:
        raise RepositoryError(f"Unknown split {name!r}. {nearest(name, tuple(available))}.")
    start, stop = (None if match[end] is None else int(match[end]) for end in ("start", "stop"))
    percent = bool(match["start_percent"] or match["stop_percent"])
    if percent and max(abs(start or 0), abs(stop or 0)) > 100:
        raise RepositoryError(
            f"The slice {text} has a bound outside -100% to 100%. Write percentages as in train[10%:20%]."
        )
    return SplitPart(name, name + term[len(match["name"]) :], start, stop, percent)
