"""Shape and affine that a volume is expected to have, written as a short token in every row."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import GeometryError

_TOKEN = re.compile(r"(?P<shape>[0-9]+x[0-9]+x[0-9]+)\.(?P<width>[fd])(?P<affine>[A-Za-z0-9_-]+)")
_REMEDY = "Take shape and affine from the manifest, or leave geometry=None to accept the file's own"


def spatial_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Drop axes of length 1 behind the third, which converters write and no voxel depends on.

    Examples
    --------
    >>> spatial_shape((160, 384, 384, 1)), spatial_shape((160, 384, 384, 2)), spatial_shape((160, 384))
    ((160, 384, 384), (160, 384, 384, 2), (160, 384))
    """
    sizes = tuple(int(size) for size in shape)
    return sizes[:3] if set(sizes[3:]) == {1} else sizes


@dataclass(frozen=True, slots=True)
class Geometry:
    """Shape and affine of a volume, as the manifest states them.

    Arrays and lists are accepted and kept as tuples, so that the value hashes, compares and pickles small.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels along each array axis.
    affine : (4, 4) tuple of tuples of float
        Voxel-centre to world (RAS+, mm) affine.

    Examples
    --------
    >>> grid = Geometry((160, 384, 384), np.diag([0.7, 0.36458, 0.36458, 1.0]))
    >>> Geometry.from_token(grid.to_token()) == grid
    True
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    def __init__(self, shape: Sequence[int], affine: Sequence[Sequence[float]] | NDArray[np.floating]) -> None:
        sizes = tuple(int(size) for size in shape)
        if len(sizes) != 3 or any(size < 1 for size in sizes):
            raise GeometryError(f"The shape {tuple(shape)} is not three positive numbers of voxels. {_REMEDY}.")
        matrix = np.asarray(affine, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
            raise GeometryError(
                f"The affine {matrix.tolist()} is not a finite 4 by 4 matrix that ends with the row 0 0 0 1. {_REMEDY}."
            )
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "affine", tuple(tuple(row) for row in matrix.tolist()))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as a fresh (4, 4) array."""
        return np.array(self.affine, dtype=np.float64)

    def to_token(self) -> str:
        """Write the geometry as a short string for the fragment of a URL.

        An affine that came from a NIfTI sform is exact in 32 bits, and then takes 64 characters instead of 128.

        Examples
        --------
        >>> Geometry((2, 3, 4), np.eye(4)).to_token()[:8]
        '2x3x4.fA'
        """
        rows = self.matrix[:3]
        short = bool((rows == rows.astype(np.float32)).all())
        packed = base64.urlsafe_b64encode(rows.astype("<f4" if short else "<f8").tobytes()).decode().rstrip("=")
        return f"{'x'.join(map(str, self.shape))}.{'f' if short else 'd'}{packed}"

    @classmethod
    def from_token(cls, token: str) -> Geometry:
        """Read what `to_token` wrote.

        Raises
        ------
        GeometryError
            If the text is not a token.

        Examples
        --------
        >>> Geometry.from_token("elsewhere")
        Traceback (most recent call last):
            ...
        reasonknee_datasets.errors.GeometryError: The geometry token 'elsewhere' does not read IxJxK.<affine>. ...
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise GeometryError(
                f"The geometry token {token!r} does not read IxJxK.<affine>. It was cut or changed: load the "
                "rows again."
            )
        text, dtype = match["affine"], "<f4" if match["width"] == "f" else "<f8"
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            rows = np.frombuffer(raw, dtype=dtype).astype(np.float64).reshape(3, 4)
        except (binascii.Error, ValueError):
            raise GeometryError(
                f"The geometry token {token!r} does not hold twelve numbers. It was cut or changed: load the "
                "rows again."
            ) from None
        shape = [int(size) for size in match["shape"].split("x")]
        return cls(shape, np.vstack([rows, [0.0, 0.0, 0.0, 1.0]]))

    def __str__(self) -> str:
        rows = "; ".join(" ".join(f"{value:.5g}" for value in row) for row in self.affine[:3])
        return f"shape {self.shape}, affine [{rows}]"

    @property
    def voxels(self) -> int:
        """Number of voxels of the grid."""
        return math.prod(self.shape)
