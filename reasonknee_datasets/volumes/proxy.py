"""nibabel's array proxy over our own reading, so that every answer is nibabel's by construction.

Index checks, scaling and casting are nibabel's own functions; only reading the unscaled voxels of a slice is ours.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from threading import RLock
from typing import Any, cast

import numpy as np
from nibabel import fileslice as _nibabel
from nibabel.arrayproxy import ArrayProxy
from nibabel.volumeutils import array_from_file
from numpy.typing import DTypeLike, NDArray

from reasonknee_datasets.volumes.geometry import spatial_shape
from reasonknee_datasets.volumes.stored_array import StoredVoxels

# nibabel leaves these untyped.
_canonical: Any = _nibabel.canonical_slicers
_fileslice: Any = _nibabel.fileslice


class VolumeProxy(ArrayProxy):
    """An array that is read from its file when it is sliced.

    Parameters
    ----------
    voxels : StoredVoxels
        The stored array.
    shape : tuple of int, optional
        Another shape for the same voxels, as `reshape` gives.
    """

    def __init__(self, voxels: StoredVoxels, shape: tuple[int, ...] | None = None) -> None:
        # ArrayProxy.__init__ would look for a file to keep open; these are the fields that its other methods use.
        self.file_like = voxels.source.path
        self._voxels = voxels
        self._shape = voxels.header.shape if shape is None else shape
        self._dtype = voxels.header.dtype
        self._offset, self._slope, self._inter = voxels.header.offset, voxels.header.slope, voxels.header.inter
        self._mmap, self.order = True, "F"
        self._keep_file_open = self._persist_opener = False
        self._lock = RLock()

    def copy(self) -> VolumeProxy:
        """Return another proxy for the same voxels."""
        return VolumeProxy(self._voxels, self._shape)

    def reshape(self, shape: tuple[int, ...]) -> VolumeProxy:
        """Return a proxy with another shape for the same voxels, without reading them."""
        reshaped = np.broadcast_to(np.int8(0), self._shape).reshape(shape, order="F").shape
        return VolumeProxy(self._voxels, reshaped)

    def __array__(  # type: ignore[override]  # nibabel's lacks the copy= that NumPy 2 passes
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """Read the whole array, scaled; `dtype` as in nibabel."""
        if copy is False:
            raise ValueError("A lazy volume is read into new memory, so copy=False is impossible. Leave it out.")
        read: Any = super().__array__
        return cast("NDArray[Any]", read(dtype))

    def lend(self, selections: Sequence[tuple[slice, ...]]) -> NDArray[Any] | None:
        """Return the whole array, read-only, in which these regions are there; None where it cannot be lent.

        Parameters
        ----------
        selections : sequence of three slices
            With start, stop and step 1, inside the array.
        """
        stored = self._voxels.header.shape
        if (self._slope, self._inter) != (1, 0) or self._shape != spatial_shape(stored):
            return None
        further = (slice(0, 1, 1),) * (len(stored) - len(self._shape))
        array = self._voxels.lend([(*parts, *further) for parts in selections] if further else selections)
        return None if array is None else array.reshape(self._shape, order="F")

    def _get_unscaled(self, slicer: Any) -> NDArray[Any]:
        canonical = _canonical(slicer, self._shape)
        if 0 in self._shape or not self._shape:
            return self._nothing(slicer)
        stored = self._voxels.header.shape
        if self._shape not in (stored, spatial_shape(stored)):
            return cast("NDArray[Any]", self._voxels.whole().reshape(self._shape, order="F")[canonical])
        if all(part == slice(None) for part in canonical):
            return self._voxels.whole().reshape(self._shape, order="F")
        return self._region(canonical)

    def _nothing(self, slicer: Any) -> NDArray[Any]:
        """Answer for an array without voxels as nibabel does, which is not quite as numpy does."""
        if _canonical(slicer, self._shape) == _canonical((), self._shape):
            return array_from_file(self._shape, self._dtype, io.BytesIO(), mmap=False)
        return cast("NDArray[Any]", _fileslice(io.BytesIO(), slicer, self._shape, self._dtype, 0, order="F"))

    def _region(self, canonical: tuple[Any, ...]) -> NDArray[Any]:
        """Read only the range of each slice, then apply its step."""
        touched, residual = _split(canonical, self._shape)
        if any(part.start == part.stop for part in touched):
            return np.empty(np.broadcast_to(np.int8(0), self._shape)[canonical].shape, self._dtype, order="F")
        further = (slice(0, 1, 1),) * (len(self._voxels.header.shape) - len(touched))  # see `spatial_shape`
        block = self._voxels.region(touched + further)
        return cast("NDArray[Any]", block.reshape(block.shape[: len(touched)], order="F")[residual])


def _split(canonical: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[Any, ...]]:
    """Split slicers into upward slices with explicit ends, and an index that gives the requested result.

    Examples
    --------
    >>> _split((3, slice(None, None, -2), None), (5, 6))
    ((slice(3, 4, 1), slice(1, 6, 2)), (0, slice(None, None, -1), None))
    """
    touched: list[slice] = []
    residual: list[int | slice | None] = []
    sizes = iter(shape)
    for part in canonical:
        if part is None:
            residual.append(None)
            continue
        size = next(sizes)
        if not isinstance(part, slice):
            if not 0 <= part < size:
                raise IndexError(f"Index {part} is outside the axis, which has voxels 0 to {size - 1}.")
            touched.append(slice(part, part + 1, 1))
            residual.append(0)
            continue
        steps = range(size)[part]
        if steps.step > 0:
            touched.append(slice(steps.start, max(steps.start, steps[-1] + 1 if steps else 0), steps.step))
            residual.append(slice(None))
        else:
            first = steps[-1] if steps else 0
            touched.append(slice(first, steps[0] + 1 if steps else 0, -steps.step))
            residual.append(slice(None, None, -1))
    return tuple(touched), tuple(residual)
