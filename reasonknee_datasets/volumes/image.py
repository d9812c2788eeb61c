"""The lazy volume: a nibabel image that has read nothing yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from numpy.typing import DTypeLike, NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError, add_note, explain
from reasonknee_datasets.orientation import Reorientation, between
from reasonknee_datasets.volumes.cache import DecodeCache, shared_cache
from reasonknee_datasets.volumes.disk import DiskCache, find_disk_cache
from reasonknee_datasets.volumes.geometry import Geometry
from reasonknee_datasets.volumes.header import VolumeHeader, read_header
from reasonknee_datasets.volumes.locate import find_source
from reasonknee_datasets.volumes.proxy import VolumeProxy
from reasonknee_datasets.volumes.source import FileIdentity, Source
from reasonknee_datasets.volumes.view import View
from reasonknee_datasets.volumes.viewed import ViewProxy, view_image
from reasonknee_datasets.volumes.voxels import StoredVoxels

CachePolicy = DecodeCache | EllipsisType | None
DiskPolicy = DiskCache | str | os.PathLike[str] | EllipsisType | None


@dataclass(frozen=True, slots=True)
class Settings:
    """How a volume is read: what `open_volume` was told, credentials apart."""

    cache: CachePolicy = ...
    geometry: Geometry | None = None
    cache_dir: DiskPolicy = ...
    view: View | None = None

    def find_cache(self) -> DecodeCache | None:
        """Give the decode cache of this process that is meant."""
        return shared_cache() if isinstance(self.cache, EllipsisType) else self.cache

    def find_disk(self) -> DiskCache | None:
        """Give the cache on disk that is meant."""
        if self.cache_dir is None or isinstance(self.cache_dir, DiskCache):
            return self.cache_dir
        return find_disk_cache(None if isinstance(self.cache_dir, EllipsisType) else self.cache_dir)


def open_volume(
    path_or_url: str | os.PathLike[str],
    *,
    cache: CachePolicy = ...,
    storage_options: Mapping[str, Any] | None = None,
    geometry: Geometry | None = None,
    cache_dir: DiskPolicy = ...,
) -> LazyVolume:
    """Give a volume as a nibabel image, without opening it.

    Header and affine are read on first use, once for each file and process; voxels when they are sliced. A local file
    that changes is noticed; a remote one is taken not to change while a process reads it.

    Parameters
    ----------
    path_or_url : str or path
        A NIfTI-1 or NIfTI-2 file, ``.nii`` or ``.nii.gz``, on this machine or behind any fsspec URL.
    cache : DecodeCache or None, optional
        Where decoded volumes are kept. By default the cache that all volumes of the process share; None keeps nothing,
        so that every read of an ordinary ``.nii.gz`` decodes it again.
    storage_options : mapping, optional
        What fsspec needs for this URL. They are not pickled with the volume: a process that is spawned finds its own
        by `set_credentials`, which is also what stands in when this is None.
    geometry : Geometry, optional
        Shape and affine that the array is to have. A file that differs by a permutation and flips of its axes is shown
        in this geometry; anything else is an error on first touch.
    cache_dir : path, DiskCache or None, optional
        A folder where volumes are kept as compressed chunks, for reading boxes at random over more volumes than memory
        holds. By default ``REASONKNEE_CACHE_DIR``, or none.

    Returns
    -------
    LazyVolume

    Examples
    --------
    >>> open_volume("volumes/9016403/00M_right.nii.gz")  # nothing is opened
    LazyVolume('...volumes/9016403/00M_right.nii.gz')
    """
    source = find_source(path_or_url, storage_options)
    return LazyVolume._make(source, os.fspath(path_or_url), Settings(cache, geometry, cache_dir))


class LazyVolume(nib.Nifti1Image):
    """A nibabel image that reads nothing until it is touched, and then no more than it is asked for.

    It is made by `open_volume`. Calling the class itself, as nibabel and tools around it do with
    ``image.__class__(data, affine, header)``, gives an ordinary image in memory. Whether the file is NIfTI-1 or NIfTI-2
    is not known before it is touched, so ``isinstance`` tells NIfTI-1 for both; header and answers are the file's.

    It pickles as its path and settings, with the header and affine where they were changed, and never with voxels or
    credentials.
    """

    _source: Source
    _settings: Settings

    def __new__(cls, dataobj: Any, affine: Any, header: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Give an ordinary image in memory."""
        return _kind(header)(dataobj, affine, header, *args, **kwargs)

    @classmethod
    def _make(cls, source: Source, filename: str, settings: Settings) -> LazyVolume:
        volume: LazyVolume = object.__new__(cls)
        volume._source, volume._settings = source, settings
        volume._data_cache = volume._fdata_cache = None
        volume.extra = {}
        volume.file_map = {"image": FileHolder(filename=filename)}
        return volume

    @classmethod
    def from_image(cls, img: Any) -> Any:
        """Give an ordinary image with the same data, as nibabel does for this image's class."""
        return _kind(img.header).from_image(img)

    def _image(self) -> Any:
        """Give the image behind this one, made on first touch; two threads that touch it first get the same one."""
        image = self.__dict__.get("_touched")
        if image is None:
            image = self.__dict__.setdefault("_touched", self._touch())
            self.header_class = image.header_class
        return image

    def _touch(self) -> Any:
        stored, turn = self._lay()
        voxels = self._voxels(stored)
        # As nibabel's own loader does it: no affine, so that the header passes through unmodified.
        image = stored.image_class(VolumeProxy(voxels), None, stored.header)
        image._affine = stored.affine.copy()
        if turn is not None:
            image = _turned(image, VolumeProxy(voxels, turn), turn)
        return image if self.view is None else view_image(image, self.view)

    def _lay(self) -> tuple[VolumeHeader, Reorientation | None]:
        """Read the header, and find how the stored array is turned; None where it stays as it is."""
        stored, geometry = read_header(self._source), self._settings.geometry
        if geometry is None or (stored.shape == geometry.shape and np.array_equal(stored.affine, geometry.matrix)):
            return stored, None
        turn = _turn(stored, geometry, self._source.label)
        return stored, None if turn.is_identity else turn

    def _voxels(self, stored: VolumeHeader) -> StoredVoxels:
        return StoredVoxels(self._source, stored, self._settings.find_cache(), self._settings.find_disk())

    def _proxy(self) -> Any:
        """Give what voxels are read through; an image round it would cost as much as slicing a crop does."""
        proxy = self.__dict__.get("_reader")
        if proxy is None:
            stored, turn = self._lay()
            proxy = VolumeProxy(self._voxels(stored), turn)
            proxy = self.__dict__.setdefault("_reader", proxy if self.view is None else ViewProxy(proxy, self.view))
        return proxy

    @property
    def view(self) -> View | None:
        """The view of the stored volume that this one shows; None where it shows all of it."""
        return self._settings.view

    @property
    def whole(self) -> LazyVolume:
        """The volume without its view."""
        return self if self.view is None else self._seen(None)

    @property
    def grid(self) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
        """Shape and affine; from the manifest where it states them, so that nothing is opened."""
        geometry, view = self._settings.geometry, self.view
        if geometry is None:
            i, j, k = self.shape[:3]
            return (i, j, k), np.asarray(self.affine, dtype=np.float64)
        if view is None:
            return geometry.shape, geometry.matrix
        return view.shape, view.affine(geometry.matrix)

    @property
    def identity(self) -> FileIdentity:
        """What tells one state of the file from another; the header is read for it."""
        return read_header(self._source).identity

    def through(self, view: View) -> LazyVolume:
        """Give this volume as a view of it shows it; nothing is opened.

        Headers and affines that were changed by hand stay behind: the file's are what the view starts from.
        """
        return self._seen(view if self.view is None else self.view.then(view))

    def _seen(self, view: View | None) -> LazyVolume:
        settings = self._settings
        return self._with(Settings(settings.cache, settings.geometry, settings.cache_dir, view))

    def _with(self, settings: Settings) -> LazyVolume:
        return LazyVolume._make(self._source, self.file_map["image"].filename or "", settings)

    @property
    def _dataobj(self) -> Any:  # type: ignore[override]  # an attribute in nibabel; here only __new__ sets it
        return self._proxy()

    @property
    def _header(self) -> Any:
        return self._image()._header

    @_header.setter
    def _header(self, header: Any) -> None:
        self._image()._header = header

    @property
    def _affine(self) -> Any:
        return self._image()._affine

    @_affine.setter
    def _affine(self, affine: Any) -> None:
        self._image()._affine = affine

    def read_region(self, box: Box) -> NDArray[Any]:
        """Read a box of voxels, scaled as ``dataobj`` scales.

        Parameters
        ----------
        box : Box
            Half-open voxels in the order of this image's array. It must lie inside; `Box.clip` trims it.

        Returns
        -------
        array
            The caller's own.
        """
        box.check_inside(self.shape[:3], where=f"in {self._source.label}")
        region: NDArray[Any] = self.dataobj[box.slices]
        return region

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole volume, scaled as ``np.asanyarray(image.dataobj)`` is."""
        array: NDArray[Any] = np.asarray(self._dataobj.__array__(dtype, copy=copy))
        return array

    def __repr__(self) -> str:
        return f"LazyVolume({self._source.label!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        image = self.__dict__.get("_touched")
        changed = None
        if image is not None:
            fresh = self._touch()
            if not (image.header == fresh.header and np.array_equal(image.affine, fresh.affine)):
                changed = (image.header, image.affine)
        return _reopen, (self._source.path, self._settings, changed)

    def __copy__(self) -> LazyVolume:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyVolume:
        volume = self._with(self._settings)
        if "_touched" in self.__dict__:
            volume._header, volume._affine = self._header.copy(), self._affine.copy()
        return volume


def _kind(header: Any) -> Any:
    return nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image


def _reopen(path: str, settings: Settings, changed: tuple[Any, Any] | None) -> LazyVolume:
    volume = LazyVolume._make(find_source(path), path, settings)
    if changed is not None:
        volume._header, volume._affine = changed
    return volume


def _turn(stored: VolumeHeader, geometry: Geometry, label: str) -> Reorientation:
    """Find how the stored array is turned into the expected geometry."""
    try:
        if len(stored.shape) != 3:
            remedy = "Convert the file to a 3D volume, or prepare the repository again"
            raise GeometryError(explain("volume", "have three axes", stored.shape, remedy, where=f"in {label}"))
        return between(
            stored.affine, stored.shape, geometry.matrix, geometry.shape, where=f"in {label} and its manifest"
        )
    except GeometryError as error:
        remedy = "put back the file that was prepared, or prepare the repository again"
        add_note(error, f"while comparing {label} with the geometry in the manifest: {remedy}")
        raise


def _turned(image: Any, dataobj: VolumeProxy, turn: Reorientation) -> Any:
    """Give the image with its axes permuted and flipped, as nibabel's ``as_reoriented`` gives it, but unread."""
    affine = turn.apply_affine(image.affine, image.shape)
    turned = image.__class__(dataobj, affine, image.header)
    dims = [None if old is None else turn.axes.index(old) for old in turned.header.get_dim_info()]
    turned.header.set_dim_info(*dims)
    return turned
