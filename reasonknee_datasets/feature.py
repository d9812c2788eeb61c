"""The ``volume`` column: a string in Arrow, a lazy nibabel image in an example.

A row's voxels are joined at load. What stands in the table, in every file that ``datasets`` writes and in every pickle
is a reference, ``<absolute path or URL>#<geometry token>``: workers need nothing else, and it holds neither voxels nor
credentials.

``datasets`` embeds nibabel images: whatever a function under ``map`` returns, and whatever it merely *looked at* in its
example, is turned into bytes with ``to_bytes`` and written, 47 MB a row, before the column's type is asked. So a row's
volume answers that one caller with its reference, which the column takes back.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, cast

import pyarrow as pa
from datasets import Value
from datasets.features.features import register_feature

from reasonknee_datasets.errors import VolumeError, explain
from reasonknee_datasets.volumes import Geometry, LazyVolume, open_volume
from reasonknee_datasets.volumes.image import Settings
from reasonknee_datasets.volumes.view import View

_TYPE = "ReasonkneeVolume"
# Read by whoever finds such bytes in a column that is none of ours.
_IN_PLACE_OF_BYTES = b"A place of a volume and not its voxels, which reasonknee_datasets lets datasets not write: "
_KEEP_REFERENCE = (
    'Leave this column to itself, or drop it with remove_columns("volume"); voxels that are meant to be written '
    "take a column of another name"
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


def _split_view(reference: str) -> tuple[str, str]:
    """Take off the view that may follow the geometry, as ``...#<geometry token>@<view token>``."""
    place, mark, token = reference.rpartition("#")
    geometry, _, view = token.partition("@")
    return (place + mark + geometry, view) if mark else (reference, "")


# The 62 rows of a volume carry the same token.
_read_token = lru_cache(maxsize=1024)(Geometry.from_token)


class RowVolume(LazyVolume):
    """The `LazyVolume` of a row of a dataset: one that ``datasets`` cannot embed in a file by accident."""

    _bare: str  # the reference without the view

    @staticmethod
    def at(reference: str) -> RowVolume:
        """Give the volume of a reference, unopened; a view may follow the geometry."""
        bare, view = _split_view(reference)
        place, geometry = read_reference(bare)
        volume = open_volume(place, geometry=geometry)
        return _as_row(volume.through(View.from_token(view)) if view else volume, bare)

    @property
    def reference(self) -> str:
        """What the row's column holds: the place, the geometry, and the view where there is one."""
        return self._bare if self.view is None else f"{self._bare}@{self.view.to_token()}"

    def _with(self, settings: Settings) -> RowVolume:
        return _as_row(super()._with(settings), self._bare)

    def to_bytes(self, **kwargs: Any) -> bytes:
        """Give the file's bytes as nibabel does, and the reference to ``datasets``, which would write them to Arrow."""
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] == "datasets":
            return _IN_PLACE_OF_BYTES + self.reference.encode()
        data: bytes = super().to_bytes(**kwargs)
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = super().__reduce__()
        return _make_row, (self._bare, make, arguments)


def _make_row(bare: str, make: Callable[..., LazyVolume], arguments: tuple[Any, ...]) -> RowVolume:
    return _as_row(make(*arguments), bare)


def _as_row(volume: LazyVolume, bare: str) -> RowVolume:
    volume.__class__ = RowVolume
    row = cast("RowVolume", volume)
    row._bare = bare
    return row


@dataclass
class VolumeFeature:
    """A volume's reference, decoded to a `LazyVolume`.

    Decoding opens nothing: header, affine and voxels are read from the file when they are touched. A column of this
    type is never written as voxels.

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
        """Accept a reference, a row's volume, or what ``datasets`` made of one; nothing that would be embedded."""
        if isinstance(value, RowVolume):
            return value.reference
        if isinstance(value, dict):  # as datasets.Nifti encodes images
            value = _take_back(value.get("bytes"))
        if not isinstance(value, str):
            raise _refuse(type(value).__name__)
        return value

    def decode_example(self, value: Any, token_per_repo_id: dict[str, str | bool | None] | None = None) -> LazyVolume:
        """Give the volume of a reference, unopened; a volume is given back as it is."""
        del token_per_repo_id  # credentials are looked up by URL at the moment of reading
        return value if isinstance(value, LazyVolume) else RowVolume.at(str(value))

    def cast_storage(self, storage: pa.Array) -> pa.Array:
        """Accept references; refuse voxels.

        The error is an OSError on purpose: a TypeError would make ``datasets`` try again without this type, and write
        the bytes.
        """
        kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
        if any(is_kind(storage.type) for is_kind in kinds):
            return storage.cast(self.pa_type)
        if not pa.types.is_struct(storage.type):
            raise _refuse(str(storage.type))
        return pa.array(
            [None if row is None else self.encode_example(row) for row in storage.to_pylist()], self.pa_type
        )

    def flatten(self) -> VolumeFeature | Value:
        """Give the type that a flattened table has here."""
        return self if self.decode else Value("string")


def _take_back(data: Any) -> str:
    """Find the reference in what `RowVolume.to_bytes` gave; anything else is voxels."""
    if not isinstance(data, bytes) or not data.startswith(_IN_PLACE_OF_BYTES):
        raise _refuse(f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__)
    return data[len(_IN_PLACE_OF_BYTES) :].decode()


def _refuse(found: str) -> VolumeError:
    return VolumeError(explain("volume", "be written as its reference, never as voxels", found, _KEEP_REFERENCE))


# `datasets` rebuilds features by name when it reads its own cache; a table pickled to another process imports this
# module with the class, so that the name is known there too. The function is public, and warns that it is new.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    register_feature(VolumeFeature, _TYPE)
