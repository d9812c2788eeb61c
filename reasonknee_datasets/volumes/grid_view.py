"""`View`: a grid laid over a stored volume, as a value; `ViewProxy`: its array, which is read when it is sliced.

Views compose, so that any number of changes cost one read. Along an axis, coordinates are *edges*: voxel ``k`` reaches
from ``k`` to ``k + 1``. So a box's start and stop are coordinates without change, and cropping, turning and mirroring
stay whole numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, SupportsIndex

import numpy as np
from nibabel import fileslice as _nibabel
from numpy.typing import ArrayLike, DTypeLike, NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes.interpolation import interpolate, interpolated_type
from reasonknee_datasets.volumes.limits import SURELY_FITS, check_memory

Counts = tuple[int, int, int]
Numbers = tuple[float, float, float]
Line = tuple[float, float]  # where an axis starts on the source's axis, and its step

_canonical: Any = _nibabel.canonical_slicers  # nibabel leaves it untyped
_REMEDY = "Take views from a volume's `view`, or build them from View.whole(shape)"


@dataclass(frozen=True, slots=True)
class View:
    """A grid of voxels over a source array: each axis runs along one axis of the source.

    Axis ``n`` of the grid runs along axis ``axes[n]`` of the source; its coordinate ``x`` (0 to ``shape[n]``) is at
    ``start[n] + step[n] * x`` there.

    Parameters
    ----------
    shape : three ints
        Voxels of the grid along each of its axes.
    axes : three ints
        The source axis that each axis follows.
    start : three floats
        Edge coordinate in the source at which each axis begins.
    step : three floats
        Source voxels per voxel of the grid; negative where the axis runs backwards.
    world : six floats, optional
        Place of the grid in the source's world, as ``start`` and ``step``, once anatomy was moved in it
        (`mirror`, `shift`): then voxels are read from one place and shown at another.
    pad : float, optional
        Fill value outside the source (default 0).
    nearest : bool
        Take the nearest voxel where the view would interpolate, as label maps need it.

    Examples
    --------
    >>> view = View.whole((160, 384, 384)).crop(Box((40, 100, 60), (50, 200, 80)))
    >>> view.shape, view.region
    ((10, 100, 20), Box(start=(40, 100, 60), stop=(50, 200, 80)))
    >>> view.box_to_source(Box((0, 0, 0), (2, 3, 4)))
    Box(start=(40, 100, 60), stop=(42, 103, 64))
    """

    shape: Counts
    axes: Counts
    start: Numbers
    step: Numbers
    world: tuple[float, ...] | None = None
    pad: float | None = None
    nearest: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(
                f"The view shape {self.shape!r} is not three positive numbers. A grid has at least one voxel along "
                "each of three axes."
            )
        lines = (*self.start, *self.step, *(self.world or ()))
        good = sorted(self.axes) == [0, 1, 2] and len(self.start) == len(self.step) == 3
        if not good or not all(map(math.isfinite, lines)) or not all(self.step):
            raise GeometryError(f"The view {self!r} does not have three axes with a start and a step each. {_REMEDY}.")

    @classmethod
    def whole(cls, shape: Sequence[SupportsIndex]) -> View:
        """Return the view that shows a source of this shape as it is."""
        return _whole(tuple(int(size) for size in shape))

    @classmethod
    def of_ranges(cls, ranges: Sequence[range]) -> View:
        """Return the view that shows these voxels of a source: one range for each axis, with step 1 or -1."""
        i, j, k = (len(each) for each in ranges)
        starts = (float(each.start if each.step > 0 else each.start + 1) for each in ranges)
        return cls((i, j, k), (0, 1, 2), (*starts,), (*(float(each.step) for each in ranges),))  # type: ignore[arg-type]

    @property
    def is_reindexing(self) -> bool:
        """Whether each voxel of the grid is one voxel of the source, so that nothing is interpolated."""
        return all(abs(step) == 1.0 for step in self.step) and all(start.is_integer() for start in self.start)

    @property
    def region(self) -> Box:
        """The source voxels that the grid covers, in the source's array order; it may reach beyond the source."""
        spans = self._to_source((0, 0, 0), self.shape)
        # A hair inwards, so that rounding in the last bit does not take in another voxel.
        start = [math.floor(low + 1e-9) for low, _ in spans]
        return Box.from_row([*start, *(math.ceil(high - 1e-9) for _, high in spans)])

    def selection(self, source_shape: Sequence[int]) -> tuple[slice, ...] | None:
        """Return the slices of a source that are the grid's voxels; None where some are interpolated or outside it."""
        found = [slice(0)] * 3
        for axis, size, start, step in zip(self.axes, self.shape, self.start, self.step, strict=True):
            low = int(start) if step > 0 else int(start) - size
            if abs(step) != 1 or not start.is_integer() or low < 0 or low + size > source_shape[axis]:
                return None
            found[axis] = slice(low, low + size)
        return tuple(found)

    def lay(self, block: NDArray[Any]) -> NDArray[Any]:
        """Turn a block of source voxels into the order of the grid; numpy calls it a view of the same memory."""
        turned = block.transpose(self.axes)
        if min(self.step) > 0:
            return turned
        i, j, k = (slice(None, None, -1 if step < 0 else 1) for step in self.step)
        return turned[i, j, k]

    def crop(self, box: Box, pad: float | None = None) -> View:
        """Narrow (or widen) the grid to a box of its voxels."""
        return self._relaid(box.shape, [(float(low), 1.0) for low in box.start], pad=pad)

    def turn(self, turn: Reorientation) -> View:
        """Permute and flip the grid's axes; every voxel stays where it was in the world."""
        flipped = [self.shape[axis] if flip else 0 for axis, flip in zip(turn.axes, turn.flips, strict=True)]
        lines = [(float(start), -1.0 if flip else 1.0) for start, flip in zip(flipped, turn.flips, strict=True)]
        return self._relaid(turn.apply_shape(self.shape), lines, axes=turn.axes)

    def rescale(self, shape: Sequence[int], step: Sequence[float] | None = None) -> View:
        """Lay a coarser or finer grid over the same place.

        Parameters
        ----------
        shape : three ints
            Voxels of the new grid.
        step : three floats, optional
            Voxels of this grid per voxel of the new one; the new grid then has the same centre. By default both have
            the same faces.
        """
        steps = [old / new for old, new in zip(self.shape, shape, strict=True)] if step is None else step
        sizes = zip(self.shape, shape, steps, strict=True)
        return self._relaid(shape, [((old - new * one) / 2, float(one)) for old, new, one in sizes])

    def mirror(self, axis: int) -> View:
        """Mirror the anatomy along an axis; the grid stays where it is."""
        return self._moved(axis, (float(self.shape[axis]), -1.0))

    def shift(self, voxels: Sequence[int], pad: float | None = None) -> View:
        """Move the anatomy by whole voxels towards the end of each axis; the grid stays where it is."""
        view = self if pad is None else replace(self, pad=pad)
        for axis, count in enumerate(voxels):
            view = view._moved(axis, (-float(count), 1.0)) if count else view
        return view

    def then(self, after: View) -> View:
        """Return the view of this view: `after` is laid over this grid."""
        lines = list(zip(after.start, after.step, strict=True))
        view = self._relaid(after.shape, lines, axes=after.axes, pad=after.pad)
        if after.nearest and not self.nearest:
            view = replace(view, nearest=True)
        if after.world is None:
            return view
        places = _compose(self._world_lines(), after.axes, list(zip(after.world[:3], after.world[3:], strict=True)))
        return replace(view, world=_flat(places))

    def affine(self, source: ArrayLike) -> NDArray[np.float64]:
        """Return the grid's affine (voxel centre to world), from the source's."""
        to_source = np.zeros((4, 4))
        to_source[3, 3] = 1.0
        for axis, (old, (start, step)) in enumerate(zip(self.axes, self._world_lines(), strict=True)):
            to_source[old, axis] = step
            to_source[old, 3] = start + 0.5 * step - 0.5  # from edges to centres
        return np.asarray(source, dtype=np.float64) @ to_source

    def faces_to_source(self, faces: ArrayLike) -> NDArray[np.float64]:
        """Map lower and upper faces, (2, 3), to the source's array, exactly; they may be fractions."""
        return np.array(self._to_source(*np.asarray(faces, dtype=np.float64).tolist())).T

    def box_to_source(self, box: Box) -> Box:
        """Map a box of the grid to the source's array: exactly where nothing is resampled, else see `nearest_box`."""
        return _nearest_box(self._to_source(box.start, box.stop))

    def box_from_source(self, box: Box) -> Box:
        """Map a box of the source's array to the grid: exactly where nothing is resampled, else see `nearest_box`."""
        return _nearest_box(self._from_source(box.start, box.stop))

    def real(self, source_shape: Sequence[int]) -> Box | None:
        """Find the part of the grid with voxel centres in the source: the rest is padding."""
        spans = self._from_source((0, 0, 0), source_shape)
        first = [math.ceil(low - 0.5 - 1e-9) for low, _ in spans]
        last = [math.floor(high - 0.5 + 1e-9) + 1 for _, high in spans]
        if any(a >= b for a, b in zip(first, last, strict=True)):
            return None
        return Box.from_row([*first, *last]).intersect(Box((0, 0, 0), self.shape))

    def to_token(self) -> str:
        """Write the view as a short string that may follow a volume's reference.

        Examples
        --------
        >>> View.whole((160, 384, 384)).crop(Box((40, 100, 60), (50, 200, 80)), pad=0).to_token()
        '10x100x20_012_40,100,60_1,1,1_p0'
        """
        parts = ["x".join(map(str, self.shape)), "".join(map(str, self.axes)), _write(self.start), _write(self.step)]
        if self.world is not None:
            parts.append("m" + _write(self.world))
        if self.pad is not None:
            parts.append("p" + _write([self.pad]))
        if self.nearest:
            parts.append("n")
        return "_".join(parts)

    @classmethod
    def from_token(cls, token: str) -> View:
        """Read what `to_token` wrote.

        Raises
        ------
        GeometryError
            If the text is not a token.
        """
        return _read_token(token)

    # Plain numbers here, not arrays: each example needs a dozen, and numpy takes 20 times as long for three.
    def _to_source(self, low: Sequence[float], high: Sequence[float]) -> list[tuple[float, float]]:
        spans = [(0.0, 0.0)] * 3
        for axis, start, step, a, b in zip(self.axes, self.start, self.step, low, high, strict=True):
            first, last = start + step * a, start + step * b
            spans[axis] = (first, last) if first <= last else (last, first)
        return spans

    def _from_source(self, low: Sequence[float], high: Sequence[float]) -> list[tuple[float, float]]:
        spans = []
        for axis, start, step in zip(self.axes, self.start, self.step, strict=True):
            first, last = (low[axis] - start) / step, (high[axis] - start) / step
            spans.append((first, last) if first <= last else (last, first))
        return spans

    def _world_lines(self) -> list[Line]:
        start, step = (self.start, self.step) if self.world is None else (self.world[:3], self.world[3:])
        return list(zip(start, step, strict=True))

    def _relaid(
        self,
        shape: Sequence[int],
        lines: Sequence[Line],
        *,
        axes: Sequence[int] = (0, 1, 2),
        pad: float | None = None,
    ) -> View:
        """Lay another grid over this one: axis ``n`` of it is the given line on this grid's axis ``axes[n]``."""
        reads = _compose(list(zip(self.start, self.step, strict=True)), axes, lines)
        flat = _flat(reads)
        world = None if self.world is None else _flat(_compose(self._world_lines(), axes, lines))
        i, j, k = (int(size) for size in shape)
        a, b, c = (self.axes[axis] for axis in axes)
        filled = self.pad if pad is None else float(pad)
        return View((i, j, k), (a, b, c), flat[:3], flat[3:], world, filled, self.nearest)  # type: ignore[arg-type]

    def _moved(self, axis: int, line: Line) -> View:
        """Read one axis from elsewhere, and leave the grid where it is."""
        lines: list[Line] = [(0.0, 1.0)] * 3
        lines[axis] = line
        return replace(self._relaid(self.shape, lines), world=_flat(self._world_lines()))


