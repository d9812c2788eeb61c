"""Syntax of ``split``, for streaming and other datasets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reasonknee_datasets.errors import RepositoryError, nearest

ALIASES = {"val": "validation"}
_PART = re.compile(
    r"(?P<name>[\w.-]+)"
    r"(?:\[(?:(?P<start>-?[\d_]+)(?P<start_percent>%)?)?:(?:(?P<stop>-?[\d_]+)(?P<stop_percent>%)?)?\])?"
    r"(?:\((?P<rounding>\w+)\))?"
)


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
