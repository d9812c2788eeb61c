"""The ``volume`` column: a string in Arrow, a lazy nibabel image in an example.

A row's voxels are joined at load. What stands in the table, in every file that ``datasets`` writes and in every pickle
is a reference, ``<absolute path or URL>#<geometry token>``: workers need nothing else, and it holds neither voxels nor
credentials.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import pyarrow as pa
from datasets import Value
from datasets.features.features import register_feature

from reasonknee_datasets.errors import VolumeError, explain
from reasonknee_datasets.volumes import Geometry, LazyVolume, open_volume

_TYPE = "ReasonkneeVolume"
_KEEP_REFERENCE = (
    "A map that returns {**example} writes what it decoded: return only the new columns, or drop this one first with "
    'remove_columns("volume"); voxels that are meant to be written take a column of another name'
)


def write_reference(place: str, geometry: Geometry | None) -> str:
    """Write what a row keeps of its volume.

    Parameters
    ----------
    place : str
        Absolute path or URL of the file, without credentials.
    geometry : Geometry or None
        The grid that the manifest states; None where it was prepared without images.

    Examples
    --------
    >>> write_reference("/data/volumes/0000001/00M_right.nii.gz", None)
    '/data/volumes/0000001/00M_right.nii.gz#'
    """
    return f"{place}#{'' if geometry is None else geometry.to_token()}"


def read_reference(reference: str) -> tuple[str, Geometry | None]:
    """Take a reference apart into place and geometry.

    Examples
    --------
    >>> read_reference("s3://bucket/volumes/0000001/00M_right.nii.gz#")
    ('s3://bucket/volumes/0000001/00M_right.nii.gz', None)
    """
    place, mark, token = reference.rpartition("#")
    if not mark:
        remedy = "Take references from the `volume` column, or open a path yourself with open_volume"
        raise VolumeError(explain("volume reference", "read <path or URL>#<geometry>", reference, remedy))
    return place, _read_token(token) if token else None


# The 62 rows of a volume carry the same token.
_read_token = lru_cache(maxsize=1024)(Geometry.from_token)


@dataclass
class VolumeFeature:
    """A volume's reference, decoded to a `LazyVolume`.

    Decoding opens nothing: header, affine and voxels are read from the file when they are touched. A column of this
    type is never written as voxels: where a function under ``map`` hands a decoded volume back (``{**example}``), this
    column refuses it. ``datasets`` has turned the volume into bytes by then, so under *another* column name it would
    embed them; that is the one way to write voxels by accident, and dropping or not returning the volume avoids it.

    Parameters
    ----------
    decode : bool, optional
        False gives the reference itself.

    Examples
    --------
    >>> VolumeFeature().decode_example("/data/volumes/0000001/00M_right.nii.gz#")
    LazyVolume('/data/volumes/0000001/00M_right.nii.gz')
    """

    decode: bool = True
    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "reasonknee_datasets.volumes.LazyVolume"
    pa_type: ClassVar[pa.DataType] = pa.string()
    # `datasets` writes this name into its files and finds the class again by it.
    _type: str = field(default=_TYPE, init=False, repr=False)

    def __call__(self) -> pa.DataType:
        """Give the type in Arrow."""
        return self.pa_type

    def encode_example(self, value: Any) -> str:
        """Accept a reference, and nothing that would have to be embedded."""
        if not isinstance(value, str):
            raise _refuse(type(value).__name__)
        return value

    def decode_example(self, value: Any, token_per_repo_id: dict[str, str | bool | None] | None = None) -> LazyVolume:
        """Give the volume of a reference, unopened; a volume is given back as it is."""
        del token_per_repo_id  # credentials are looked up by URL at the moment of reading
        if isinstance(value, LazyVolume):
            return value
        place, geometry = read_reference(str(value))
        return open_volume(place, geometry=geometry)

    def cast_storage(self, storage: pa.Array) -> pa.Array:
        """Accept strings; refuse voxels.

        The error is an OSError on purpose: a TypeError would make ``datasets`` try again without this type, and write
        the bytes.
        """
        kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
        if not any(is_kind(storage.type) for is_kind in kinds):
            raise _refuse(str(storage.type))
        return storage.cast(self.pa_type)

    def flatten(self) -> VolumeFeature | Value:
        """Give the type that a flattened table has here."""
        return self if self.decode else Value("string")


def _refuse(found: str) -> VolumeError:
    return VolumeError(explain("volume", "be written as its reference, never as voxels", found, _KEEP_REFERENCE))


# `datasets` rebuilds features by name when it reads its own cache; a table pickled to another process imports this
# module with the class, so that the name is known there too. The function is public, and warns that it is new.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    register_feature(VolumeFeature, _TYPE)
