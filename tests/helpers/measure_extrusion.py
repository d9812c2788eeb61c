"""Meniscal extrusion, measured: how far a tongue of meniscus reaches beyond the healthy outer wall, in mm.

Rays come in from outside. Where each meets dark tissue is known to a fraction of a voxel, since a voxel on the edge
mixes. The wall itself shows next to the tongue, and in the mask's label under it: the tongue rises from a smooth curve
through both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EDGE = (SIGNAL["capsule"] + SIGNAL["meniscus"]) / 2
OUTWARD = {  # meniscus, and the axis and direction outward
    44: ("medial_meniscus", 1, 1.0),
    45: ("medial_meniscus", 0, 1.0),
    46: ("lateral_meniscus", 1, 1.0),
    47: ("lateral_meniscus", 0, -1.0),
}
STEP_MM, BEYOND_MM, INTO_MM = 0.1, 9.5, 4.0
NEAR_MM, DARK_WEIGHT = 0.5, 3.0
CORE_MM = 1.6


def measure_extrusion(view: View, question_id: int) -> float:
    """Measure how far the meniscus reaches beyond its wall in mm, in the middle of the tongue."""
    along, _, dark, label = profile(view, question_id)
    wall = _wall(along, dark, label)
    reach = dark - wall
    places = np.unique(along)
    outline = np.array([_high(reach[along == place]) for place in places])
    tongue = outline > 0.5 * outline.max()
    middle = (places[tongue].min() + places[tongue].max()) / 2
    return float(outline[np.abs(places - middle) < CORE_MM].mean())


def _high(values: Floats) -> float:
    """A high, but not the highest, of the values along one line of rays: the tongue is lower than the meniscus."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, 0.9)) if len(known) else -INTO_MM


def _wall(along: Floats, dark: Floats, label: Floats) -> Floats:
    """Fit the healthy wall: the label's edge everywhere, and the dark edge wherever it is on the wall so far."""
    terms = np.stack([along**power for power in range(3)], axis=1)
    wall = np.full(along.shape, np.nanmedian(label))
    for turn in range(4):
        on_wall = np.abs(dark - wall) < NEAR_MM if turn else np.zeros(along.shape, bool)
        weights = np.concatenate([np.isfinite(label), DARK_WEIGHT * on_wall])
        seen = np.nan_to_num(np.concatenate([label, dark]))
        rows = np.concatenate([terms, terms]) * weights[:, None]
        wall = terms @ np.linalg.lstsq(rows, seen * weights, rcond=None)[0]
    return wall


def profile(view: View, question_id: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return, per ray, its place along the wall and its height, where it meets dark tissue, and where the label."""
    name, axis, sign = OUTWARD[question_id]
    near = view.around([name], BEYOND_MM + 2.0)
    label = near.mm(near.label(name))
    out, along = label[:, axis] * sign, label[:, 1 - axis]
    middle = along[out > out.max() - 1.5].mean() if axis == 1 else (along.min() + along.max()) / 2
    wall = out[np.abs(along - middle) < 6].max()
    heights = label[(out > wall - 2.5) & (np.abs(along - middle) < 6)][:, 2]
    t, z = np.meshgrid(np.arange(-12, 12.1, 0.75), np.arange(heights.min(), heights.max() + 0.1, 0.75), indexing="ij")
    s = wall + np.arange(BEYOND_MM, -INTO_MM, -STEP_MM)
    points = np.empty((t.size, len(s), 3))
    points[:, :, axis] = sign * s
    points[:, :, 1 - axis] = middle + t.reshape(-1, 1)
    points[:, :, 2] = z.reshape(-1, 1)
    flat = points.reshape(-1, 3)
    dark = near.at(flat).reshape(t.size, -1) < EDGE
    inside = near.label_at(flat).reshape(t.size, -1) == LABELS[name]
    return t.ravel(), z.ravel(), _first(dark, s), _first(inside, s)


def _first(there: NDArray[np.bool_], s: Floats) -> Floats:
    """Where along each ray a condition first holds; nan where never."""
    return np.where(there.any(axis=1), s[there.argmax(axis=1)], np.nan)
