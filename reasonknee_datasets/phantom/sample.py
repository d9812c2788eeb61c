"""A coarse sample of a knee before it is drawn, so that a lesion's size can be set to a share of its region."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.phantom.anatomy import CARTILAGES, NearbyAnatomy, label_map, look
from reasonknee_datasets.phantom.solids import Field, points_of
from reasonknee_datasets.phantom.subregion_boxes import region_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reasonknee_datasets.phantom.shape import Shape

STEP = 2.4
"""Of the lattice, mm: more than a thousand points in the smallest subregion's bone."""

FINE = 3
"""Cartilage is 2 to 4 mm thick, so its lattice is this much finer."""

_LOW, _HIGH = (-42.0, -30.0, -28.0), (43.0, 66.0, 61.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """Lattice points of the joint: their anatomy and label."""

    view: NearbyAnatomy
    label: Field

    def where(self, label: int) -> NDArray[np.intp]:
        """Find the points with a label."""
        return np.flatnonzero(self.label == label)


def lattice(low: tuple[float, ...], high: tuple[float, ...], step: float) -> NDArray[np.float32]:
    """One point somewhere in every cell of a cubic lattice, (n, 3).

    Not in the cells' middles: the borders of subregions run along the axes, and would be off by up to a step.

    Examples
    --------
    >>> np.floor(lattice((0, 0, 0), (2, 1, 1), 1.0)).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    axes = [np.arange(a, b, step, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = np.random.Generator(np.random.PCG64(0)).random(corners.shape, dtype=np.float32)
    return corners + np.float32(step) * shifts


def take_sample(shape: Shape) -> Sample:
    """Sample the whole joint."""
    view = look(points_of(lattice(_LOW, _HIGH, STEP)), shape)
    return Sample(view, label_map(view, shape))


def cartilage_points(sample: Sample, shape: Shape, bone: str, label: int) -> NearbyAnatomy:
    """Sample the cartilage over one subregion more finely."""
    coarse = sample.view.bones[bone]
    shell = np.abs(coarse.distance - 0.5 * coarse.cartilage) < 0.5 * coarse.cartilage + STEP
    owner = region_labels(sample.view.p, shape, bone) == label
    index = np.flatnonzero(shell & (coarse.cartilage > 0.0) & owner)
    p = sample.view.p
    centres = np.stack([p.u[index], p.v[index], p.w[index]], axis=-1)
    shifts = STEP * (np.array(list(itertools.product(range(FINE), repeat=3)), np.float32) - (FINE - 1) / 2) / FINE
    view = look(points_of((centres[:, None] + shifts).reshape(-1, 3)), shape)
    labels = label_map(view, shape)
    mine = (labels == CARTILAGES[bone]) & (region_labels(view.p, shape, bone) == label)
    return look(view.p.take(np.flatnonzero(mine)), shape)


def share_level(values: Field, share: float, total: float | None = None, weights: Field | None = None) -> float:
    """Find the level below which are `share` of all points; infinite values are never below it.

    Parameters
    ----------
    values : Field
    share : float
        Share of `total`.
    total : float, optional
        By default the sum of the weights.
    weights : Field, optional

    Examples
    --------
    >>> share_level(np.arange(10, dtype=np.float32), 0.3)
    2.5
    """
    order = np.argsort(values, kind="stable")
    weight = np.ones_like(values) if weights is None else weights
    reached = np.cumsum(weight[order], dtype=np.float64)
    goal = share * (float(reached[-1]) if total is None else total)
    finite = int(np.isfinite(values).sum())
    index = min(int(np.searchsorted(reached, goal - 1e-9)), finite - 1)
    if index >= finite - 1:
        return float(values[order[finite - 1]]) + 1.0
    return float(0.5 * (values[order[index]] + values[order[index + 1]]))
