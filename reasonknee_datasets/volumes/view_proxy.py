"""Reading through a view: the region that it covers, turned into its grid, interpolated only where it has to be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from nibabel import fileslice as _nibabel
from numpy.typing import DTypeLike, NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, GeometryError
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.interpolation import Taps, apply_taps, taps_along
from reasonknee_datasets.volumes.memory_limits import free_memory

_canonical: Any = _nibabel.canonical_slicers  # nibabel leaves it untyped

# Below this size, free memory is not checked.
_SURELY_FITS = 1 << 28


class ViewProxy:
    """An array on a view's grid that is read from its source when it is sliced; has the interface of nibabel's proxies.

    Parameters
    ----------
    source : array-like
        Anything with a shape and a dtype that can be sliced: nibabel's ``dataobj``, an array, a memory map.
    view : View
        View of the source's voxels.
    """

    is_proxy = True

    def __init__(self, source: Any, view: View) -> None:
        self.source = source
        self.view = view

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        return self.view.shape

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """The source's type, or what interpolation makes of it."""
        dtype = np.dtype(self.source.dtype)
        return dtype if self.view.is_reindexing or self.view.nearest else _interpolated(dtype)

    def __getitem__(self, slicer: Any) -> Any:
        canonical = _canonical(slicer, self.shape)
        low: list[int] = []
        high: list[int] = []
        residual: list[slice | int | None] = []
        sizes = iter(self.shape)
        for part in canonical:
            if part is None:
                residual.append(None)
                continue
            size = next(sizes)
            if not isinstance(part, slice) and not 0 <= part < size:  # nibabel lets what is below pass
                raise IndexError(f"Index {part} is outside the axis, which has voxels 0 to {size - 1}.")
            touched = range(size)[part] if isinstance(part, slice) else range(part, part + 1)
            if not touched:
                return np.empty(np.broadcast_to(np.int8(0), self.shape)[canonical].shape, self.dtype)
            first, last = min(touched[0], touched[-1]), max(touched[0], touched[-1])
            low.append(first)
            high.append(last + 1)
            inner = slice(touched[0] - first, None if touched.step < 0 else last - first + 1, touched.step)
            residual.append(inner if isinstance(part, slice) else 0)
        whole = (low, high) == ([0, 0, 0], list(self.shape))
        view = self.view if whole else self.view.crop(Box.from_row([*low, *high]))
        return read_view(view, self.source)[tuple(residual)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole grid."""
        if copy is False:
            raise ValueError("A lazy volume is read into new memory, so copy=False is impossible. Leave it out.")
        array = read_view(self.view, self.source)
        return array if dtype is None else array.astype(dtype, copy=False)


def view_image(image: Any, view: View) -> Any:
    """Return a nibabel image on a view's grid, of the same kind and with the same header fields; nothing is read."""
    proxy = ViewProxy(image.dataobj, view)
    if isinstance(image.dataobj, ViewProxy):
        proxy = ViewProxy(image.dataobj.source, image.dataobj.view.then(view))
    viewed = image.__class__(proxy, view.affine(image.affine), image.header)
    if hasattr(viewed.header, "get_dim_info"):
        old = image.header.get_dim_info()
        viewed.header.set_dim_info(*(None if axis is None else view.axes.index(axis) for axis in old))
    return viewed


def read_view(view: View, source: Any, *, nearest: tuple[bool, bool, bool] | bool = False) -> NDArray[Any]:
    """Read a view's grid from its source.

    Parameters
    ----------
    view : View
        View of `source`.
    source : array-like
        Only the region under the view is sliced out of it.
    nearest : bool or three bools
        Per axis of the grid: take the voxel under each centre (frames) where the view interpolates. A view that is
        `View.nearest` does so on all axes.

    Returns
    -------
    array
        The caller's own. In the source's type where nothing is interpolated, else float32 (float64 from float64).

    Examples
    --------
    >>> array = np.arange(4 * 4 * 4).reshape(4, 4, 4)
    >>> view = View.whole(array.shape).crop(Box((3, 0, 0), (5, 1, 2)))
    >>> read_view(view, array)
    array([[[48, 49]],
    <BLANKLINE>
           [[ 0,  0]]])
    """
    shape = tuple(int(size) for size in source.shape)
    if len(shape) != 3:
        raise GeometryError(
            f"A view needs a volume of three axes, but this one has the shape {shape}. Choose one volume of a series, "
            "for example image.slicer[..., 0]."
        )
    steps = (nearest,) * 3 if isinstance(nearest, bool) else nearest
    check_memory(view.shape, np.dtype(source.dtype).itemsize)
    if view.is_reindexing:
        return _read_region(view, source, shape)
    taps = [taps_along(view, axis, shape[view.axes[axis]], nearest=steps[axis] or view.nearest) for axis in range(3)]
    return _interpolate(view, source, taps)


def check_memory(shape: tuple[int, ...], itemsize: int, subject: str = "a crop") -> None:
    """Raise where an array cannot fit into memory, before the kernel kills the process."""
    needed = math.prod(shape) * itemsize
    if needed <= _SURELY_FITS:
        return
    free = free_memory()
    if free is not None and needed > free.size:
        size = "x".join(map(str, shape))
        raise BoxError(
            f"{subject[0].upper()}{subject[1:]} of {size} voxels of {itemsize} bytes takes {needed / 1e9:.3g} GB of "
            f"memory, and {free.size / 1e9:.3g} GB are {free.bound}. Ask for fewer voxels (size=, margin_mm=, "
            "batch_size=), or a coarser spacing."
        )


def _read_region(view: View, source: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    region = view.region
    inside = region.intersect(Box((0, 0, 0), (shape[0], shape[1], shape[2])))
    block = np.asarray(source[region.slices]) if inside == region else _padded(view, source, region, inside)
    flips = tuple(slice(None, None, -1 if step < 0 else 1) for step in view.step)
    turned = block.transpose(view.axes)[flips]
    # A slice of an array is a view of it; a proxy returns an array that belongs to the caller.
    return turned.copy(order="K") if _shares(turned, source) else turned


def _padded(view: View, source: Any, region: Box, inside: Box | None) -> NDArray[Any]:
    block = None if inside is None else np.asarray(source[inside.slices])
    dtype = np.dtype(source.dtype) if block is None else block.dtype
    value = 0.0 if view.pad is None else view.pad
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    if limits is not None and not (value.is_integer() and limits.min <= value <= limits.max):
        raise GeometryError(
            f"pad_value={value} is not a value of the volume's type {dtype}. Pad with a number in the type's range, or "
            "pad after Window."
        )
    padded = np.full(region.shape, value, dtype=dtype, order="F")
    if block is not None and inside is not None:
        padded[Box.from_row(np.subtract(inside.to_row(), region.start * 2).tolist()).slices] = block
    return padded


def _interpolate(view: View, source: Any, taps: list[Taps]) -> NDArray[Any]:
    pad = 0.0 if view.pad is None else view.pad
    dtype = np.dtype(source.dtype)
    exact = all(tap.is_selection for tap in taps)
    wanted = dtype if exact else _interpolated(dtype)
    if not all(tap.valid.any() for tap in taps):
        return np.full(view.shape, pad, dtype=wanted)
    spans: list[slice] = [slice(0)] * 3
    for axis, tap in zip(view.axes, taps, strict=True):
        spans[axis] = tap.span
    block = np.asarray(source[tuple(spans)])
    wanted = block.dtype if exact else _interpolated(block.dtype)
    block = block.transpose(view.axes)
    block = block if exact else block.astype(wanted, copy=False)
    # Axes that shrink most go first: the rest has less to do.
    for axis in sorted(range(3), key=lambda n: view.shape[n] / block.shape[n]):
        block = apply_taps(block, taps[axis], axis)
    result = block.copy(order="K") if _shares(block, source) else block
    for axis, tap in enumerate(taps):
        if not tap.valid.all():
            np.moveaxis(result, axis, 0)[~tap.valid] = pad
    return result


def _shares(array: NDArray[Any], source: Any) -> bool:
    # numpy would read all of a proxy to find out.
    return isinstance(source, np.ndarray) and np.may_share_memory(array, source)


def _interpolated(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
