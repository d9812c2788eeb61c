"""`Table`: what a report says, before it is Markdown or HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A number as `numbers` prints it, or a cell that is empty.
_NUMBER = re.compile(r"(\*\*)?[+-]?[0-9][0-9.,]*(%| \[[^]]*\])?(\*\*)?$|–?$")


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
        Long: the page shows it when asked.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers and nothing else, and are set to the right; never the first.

        Examples
        --------
        >>> Table("", ("slot", "metric", "value"), (("q01", "mae", "**+0.1**"), ("q02", "mae", "–"))).numeric
        (False, False, True)
        """
        columns = ([row[place] for row in self.rows] for place in range(1, len(self.columns)))
        return (False, *(all(_NUMBER.match(cell) for cell in column) for column in columns))
