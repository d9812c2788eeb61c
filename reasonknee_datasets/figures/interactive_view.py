"""Interactive view of an example in a notebook, by NiiVue."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.figures.example_text import take_volume
from reasonknee_datasets.figures.looks import BOX

_LINE = 0.45  # half the width of a drawn edge, mm


def view(example: Mapping[str, Any], *, height: int = 420) -> Any:
    """View an example in NiiVue: three planes and 3D, with the box, to scroll and turn in a notebook.

    The whole volume is read and sent to the page; `show` reads three slices.

    Parameters
    ----------
    example : mapping
        A row of `load_dataset`; only ``volume`` is needed, and ``box`` is drawn where there is one.
    height : int
        Height of the view, in pixels.

    Returns
    -------
    ipyniivue.NiiVue
        A widget; the last line of a cell shows it.

    Raises
    ------
    MissingExtraError
        If ipyniivue is not installed.
    BoxError
        If the box reaches out of the volume.
    """
    try:
        import ipyniivue
    except ModuleNotFoundError as error:
        raise missing_extra((error.name or "ipyniivue").split(".")[0], "app", "figures.view") from error
    import nibabel as nib

    volume = take_volume(example)
    affine = np.asarray(volume.affine, dtype=np.float64)
    image: Any = nib.Nifti1Image(np.asarray(volume.dataobj), affine)  # type: ignore[no-untyped-call]
    widget = ipyniivue.NiiVue(
        height=height,
        back_color=(0, 0, 0, 1),
        is_radiological_convention=True,
        sagittal_nose_left=True,
        is_slice_mm=True,
        mesh_thickness_on_2d=np.inf,
        mesh_xray=0.8,
        multiplanar_show_render=ipyniivue.ShowRender.ALWAYS,
    )
    widget.load_volumes([{"data": image.to_bytes(), "name": "volume.nii"}])
    if example.get("box") is not None:
        box = Box.from_row(example["box"]).check_inside(volume.shape[:3])
        colour = [*bytes.fromhex(BOX[1:]), 255]
        widget.load_meshes([{"data": box_outline_obj(box, affine), "name": "box.obj", "rgba255": colour}])
    return widget


def box_outline_obj(box: Box, affine: NDArray[np.float64]) -> bytes:
    """Write the twelve edges of a box in the world (RAS+, mm) as bars of a Wavefront OBJ mesh."""
    low, high = np.array(box.start, dtype=np.float64) - 0.5, np.array(box.stop, dtype=np.float64) - 0.5
    margin = _LINE / np.linalg.norm(affine[:3, :3], axis=0)  # in voxels
    bar = np.array(list(product((0, 1), repeat=3)))
    points: list[list[float]] = []
    faces: list[list[int]] = []
    for along in range(3):
        for ends in product((0, 1), repeat=2):
            first, last = low.copy(), high.copy()
            for axis, end in zip([axis for axis in range(3) if axis != along], ends, strict=True):
                first[axis] = last[axis] = (low, high)[end][axis]
            corners = np.where(bar == 1, last + margin, first - margin)
            faces += [[corner + len(points) + 1 for corner in face] for face in _FACES]
            points += (corners @ affine[:3, :3].T + affine[:3, 3]).tolist()
    lines = ["v {:.4f} {:.4f} {:.4f}".format(*point) for point in points]
    return "\n".join([*lines, *("f {} {} {}".format(*face) for face in faces)]).encode() + b"\n"


# Two triangles for each side of a bar; corner 4 i + 2 j + k.
_FACES = (
    *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)),
    *((2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),
)
