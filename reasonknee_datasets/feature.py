"""The ``volume`` column: a string in Arrow, a lazy nibabel image in an example.

The table, every file that ``datasets`` writes and every pickle hold a reference of a volume and no voxels
(`reasonknee_datasets.volumes.reference`).

``datasets`` serialises every nibabel image (``nibabel.analyze.AnalyzeImage``) that a function under ``map`` returns or
only looks at with ``to_bytes``, before the type of its column is known. It has no other way for objects that Arrow does
not have: any other object fails with "did not recognize Python value type", or is converted to nested lists of
voxels where it has ``__array__``. So ``LazyVolume.to_bytes`` returns the reference, which the column reads.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from datasets import Value
from datasets.features.features import register_feature

from reasonknee_datasets.errors import VolumeError, check_type
from reasonknee_datasets.volumes import LazyVolume
from reasonknee_datasets.volumes.image import REFERENCE_MARK
from reasonknee_datasets.volumes.reference import read_reference, write_reference

__all__ = ["VolumeFeature", "read_reference", "write_reference"]

_TYPE = "ReasonkneeVolume"
_KEEP_REFERENCE = (
    'Leave this column unchanged, or drop it with remove_columns("volume"); write voxels to a column of another name'
)


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

    def __post_init__(self) -> None:
        check_type("decode", self.decode, bool, "True or False")

    def __call__(self) -> pa.DataType:
        """Return the type in Arrow."""
        return self.pa_type

    def encode_example(self, value: Any) -> str:
        """Accept a reference, a row's volume, or the form that ``datasets`` gave to one; refuse embedded voxels."""
        if isinstance(value, LazyVolume) and value.reference is not None:
            return value.reference
        if isinstance(value, dict):  # as datasets.Nifti encodes images
            value = _take_back(value.get("bytes"))
        if not isinstance(value, str):
            raise _refuse(type(value).__name__)
        return value

    def decode_example(self, value: Any, token_per_repo_id: dict[str, str | bool | None] | None = None) -> LazyVolume:
        """Return the volume of a reference, unopened; a volume is given back as it is."""
        del token_per_repo_id  # credentials are looked up by URL at the moment of reading
        return value if isinstance(value, LazyVolume) else LazyVolume.from_reference(str(value))

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
        """Return the type that a flattened table has here."""
        return self if self.decode else Value("string")


def _take_back(data: Any) -> str:
    """Find the reference in what `LazyVolume.to_bytes` returned; anything else is voxels."""
    if not isinstance(data, bytes) or not data.startswith(REFERENCE_MARK):
        raise _refuse(f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__)
    return data[len(REFERENCE_MARK) :].decode()


def _refuse(found: str) -> VolumeError:
    return VolumeError(f"The volume column takes references, never voxels, but got {found}. {_KEEP_REFERENCE}.")


# `datasets` rebuilds features by name when it reads its own cache; a table pickled to another process imports this
# module with the class, so that the name is known there too. The function is public, and warns that it is new.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    register_feature(VolumeFeature, _TYPE)
