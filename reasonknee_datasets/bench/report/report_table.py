"""`Table`: what a report says, before it is Markdown or HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# A number as `numbers` prints it, or a cell that is empty.
_NUMBER = re.compile(r"(\*\*)?[+-]?[0-9][0-9.,]*(%| \[[^]]*\])?(\*\*| worse)?$|–?$")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report.

    Attributes
    ----------
    title : str
    columns : tuple of str
        The first names the row.
    rows : tuple of tuple of str
        As they are printed.
    caption : str
        What stands in the columns, where their names do not say it.
    folded : bool
        The HTML page shows it on demand.
    detail : bool
        Left out of Markdown and LaTeX, which name the CSV file instead.
    numeric : tuple of bool
        Columns that hold numbers and nothing else, and are set to the right; never the first. Found once, when the
        table is made: a renderer asks for it at every cell.

    Examples
    --------
    >>> Table("", ("slot", "metric", "value"), (("q01", "mae", "**+0.1**"), ("q02", "mae", "–"))).numeric
    (False, False, True)
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False
    detail: bool = False
    numeric: tuple[bool, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        columns = ([row[place] for row in self.rows] for place in range(1, len(self.columns)))
        numeric = (False, *(all(_NUMBER.match(cell) for cell in column) for column in columns))
        object.__setattr__(self, "numeric", numeric)
