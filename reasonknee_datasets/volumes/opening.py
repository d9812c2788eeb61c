"""Opening volumes by path or URL; nothing is read before a volume is touched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from reasonknee_datasets.errors import check_type
from reasonknee_datasets.volumes.byte_source import find_source
from reasonknee_datasets.volumes.cache import DecodeCache
from reasonknee_datasets.volumes.disk import DiskCache
from reasonknee_datasets.volumes.image import LazyVolume
from reasonknee_datasets.volumes.reference import ExpectedFile, Geometry
from reasonknee_datasets.volumes.stored_array import CachePolicy, DiskPolicy, Settings


def open_volume(
    path_or_url: str | os.PathLike[str],
    *,
    cache: CachePolicy = ...,
    storage_options: Mapping[str, Any] | None = None,
    geometry: Geometry | None = None,
    cache_dir: DiskPolicy = ...,
    expected: ExpectedFile | None = None,
) -> LazyVolume:
    """Return a volume as a nibabel image, without opening it.

    Header and affine are read on first use, once for each file and process; voxels when they are sliced. A file that
    is replaced by one with the same header is read as it is now; one with another header is an error that says so, and
    must be opened again. A change of a remote file is found when its bytes contradict the header that was read.

    Parameters
    ----------
    path_or_url : str or path
        A NIfTI-1 or NIfTI-2 file, ``.nii`` or ``.nii.gz``, on this machine or behind any fsspec URL.
    cache : DecodeCache or None, optional
        Where decoded volumes are kept. By default the cache that all volumes of the process share; None keeps nothing,
        so that every read of an ordinary ``.nii.gz`` decodes it again.
    storage_options : mapping, optional
        Options that fsspec needs for this URL. They are not pickled with the volume: a spawned process finds its own
        by `set_credentials`, which is also used when this is None.
    geometry : Geometry, optional
        Shape and affine that the array is to have. A file that differs by a permutation and flips of its axes is shown
        in this geometry; anything else is an error on first touch.
    cache_dir : path, DiskCache or None, optional
        A folder where volumes are kept as compressed chunks, for reading boxes at random over more volumes than memory
        holds. By default ``REASONKNEE_CACHE_DIR``, or none.
    expected : ExpectedFile, optional
        Size and hash that the file must have; another file is an error on first touch.

    Returns
    -------
    LazyVolume

    Examples
    --------
    >>> open_volume("volumes/9016403/00M_right.nii.gz")  # nothing is opened
    LazyVolume('...volumes/9016403/00M_right.nii.gz')
    """
    check_type("path_or_url", path_or_url, str | os.PathLike, "the path or URL of a NIfTI file")
    check_type("cache", cache, DecodeCache | EllipsisType | None, "a DecodeCache or None")
    check_type("geometry", geometry, Geometry | None, "a Geometry or None")
    check_type("cache_dir", cache_dir, str | os.PathLike | DiskCache | EllipsisType | None, "a folder or None")
    check_type("expected", expected, ExpectedFile | None, "an ExpectedFile or None")
    check_type("storage_options", storage_options, Mapping | None, "a mapping or None", is_secret=True)
    source = find_source(path_or_url, storage_options)
    settings = Settings(cache, geometry, cache_dir, expected=expected)
    return LazyVolume._lazy(source, settings, os.fspath(path_or_url))
