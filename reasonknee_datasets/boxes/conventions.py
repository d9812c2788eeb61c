"""How six numbers may describe a box, as values that convert both ways.

The official numbers are not documented. Five things are unknown: which number belongs to which direction, whether
the two ends are together or all starts come first, whether the end is included, whether the numbers are voxels or
shares of the volume, and which array axis is the slice, x or y.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.boxes.box import Box
from reasonknee_datasets.errors import BoxError

Direction = Literal["slice", "x", "y"]
Layout = Literal["pairs", "corners"]

DIRECTIONS: tuple[Direction, Direction, Direction] = ("slice", "x", "y")

_LAYOUTS: tuple[Layout, Layout] = ("pairs", "corners")

_NAME = re.compile(
    r"(?P<d0>slice|x|y)(?P<a0>[012])-(?P<d1>slice|x|y)(?P<a1>[012])-(?P<d2>slice|x|y)(?P<a2>[012])"
    r"(?:-(?P<layout>pairs|corners))?(?:-(?P<end>inclusive|exclusive))?(?:-(?P<unit>voxel|normalised))?"
)


@dataclass(frozen=True, slots=True)
class BoxConvention:
    """One way to write a box as six numbers.

    Its name, ``str(convention)``, is the three directions in the order of the numbers, each with its array axis, then
    layout, end and unit: ``slice0-x1-y2-pairs-inclusive-voxel``. ``pairs``, ``inclusive`` and ``voxel`` may be left out
    of a name: ``slice0-x1-y2`` is the same convention.

    Parameters
    ----------
    order : three of "slice", "x", "y"
        Which direction the numbers describe first, second and third.
    layout : {"pairs", "corners"}
        ``pairs``: start and end of one direction, then of the next. ``corners``: the three starts, then the three ends.
    inclusive : bool
        Whether the end is the last voxel (True) or one past it.
    normalised : bool
        Whether the numbers are shares of the volume's length along their axis, 0 to 1, rather than voxels.
    axes : three ints
        The array axes of slice, x and y.

    Examples
    --------
    >>> convention = BoxConvention.parse("slice2-x1-y0-pairs-inclusive-voxel")
    >>> convention.positions
    ('slice_start', 'slice_end', 'x_start', 'x_end', 'y_start', 'y_end')
    >>> convention.decode([60, 79, 100, 199, 40, 49], shape=(384, 384, 160))
    Box(start=(40, 100, 60), stop=(50, 200, 80))
    """

    order: tuple[Direction, Direction, Direction] = DIRECTIONS
    layout: Layout = "pairs"
    inclusive: bool = False
    normalised: bool = False
    axes: tuple[int, int, int] = (0, 1, 2)

    def __post_init__(self) -> None:
        if sorted(self.order) != sorted(DIRECTIONS):
            raise BoxError(f"The order of a convention must have slice, x and y once each, not {self.order!r}.")
        if sorted(self.axes) != [0, 1, 2]:
            raise BoxError(f"The axes of a convention must be 0, 1 and 2 once each, not {self.axes!r}.")
        if self.layout not in ("pairs", "corners"):
            raise BoxError(
                f"Unknown layout {self.layout!r}. Available: pairs (start, end, start, end ...), corners (three "
                "starts, then three ends)."
            )

    def __str__(self) -> str:
        directions = "-".join(f"{name}{axis}" for name, axis in zip(self.order, self.array_axes, strict=True))
        end = "inclusive" if self.inclusive else "exclusive"
        return f"{directions}-{self.layout}-{end}-{'normalised' if self.normalised else 'voxel'}"

    @classmethod
    def parse(cls, name: str) -> BoxConvention:
        """Read a convention's name; `CONVENTIONS` lists one name for each that differs.

        Raises
        ------
        BoxError
            If the name is not of that form.

        Examples
        --------
        >>> str(BoxConvention.parse("slice0-x1-y2")), str(BoxConvention.parse("x2-y1-slice0-corners-normalised"))
        ('slice0-x1-y2-pairs-inclusive-voxel', 'x2-y1-slice0-corners-inclusive-normalised')
        """
        match = _NAME.fullmatch(name.strip().lower()) if isinstance(name, str) else None
        if match is None:
            raise BoxError(
                f"Unknown box convention {name!r}. One is written like slice0-x1-y2-pairs-inclusive-voxel (short: "
                "slice0-x1-y2): each direction with its array axis in the order of the numbers, then pairs or corners, "
                "inclusive or exclusive, voxel or normalised."
            )
        axis_of = {match[f"d{place}"]: int(match[f"a{place}"]) for place in range(3)}
        axes = tuple(axis_of.get(direction, -1) for direction in DIRECTIONS)
        return cls(
            tuple(axis_of),  # type: ignore[arg-type]  # __post_init__ checks that each occurs once
            "corners" if match["layout"] == "corners" else "pairs",
            match["end"] != "exclusive",
            match["unit"] == "normalised",
            axes,  # type: ignore[arg-type]
        )

    @property
    def array_axes(self) -> tuple[int, int, int]:
        """The array axis that the numbers describe first, second and third."""
        first, second, third = (self.axes[DIRECTIONS.index(direction)] for direction in self.order)
        return first, second, third

    @property
    def positions(self) -> tuple[str, ...]:
        """Meaning of each of the six numbers."""
        names = [(f"{direction}_start", f"{direction}_end") for direction in self.order]
        if self.layout == "pairs":
            return tuple(name for pair in names for name in pair)
        return tuple(pair[end] for end in (0, 1) for pair in names)

    def canonical(self) -> BoxConvention:
        """Return the equivalent convention with the order slice, x, y.

        Which direction is called x makes no difference to the six numbers, only which array axis they describe: so
        (order, axes) pairs fall into classes of six that convert every box alike, and this is the one in `CONVENTIONS`.

        Examples
        --------
        >>> str(BoxConvention.parse("x2-y0-slice1-pairs-inclusive-voxel").canonical())
        'slice2-x0-y1-pairs-inclusive-voxel'
        """
        return BoxConvention(DIRECTIONS, self.layout, self.inclusive, self.normalised, self.array_axes)

    def decode(self, numbers: Sequence[float], shape: Sequence[int]) -> Box:
        """Read six numbers as a box.

        Parameters
        ----------
        numbers : six numbers
            As in the official record.
        shape : three ints
            Voxels of the array along each axis; only normalised numbers depend on it.

        Raises
        ------
        BoxError
            If these are not six finite numbers, if voxels are not whole or shares not within 0 to 1, or if an end does
            not be beyond its start. `Box.check_inside` checks that the box is inside the volume.

        Examples
        --------
        >>> BoxConvention(normalised=True).decode([0.25, 0.5, 0, 1, 0.5, 1], (160, 384, 384))
        Box(start=(40, 0, 192), stop=(80, 384, 384))
        """
        six = list(numbers) if isinstance(numbers, (Sequence, np.ndarray)) else []
        if len(six) != 6 or not all(isinstance(number, Real) for number in six):
            raise BoxError(f"A bounding box must have six numbers, not {numbers!r}. Compare it with the record.")
        row = [float(six[place]) for place in _places(self.layout, self.array_axes)]
        if self.normalised:
            possible = all(0.0 <= value <= 1.0 for value in row)
            row = [value * shape[place % 3] for place, value in enumerate(row)]
        else:
            possible = all(value.is_integer() for value in row)  # neither NaN nor infinity is
        if possible:
            start, stop = [round(value) for value in row[:3]], [round(value) + self.inclusive for value in row[3:]]
            possible = all(low < high for low, high in zip(start, stop, strict=True))
        if not possible:
            rule = "shares from 0 to 1" if self.normalised else "whole voxel numbers"
            raise BoxError(
                f"The bounding box {numbers!r} is not a box in convention {self}: it needs {rule}, each end beyond its "
                "start. boxes.infer_convention finds the convention that explains the boxes."
            )
        return Box.from_row([*start, *stop])

    def decode_rows(self, numbers: ArrayLike, shapes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Read many boxes at once.

        Parameters
        ----------
        numbers : (n, 6) array
            Official numbers.
        shapes : (n, 3) or (3,) array
            Voxels of each box's array along each axis.

        Returns
        -------
        rows : (n, 6) float array
            Whole numbers i0 j0 k0 i1 j1 k1, half-open; meaningless where not valid.
        valid : (n,) bool array
            Where the numbers can be a box under this convention.
        """
        given = np.asarray(numbers, dtype=np.float64)
        lengths = np.broadcast_to(np.asarray(shapes, dtype=np.float64), (len(given), 3))
        lengths = lengths[:, [0, 1, 2, 0, 1, 2]]
        rows = given[:, _places(self.layout, self.array_axes)]
        possible = np.isfinite(rows)
        rows = np.where(possible, rows, 0.0)
        if self.normalised:
            possible &= (rows >= 0.0) & (rows <= 1.0)
            rows = np.rint(rows * lengths)
        else:
            possible &= np.rint(rows) == rows
        rows[:, 3:] += self.inclusive
        possible[:, :3] &= rows[:, :3] < rows[:, 3:]
        return rows, np.asarray(np.all(possible, axis=1))

    def encode(self, box: Box, shape: Sequence[int]) -> list[int] | list[float]:
        """Write a box as six numbers: ints for voxels, floats for shares.

        Examples
        --------
        >>> BoxConvention.parse("slice2-x1-y0-pairs-inclusive-voxel").encode(Box((40, 100, 60), (50, 200, 80)), ())
        [60, 79, 100, 199, 40, 49]
        """
        row = [*box.start, *(end - self.inclusive for end in box.stop)]
        places = _places(self.layout, self.array_axes)
        held = [places.index(position) for position in range(6)]  # which of i0 j0 k0 i1 j1 k1 is at each position
        return [row[n] / shape[n % 3] for n in held] if self.normalised else [row[n] for n in held]


@cache
def _places(layout: Layout, array_axes: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the position of each of i0 j0 k0 i1 j1 k1 among the six numbers."""
    turn = [array_axes.index(axis) for axis in range(3)]  # of each array axis, the place among the three directions
    if layout == "pairs":
        return (*(2 * place for place in turn), *(2 * place + 1 for place in turn))
    return (*turn, *(place + 3 for place in turn))


CONVENTIONS: tuple[BoxConvention, ...] = tuple(
    BoxConvention(DIRECTIONS, layout, inclusive, normalised, (axes[0], axes[1], axes[2]))
    for normalised, layout, inclusive, axes in product((False, True), _LAYOUTS, (False, True), permutations(range(3)))
)
"""The 48 candidates that convert some box differently, in canonical form; 288 names describe them."""
