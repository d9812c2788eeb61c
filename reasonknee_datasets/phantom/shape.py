"""The measures of one knee's anatomy, drawn from its seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

JOINT_GAP = 1.0
"""Fluid between femoral and tibial cartilage where they meet, mm."""

FILM = 0.8
"""How far a subregion's label reaches beyond its cartilage, mm."""

MARGIN = 4.0
"""Distance of the tibia's articular margin inside the widest contour of the bone, mm."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Measures in mm at the scale of the median knee; `scale` turns them into this knee's.

    The defaults give the median extents of RELEASE_FORMAT: femur 80x66x84, tibia 76x57x65, patella 44x23x42.
    """

    scale: float = 1.0
    front_radius: float = 33.0  # of the trochlea and the front of the condyles, seen from the side
    medial_radius: float = 22.6  # of the rear of the condyles
    lateral_radius: float = 21.2
    medial_width: float = 13.7  # half the width of a condyle
    lateral_width: float = 12.8
    groove: float = 6.0  # depth of the trochlea
    notch: float = 9.3  # half the width of the intercondylar notch
    plateau_depth: float = 26.0  # half the front-rear extent of the medial plateau
    lateral_depth: float = 22.0
    patella_width: float = 22.0
    patella_height: float = 21.5
    femoral_cartilage: float = 2.7
    medial_cartilage: float = 3.1
    lateral_cartilage: float = 3.7
    patellar_cartilage: float = 4.2

    @property
    def condyle_floor(self) -> float:
        """Lowest height of the femur's bone: the tibial cartilage's surface is at 0."""
        return JOINT_GAP + self.femoral_cartilage

    @property
    def front_centre(self) -> tuple[float, float]:
        """Axis (v, w) that the trochlea is rolled around."""
        return 7.0, self.condyle_floor + self.front_radius

    def rear_centre(self, *, medial: bool) -> tuple[float, float]:
        """Axis (v, w) that the rear of a condyle is rolled around."""
        return -4.5, self.condyle_floor + (self.medial_radius if medial else self.lateral_radius)

    @property
    def ridge(self) -> float:
        """Rearmost v of the patella's bone: its cartilage just clears that of the trochlea's groove."""
        v, _ = self.front_centre
        return v + self.front_radius - self.groove + self.femoral_cartilage + JOINT_GAP + self.patellar_cartilage

    @property
    def patella_centre(self) -> tuple[float, float]:
        """Middle (u, w) of the patella."""
        return -1.5, 37.0


def draw_shape(patient_seed: int, knee_seed: int) -> Shape:
    """Draw a knee's measures: mostly the patient's, a little the knee's own.

    Examples
    --------
    >>> draw_shape(1, 1) == draw_shape(1, 1), draw_shape(1, 1) == draw_shape(2, 1)
    (True, False)
    """
    patient = np.random.Generator(np.random.PCG64([1, patient_seed]))
    knee = np.random.Generator(np.random.PCG64([2, patient_seed, knee_seed]))
    middle = Shape()
    spread = dict.fromkeys(Shape.__slots__, 0.02)
    spread |= {"scale": 0.04, "groove": 0.1, "notch": 0.03, "femoral_cartilage": 0.05, "medial_cartilage": 0.05}
    spread |= {"lateral_cartilage": 0.05, "patellar_cartilage": 0.05}
    drawn = {}
    for name in Shape.__slots__:
        # Clipped, because two standard deviations are as far as the parts still fit each other.
        deviate = np.clip(patient.standard_normal(), -2.0, 2.0) + 0.2 * np.clip(knee.standard_normal(), -2.0, 2.0)
        drawn[name] = float(getattr(middle, name) * np.exp(spread[name] * deviate))
    return Shape(**drawn)
