"""Reading through a view that interpolates: linearly, along one axis at a time, in numpy alone.

A triangle as wide as the coarser of the two grids' voxels: plain linear interpolation where a grid gets finer, and
where it gets coarser a weighted mean of all voxels that an output voxel covers, so that fine structure is blurred and
not aliased (as Pillow's bilinear filter does; scipy's zoom does not). scipy would add 90 MB to every installation for
this page of code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a view reads itself by `interpolate`
    from reasonknee_datasets.volumes.grid_view import View


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Which source voxels make each voxel along an axis.

    Attributes
    ----------
    index : (n, taps) array of int
        Within `span`.
    weight : (n, taps) array of float32
        They sum to 1, except where nothing is valid.
    valid : (n,) array of bool
        Whether the voxel's centre is in the source.
    span : slice
        The source voxels that are needed, along the source's axis.
    """

    index: NDArray[np.intp]
    weight: NDArray[np.float32]
    valid: NDArray[np.bool_]
    span: slice

    @property
    def is_selection(self) -> bool:
        """Whether each voxel is one voxel of the source."""
        return bool(self.index.shape[1] == 1)


def interpolated_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the voxel type that interpolation makes of one: float64 of float64, else float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def interpolate(view: View, source: Any, shape: tuple[int, ...], nearest: tuple[bool, bool, bool]) -> NDArray[Any]:
    """Read a view's grid from a source of this shape; `nearest` takes the voxel under each centre along an axis."""
    pad = 0.0 if view.pad is None else view.pad
    dtype = np.dtype(source.dtype)
    taps = [
        taps_along(view, axis, shape[along], nearest=nearest[axis] or view.nearest)
        for axis, along in enumerate(view.axes)
    ]
    exact = all(tap.is_selection for tap in taps)
    if not all(tap.valid.any() for tap in taps):
        return np.full(view.shape, pad, dtype=dtype if exact else interpolated_type(dtype))
    spans: list[slice] = [slice(0)] * 3
    for along, tap in zip(view.axes, taps, strict=True):
        spans[along] = tap.span
    block = np.asarray(source[tuple(spans)]).transpose(view.axes)
    block = block if exact else block.astype(interpolated_type(block.dtype), copy=False)
    # Axes that shrink most go first: the rest has less to do.
    for axis in sorted(range(3), key=lambda n: view.shape[n] / block.shape[n]):
        block = apply_taps(block, taps[axis], axis)
    is_shared = isinstance(source, np.ndarray) and np.may_share_memory(block, source)
    result = block.copy(order="K") if is_shared else block
    for axis, tap in enumerate(taps):
        if not tap.valid.all():
            np.moveaxis(result, axis, 0)[~tap.valid] = pad
    return result


def taps_along(view: View, axis: int, length: int, *, nearest: bool = False) -> Taps:
    """Find the taps along one axis of a view.

    Parameters
    ----------
    view : View
        View of the source.
    axis : int
        Axis of the view.
    length : int
        Voxels of the source along its axis.
    nearest : bool
        Take the voxel under each centre.

    Examples
    --------
    >>> from reasonknee_datasets.volumes.grid_view import View
    >>> taps = taps_along(View.whole((4, 1, 1)).rescale((2, 1, 1)), 0, 4)
    >>> taps.index.tolist(), (7 * taps.weight).round().tolist()
    ([[0, 0, 1, 2], [1, 2, 3, 3]], [[0.0, 3.0, 3.0, 1.0], [1.0, 3.0, 3.0, 0.0]])
    """
    start, step = view.start[axis], view.step[axis]
    edge = start + step * (np.arange(view.shape[axis]) + 0.5)
    valid = (edge >= 0) & (edge <= length)
    # A whole step from a whole start meets centres: no neighbour has a share in them.
    if nearest or (abs(step) == 1.0 and start.is_integer()):
        index = np.clip(np.floor(edge).astype(np.intp), 0, length - 1)[:, None]
        return _spanned(index, np.ones(index.shape, np.float32), valid)
    reach = max(1.0, abs(step))
    centre = edge - 0.5
    first = np.ceil(centre - reach).astype(np.intp)
    count = int(np.floor(2 * reach)) + 1
    index = first[:, None] + np.arange(count)
    weight = np.maximum(0.0, 1.0 - np.abs(index - centre[:, None]) / reach)
    weight[(index < 0) | (index >= length)] = 0.0
    total = weight.sum(axis=1, keepdims=True)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    used = weight.any(axis=0)
    index, weight = np.clip(index, 0, length - 1)[:, used], weight[:, used]
    return _spanned(index, weight.astype(np.float32), valid)


def apply_taps(block: NDArray[Any], taps: Taps, axis: int) -> NDArray[Any]:
    """Make one axis of a block from its taps; the block starts at `Taps.span`."""
    if taps.is_selection:
        plain = taps.index[:, 0]
        return block if np.array_equal(plain, np.arange(block.shape[axis])) else np.take(block, plain, axis=axis)
    shape = [1] * block.ndim
    shape[axis] = -1
    total = None
    for column in range(taps.index.shape[1]):
        part = np.take(block, taps.index[:, column], axis=axis)
        part *= taps.weight[:, column].reshape(shape).astype(block.dtype, copy=False)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None  # a tap has at least one column
    return total


def _spanned(index: NDArray[np.intp], weight: NDArray[np.float32], valid: NDArray[np.bool_]) -> Taps:
    used = index[weight > 0] if weight.any() else index
    low, high = int(used.min()), int(used.max()) + 1
    return Taps(np.clip(index - low, 0, high - low - 1), weight, valid, slice(low, high))
