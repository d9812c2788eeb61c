"""Stack the crops of a batch, of one or many shapes, into one tensor; each crop is copied once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reasonknee_datasets.collate.memory import empty
from reasonknee_datasets.errors import LoaderError, ReasonKneeError, add_note
from reasonknee_datasets.volumes import LazyVolume
from reasonknee_datasets.volumes.grid_view import View, ViewProxy
from reasonknee_datasets.volumes.lending import LentVolume, file_key, lent_volume
from reasonknee_datasets.volumes.limits import check_memory

# Default type for each voxel type; torch supports almost no operation on unsigned types beyond uint8.
_KEPT = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
    "uint32": torch.int64,
    "int64": torch.int64,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def find_array(example: Mapping[str, Any]) -> Any:
    """Find an example's values, (D, H, W) or (C, D, H, W): an array, or a lazy one that has not been read.

    These are ``voxels`` where there are some, else the region of ``volume``.
    """
    found: Any = example.get("voxels")
    if found is None:
        found = example["volume"]
    if isinstance(found, torch.Tensor):
        found = found.numpy()
    found = found if isinstance(found, np.ndarray) else getattr(found, "dataobj", found)
    shape = getattr(found, "shape", ())
    if len(shape) not in (3, 4) or 0 in shape:
        got = f"have the shape {tuple(shape)}" if shape else f"are of type {type(found).__name__}"
        raise LoaderError(
            f"The voxels of an example {got}. A batch takes arrays (D, H, W), or (C, D, H, W) with channels first: put "
            "CropToBox or Window into the transform."
        )
    return found


def unpadded_box(volume: Any, shape: Sequence[int]) -> list[int]:
    """Find the box of voxels of a grid of this shape that are in the stored volume: the rest is padding."""
    view, source = None, None
    if isinstance(volume, LazyVolume) and volume.path is not None:
        view = volume.view
        source = None if view is None else volume.whole.grid[0]
    elif isinstance(proxy := getattr(volume, "dataobj", None), ViewProxy):
        view, source = proxy.view, proxy.source.shape
    if view is None or source is None or view.shape != tuple(shape) or _is_inside(view, source):
        return [0, 0, 0, *shape]
    real = view.real(source)
    return [0] * 6 if real is None else real.to_row()


def _is_inside(view: View, source: Sequence[int]) -> bool:
    """Check quickly whether the centres of all voxels are inside the source, as they mostly are."""
    for size, axis, start, step in zip(view.shape, view.axes, view.start, view.step, strict=True):
        first, last = start + step / 2, start + step * (size - 0.5)
        if min(first, last) < 0 or max(first, last) > source[axis]:
            return False
    return True


def stack(
    examples: Sequence[Mapping[str, Any]], dtype: torch.dtype | None, pad_value: float, *, contiguous: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the examples into one tensor, padded at their ends to the largest of each axis.

    The crops of one file are read together (`LentVolume`), and copied one after the other while its memory is in the
    processor's cache.

    The tensor's memory runs in the order of the first array's, slices fastest for a stored volume: turning it over
    takes 20 to 80 times as long as copying it does (2 ms for 64x96x96 voxels), and a GPU does it in passing.

    Returns
    -------
    (B, C, D, H, W) tensor
        The voxels.
    (B, 6) int64 tensor
        The box of those that are not padding (see `unpadded_box`).
    """
    groups = [_Crops(examples, places) for places in _group(examples)]
    found = sorted(pair for group in groups for pair in group.describe())
    sizes, types = [size for _, size, _ in found], {dtype for *_, dtype in found}
    if len({size[0] for size in sizes}) > 1:
        channels = ", ".join(map(str, sorted({size[0] for size in sizes})))
        raise LoaderError(f"The examples of a batch must have the same number of channels, but have {channels}.")
    kind = _kept(types) if dtype is None else dtype
    shape = np.max(sizes, axis=0).tolist()
    check_memory((len(found), *shape), kind.itemsize, "a batch")
    out: torch.Tensor | None = None
    unpadded: list[list[int]] = [[]] * len(found)
    for group in groups:
        for place, values, is_lent in group.read():
            if out is None:
                out = _empty(len(found), shape, kind, None if contiguous else values)
                rooms: Any = out if kind == torch.bfloat16 else out.numpy()  # NumPy has no bfloat16
            room = rooms[place]
            if list(values.shape) != shape:
                room[...] = pad_value
                room = room[tuple(slice(0, size) for size in values.shape)]
            noted(_copy, examples[place], values, room)
            size = values.shape[1:]
            unpadded[place] = [0, 0, 0, *size] if is_lent else unpadded_box(examples[place].get("volume"), size)
    assert out is not None
    return out, torch.tensor(unpadded)


