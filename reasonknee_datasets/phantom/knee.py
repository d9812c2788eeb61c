"""Draw one knee on any grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reasonknee_datasets.boxes import Box, label_boxes
from reasonknee_datasets.phantom.acquisition import simulate_scan
from reasonknee_datasets.phantom.frame import Frame, blocks, knee_frame
from reasonknee_datasets.phantom.mask_labels import LABELS, REGION_NAMES, region_of
from reasonknee_datasets.phantom.render import Scene, paint, plan_scene
from reasonknee_datasets.phantom.shape import draw_shape
from reasonknee_datasets.phantom.spec import DrawnKnee, KneeSpec
from reasonknee_datasets.phantom.target_grades import Wanted

if TYPE_CHECKING:
    from numpy.typing import NDArray


def draw_knee(spec: KneeSpec) -> DrawnKnee:
    """Draw a knee with the lesions of its grades.

    Parameters
    ----------
    spec : KneeSpec
        Seeds, side, grades and grid.

    Returns
    -------
    DrawnKnee
        Voxels, noise-free voxels, label map and boxes on the requested grid.

    Examples
    --------
    >>> from reasonknee_datasets.volumes.reference import Geometry
    >>> grid = Geometry((16, 28, 28), np.diag([7.0, 5.0, 5.0, 1.0]))
    >>> knee = draw_knee(KneeSpec(1, 1, 1, "right", {}, grid))
    >>> knee.voxels.dtype, knee.mask.shape, len(knee.boxes)
    (dtype('int16'), (16, 28, 28), 62)
    """
    shape = draw_shape(spec.patient_seed, spec.knee_seed)
    frame = knee_frame(spec, shape)
    scene = plan_scene(Wanted(spec.grades), shape, [4, spec.patient_seed, spec.knee_seed])
    clean, mask = _render(scene, frame, spec.geometry.shape)
    boxes = _boxes(mask)
    _spoil(mask, spec)
    return DrawnKnee(
        voxels=simulate_scan(clean, spec),
        clean=clean,
        mask=mask,
        affine=np.array(spec.geometry.affine, dtype=np.float64),
        boxes=boxes,
    )


def _render(scene: Scene, frame: Frame, shape: tuple[int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Paint the grid block by block."""
    clean, mask = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for start, stop in blocks(shape):
        canvas = paint(scene, frame.points(start, stop), frame.width)
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        size = tuple(b - a for a, b in zip(start, stop, strict=True))
        clean[window] = canvas.signal.reshape(size)
        mask[window] = canvas.label.reshape(size)
    return clean, mask


def _boxes(mask: NDArray[np.uint8]) -> dict[int, Box]:
    """Box every question's region, where any of it is on the grid."""
    by_label = label_boxes(mask)
    boxes = {}
    for question_id in REGION_NAMES:
        found = [by_label[label] for label in region_of(question_id) if label in by_label]
        if found:
            start = np.min([box.start for box in found], axis=0).tolist()
            stop = np.max([box.stop for box in found], axis=0).tolist()
            boxes[question_id] = Box.from_row([*start, *stop])
    return boxes


def _spoil(mask: NDArray[np.uint8], spec: KneeSpec) -> None:
    """Leave a label out, or divide a meniscus, as real segmentations do."""
    if spec.empty_label is not None:
        mask[mask == LABELS[spec.empty_label]] = 0
    if spec.split_meniscus:
        label = LABELS["medial_meniscus"]
        found = np.argwhere(mask == label)
        if len(found):
            affine = np.asarray(spec.geometry.affine)
            y = found @ affine[1, :3] + affine[1, 3]
            # A strip through the rear of the body, never at its ends: the box stays the same.
            low, high = y.min() + 0.36 * np.ptp(y), y.min() + 0.44 * np.ptp(y)
            low, high = min(low, high - _STRIP), high
            cut = found[(y > low) & (y < high)]
            mask[tuple(cut.T)] = 0


_STRIP = 3.0  # mm: two voxels of the tiny grid
