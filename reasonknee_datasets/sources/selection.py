"""Which columns and rows of a config are read: decided before anything is opened, pushed down to Parquet."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reasonknee_datasets.errors import RepositoryError, explain, nearest
from reasonknee_datasets.schema import CONFIGS, SPLITS, arrow_schema
from reasonknee_datasets.sources.splits import ALIASES

VOLUME = "volume"
VOLUME_PATH = "volume_path"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of one config.

    Attributes
    ----------
    config : str
        ``quintuples``, ``volumes`` or ``balanced``.
    columns : tuple of str
        The columns of an example, in order; `volume` among them where voxels are joined.
    expression : pyarrow.compute.Expression or None
        The rows; None for all.
    """

    config: str
    columns: tuple[str, ...]
    expression: pc.Expression | None = None

    @property
    def stored(self) -> list[str]:
        """The columns to read from Parquet."""
        names = [name for name in self.columns if name != VOLUME]
        return [*names, VOLUME_PATH] if VOLUME in self.columns and VOLUME_PATH not in names else names

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of an example; a volume is a string here."""
        types = {field.name: field.type for field in arrow_schema(self.config)}
        types[VOLUME] = pa.string()
        return pa.schema([(name, types[name]) for name in self.columns])

    @property
    def stored_schema(self) -> pa.Schema:
        """The Arrow schema of `stored`."""
        schema = arrow_schema(self.config)
        return pa.schema([schema.field(name) for name in self.stored])

    @property
    def key(self) -> str:
        """A short name for columns and rows, the same in every process."""
        # An expression's text leaves out the middle of long lists; its pickle is the whole of it.
        rows = b"" if self.expression is None else pickle.dumps(self.expression, protocol=4)
        return hashlib.sha256("\n".join(self.columns).encode() + b"\0" + rows).hexdigest()[:16]


def select(config: str, columns: Sequence[str] | None = None, filters: Any = None) -> Selection:
    """Check a user's choice of config, columns and rows.

    Parameters
    ----------
    config : str
        ``quintuples``, ``volumes`` or ``balanced``.
    columns : sequence of str, optional
        Stored columns, and `volume`. Voxels are joined where ``volume`` or ``volume_path`` is named; without either, an
        example has no volume. By default all of them.
    filters : Expression, or list of tuples, or list of lists of tuples, optional
        As for ``pyarrow.parquet.read_table``: ``[("question_id", "==", 19), ("side", "==", "left")]``.

    Raises
    ------
    RepositoryError
        If a name is unknown, or a filter does not fit its column's type.

    Examples
    --------
    >>> select("quintuples", ["id", "volume_path", "box"]).columns
    ('id', 'volume_path', 'volume', 'box')
    >>> select("quintuples", ["id", "grades"]).columns
    ('id', 'grades')
    """
    if config not in CONFIGS:
        remedy = nearest(str(config), CONFIGS)
        if config in (*SPLITS, *ALIASES):
            remedy = f"Did you mean split={config!r}? " + remedy
        raise RepositoryError(explain("name", "be one of the configs", config, remedy))
    return Selection(config, _check_columns(config, columns), _check_filters(config, filters))


def _check_columns(config: str, columns: Sequence[str] | None) -> tuple[str, ...]:
    stored = arrow_schema(config).names
    known = [*stored, VOLUME] if VOLUME_PATH in stored else stored
    wanted = stored if columns is None else columns
    if isinstance(wanted, str) or not wanted or len(set(wanted)) != len(wanted):
        remedy = 'Give a list such as ["id", "grades"]'
        raise RepositoryError(explain("columns", "be a list of different names", columns, remedy))
    for name in wanted:
        if name not in known:
            raise RepositoryError(explain("columns", f"be those of {config!r}", name, nearest(str(name), known)))
    if VOLUME in wanted or VOLUME_PATH not in wanted:
        return tuple(wanted)
    place = list(wanted).index(VOLUME_PATH) + 1
    return (*wanted[:place], VOLUME, *wanted[place:])


def _check_filters(config: str, filters: Any) -> pc.Expression | None:
    """Bind the filters to an empty table, so that a typo shows now and not in a worker."""
    if filters is None:
        return None
    schema = arrow_schema(config)
    remedy = f'Write [("question_id", "==", 19), ...] or a pyarrow Expression, on columns of {config!r}'
    try:
        expression = filters if isinstance(filters, pc.Expression) else pq.filters_to_expression(filters)
        schema.empty_table().filter(expression)
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        for name in _names(filters, error):
            if name not in schema.names:
                message = explain("filters", f"be on columns of {config!r}", name, nearest(name, schema.names))
                raise RepositoryError(message) from error
        raise RepositoryError(
            explain("filters", "fit the columns' types", f"{filters!r}: {error}".rstrip("."), remedy)
        ) from error
    return expression


def _names(filters: Any, error: Exception) -> list[str]:
    """Name the columns of filters in list form; an Expression keeps its own, but for the one that Arrow misses."""
    if not isinstance(filters, list | tuple):
        return re.findall(r"No match for FieldRef\.Name\((\w+)\)", str(error))
    if filters and isinstance(filters[0], str):
        return [filters[0]]
    return [name for part in filters for name in _names(part, error)]
