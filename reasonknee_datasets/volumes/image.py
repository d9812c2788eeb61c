"""The lazy volume: a nibabel image that has read nothing yet."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import SpatialFirstSlicer
from numpy.typing import DTypeLike, NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError, VolumeError, VolumeNotFoundError, add_note
from reasonknee_datasets.orientation import Reorientation, between
from reasonknee_datasets.volumes.byte_source import ByteSource, FileIdentity, find_moved, find_source
from reasonknee_datasets.volumes.cache import DecodeCache
from reasonknee_datasets.volumes.credentials import redact
from reasonknee_datasets.volumes.grid_view import View, ViewProxy, view_image
from reasonknee_datasets.volumes.header import VolumeHeader, read_header, spatial_shape
from reasonknee_datasets.volumes.reference import Geometry, read_reference, write_reference
from reasonknee_datasets.volumes.stored_array import Settings, StoredVoxels, VolumeProxy

REFERENCE_MARK = b"Reference to a volume, written in place of its voxels. cast_column(name, VolumeFeature()) reads it: "
"""Begins what `LazyVolume.to_bytes` returns."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """An opened file (its header has been read), and the part of its array that the volume shows."""

    voxels: StoredVoxels
    stored: VolumeProxy
    view: View | None
    dataobj: VolumeProxy | ViewProxy


class _ViewSlicer(SpatialFirstSlicer[Any]):
    """nibabel's slicer, with views in place of reads."""

    def __getitem__(self, slicer: Any) -> Any:
        volume = self.img
        try:
            canonical = self.check_slicing(slicer)
        except ValueError as error:
            raise IndexError(*error.args) from None
        parts = [part for part in canonical if isinstance(part, slice)]
        if volume.ndim != 3 or len(parts) != len(canonical) or any(part.step not in (None, 1, -1) for part in parts):
            return super().__getitem__(slicer)
        touched = [range(size)[part] for part, size in zip(parts, volume.shape, strict=True)]
        if not all(touched):
            raise IndexError("Empty slice requested")
        return volume.cut(View.of_ranges(touched))


