"""Crops of one file as views of its decoded array, for a batch: the file is opened and inflated once for all of them.

A batch has several crops of a volume. Read one by one, each costs a look at the file, a search in the cache and two
array proxies: 0.15 ms, where copying a crop of 64x96x96 voxels takes 0.2 ms.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.volumes.cache import Once
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.image import LazyVolume
from reasonknee_datasets.volumes.slab_reader import Selection

_kept: Once[Hashable, LentVolume] = Once(limit=128)


def file_key(volume: Any) -> Hashable:
    """Return what volumes of one file that are read alike have in common; None for a volume in memory or an array."""
    return volume.reading_key if isinstance(volume, LazyVolume) else None


def lent_volume(volume: LazyVolume) -> LentVolume:
    """Return the stored array under a volume; the one of a file that was read before is kept."""
    if volume.has_own_cache:  # which ends with the volume
        return LentVolume(volume)
    return _kept.get(volume.reading_key, lambda: LentVolume(volume))


class LentVolume:
    """The stored array under several volumes of one file; the header of the one that is passed is read."""

    def __init__(self, volume: LazyVolume) -> None:
        self._key = volume.reading_key
        self._proxy, self._turn = volume.whole.stored_array()
        shape = self._proxy.shape
        self._whole = View.whole(shape) if len(shape) == 3 else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored voxels."""
        dtype: np.dtype[Any] = self._proxy.dtype
        return dtype

    def lend(self, volumes: Sequence[LazyVolume]) -> list[NDArray[Any] | None]:
        """Return each volume's voxels as a read-only view of the decoded file.

        A view is valid until the decode cache reuses its memory for another volume, so copy it at once. Voxels
        that are not a view of the stored array (scaled, interpolated or padded ones, and files without a decode cache)
        are None: read such a volume by itself.
        """
        found = [self._find(volume.view) for volume in volumes]
        wanted = [selection for _, selection in filter(None, found)]
        try:
            array = self._proxy.lend(wanted) if wanted else None
        except ReasonKneeError:  # the file has changed; the next batch reads its header again
            _kept.discard(self._key)
            raise
        if array is None:
            return [None] * len(volumes)
        return [None if pair is None else pair[0].lay(array[pair[1]]) for pair in found]

    def _find(self, view: View | None) -> tuple[View, Selection] | None:
        """Find the stored voxels under a view; None where some have to be made up."""
        if self._whole is None:
            return None
        view = view or self._whole if self._turn is None else self._turn if view is None else self._turn.then(view)
        selection = view.selection(self._proxy.shape)
        return None if selection is None else (view, selection)
