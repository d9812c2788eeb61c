"""References: what a row, a saved data set and a pickle state of a volume, as values and as one string.

A reference reads ``<absolute path or URL>#<geometry>@<view>@<size and hash>``. What is not known is left out, and so
are trailing marks. It contains neither voxels nor credentials.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import GeometryError, VolumeError
from reasonknee_datasets.volumes.grid_view import View

_GEOMETRY = re.compile(r"(?P<shape>[0-9]+x[0-9]+x[0-9]+)\.(?P<width>[fd])(?P<affine>[A-Za-z0-9_-]+)")
_FILE = re.compile(r"(?P<bytes>\d+)(?:-(?P<hash>[0-9a-f]{64}))?")
_REMEDY = "Take shape and affine from the manifest, or leave geometry=None to accept the file's own"


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
        match = _GEOMETRY.fullmatch(token)
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


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """Size and hash that a volume file must have, as the manifest states them.

    Attributes
    ----------
    bytes : int
        Size of the file.
    index_sha256 : str or None
        SHA-256 of NIfTI header and slab index (`index_hash`); None where the file had no index.
    """

    bytes: int
    index_sha256: str | None = None

    def to_token(self) -> str:
        """Write size and hash as a short string that may follow a volume's reference.

        Examples
        --------
        >>> ExpectedFile(52_000_000).to_token()
        '52000000'
        """
        return str(self.bytes) if self.index_sha256 is None else f"{self.bytes}-{self.index_sha256}"

    @classmethod
    def from_token(cls, token: str) -> ExpectedFile:
        """Read what `to_token` wrote.

        Raises
        ------
        VolumeError
            If the text is not a token.
        """
        match = _FILE.fullmatch(token)
        if match is None:
            raise VolumeError(
                f"The token {token!r} is not <bytes>-<sha256>. It was cut or changed: load the rows again."
            )
        return cls(int(match["bytes"]), match["hash"])


class Reference(NamedTuple):
    """The parts of a reference.

    Attributes
    ----------
    place : str
        Absolute path or URL of the file.
    geometry : Geometry or None
        Grid that the manifest states; None where it was prepared without images.
    view : View or None
        Crop, turn or resampling of that grid.
    expected : ExpectedFile or None
        Size and hash that the manifest states.
    """

    place: str
    geometry: Geometry | None = None
    view: View | None = None
    expected: ExpectedFile | None = None


def write_reference(
    place: str, geometry: Geometry | None = None, expected: ExpectedFile | None = None, view: View | None = None
) -> str:
    """Write a volume's reference.

    Parameters
    ----------
    place : str
        Absolute path or URL of the file, without credentials.
    geometry, expected, view
        See `Reference`.

    Examples
    --------
    >>> write_reference("/data/volumes/0000001/00M_right.nii.gz")
    '/data/volumes/0000001/00M_right.nii.gz#'
    """
    tokens = ["" if part is None else part.to_token() for part in (geometry, view, expected)]
    return f"{place}#{'@'.join(tokens).rstrip('@')}"


def read_reference(reference: str) -> Reference:
    """Read what `write_reference` wrote.

    Raises
    ------
    VolumeError, GeometryError
        If the text is not a reference.

    Examples
    --------
    >>> read_reference("s3://bucket/volumes/0000001/00M_right.nii.gz#").place
    's3://bucket/volumes/0000001/00M_right.nii.gz'
    """
    place, mark, token = reference.rpartition("#")
    geometry, view, expected, *rest = (*token.split("@"), "", "")
    if not mark or any(rest):
        raise VolumeError(
            f"A volume reference reads <path or URL>#<geometry>, and this one is {reference}. Take references from the "
            "`volume` column, or open a path yourself with open_volume."
        )
    return Reference(
        place,
        _read_geometry(geometry) if geometry else None,
        View.from_token(view) if view else None,
        ExpectedFile.from_token(expected) if expected else None,
    )


# The 62 rows of a volume carry the same token.
_read_geometry = lru_cache(maxsize=1024)(Geometry.from_token)