@lru_cache(maxsize=256)
def _whole(shape: Counts) -> View:  # __post_init__ counts the axes
    return View(shape, (0, 1, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def nearest_box(faces: ArrayLike) -> Box:
    """Round lower and upper faces, (2, 3), to the nearest box of whole voxels.

    No face moves by more than half a voxel. Where both faces of an axis round to the same number (what they enclose is
    thinner than a voxel), the box is the voxel that contains their middle: six whole numbers cannot be finer.

    Examples
    --------
    >>> nearest_box([[1.4, 2.5, 3.1], [4.4, 4.6, 3.3]])
    Box(start=(1, 2, 3), stop=(4, 5, 4))
    """
    low, high = np.asarray(faces, dtype=np.float64).tolist()
    return _nearest_box(list(zip(low, high, strict=True)))


def _nearest_box(spans: Sequence[tuple[float, float]]) -> Box:
    start, stop = [], []
    for low, high in spans:
        # Halves go down, so that a voxel belongs to the box where its centre does: at or past the lower face.
        first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
        if first >= last:
            first = math.floor((low + high) / 2)
            last = first + 1
        start.append(first)
        stop.append(last)
    return Box.from_row([*start, *stop])


def _compose(first: Sequence[Line], axes: Sequence[int], lines: Sequence[Line]) -> list[Line]:
    """Compose each line with the line of the axis that it runs along."""
    found = []
    for axis, (start, step) in zip(axes, lines, strict=True):
        base, scale = first[axis]
        found.append((base + scale * start, scale * step))
    return found


def _flat(lines: Sequence[Line]) -> tuple[float, ...]:
    return (*(start + 0.0 for start, _ in lines), *(step for _, step in lines))  # + 0.0: no negative zero


def _write(numbers: Sequence[float]) -> str:
    return ",".join(repr(int(x)) if x.is_integer() else repr(x) for x in map(float, numbers))


_TOKEN = re.compile(
    r"(?P<shape>\d+x\d+x\d+)_(?P<axes>[012]{3})_(?P<start>[^_]+)_(?P<step>[^_]+)(?:_m(?P<world>[^_]+))?(?:_p(?P<pad>[^_]+))?"
    r"(?P<nearest>_n)?"
)


@lru_cache(maxsize=4096)
def _read_token(token: str) -> View:
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise GeometryError(
            f"The view token {token!r} does not read IxJxK_<axes>_<start>_<step>. It was cut or changed: take views "
            "from View.to_token."
        )
    i, j, k = map(int, match["shape"].split("x"))
    a, b, c = map(int, match["axes"])
    try:
        start, step = _numbers(match["start"]), _numbers(match["step"])
        world = None if match["world"] is None else _numbers(match["world"])
        pad = None if match["pad"] is None else float(match["pad"])
    except ValueError:
        raise GeometryError(
            f"The view token {token!r} does not hold numbers. It was cut or changed: take views from View.to_token."
        ) from None
    nearest = match["nearest"] is not None
    return View((i, j, k), (a, b, c), start, step, world, pad, nearest)  # type: ignore[arg-type]  # __post_init__ counts


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def split_slicers(canonical: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[Any, ...]]:
    """Split slicers into upward slices with explicit ends, and an index that gives the requested result.

    Examples
    --------
    >>> split_slicers((3, slice(None, None, -2), None), (5, 6))
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
        return dtype if self.view.is_reindexing or self.view.nearest else interpolated_type(dtype)

    def __getitem__(self, slicer: Any) -> Any:
        canonical = _canonical(slicer, self.shape)
        touched, residual = split_slicers(canonical, self.shape)
        low, high = [part.start for part in touched], [part.stop for part in touched]
        if any(start == stop for start, stop in zip(low, high, strict=True)):
            return np.empty(np.broadcast_to(np.int8(0), self.shape)[canonical].shape, self.dtype)
        whole = (low, high) == ([0, 0, 0], list(self.shape))
        view = self.view if whole else self.view.crop(Box.from_row([*low, *high]))
        return read_view(view, self.source)[tuple(slice(None, None, part.step) for part in touched)][residual]

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
    itemsize = np.dtype(source.dtype).itemsize
    if math.prod(view.shape) * itemsize > SURELY_FITS:
        check_memory(view.shape, itemsize)
    if (selection := view.selection(shape)) is not None:
        turned = view.lay(np.asarray(source[selection]))
    elif view.is_reindexing:
        turned = view.lay(_read_padded(view, source, shape))
    else:
        return interpolate(view, source, shape, (nearest,) * 3 if isinstance(nearest, bool) else nearest)
    # An array's own slice is a view of it; what a proxy returns is already the caller's.
    return turned.copy(order="K") if isinstance(source, np.ndarray) and np.may_share_memory(turned, source) else turned


def _read_padded(view: View, source: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    region = view.region
    inside = region.intersect(Box((0, 0, 0), (shape[0], shape[1], shape[2])))
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
