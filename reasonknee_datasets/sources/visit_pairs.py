"""Longitudinal pairs: the rows of one knee and question at two visits, as one row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonknee_datasets.errors import RepositoryError, nearest
from reasonknee_datasets.manifest import Shard
from reasonknee_datasets.schema import VISITS
from reasonknee_datasets.sources.selection import Selection

EARLIER, LATER = "earlier", "later"
_KNEE = ("patient", "side", "question_id")

Read = Callable[[Shard, Selection], Iterator[pa.Table]]


def check_visits(pairs: Any, config: str) -> tuple[str, str]:
    """Check the two visits of ``pairs=``.

    Raises
    ------
    RepositoryError
        If these are not two visits, the earlier one first, or the config has no questions.

    Examples
    --------
    >>> check_visits(["00M", "24M"], "quintuples")
    ('00M', '24M')
    """
    if config != "quintuples":
        raise RepositoryError(f"pairs= needs the config 'quintuples', but name= is {config!r}. Leave out name=.")
    if isinstance(pairs, str) or not isinstance(pairs, Sequence) or len(pairs) != 2:
        raise RepositoryError(f'pairs={pairs!r} is not two visits, such as ("00M", "24M").')
    for visit in pairs:
        if visit not in VISITS:
            raise RepositoryError(f"Unknown visit {visit!r} in pairs=. {nearest(str(visit), VISITS)}.")
    earlier, later = pairs
    if VISITS.index(earlier) >= VISITS.index(later):
        raise RepositoryError(f"pairs={tuple(pairs)} must have the earlier visit first, and two different visits.")
    return earlier, later


def pair_schema(selection: Selection) -> pa.Schema:
    """Return the Arrow schema of a pair: its id, and the selected columns of both rows."""
    row = pa.struct(list(selection.schema))
    return pa.schema([("id", pa.string()), (EARLIER, row), (LATER, row)])


def read_pairs(
    shards: Iterable[Shard],
    every: Iterable[Shard],
    visits: tuple[str, str],
    selection: Selection,
    read: Read,
) -> Iterator[tuple[int, pa.Table]]:
    """Read shards for rows of the earlier visit, and pair each with the rows of the later one.

    Parameters
    ----------
    shards : iterable of Shard
        Where rows of the earlier visit are read, one after another.
    every : iterable of Shard
        All shards of the split: the visits of a knee are in different ones. Rows of the later visit are read once, and
        kept in memory for as long as pairs are read.
    visits : two of str
        The earlier and the later visit.
    selection : Selection
        Columns of both rows, and the rows that both must belong to.
    read : callable
        Reads the selected rows of a shard.

    Yields
    ------
    int, Table
        Number of the shard among `shards`, and its pairs; a row without a partner is left out.
    """
    wide = replace(selection, columns=tuple(dict.fromkeys(("id", *_KNEE, *selection.columns))))
    before, after = (replace(wide, expression=_at(visit, selection.expression)) for visit in visits)
    tables = [table for shard in every for table in read(shard, after)]
    if not tables:
        return
    later = pa.concat_tables(tables)
    partners: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, knee in enumerate(_knees(later)):
        partners[knee].append(number)
    for place, shard in enumerate(shards):
        for table in read(shard, before):
            found = [(row, number) for row, knee in enumerate(_knees(table)) for number in partners.get(knee, ())]
            if found:
                left, right = zip(*found, strict=True)
                yield place, _join(table.take(list(left)), later.take(list(right)), selection)


def _at(visit: str, expression: pc.Expression | None) -> pc.Expression:
    own = pc.field("visit") == visit
    return own if expression is None else expression & own


def _knees(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in _KNEE), strict=True)


def _join(earlier: pa.Table, later: pa.Table, selection: Selection) -> pa.Table:
    sides = [
        pa.StructArray.from_arrays(
            [table[name].combine_chunks().cast(field.type) for name, field in _fields(selection)],
            fields=list(selection.schema),
        )
        for table in (earlier, later)
    ]
    ids = pc.binary_join_element_wise(earlier["id"], later["id"], " to ").combine_chunks()
    return pa.Table.from_arrays([ids, *sides], schema=pair_schema(selection))


def _fields(selection: Selection) -> Iterator[tuple[str, pa.Field]]:
    return ((field.name, field) for field in selection.schema)
