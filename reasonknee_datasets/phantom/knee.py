"""One knee on any grid: its specification, its position on the grid, its rendering and the simulated scanner."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box, label_boxes
from reasonknee_datasets.phantom.mask_labels import LABELS, REGION_NAMES, region_of
from reasonknee_datasets.phantom.render import Scene, paint, plan_scene
from reasonknee_datasets.phantom.shape import Field, Points, Shape, draw_shape
from reasonknee_datasets.phantom.signs import Wanted
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


GRID_CENTRE = (0.0, 7.0, 15.0)  # knee coordinates in the middle of a grid: about the centre of OAI's field of view
BLOCK = 28  # voxels along a block's side: its arrays stay in a core's cache, and few solids are near it


@dataclass(frozen=True, slots=True)
class Frame:
    """The map from voxel indices to knee coordinates."""

    matrix: NDArray[np.float64]  # (3, 3) float array: voxel step to step in knee coordinates
    origin: NDArray[np.float64]  # (3,) float array: knee coordinates of voxel (0, 0, 0)
    scale: float  # millimetres of the world to one of the knee's
    width: float  # side of a cube as large as a voxel, in knee coordinates: edges are blurred over this much

    def points(self, start: tuple[int, ...], stop: tuple[int, ...]) -> Points:
        """Knee coordinates of the voxel centres of a block, in C order."""
        ranges = [np.arange(a, b, dtype=np.float64) for a, b in zip(start, stop, strict=True)]
        axes = []
        for row, origin in zip(self.matrix, self.origin, strict=True):
            i, j, k = (r * step for r, step in zip(ranges, row, strict=True))
            field = (origin + i)[:, None, None] + (j[:, None] + k[None, :])[None]
            axes.append(field.astype(np.float32).ravel())
        return Points(*axes)


def knee_frame(spec: KneeSpec, shape: Shape) -> Frame:
    """Put the knee in the middle of the grid, off by up to some millimetres and 4 degrees, as in any positioning."""
    random = np.random.Generator(np.random.PCG64([3, spec.patient_seed, spec.knee_seed, spec.visit_seed]))
    offset = np.clip(random.normal(0.0, 1.5, 3), -3.0, 3.0)
    turn = _rotation(np.clip(random.normal(0.0, 1.5, 3), -3.0, 3.0) * np.pi / 180.0)
    affine = np.asarray(spec.geometry.affine, dtype=np.float64)
    middle = affine[:3, :3] @ ((np.asarray(spec.geometry.shape) - 1.0) / 2.0) + affine[:3, 3]
    # World x grows to the patient's right, so medial is toward -x in a right knee; in a left one everything is
    # mirrored, positioning errors too.
    mirror = np.diag([-1.0 if spec.side == "right" else 1.0, 1.0, 1.0])
    to_knee = turn.T @ mirror / shape.scale
    matrix = to_knee @ affine[:3, :3]
    origin = to_knee @ (affine[:3, 3] - middle) + np.asarray(GRID_CENTRE) + offset
    return Frame(matrix, origin, shape.scale, float(abs(np.linalg.det(matrix)) ** (1.0 / 3.0)))


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn about u, then v, then w, in radians."""
    (cu, cv, cw), (su, sv, sw) = np.cos(angles), np.sin(angles)
    about_u = np.array([[1, 0, 0], [0, cu, -su], [0, su, cu]])
    about_v = np.array([[cv, 0, sv], [0, 1, 0], [-sv, 0, cv]])
    about_w = np.array([[cw, -sw, 0], [sw, cw, 0], [0, 0, 1]])
    return np.asarray(about_w @ about_v @ about_u)


def blocks(shape: tuple[int, ...], side: int = BLOCK) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut a grid into blocks: (start, stop) of each, in C order.

    Examples
    --------
    >>> list(blocks((3, 2, 2), side=2))
    [((0, 0, 0), (2, 2, 2)), ((2, 0, 0), (3, 2, 2))]
    """
    starts = [range(0, size, side) for size in shape]
    for start in itertools.product(*starts):
        yield start, tuple(min(a + side, size) for a, size in zip(start, shape, strict=True))


NOISE = 4.5  # standard deviation of the noise in each channel: with it, size oai compresses as real DESS does
TEXTURE = 0.07  # standard deviation of the tissues' own unevenness, as a share of their signal
_GRAIN = 1.1  # of the texture, mm


def simulate_scan(clean: Field, spec: KneeSpec) -> NDArray[np.int16]:
    """Turn noise-free signals into what is stored.

    `clean` (I, J, K) float32 array: noise-free signals. `spec`: its seeds set texture, gain, bias field and noise; with
    ``noise=False`` the signals are only rounded. Returns (I, J, K) int16 array.
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
