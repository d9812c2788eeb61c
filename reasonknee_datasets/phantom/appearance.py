"""What a scanner makes of a knee: coil sensitivity, gain and Rician noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.solids import Field
    from reasonknee_datasets.phantom.spec import KneeSpec

NOISE = 14.0
"""Standard deviation of the noise in each channel: with it, size oai compresses as real DESS does."""

_SLAB = 8  # slices at a time, so that no second copy of the volume is ever held in float


def scan(clean: Field, spec: KneeSpec) -> NDArray[np.int16]:
    """Turn noise-free signals into what is stored.

    Parameters
    ----------
    clean : (I, J, K) float32 array
        Noise-free signals.
    spec : KneeSpec
        Its seeds set gain, bias field and noise; with ``noise=False`` the signals are only rounded.

    Returns
    -------
    (I, J, K) int16 array
    """
    if not spec.noise:
        return np.rint(clean).astype(np.int16)
    random = np.random.Generator(np.random.PCG64([5, spec.patient_seed, spec.knee_seed, spec.visit_seed]))
    gain = float(np.exp(np.clip(random.normal(0.0, 0.08), -0.2, 0.2)))
    profiles = [_coil_profile(size, random) for size in clean.shape]
    voxels = np.empty(clean.shape, np.int16)
    for start in range(0, clean.shape[0], _SLAB):
        rows = slice(start, start + _SLAB)
        bias = profiles[0][rows, None, None] * profiles[1][None, :, None] * profiles[2][None, None, :]
        real = clean[rows] * (bias * np.float32(gain))
        real += random.standard_normal(real.shape, dtype=np.float32) * np.float32(NOISE)
        other = random.standard_normal(real.shape, dtype=np.float32) * np.float32(NOISE)
        voxels[rows] = np.rint(np.sqrt(real * real + other * other))
    return voxels


def _coil_profile(size: int, random: np.random.Generator) -> Field:
    """Sensitivity along one axis: brightest near the middle, off-centre and tilted a little."""
    x = np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1)
    centre, slope = random.uniform(-0.2, 0.2), random.uniform(-0.06, 0.06)
    fall = random.uniform(0.08, 0.16)
    return np.asarray(1.05 + slope * x - fall * (x - centre) ** 2, dtype=np.float32)
