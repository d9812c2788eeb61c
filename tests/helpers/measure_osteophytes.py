"""Osteophytes, measured: how far marrow reaches beyond the healthy bone at twelve places on the joint's margins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from reasonknee_datasets.phantom.mask_labels import REGION_NAMES
from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_marrow import bone_of
from tests.helpers.measure_view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Where each question's osteophyte points, in the knee's frame: medial, anterior, superior.
POINTING: Mapping[int, tuple[float, float, float]] = {
    30: (0, -1, 1),
    31: (0, -1, -1),
    32: (1, -1, 0),
    33: (-1, -1, 0),
    34: (1, 1, 0),
    35: (1, 0, -1),
    36: (0, -1, 1),
    37: (-1, 1, 0),
    38: (-1, 0, -1),
    39: (0, -1, 1),
    40: (1, 1, 0),
    41: (-1, 1, 0),
}
EDGE = (SIGNAL["marrow"] + SIGNAL["capsule"]) / 2
GAP_MM = 0.7  # a bone's surface mixes with the tissue next to it
FARTHEST_MM, TOO_FAR_MM = 10.0, 8.5  # what reaches farther is another bone, or the rest of this one
SOLID_MM = 9.0  # and so is what is thicker
CORE = 78.0  # marrow somewhere in it, not just mixture
MENISCUS = (SIGNAL["meniscus"] + SIGNAL["marrow"]) / 2
FINE_MM = 0.5  # a finer voxel tells no more
LEAST_VOXELS = 3
LOW = -3.0  # mm below the middle of the tibia's labels, where no osteophyte of the plateau is
ALIGNED = 0.3  # least cosine between where a piece points and where it should
FORWARD = 0.3  # how far forward an osteophyte of the patella may point


def measure_osteophyte(view: View, question_id: int) -> float:
    """Measure the reach of one question's osteophyte in mm."""
    names = REGION_NAMES[question_id]
    near = view.around(names, FARTHEST_MM + 2.0).coarser(FINE_MM)
    bone = np.logical_or.reduce([bone_of(near, name, restore=1) for name in names])
    apart, foot = ndimage.distance_transform_edt(~bone, sampling=near.spacing, return_indices=True)
    dark = (near.clean < EDGE) & (near.mask == 0) & ~ndimage.binary_dilation(near.label("patellar_tendon"))
    dark &= ~_meniscus(near)
    pieces, _ = ndimage.label(dark & ~_solid(near, dark) & (apart > GAP_MM) & (apart < FARTHEST_MM))
    center = near.mm(bone).mean(axis=0)
    gap, reach = GAP_MM + float(near.spacing.max()), 0.0
    for number, place in enumerate(ndimage.find_objects(pieces), 1):
        piece = pieces[place] == number
        if piece.sum() < LEAST_VOXELS:
            continue
        signal, reaches = near.clean[place][piece], apart[place][piece]
        if reaches.min() > gap or reaches.max() > TOO_FAR_MM:
            continue
        if signal.min() > CORE:
            continue
        voxels = np.argwhere(piece) + [part.start for part in place]
        ways = (voxels - foot[(slice(None), *voxels.T)].T) @ near.to_mm.T
        way = (ways / np.linalg.norm(ways, axis=1, keepdims=True)).mean(axis=0)
        middle = voxels.mean(axis=0) @ near.to_mm.T + near.origin - center
        if _is_at(question_id, way, middle):
            reach = max(reach, float(reaches.max()))
    return reach


def _meniscus(view: View) -> NDArray[np.bool_]:
    """Find what an extruded or hypertrophic meniscus holds outside its label: darker than marrow; with its edge."""
    darkest = (view.clean < MENISCUS) & (view.mask == 0)
    return np.asarray(ndimage.binary_dilation(darkest, np.ones((3, 3, 3))))


def _solid(view: View, dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the rest of a bone beyond its labels: dark, and far too thick for an osteophyte; with what touches it."""
    across = 2 * np.round(SOLID_MM / 2 / view.spacing).astype(int) + 1
    core = ndimage.minimum_filter(dark.view(np.uint8), across, mode="nearest")
    return np.asarray(ndimage.maximum_filter(core, across + 2).view(np.bool_))


def _is_at(question_id: int, way: Floats, middle: Floats) -> bool:
    """Check whether a piece points as the question's osteophyte does; the patella's four are told apart by place."""
    if question_id <= 33:
        ends = np.array([middle[2], -middle[2], middle[0], -middle[0]]) / [1.4, 1.4, 1.0, 1.0]
        return bool(way[1] < FORWARD and ends.argmax() == question_id - 30)
    if question_id >= 40 and middle[2] < LOW:
        return False
    if middle[0] * POINTING[question_id][0] < 0:
        return False
    wanted = np.array(POINTING[question_id], float)
    return float(way @ wanted) > ALIGNED * float(np.linalg.norm(wanted))
