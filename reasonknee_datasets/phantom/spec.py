"""Specification and result of drawing a knee, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from reasonknee_datasets.boxes import Box
    from reasonknee_datasets.schema import Side
    from reasonknee_datasets.volumes.reference import Geometry


@dataclass(frozen=True, slots=True)
class KneeSpec:
    """One knee at one visit on one grid.

    Attributes
    ----------
    patient_seed, knee_seed, visit_seed : int
        Seeds of the patient's bones (both knees share them), of this knee (where its lesions sit, small differences of
        shape) and of this scan (positioning, gain, bias field, noise). The same three give the same voxels.
    side : {"left", "right"}
        A left knee is the mirror image of a right one in world space.
    grades : mapping of question id to mapping of attribute to int or None
        Questions 1 to 62. A missing question, attribute or grade is drawn as 0, or, where another slot of the same
        question says that a lesion is there, as the smallest lesion.
    geometry : Geometry
        The grid. The knee is centred on it whatever its affine, layout and shape: the joint line is about 15 mm
        below the world position of the grid's middle.
    noise : bool
        False leaves `DrawnKnee.voxels` free of noise, bias field and gain.
    empty_label : str, optional
        A label's name that the mask leaves out, as a failed segmentation would.
    split_meniscus : bool
        The mask shows the medial meniscus in two pieces.

    See Also
    --------
    reasonknee_datasets.phantom.signs : the sign that each grade leaves in the voxels.
    """

    patient_seed: int
    knee_seed: int
    visit_seed: int
    side: Side
    grades: Mapping[int, Mapping[str, int | None]]
    geometry: Geometry
    noise: bool = True
    empty_label: str | None = None
    split_meniscus: bool = False


@dataclass(frozen=True, slots=True)
class DrawnKnee:
    """A drawn knee: all arrays in the array order of the requested geometry.

    Attributes
    ----------
    voxels : (I, J, K) int16 array
        As a scanner would give it: with vessels' flow, bias field, gain and Rician noise.
    clean : (I, J, K) float32 array
        The same anatomy without bias, gain and noise: the signals of `reasonknee_datasets.phantom.signs.SIGNAL`, mixed
        where a voxel has parts of several tissues.
    mask : (I, J, K) uint8 array
        Label ids of `reasonknee_datasets.phantom.mask_labels.LABELS`; 0 elsewhere.
    affine : (4, 4) float array
        Voxel centre to world (RAS+, mm), as requested.
    boxes : dict of question id to Box
        Bounding box of each question's region in the full mask, before a label was left out or a meniscus parted. A
        question whose region has no voxel on this grid has no box.
    """

    voxels: NDArray[np.int16]
    clean: NDArray[np.float32]
    mask: NDArray[np.uint8]
    affine: NDArray[np.float64]
    boxes: dict[int, Box]