def _group(examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Group the places of examples that are read from one file; every other example is a separate group."""
    groups: dict[Hashable, list[int]] = {}
    for place, example in enumerate(examples):
        key = file_key(example["volume"]) if example.get("voxels") is None else None
        groups.setdefault(place if key is None else key, []).append(place)
    return list(groups.values())


class _Crops:
    """Examples that are read from one file, or one example."""

    def __init__(self, examples: Sequence[Mapping[str, Any]], places: list[int]) -> None:
        self._examples, self._places = examples, places
        self._lent: LentVolume | None = None

    def describe(self) -> list[tuple[int, tuple[int, ...], np.dtype[Any]]]:
        """Return place, shape (C, D, H, W) and type of each; no voxel is read."""
        first = self._examples[self._places[0]]
        if first.get("voxels") is None and file_key(first["volume"]) is not None:
            with suppress(ReasonKneeError):  # the read of a single example raises it again, with the example's name
                self._lent = lent_volume(first["volume"])
        return [(place, *self._describe(place)) for place in self._places]

    def _describe(self, place: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        example = self._examples[place]
        view = None if self._lent is None else example["volume"].view
        if self._lent is not None and view is not None and view.is_reindexing:
            return (1, *view.shape), self._lent.dtype
        array = noted(find_array, example)
        return (1, *array.shape)[-4:], np.dtype(array.dtype)

    def read(self) -> Iterator[tuple[int, NDArray[Any], bool]]:
        """Read each array (C, D, H, W), and whether it is lent; copy it before the next is read."""
        lent: list[NDArray[Any] | None] = [None] * len(self._places)
        if self._lent is not None:
            with suppress(ReasonKneeError):
                lent = self._lent.lend([self._examples[place]["volume"] for place in self._places])
        for place, array in zip(self._places, lent, strict=True):
            values = noted(_read, self._examples[place]) if array is None else array
            yield place, values[None] if values.ndim == 3 else values, array is not None


def _read(example: Mapping[str, Any]) -> NDArray[Any]:
    return np.asarray(find_array(example))


def _empty(count: int, shape: Sequence[int], dtype: torch.dtype, like: NDArray[Any] | None) -> torch.Tensor:
    """Allocate `count` arrays of a shape (C, D, H, W) with the memory order of `like`, or C order."""
    order = [0, 1, 2, 3]
    if like is not None:
        order[1:] = sorted((1, 2, 3), key=lambda axis: -abs(like.strides[axis]))
    room = empty([count, *(shape[axis] for axis in order)], dtype)
    return room.permute(0, *(1 + order.index(axis) for axis in range(4)))


def noted(work: Callable[..., Any], example: Mapping[str, Any], *arguments: Any) -> Any:
    """Call a function on an example or a value made from it; an error names the example."""
    try:
        return work(*(arguments or (example,)))
    except ReasonKneeError as error:
        add_note(error, f"while collating {example.get('id', 'an example without an id')}")
        raise


def _kept(types: Set[np.dtype[Any]]) -> torch.dtype:
    name = np.result_type(*types).name
    if name not in _KEPT:
        raise LoaderError(f"torch has no type for voxels of {name}. Choose dtype=, one of {', '.join(sorted(_KEPT))}.")
    return _KEPT[name]


def _copy(array: NDArray[Any], room: Any) -> None:
    """Copy into an array or a tensor, and cast if its type can represent the values."""
    if isinstance(room, torch.Tensor):
        array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes the machine's own only
        own = array.flags.writeable and min(array.strides) >= 0
        room.copy_(torch.from_numpy(array if own else array.copy()))
        return
    if array.dtype != room.dtype and (
        not np.can_cast(array.dtype, room.dtype, "same_kind") or room.dtype.itemsize < array.dtype.itemsize
    ):
        _check_fits(array, room.dtype)
    np.copyto(room, array, casting="unsafe")


def _check_fits(array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Refuse values that a type would silently wrap, clip or round to infinity."""
    low, high = array.min(), array.max()
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind in "iu" else None
    broken = array.dtype.kind == "f" and dtype.kind in "iu" and not np.array_equal(array, np.rint(array))
    if limits is not None and limits.min <= low and high <= limits.max and not broken:
        return
    raise LoaderError(
        f"Voxels from {low} to {high}{', not all whole,' if broken else ''} do not fit into {dtype}. Put Window before "
        f'it, for example Window(dtype="uint8"), or choose a type with that range, not {dtype}.'
    )
