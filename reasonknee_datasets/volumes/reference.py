"""References: the string that a row, a saved data set and a pickle keep of a volume.

A reference reads ``<absolute path or URL>#<geometry>@<view>@<size and hash>``. What is not known is left out, and so
are trailing marks. It contains neither voxels nor credentials.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes.geometry import Geometry
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.settings import ExpectedFile


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
