"""Simulate the scanner: texture, coil sensitivity, gain and Rician noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.solids import Field
    from reasonknee_datasets.phantom.spec import KneeSpec

NOISE = 4.5
"""Standard deviation of the noise in each channel: with it, size oai compresses as real DESS does."""

TEXTURE = 0.07
"""Standard deviation of the tissues' own unevenness, as a share of their signal."""

_GRAIN = 1.1  # of the texture, mm


def simulate_scan(clean: Field, spec: KneeSpec) -> NDArray[np.int16]:
    """Turn noise-free signals into what is stored.

    Parameters
    ----------
    clean : (I, J, K) float32 array
        Noise-free signals.
    spec : KneeSpec
        Its seeds set texture, gain, bias field and noise; with ``noise=False`` the signals are only rounded.

    Returns
    -------
    (I, J, K) int16 array
    """
    if not spec.noise:
        return np.rint(clean).astype(np.int16)
    random = np.random.Generator(np.random.PCG64([5, spec.patient_seed, spec.knee_seed, spec.visit_seed]))
    gain = float(np.exp(np.clip(random.normal(0.0, 0.08), -0.2, 0.2)))
    profiles = [_coil_profile(size, random) for size in clean.shape]
    spacing = np.linalg.norm(np.asarray(spec.geometry.affine)[:3, :3], axis=0)
    coarse = tuple(max(2, round(size * mm / _GRAIN)) for size, mm in zip(clean.shape, spacing, strict=True))
    grain = random.standard_normal(coarse, dtype=np.float32)
    (at, weight), rows, columns = (_between(*sizes) for sizes in zip(clean.shape, coarse, strict=True))
    voxels = np.empty(clean.shape, np.int16)
    # A slice at a time, so that no second copy of the volume is ever held in float.
    for i, plane in enumerate(clean):
        texture = grain[at[i]] * weight[i, 0] + grain[at[i] + 1] * weight[i, 1]
        texture = texture[rows[0]] * rows[1][:, :1] + texture[rows[0] + 1] * rows[1][:, 1:]
        texture = texture[:, columns[0]] * columns[1][:, 0] + texture[:, columns[0] + 1] * columns[1][:, 1]
        bias = (profiles[0][i] * gain * profiles[1])[:, None] * profiles[2]
        real = plane * bias * (1.0 + np.float32(TEXTURE) * texture)
        real += random.standard_normal(real.shape, dtype=np.float32) * np.float32(NOISE)
        other = random.standard_normal(real.shape, dtype=np.float32) * np.float32(NOISE)
        voxels[i] = np.rint(np.sqrt(real * real + other * other))
    return voxels


def _coil_profile(size: int, random: np.random.Generator) -> Field:
    """Sensitivity along one axis: brightest near the middle, off-centre and tilted a little."""
    x = np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1)
    centre, slope = random.uniform(-0.2, 0.2), random.uniform(-0.06, 0.06)
    fall = random.uniform(0.08, 0.16)
    return np.asarray(1.05 + slope * x - fall * (x - centre) ** 2, dtype=np.float32)


def _between(fine: int, coarse: int) -> tuple[NDArray[np.intp], Field]:
    """Place voxels between grains: the lower grain of each, and both weights, which keep the standard deviation."""
    place = np.linspace(0.0, coarse - 1.0, fine)
    lower = np.minimum(place.astype(np.intp), coarse - 2)
    upper = place - lower
    weights = np.stack([1.0 - upper, upper], axis=-1)
    return lower, np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), dtype=np.float32)
