"""`Window` and `RandomIntensity`: values, not places. Statistics of a volume are computed once in a process."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.transforms.base import Example, Transform, TransformError, check_choice, require
from reasonknee_datasets.transforms.regrid import current_view, random_stream, read_voxels, set_numbers, stored_volume
from reasonknee_datasets.volumes import LazyVolume
from reasonknee_datasets.volumes.cache import Once

Method = Literal["range", "percentiles", "zscore"]

_known: Once[Hashable, tuple[float, float]] = Once(limit=4096)  # volumes; two numbers each


def volume_statistics(volume: Any, method: Method, low: float = 0.0, high: float = 100.0) -> tuple[float, float]:
    """Return the two numbers of a whole stored volume, decoded for them once in a process.

    `volume`: seen through a view or not. `method`: lowest and highest value; two percentiles; mean and standard
    deviation.
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


_METHODS = ("clip", "percentiles", "zscore")
_DTYPES = ("float32", "float16", "uint8")
_DEFAULTS = {"clip": (0.0, 400.0), "percentiles": (0.5, 99.5)}


@dataclass(frozen=True, slots=True)
class Window(Transform):
    """Read the voxels of the current grid and scale their intensities: adds the key ``voxels``.

    ``voxels`` is an (I, J, K) array on the grid of ``volume``, in its array order.

    Parameters
    ----------
    low, high : float, optional
        Intensities that become 0 and 1 (0 and 255 in uint8); values beyond are clipped. For ``clip`` in the volume's
        own units, by default 0 and 400 as in the authors' scripts; for ``percentiles`` percentiles from 0 to 100, by
        default 0.5 and 99.5.
    method : {"clip", "percentiles", "zscore"}
        ``zscore`` subtracts the mean, divides by the standard deviation, and clips nothing.
    per : {"volume", "crop"}
        Voxels from which percentiles, mean and deviation are computed: the whole stored volume, decoded once in a
        process, or the voxels of the crop without padding. Unused by ``clip``.
    dtype : {"float32", "float16", "uint8"}
        Type of ``voxels``.

    Raises
    ------
    TransformError
        If a parameter is out of range, the example has no ``volume``, or ``per="volume"`` follows a step that changed
        the values.

    Examples
    --------
    >>> import nibabel as nib
    >>> volume = nib.Nifti1Image(np.array([[[-5, 0, 100, 400, 2000]]], np.int16), np.eye(4))
    >>> Window()({"volume": volume})["voxels"]
    array([[[0.  , 0.  , 0.25, 1.  , 1.  ]]], dtype=float32)
    >>> Window(dtype="uint8")({"volume": volume})["voxels"]
    array([[[  0,   0,  64, 255, 255]]], dtype=uint8)
    """

    low: float | None = None
    high: float | None = None
    _: KW_ONLY
    method: str = "clip"
    per: str = "volume"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choice("method", self.method, _METHODS)
        check_choice("per", self.per, ("volume", "crop"))
        check_choice("dtype", str(self.dtype), _DTYPES)
        if self.method == "zscore":
            if self.low is not None or self.high is not None:
                raise TransformError(
                    f"method='zscore' has no bounds, so low and high must be left out, not low={self.low!r} and "
                    f"high={self.high!r}."
                )
            if self.dtype == "uint8":
                raise TransformError("A z-score may be negative, so dtype must be 'float32' or 'float16', not 'uint8'.")
            return
        for name, default in zip(("low", "high"), _DEFAULTS[self.method], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        set_numbers(self, "low", "high", kind=float)
        assert self.low is not None
        assert self.high is not None
        low, high = self.low, self.high
        if not low < high:
            raise TransformError(f"low must be below high, not low={low:g} and high={high:g}.")
        if self.method == "percentiles" and not 0 <= low < high <= 100:
            raise TransformError(
                f"With method='percentiles', low and high are percentiles from 0 to 100, not low={low:g} and "
                f"high={high:g}. Voxel values go with method='clip'."
            )

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Read an example's voxels and window them."""
        voxels = read_voxels(example)
        return {"voxels": self.scale(voxels, *self.limits(example, voxels))}

    def added_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the feature types of ``voxels``: nested lists, which every reader of Parquet understands."""
        from datasets import List, Value  # at use: importing datasets takes a second

        return {"voxels": List(List(List(Value(self.dtype))))}

    def limits(self, example: Example, voxels: NDArray[Any]) -> tuple[float, float]:
        """Return the two numbers of this window: low and high, or mean and deviation."""
        if self.method == "clip":
            assert self.low is not None
            assert self.high is not None
            return self.low, self.high
        method: Method = "zscore" if self.method == "zscore" else "percentiles"
        low, high = self.low or 0.0, self.high or 0.0
        if self.per == "crop":
            return statistics(_real_part(example, voxels), method, low, high)
        if example.get("voxels") is not None:
            raise TransformError(
                f"Window(method={self.method!r}, per='volume') needs the stored values, but an earlier step changed "
                "them. Use one Window, or per='crop'."
            )
        return volume_statistics(require(example, "volume", "Window"), method, low, high)

    def scale(self, voxels: NDArray[Any], low: float, high: float) -> NDArray[Any]:
        """Bring an array into the range, given the two numbers; always a new array."""
        values = voxels.astype(np.float32)  # also where it is float32 already: the example's own stays as it is
        if self.method == "zscore":
            values -= np.float32(low)
            if high > 0:
                values /= np.float32(high)
            return values.astype(self.dtype, copy=False)
        np.clip(values, np.float32(low), np.float32(high), out=values)
        values -= np.float32(low)
        if high > low:  # else all voxels are equal, and black
            values *= np.float32((255.0 if self.dtype == "uint8" else 1.0) / (high - low))
        return (
            np.rint(values, out=values).astype(np.uint8)
            if self.dtype == "uint8"
            else values.astype(self.dtype, copy=False)
        )


@dataclass(frozen=True, slots=True)
class RandomIntensity(Transform):
    """Change contrast and brightness of ``voxels`` at random, after `Window`.

    Parameters
    ----------
    gain : float
        Largest relative change of contrast: values are multiplied by a factor from 1 - gain to 1 + gain.
    offset : float
        Largest change of brightness, added afterwards, as a share of the window's range (1, or 255 in uint8); for
        z-scores, of one standard deviation.
    seed : int
        Seed of the draw, which also depends on the example's ``id`` and ``epoch``.

    Raises
    ------
    TransformError
        If ``gain`` is not from 0 to below 1, ``offset`` is negative, or the example has no ``voxels``.

    Examples
    --------
    >>> example = {"id": "9016403/00M/right/q19", "voxels": np.full((1, 1, 2), 0.5, np.float32)}
    >>> RandomIntensity(gain=0.2)(example)["voxels"]
    array([[[0.42942652, 0.42942652]]], dtype=float32)
    """

    _: KW_ONLY
    gain: float = 0.1
    offset: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        set_numbers(self, "gain", "offset", kind=float, least=0.0)
        set_numbers(self, "seed", kind=int)
        if self.gain >= 1:
            raise TransformError(f"gain must be below 1, or values change their sign, not {self.gain:g}. Try gain=0.1.")

    def make_params(self, example: Example) -> tuple[float, float]:
        """Draw the factor of an example's values, and the share of the window's range to add."""
        gain, offset = random_stream("RandomIntensity", self.seed, example).uniform(-1, 1, size=2).tolist()
        return 1 + self.gain * gain, self.offset * offset

    def apply(self, example: Example, params: tuple[float, float] = (1.0, 0.0)) -> dict[str, Any]:
        """Multiply an example's values by a factor, and add a share of the window's range."""
        if example.get("voxels") is None:
            raise TransformError(
                "RandomIntensity changes values relative to their range and needs the key voxels. Put Window before it."
            )
        voxels = np.asarray(example["voxels"])
        factor, share = params
        scale = 255.0 if voxels.dtype == np.uint8 else 1.0
        values = voxels.astype(np.float32)
        values *= np.float32(factor)
        values += np.float32(share * scale)
        if voxels.dtype == np.uint8:
            np.clip(np.rint(values, out=values), 0, 255, out=values)
        return {"voxels": values.astype(voxels.dtype, copy=False)}


def _real_part(example: Example, voxels: NDArray[Any]) -> NDArray[Any]:
    """Return the voxels that are in the stored volume, without the padding around them."""
    volume = example.get("volume")
    if volume is None:
        return voxels
    real = current_view(volume).real(stored_volume(volume).shape)
    return voxels[:0] if real is None else voxels[real.slices]