class LazyVolume(nib.Nifti1Image):
    """A nibabel image that reads nothing until it is used, and then only the voxels that are requested.

    `open_volume` and the ``volume`` column of a data set make lazy volumes. A crop (`slicer`), a turn (`as_reoriented`)
    and a `View` (`through`) of a lazy volume are lazy too.
    Called directly, as nibabel and tools around it call the class of an image, the class makes an image in memory.

    Whether the file is NIfTI-1 or NIfTI-2 is not known before it is touched, so ``isinstance`` reports NIfTI-1 for
    both; the header is the file's. `to_nifti` converts to nibabel's own class.

    A lazy volume pickles as its path and settings, with header and affine where they were changed, and never with
    voxels or credentials. Libraries that serialise images by `to_bytes`, as ``datasets`` does, get its reference.
    """

    _source: ByteSource | None
    _settings: Settings
    _wrapped: Any

    def __init__(
        self,
        dataobj: Any,
        affine: Any,
        header: Any = None,
        extra: Any = None,
        file_map: Any = None,
        dtype: Any = None,
    ) -> None:
        # nibabel's constructors are untyped
        kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        image = kind(dataobj, affine, header, extra, file_map, dtype)
        self._set_up(None, Settings(), image.file_map, image.extra)
        self._wrapped, self.header_class = image, image.header_class

    @classmethod
    def _lazy(cls, source: ByteSource, settings: Settings, filename: str) -> LazyVolume:
        volume = cls.__new__(cls)
        # A library that opens the file by its name would read all of it, and not the view.
        filename_or_none = filename if settings.view is None else None
        volume._set_up(source, settings, {"image": FileHolder(filename=filename_or_none)}, {})
        volume._filename = filename
        return volume

    @classmethod
    def from_reference(cls, reference: str) -> LazyVolume:
        """Return the volume of a `reference`, unopened; a view in the reference is kept."""
        place, geometry, view, expected = read_reference(reference)
        return cls._lazy(find_source(place), Settings(geometry=geometry, view=view, expected=expected), place)

    @classmethod
    def _around(cls, image: Any) -> LazyVolume:
        """Return a volume in memory that shares an image's header, affine and array."""
        volume = cls.__new__(cls)
        volume._set_up(None, Settings(), image.file_map, image.extra)
        volume._wrapped, volume.header_class = image, image.header_class
        return volume

    @classmethod
    def from_image(cls, img: Any) -> LazyVolume:
        """Return an image in memory with the same array; a NIfTI-2 header stays one."""
        return cls(img.dataobj, img.affine, img.header, extra=img.extra.copy())

    def _set_up(self, source: ByteSource | None, settings: Settings, file_map: Any, extra: Any) -> None:
        self._source, self._settings = source, settings
        self._data_cache = self._fdata_cache = None
        self._opened: tuple[StoredVoxels, Reorientation | None] | None = None
        self._laid_out: _Laid | None = None
        self._wrapped = None
        self._memo: dict[str, Any] = {}  # dict.setdefault is atomic
        self._filename = ""
        self.extra, self.file_map = extra, file_map

    @property
    def _image(self) -> Any:
        """The nibabel image behind this one; two threads that touch it first get the same one."""
        if self._wrapped is None:
            self._wrapped = self._memo.setdefault("image", self._touch())
            self.header_class = self._wrapped.header_class
        return self._wrapped

    def _touch(self) -> Any:
        laid = self._lay()
        # As nibabel's own loader does it: no affine, so that the header passes through unmodified.
        header = laid.voxels.header
        image = header.image_class(laid.stored, None, header.header)
        image._affine = header.affine.copy()
        return image if laid.view is None else view_image(image, laid.view)

    def _lay(self) -> _Laid:
        """Read the header, and lay geometry and view over the stored array."""
        if self._laid_out is None:
            voxels, turn = self._opened = self._opened or self._open()
            view = self.view
            stored, shape = VolumeProxy(voxels), voxels.header.shape
            if len(shape) > 3 and (view is not None or self._settings.geometry is not None):
                stored = stored.reshape(spatial_shape(shape))
            if turn is not None:
                turned = View.whole(stored.shape).turn(turn)
                view = turned if view is None else turned.then(view)
            laid = _Laid(voxels, stored, view, stored if view is None else ViewProxy(stored, view))
            self._laid_out = self._memo.setdefault("laid", laid)
        return self._laid_out

    def _open(self) -> tuple[StoredVoxels, Reorientation | None]:
        """Read the header; return the stored array, and its turn into the expected geometry."""
        source, header = self._stored()
        geometry = self._settings.geometry
        turn = None if geometry is None else _find_turn(header, geometry, source.label)
        return StoredVoxels(source, header, self._settings), turn

    def _stored(self) -> tuple[ByteSource, VolumeHeader]:
        """Read the header, of the file where it is now if it was moved."""
        source = self._source
        assert source is not None
        try:
            header = read_header(source)
        except VolumeNotFoundError:
            moved = find_moved(source.path)
            if moved is None:
                raise
            header = read_header(moved)
            source = self._source = moved
        header.check_expected(self._settings.expected, source.label)
        return source, header

    @property
    def view(self) -> View | None:
        """View of the stored volume that this volume shows; None where it shows all of it."""
        if self._source is not None:
            return self._settings.view
        return self.dataobj.view if isinstance(self.dataobj, ViewProxy) else None

    @property
    def whole(self) -> LazyVolume:
        """The lazy volume without its view; a volume in memory is returned as it is."""
        return self if self._source is None or self.view is None else self._seen(None)

    @property
    def path(self) -> str | None:
        """Absolute path or URL of the file; None for a volume in memory."""
        return None if self._source is None else self._source.path

    @property
    def reference(self) -> str | None:
        """Reference of the volume in a row: path, geometry, view, and expected size and hash; None for one in memory.

        Raises
        ------
        VolumeError
            If the URL contains a password or a query, which may be a signature.
        """
        if self._source is None:
            return None
        path, settings = self._source.path, self._settings
        if path.startswith(("http://", "https://")) and redact(path) != path:
            raise VolumeError(
                f"The URL of {self._source.label} contains credentials, which are never written to a data set. Open it "
                "without them, and register them with set_credentials."
            )
        return write_reference(path, settings.geometry, settings.expected, settings.view)

    @property
    def grid(self) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
        """Shape and affine; from the manifest where it states them, so that nothing is opened."""
        geometry, view = self._settings.geometry, self.view
        if geometry is None or self._source is None:
            i, j, k = self.shape[:3]
            return (i, j, k), np.asarray(self.affine, dtype=np.float64)
        if view is None:
            return geometry.shape, geometry.matrix
        return view.shape, view.affine(geometry.matrix)

    @property
    def identity(self) -> FileIdentity | None:
        """Name, size and state of the file, for which its header is read; None for a volume in memory."""
        return None if self._source is None else self._stored()[1].identity

    @property
    def reading_key(self) -> Hashable:
        """File and settings, the view apart: equal for volumes that share one array; None in memory."""
        if self._source is None:
            return None
        settings = self._settings
        return self._source.path, settings.geometry, settings.expected, settings.cache, settings.cache_dir

    @property
    def geometry(self) -> Geometry | None:
        """Grid of the whole volume as the manifest states it; None where it does not, and in memory."""
        return None if self._source is None else self._settings.geometry

    @property
    def has_own_cache(self) -> bool:
        """Whether a decode cache was passed to `open_volume`."""
        return isinstance(self._settings.cache, DecodeCache)

    def stored_array(self) -> tuple[VolumeProxy, View | None]:
        """Read the header; return the proxy of the stored array, and the view of it that this volume shows."""
        laid = self._lay()
        return laid.stored, laid.view

    def through(self, view: View) -> LazyVolume:
        """Return this volume as a view of it shows it; nothing is opened.

        Headers and affines that were changed by hand stay behind: the file's are what the view starts from.
        """
        if self._source is None:
            return self._around(view_image(self._image, view))
        return self._seen(view if self.view is None else self.view.then(view))

    def _seen(self, view: View | None) -> LazyVolume:
        assert self._source is not None
        volume = self._lazy(self._source, replace(self._settings, view=view), self._filename)
        volume._opened = self._opened
        return volume

    def cut(self, view: View) -> LazyVolume:
        """Return this volume through a view, with header and affine as they are now; see `through`."""
        return self._around(view_image(self._image, view)) if self._changed() else self.through(view)

    def _changed(self) -> bool:
        """Check whether header or affine differ from the file's."""
        if self._source is None or self._wrapped is None:
            return self._source is None
        fresh = self._touch()
        return not (self._wrapped.header == fresh.header and np.array_equal(self._wrapped.affine, fresh.affine))

    @property
    def _dataobj(self) -> Any:  # type: ignore[override]  # an attribute in nibabel
        return self._lay().dataobj if self._source is not None else self._wrapped._dataobj

    @property
    def _header(self) -> Any:
        return self._image._header

    @_header.setter
    def _header(self, header: Any) -> None:
        self._image._header = header

    @property
    def _affine(self) -> Any:
        return self._image._affine

    @_affine.setter
    def _affine(self, affine: Any) -> None:
        self._image._affine = affine

    @property
    def slicer(self) -> Any:
        """Crop by slices of the array, as nibabel's ``slicer``; a crop of a lazy volume is lazy.

        Steps other than 1 and -1 read the voxels and return an image in memory.
        """
        return _ViewSlicer(self)

    def as_reoriented(self, ornt: Sequence[Sequence[int]]) -> LazyVolume:
        """Permute and flip the axes as nibabel does; a lazy volume stays lazy."""
        if self.ndim != 3 or len(ornt) != 3:
            reorient: Any = super().as_reoriented  # untyped
            turned: LazyVolume = reorient(ornt)
            return turned
        order = [int(axis) for axis, _ in ornt]
        axes = (order.index(0), order.index(1), order.index(2))
        turn = Reorientation(axes, tuple(ornt[axis][1] < 0 for axis in axes))  # type: ignore[arg-type]  # three
        return self if turn.is_identity else self.cut(View.whole(self.shape).turn(turn))

    def read_region(self, box: Box) -> NDArray[Any]:
        """Read a box of voxels, scaled as ``dataobj`` scales.

        Parameters
        ----------
        box : Box
            Half-open voxels in the order of this image's array. It must be inside; `Box.clip` trims it.

        Returns
        -------
        array
            The caller's own.
        """
        box.check_inside(self.shape[:3], where=f"in {self._label}")
        region: NDArray[Any] = self.dataobj[box.slices]
        return region

    def to_nifti(self) -> Any:
        """Convert to nibabel's own class (`Nifti1Image` or `Nifti2Image`); voxels are read when they are touched."""
        image = self._image
        return image.__class__(self.dataobj, image.affine, image.header, extra=self.extra.copy())

    def to_bytes(self, **kwargs: Any) -> bytes:
        """Return the reference of a lazy volume, or the NIfTI file of one in memory.

        ``datasets`` serialises every nibabel image that a function under ``map`` returns or only reads, and would
        write 47 MB a row. ``volume.to_nifti().to_bytes()`` returns the NIfTI file in any case.
        """
        reference = self.reference
        if reference is None:
            data: bytes = self.to_nifti().to_bytes(**kwargs)
            return data
        return REFERENCE_MARK + reference.encode()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole volume, scaled as ``np.asanyarray(image.dataobj)`` is."""
        if self._source is None:
            return np.array(self.dataobj, dtype=dtype, copy=copy)
        array: NDArray[Any] = np.asarray(self._dataobj.__array__(dtype, copy=copy))
        return array

    def __dlpack__(self, **options: Any) -> Any:
        """Read the whole volume for ``torch.as_tensor`` and MONAI's ``MetaTensor``."""
        array = np.asarray(self)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        options.pop("max_version", None)  # numpy before 2.1 does not take it
        return np.ascontiguousarray(native).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # memory of the CPU

    def __getitem__(self, index: object) -> Any:
        raise TypeError(
            "A volume is neither an array nor a sequence. Use volume.slicer[i:j, k:l, m:n] for a crop with its affine, "
            "np.asarray(volume) for the voxels, and torchio.ScalarImage(tensor=np.asarray(volume)[None], "
            "affine=volume.affine) for TorchIO."
        )

    @property
    def _label(self) -> str:
        return "memory" if self._source is None else self._source.label

    def __repr__(self) -> str:
        text = repr(self._source.label) if self._source is not None else f"<in memory, shape {self.shape}>"
        return f"LazyVolume({text})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            return LazyVolume, (np.asanyarray(self.dataobj), self.affine, self.header, self.extra)
        changed = (self.header, self.affine) if self._changed() else None
        return _reopen, (self._source.path, self._settings, self._filename, changed)

    def __copy__(self) -> LazyVolume:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyVolume:
        if self._source is None:
            return LazyVolume(self.dataobj, self.affine, self.header, self.extra.copy())
        volume = self._lazy(self._source, self._settings, self._filename)
        if self._wrapped is not None:
            volume._header, volume._affine = self._header.copy(), self._affine.copy()
        return volume


def _find_turn(stored: VolumeHeader, geometry: Geometry, label: str) -> Reorientation | None:
    """Find how the stored array is turned into the expected geometry; None where it stays as it is."""
    shape = spatial_shape(stored.shape)
    if shape == geometry.shape and np.array_equal(stored.affine, geometry.affine):
        return None
    try:
        if len(shape) != 3:
            raise GeometryError(
                f"The volume {label} has the shape {stored.shape}, and the manifest states three axes. Convert the "
                "file to a 3D volume, or prepare the repository again."
            )
        turn = between(stored.affine, shape, geometry.matrix, geometry.shape, where=f"in {label} and its manifest")
    except GeometryError as error:
        remedy = "put back the file that was prepared, or prepare the repository again"
        add_note(error, f"while comparing {label} with the geometry in the manifest: {remedy}")
        raise
    return None if turn.is_identity else turn


def _reopen(path: str, settings: Settings, filename: str, changed: tuple[Any, Any] | None) -> LazyVolume:
    volume = LazyVolume._lazy(find_source(path), settings, filename)
    if changed is not None:
        volume._header, volume._affine = changed
    return volume
