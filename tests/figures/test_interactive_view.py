"""The interactive view: the voxels and the mesh of the box that are sent to NiiVue."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.boxes import Box, world_bounds
from reasonknee_datasets.errors import BoxError
from reasonknee_datasets.figures import view
from reasonknee_datasets.figures.interactive_view import box_outline_obj

_AFFINE = np.array([[0, 0.1, 0.7, -50], [0.36, 0, 0, -70], [0, -0.36, 0.1, 60], [0, 0, 0, 1]])


def test_the_outline_has_the_box_s_extent() -> None:
    box = Box((3, 4, 5), (10, 20, 8))
    lines = box_outline_obj(box, _AFFINE).decode().split("\n")
    points = np.array([line.split()[1:] for line in lines if line.startswith("v ")], dtype=float)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], dtype=int)
    extent = np.stack([points.min(axis=0), points.max(axis=0)])
    np.testing.assert_allclose(extent, world_bounds(box, _AFFINE), atol=1.0)  # half the width of an edge, tilted
    assert (faces.min(), faces.max()) == (1, len(points))
    # No point is in the middle: the mesh is edges alone.
    inside = np.linalg.solve(_AFFINE[:3, :3], (points - _AFFINE[:3, 3]).T).T
    middle = np.abs(inside - box.center) < np.array(box.shape) / 4
    assert not middle.any(axis=1).all()


def test_view_sends_the_volume_and_the_box() -> None:
    pytest.importorskip("ipyniivue", reason="the interactive view needs the extra `app`")
    voxels = np.arange(24 * 30 * 12, dtype=np.int16).reshape(24, 30, 12)
    row = {"volume": nib.Nifti1Image(voxels, _AFFINE), "box": [3, 4, 5, 10, 20, 8]}
    widget = view(row)
    sent = nib.Nifti1Image.from_bytes(widget.volumes[0].data)
    np.testing.assert_array_equal(np.asarray(sent.dataobj), voxels)
    np.testing.assert_allclose(sent.affine, _AFFINE, atol=1e-6)
    assert widget.meshes[0].data == box_outline_obj(Box((3, 4, 5), (10, 20, 8)), _AFFINE)
    assert widget.meshes[0].rgba255 == [255, 176, 0, 255]
    assert view({"volume": row["volume"]}).meshes == []
    with pytest.raises(BoxError, match="outside the volume"):
        view(row | {"box": [0, 0, 0, 99, 1, 1]})


def test_without_ipyniivue_the_extra_is_named() -> None:
    code = "import sys; sys.modules['ipyniivue'] = None\nfrom reasonknee_datasets.figures import view\nview({})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert 'ipyniivue is needed for figures.view and is not installed. Run: pip install "reasonknee_datasets[app]"' in (
        done.stderr
    )
