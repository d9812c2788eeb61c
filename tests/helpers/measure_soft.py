"""Hoffa's fat pad, effusion, ligaments and the patellar tendon, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SYNOVITIS_EDGE = (SIGNAL["fat"] + SIGNAL["synovitis"]) / 2
LESION_EDGE = (SIGNAL["marrow"] + SIGNAL["bone_marrow_lesion"]) / 2
FLUID_EDGE = (SIGNAL["ligament"] + SIGNAL["fluid"]) / 2
TENDON_EDGE = (SIGNAL["ligament"] + SIGNAL["tendon_signal"]) / 2
ATTACHED_MM = 4.5  # how deep a ligament's label reaches into the bone at either end


def hoffa_share(view: View) -> float:
    """Share of the fat pad with raised signal."""
    near = view.around(["hoffa_fat_pad"], 0.0)
    return float((near.clean[near.label("hoffa_fat_pad")] > SYNOVITIS_EDGE).mean())


def effusion_ml(view: View) -> float:
    """Volume of fluid in the effusion's label in ml."""
    near = view.around(["joint_effusion"], 0.0)
    fluid = near.clean[near.label("joint_effusion")] > FLUID_EDGE
    return float(fluid.sum()) * near.voxel_mm3 / 1000.0


def gap_share(view: View, ligament: str) -> float:
    """Share of fluid half-way between a ligament's two ends."""
    signal, along = _along(view, ligament)
    return float((signal[np.abs(along - along.mean()) < 0.1 * np.ptp(along)] > FLUID_EDGE).mean())


def insertion_share(view: View, ligament: str) -> float:
    """Share of raised signal in a ligament's lowest part, which is in the tibia."""
    signal, along = _along(view, ligament)
    return float((signal[along < along.min() + ATTACHED_MM] > LESION_EDGE).mean())


def screw_share(view: View, ligament: str) -> float:
    """Share of raised signal in a ligament's highest part, which is in the femur: the ring around a screw."""
    signal, along = _along(view, ligament)
    return float((signal[along > along.max() - ATTACHED_MM] > LESION_EDGE).mean())


def tendon_share(view: View) -> float:
    """Share of raised signal in the upper half of the patellar tendon, off its surface."""
    near = view.around(["patellar_tendon"], 2.0)
    inside = ndimage.binary_erosion(near.label("patellar_tendon"))
    height = near.mm(inside)[:, 2]
    upper = height > height.mean()
    return float((near.clean[inside][upper] > TENDON_EDGE).mean())


def _along(view: View, ligament: str) -> tuple[NDArray[np.float32], Floats]:
    """Signals in a ligament's label, and where along its axis, in mm upward."""
    near = view.around([ligament], 0.0)
    label = near.label(ligament)
    points = near.mm(label)
    axis = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    return near.clean[label], points @ (axis * np.sign(axis[2]))
