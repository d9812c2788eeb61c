"""The lower and upper intensity of a window, computed once per volume."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.transforms.base import TransformError
from reasonknee_datasets.transforms.regrid import stored_volume
from reasonknee_datasets.volumes import LazyVolume
from reasonknee_datasets.volumes.single_flight import Once

Method = Literal["range", "percentiles", "zscore"]

_known: Once[Hashable, tuple[float, float]] = Once(limit=4096)  # volumes; two numbers each


def volume_statistics(volume: Any, method: Method, low: float = 0.0, high: float = 100.0) -> tuple[float, float]:
    """Return the two numbers of a whole stored volume, decoded for them once in a process.

    Parameters
    ----------
    volume : nibabel image
        Seen through a view or not.
    method : {"range", "percentiles", "zscore"}
        Lowest and highest value; two percentiles; mean and standard deviation.
    low, high : float
        The percentiles.
    """
    if not isinstance(volume, LazyVolume) or volume.path is None:  # images in memory have no identity
        return statistics(np.asarray(stored_volume(volume)), method, low, high)
    key = (volume.identity, method, low, high)
    return _known.get(key, lambda: statistics(np.asarray(stored_volume(volume)), method, low, high))


def statistics(values: NDArray[Any], method: Method, low: float = 0.0, high: float = 100.0) -> tuple[float, float]:
    """Return the two numbers of an array; see `volume_statistics`.

    Examples
    --------
    >>> statistics(np.array([0, 1, 2, 3, 10], np.int16), "percentiles", 0, 75)
    (0.0, 3.0)
    """
    if values.size == 0:
        raise TransformError(
            "The crop is outside its volume, so there are no voxels to window. Check the box, or choose "
            "Window(per='volume')."
        )
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        return _of_values(values, method, low, high)
    # A scan has a few thousand different numbers: counting them is one pass, sorting 23 million is not.
    lowest = int(values.min())
    counts = np.bincount(np.subtract(values, lowest, dtype=np.int32).ravel(order="K"))
    numbers = np.arange(len(counts), dtype=np.float64) + lowest
    if method == "range":
        return float(lowest), float(numbers[-1])
    if method == "zscore":
        mean = float(counts @ numbers) / values.size
        return mean, float(np.sqrt(counts @ (numbers - mean) ** 2 / values.size))
    places = np.cumsum(counts)
    found = []
    for share in (low, high):
        at = share / 100 * (values.size - 1)
        below, above = np.searchsorted(places, [np.floor(at), np.ceil(at)], side="right")
        found.append(float(numbers[below] + (numbers[above] - numbers[below]) * (at - np.floor(at))))
    return found[0], found[1]


def _of_values(values: NDArray[Any], method: Method, low: float, high: float) -> tuple[float, float]:
    if method == "range":
        return float(values.min()), float(values.max())
    if method == "zscore":
        return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    lower, upper = np.percentile(values, (low, high))
    return float(lower), float(upper)
