"""Permutations and flips of array axes: the only change of grid that this package makes. Nothing is resampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from nibabel import orientations as _nibabel
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError

_orientations: Any = _nibabel  # nibabel leaves it untyped

# A seventh of the finest official voxel: nothing that moves a voxel passes. What NIfTI's float32 affines and
# quaternions round away is far less: 0.00002 mm at the far corner, the most of 2,000 random oblique knee grids.
TOLERANCE_MM = 0.05


@dataclass(frozen=True, slots=True)
class Reorientation:
    """A permutation of the three spatial axes, then flips; one of 48.

    Axis ``n`` of the new array is axis ``axes[n]`` of the old one, run backwards where ``flips[n]``.

    Parameters
    ----------
    axes : three ints
        0, 1 and 2 in some order.
    flips : three bools
        Per new axis.

    Examples
    --------
    >>> turn = Reorientation((2, 0, 1), (True, False, False))
    >>> turn.apply_shape((160, 384, 352))
    (352, 160, 384)
    >>> turn.apply_box(Box((0, 10, 20), (5, 30, 50)), (160, 384, 352))
    Box(start=(302, 0, 10), stop=(332, 5, 30))
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def __post_init__(self) -> None:
        if sorted(self.axes) != [0, 1, 2] or len(self.flips) != 3:
            raise GeometryError(
                f"A reorientation takes the axes 0, 1 and 2 in some order and three flips, not axes={self.axes} and "
                f"flips={self.flips}."
            )
        # numpy's ints and bools would be equal but not repr the same
        object.__setattr__(self, "axes", tuple(int(axis) for axis in self.axes))
        object.__setattr__(self, "flips", tuple(bool(flip) for flip in self.flips))

    @classmethod
    def all(cls) -> Iterator[Reorientation]:
        """Return all 48, the identity first."""
        for (i, j, k), (a, b, c) in product(permutations(range(3)), product((False, True), repeat=3)):
            yield cls((i, j, k), (a, b, c))

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self == Reorientation()

    def apply_array(self, array: NDArray[Any]) -> NDArray[Any]:
        """Reorient an array's first three axes; a view, nothing is copied."""
        turned = array.transpose(*self.axes, *range(3, array.ndim))
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def apply_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the new array's shape."""
        i, j, k = (int(shape[axis]) for axis in self.axes)
        return i, j, k

    def apply_box(self, box: Box, shape: Sequence[int]) -> Box:
        """Return the same voxels' box in the new array.

        Parameters
        ----------
        box : Box
            In the old array.
        shape : three ints
            Shape of the old array.
        """
        start, stop = [], []
        for axis, flip in zip(self.axes, self.flips, strict=True):
            low, high = box.start[axis], box.stop[axis]
            start.append(shape[axis] - high if flip else low)
            stop.append(shape[axis] - low if flip else high)
        return Box.from_row([*start, *stop])

    def apply_affine(self, affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.float64]:
        """Return the new array's affine, under which every voxel stays where it was in the world.

        Parameters
        ----------
        affine : (4, 4) float array
            Affine of the old array, voxel centre to world.
        shape : three ints
            Shape of the old array.
        """
        to_old = np.zeros((4, 4))
        to_old[3, 3] = 1.0
        for axis, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_old[old, axis] = -1.0 if flip else 1.0
            to_old[old, 3] = shape[old] - 1.0 if flip else 0.0
        return np.asarray(affine, dtype=np.float64) @ to_old

    def inverse(self) -> Reorientation:
        """Return the one that undoes it.

        Examples
        --------
        >>> Reorientation((2, 0, 1), (True, False, False)).inverse()
        Reorientation(axes=(1, 2, 0), flips=(False, False, True))
        """
        i, j, k = (self.axes.index(axis) for axis in range(3))
        return Reorientation((i, j, k), (self.flips[i], self.flips[j], self.flips[k]))

    def then(self, after: Reorientation) -> Reorientation:
        """Return the one that does this first and another after it."""
        i, j, k = (self.axes[axis] for axis in after.axes)
        a, b, c = (self.flips[axis] != flip for axis, flip in zip(after.axes, after.flips, strict=True))
        return Reorientation((i, j, k), (a, b, c))


def to_canonical(affine: ArrayLike) -> Reorientation:
    """Find the reorientation that brings an array closest to RAS+ (right, anterior and superior upwards).

    Parameters
    ----------
    affine : (4, 4) float array
        Voxel centre to world.

    Raises
    ------
    GeometryError
        If the affine is singular.

    Examples
    --------
    >>> to_canonical(np.diag([-0.4, 0.4, 0.7, 1.0]))
    Reorientation(axes=(0, 1, 2), flips=(True, False, False))
    """
    _linear(affine)
    rows = _orientations.io_orientation(np.asarray(affine, dtype=np.float64))  # array axis to world axis, direction
    axes = [int(axis) for axis in np.argsort(rows[:, 0])]
    i, j, k = (bool(rows[axis, 1] < 0) for axis in axes)
    return Reorientation((axes[0], axes[1], axes[2]), (i, j, k))


