"""Bone-marrow lesions, measured: share of the subregion's bone, number of bodies, share that is not a cyst."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from reasonknee_datasets.phantom.mask_labels import LABELS
from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_view import View, largest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARROW, LESION, FLUID = SIGNAL["marrow"], SIGNAL["bone_marrow_lesion"], SIGNAL["fluid"]
EDGE = (MARROW + LESION) / 2
RIM_EDGE = (MARROW + FLUID) / 2
CYST_EDGE = (LESION + FLUID) / 2
BRIGHT = ("femoral_cartilage", "patellar_cartilage", "tibial_cartilage", "joint_effusion")
PARTING_EDGES = (EDGE, 290.0, RIM_EDGE, 430.0, CYST_EDGE)
OPEN_CYST = 0.19  # of the lesion: a smaller cyst is in its middle and touches no marrow
FILM_MM = 1.1  # a label's film beyond the cartilage is thinner than this
SPECK_MM3 = 60.0  # of film next to the bone is not a body: the smallest that is drawn has some 400 mm³
THIN_MM = 1.6
LEAST_SHARE = 0.001


def bone_of(view: View, name: str, restore: int = 0) -> NDArray[np.bool_]:
    """Take the bone of a subregion's label, without the film beyond its cartilage.

    Opening eats the steps of an oblique surface; `restore` gives back so many voxels of the label around what is left.
    """
    across = 2 * np.maximum(1, np.floor(FILM_MM / view.spacing)).astype(int) + 1
    found = np.zeros(view.mask.shape, bool)
    place = view.place([name], float(view.spacing.max()) * (1 + restore))
    label = view.mask[place] == LABELS[name]
    eroded = ndimage.minimum_filter(label.view(np.uint8), across, mode="constant")
    found[place] = largest(label & ndimage.maximum_filter(eroded, across + 2 * restore).view(np.bool_))
    return found


def measure_marrow(view: View, name: str) -> dict[str, float]:
    """Measure `size`, `number` and `percent` in one subregion."""
    near = view.around([name], 3.0)
    bone = bone_of(near, name)
    inside = _inside(near, bone)
    cyst, lesion = inside & (near.clean > CYST_EDGE), inside & (near.clean > EDGE)
    open_cyst = cyst.sum() > OPEN_CYST * lesion.sum()
    if open_cyst:
        # Half-way from marrow is higher next to such a cyst: its rim would look like lesion where it mixes with
        # marrow.
        lesion &= (near.clean > RIM_EDGE) | ~ndimage.binary_dilation(cyst)
    lesion = _without_specks(near, lesion)
    if not lesion.any():
        return {"size": 0.0, "number": 0.0, "percent": 0.0}
    return {
        "size": float(lesion.sum() / bone.sum()),
        "number": float(_bodies(near, lesion)),
        "percent": _marrow_share(lesion, cyst & lesion, open_cyst),
    }


def _inside(view: View, bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out the bone's surface next to bright tissue: it mixes with that, and lesions are inside the cortex."""
    return np.asarray(bone & ~ndimage.binary_dilation(view.label(*BRIGHT)))


def _without_specks(view: View, lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out pieces that are too small or too thin to be bodies: film next to the bone."""
    pieces, _ = ndimage.label(lesion)
    return np.isin(pieces, _solid(view, pieces))


def _solid(view: View, pieces: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number the pieces that are large enough, and thick enough where voxels are fine."""
    across = 2 * np.floor(THIN_MM / 2 / view.spacing).astype(int) + 1
    core = ndimage.minimum_filter((pieces > 0).view(np.uint8), across).view(np.bool_)
    large = np.flatnonzero(np.bincount(pieces.ravel()) * view.voxel_mm3 > SPECK_MM3)
    return np.intersect1d(large, np.unique(pieces[core & (pieces > 0)]))


def _bodies(view: View, lesion: NDArray[np.bool_]) -> int:
    """Count bodies at the threshold that parts most: marrow between two cysts, mixed with both, is bright at tiny."""
    most = 0
    for edge in PARTING_EDGES:
        pieces, _ = ndimage.label(lesion & (view.clean > edge))
        most = max(most, len(_solid(view, pieces)))
    return most


def _marrow_share(lesion: NDArray[np.bool_], cyst: NDArray[np.bool_], open_cyst: bool) -> float:
    """Share of a lesion that is not a cyst."""
    rest = lesion & ~cyst
    if open_cyst:  # what opening takes off the rest where it touches cyst is the cyst's own rim, mixed with marrow
        rest &= ndimage.binary_opening(rest) | ~ndimage.binary_dilation(cyst)
    # A lesion always has some marrow that is not a cyst, if less than a voxel of it.
    return max(float(rest.sum() / lesion.sum()), LEAST_SHARE)
