"""`Batch`: tensors and provenance of a few examples, as one mapping that can be moved between devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping
from copy import deepcopy
from typing import Any

import torch

from reasonknee_datasets.collate.memory import pack_tensor, unpack_tensor
from reasonknee_datasets.errors import LoaderError

_MASK, _UNPADDED, _VOLUME = "voxel_mask", "unpadded_box", "volume"


class Usage:
    """Whether a batch has been read from; Lightning fetches batches ahead that it has not used yet."""

    has_begun = False


class Batch(Mapping[str, Any]):
    """A mapping from names to tensors and lists with one entry for each example; made by `QuintupleCollator`.

    ``voxel_mask`` is not stored: it is computed from ``unpadded_box``, a box for each example, where and when it is
    read, so that it is never sent from a worker or copied to a GPU.

    Parameters
    ----------
    items : mapping
        Content of the batch.

    Examples
    --------
    >>> box = torch.tensor([[0, 0, 0, 1, 2, 2]])
    >>> batch = Batch({"id": ["a"], "volume": torch.ones(1, 1, 2, 2, 2), "unpadded_box": box})
    >>> batch["voxel_mask"].sum(), list(batch)
    (tensor(4), ['id', 'volume', 'unpadded_box', 'voxel_mask'])
    >>> batch
    Batch(id=['a'], volume=float32 (1, 1, 2, 2, 2), unpadded_box=int64 (1, 6))
    """

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = {name: value for name, value in items.items() if name != _MASK}
        self.usage = Usage()

    def __getitem__(self, key: str) -> Any:
        self.usage.has_begun = True
        if key == _MASK and self._has_mask:
            return box_mask(self._items[_UNPADDED], self._items[_VOLUME])
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        self.usage.has_begun = True
        yield from self._items
        if self._has_mask:
            yield _MASK

    def __len__(self) -> int:
        return len(self._items) + self._has_mask

    def keys(self) -> KeysView[str]:
        """Return the names; their repr names them, without the batch's content."""
        return dict.fromkeys(self).keys()

    def _ipython_key_completions_(self) -> list[str]:
        """Return the names that IPython and Jupyter complete after ``batch["``."""
        return list(self.keys())

    def __repr__(self) -> str:
        return f"Batch({', '.join(f'{name}={_describe(value)}' for name, value in self._items.items())})"

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[dict[str, Any]]]:
        return _unpacked, ({name: pack_tensor(value) for name, value in self._items.items()},)

    def __copy__(self) -> Batch:
        return Batch(self._items)

    def __deepcopy__(self, memo: dict[int, Any]) -> Batch:
        return Batch({name: deepcopy(value, memo) for name, value in self._items.items()})

    @property
    def _has_mask(self) -> bool:
        return _UNPADDED in self._items and _VOLUME in self._items

    def pin_memory(self) -> Batch:
        """Copy the tensors into page-locked memory, from which they are copied to a GPU asynchronously."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Batch:
        """Move the tensors to a device; with ``non_blocking`` from pinned memory, without waiting for it."""
        self.usage.has_begun = True
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def cast(self, dtype: torch.dtype, window: tuple[float, float] | None = None) -> Batch:
        """Convert the volume to a floating type where it is: on a GPU, after copying it there as small integers.

        Parameters
        ----------
        dtype : torch.dtype
            A floating type.
        window : (float, float), optional
            Values that become 0 and 1; values beyond are clipped. Padding becomes 0.

        Examples
        --------
        >>> batch = Batch({"volume": torch.tensor([0, 100, 500], dtype=torch.int16).reshape(1, 1, 1, 1, 3)})
        >>> batch.cast(torch.float32, window=(0, 400))["volume"].flatten()
        tensor([0.0000, 0.2500, 1.0000])
        """
        if not dtype.is_floating_point:
            raise LoaderError(f"cast takes a floating type, not {dtype}. Choose float16, bfloat16 or float32.")
        volume = self._items[_VOLUME]
        if window is None:
            values = volume.to(dtype)
        else:
            low, high = window
            if not low < high:
                raise LoaderError(f"window must be (low, high) with low below high, not {low:g} and {high:g}.")
            values = ((volume.to(torch.float32) - low) / (high - low)).clamp_(0, 1)
            if self._has_mask:
                values = values * self[_MASK]
            values = values.to(dtype)
        return Batch({**self._items, _VOLUME: values.contiguous()})

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Record for CUDA's allocator that a stream uses the tensors."""
        for value in self._items.values():
            if isinstance(value, torch.Tensor) and value.is_cuda:
                value.record_stream(stream)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch({k: change(v) if isinstance(v, torch.Tensor) else v for k, v in self._items.items()})


def box_mask(boxes: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
    """Mark the voxels inside one box for each example.

    Parameters
    ----------
    boxes : (B, 6) int tensor
        Half-open, in the volume's grid.
    volume : (B, C, D, H, W) tensor
        For its shape and device.

    Returns
    -------
    (B, 1, D, H, W) bool tensor
    """
    inside = torch.ones((), dtype=torch.bool, device=volume.device)
    for axis in range(3):
        place = torch.arange(volume.shape[2 + axis], device=volume.device)
        along = (place >= boxes[:, axis, None]) & (place < boxes[:, 3 + axis, None])
        inside = inside & along.reshape(len(boxes), 1, *(-1 if other == axis else 1 for other in range(3)))
    return inside


def _unpacked(items: Mapping[str, Any]) -> Batch:
    return Batch({name: unpack_tensor(value) for name, value in items.items()})


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