def axcodes(affine: ArrayLike) -> tuple[str, str, str]:
    """Name the world direction in which each array axis runs.

    Examples
    --------
    >>> axcodes(np.diag([-0.4, 0.4, 0.7, 1.0]))
    ('L', 'A', 'S')
    """
    _linear(affine)
    first, second, third = _orientations.aff2axcodes(np.asarray(affine, dtype=np.float64))
    return first, second, third


def axis_order(affine: ArrayLike) -> str:
    """Name the world axis that each array axis follows most, whatever its direction.

    Examples
    --------
    >>> axis_order(np.diag([-0.4, 0.4, 0.7, 1.0]))
    'RAS'
    >>> axis_order([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    'ASR'
    """
    world_of = {axis: letter for letter, axis in zip("RAS", to_canonical(affine).axes, strict=True)}
    return "".join(world_of[axis] for axis in range(3))


def between(
    affine_a: ArrayLike,
    shape_a: Sequence[int],
    affine_b: ArrayLike,
    shape_b: Sequence[int],
    tol_mm: float = TOLERANCE_MM,
    *,
    where: str | None = None,
) -> Reorientation:
    """Find how to turn arrays on grid a into arrays on grid b.

    Parameters
    ----------
    affine_a, affine_b : (4, 4) float array
        Voxel centre to world.
    shape_a, shape_b : three ints
        Voxels along each axis.
    tol_mm : float
        Greatest distance between the two grids' corners, in mm.
    where : str, optional
        The place, for the message.

    Returns
    -------
    Reorientation
        ``between(...).apply_array(a)`` is on grid b.

    Raises
    ------
    GeometryError
        If the grids differ by more than a permutation and flips; the message prints both.

    Examples
    --------
    >>> a, b = np.diag([-0.4, 0.4, 0.7, 1.0]), np.diag([0.4, 0.4, 0.7, 1.0])
    >>> b[0, 3] = -0.4 * 9
    >>> between(a, (10, 20, 30), b, (10, 20, 30))
    Reorientation(axes=(0, 1, 2), flips=(True, False, False))
    """
    old, new = _linear(affine_a), _linear(affine_b)
    # The signed permutation that turns b's voxel steps into a's, if there is one: the corners decide below.
    steps = np.linalg.solve(old, new)
    axes = np.abs(steps).argmax(axis=0).tolist()
    if sorted(axes) == [0, 1, 2]:
        signs = [bool(steps[axis, column] < 0) for column, axis in enumerate(axes)]
        turn = Reorientation((axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2]))
        turned = turn.apply_shape(shape_a)
        apart = corner_distance(turn.apply_affine(affine_a, shape_a), turned, affine_b, shape_b)
        if turned == tuple(shape_b) and apart <= tol_mm:
            return turn
    else:  # rotated so far that two axes of one follow one axis of the other
        apart = corner_distance(affine_a, shape_a, affine_b, shape_b)
    raise GeometryError(
        f"The two grids{f' {where}' if where else ''} differ by more than a permutation and flips of the axes: "
        f"{describe_geometry(affine_a, shape_a)} and {describe_geometry(affine_b, shape_b)}, whose corners are up to "
        f"{apart:.3g} mm apart ({tol_mm:g} mm are allowed). Use the image that the mask was drawn on, saved without "
        "resampling, cropping or a new origin."
    )


def describe_geometry(affine: ArrayLike, shape: Sequence[int]) -> str:
    """Put a grid in words, for messages.

    Examples
    --------
    >>> describe_geometry(np.diag([-0.4, 0.4, 0.7, 1.0]), (10, 20, 30))
    '[10x20x30 voxels of 0.4x0.4x0.7 mm, axes LAS, origin (0, 0, 0), directions ((-1, 0, 0), (0, 1, 0), (0, 0, 1))]'
    """
    matrix = np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    directions = ", ".join(_numbers(column) for column in (matrix[:3, :3] / spacing).T)
    size, voxel = "x".join(map(str, shape)), "x".join(f"{step:.5g}" for step in spacing)
    letters = "".join(axcodes(matrix))
    return f"[{size} voxels of {voxel} mm, axes {letters}, origin {_numbers(matrix[:3, 3])}, directions ({directions})]"


def _numbers(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{round(float(value), 5) + 0.0:.6g}" for value in values) + ")"


def _linear(affine: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
        raise GeometryError(
            f"The affine is not an invertible 4x4 matrix: {matrix.tolist()!r}. Save the image with a valid sform or "
            "qform."
        )
    return matrix[:3, :3]


def corner_distance(
    affine: ArrayLike, shape: Sequence[int], other_affine: ArrayLike, other_shape: Sequence[int]
) -> float:
    """Compute the largest distance between the same outer corners of two grids, in mm."""
    gap = _corners(affine, shape) - _corners(other_affine, other_shape)
    return float(np.linalg.norm(gap, axis=1).max())


def _corners(affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.float64]:
    # Outer faces, not voxel centres, so that spacing and direction tell even along an axis of a single voxel.
    corners = np.array(list(product(*((-0.5, length - 0.5) for length in shape))))
    matrix = np.asarray(affine, dtype=np.float64)
    return np.asarray(corners @ matrix[:3, :3].T + matrix[:3, 3])
