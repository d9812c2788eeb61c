"""Interpolation against scipy where a grid gets finer, against Pillow where it gets coarser."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes.grid_view import View, read_view

VALUES = np.random.default_rng(0).normal(100, 30, (9, 11, 14)).astype(np.float32)
WHOLE = View.whole(VALUES.shape)


@pytest.mark.parametrize(
    "view",
    [
        WHOLE.rescale((18, 11, 20)),
        WHOLE.rescale((9, 13, 14), (1.0, 0.83, 1.0)),
        WHOLE.crop(Box((2, 3, 4), (7, 9, 12))).rescale((9, 7, 30)),
        WHOLE.turn(Reorientation((2, 0, 1), (True, False, True))).rescale((15, 9, 23)),
    ],
)
def test_finer_grids_are_scipys_linear_interpolation(view: View) -> None:
    lines = [
        start + step * (np.arange(n) + 0.5) - 0.5
        for n, start, step in zip(view.shape, view.start, view.step, strict=True)
    ]
    places = np.empty((3, *view.shape))
    for axis, old in enumerate(view.axes):
        places[old] = np.expand_dims(lines[axis], [n for n in range(3) if n != axis])
    expected = ndimage.map_coordinates(VALUES, places, order=1, mode="nearest")
    np.testing.assert_allclose(read_view(view, VALUES), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(5, 14), (11, 6), (3, 4), (7, 25), (1, 1)])
def test_coarser_grids_are_pillows_bilinear_filter(size: tuple[int, int]) -> None:
    read = read_view(WHOLE.rescale((9, *size)), VALUES)
    for ours, slice_ in zip(read, VALUES, strict=True):
        theirs = Image.fromarray(slice_).resize(size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5)


def test_interpolate_reads_beside_a_crop() -> None:
    # A crop of the coarse volume is the coarse grid's crop, wherever its faces meet.
    coarse = read_view(WHOLE.crop(Box((0, 0, 0), (8, 10, 14))).rescale((4, 5, 7)), VALUES)
    crop = read_view(WHOLE.crop(Box((2, 4, 6), (6, 8, 12))).rescale((2, 2, 3)), VALUES)
    np.testing.assert_allclose(crop, coarse[1:3, 2:4, 3:6], rtol=1e-6)


def test_constants_stay_constant_and_padding_is_padding() -> None:
    flat = np.full((6, 6, 6), 40, np.int16)
    read = read_view(View.whole(flat.shape).crop(Box((-3, 0, 0), (6, 6, 6)), pad=-1).rescale((18, 3, 6)), flat)
    assert read.dtype == np.float32
    assert (read[:6] == -1).all()
    np.testing.assert_allclose(read[6:], 40, rtol=1e-6)


def test_two_steps_cost_one_interpolation() -> None:
    once = WHOLE.rescale((6, 7, 9))
    np.testing.assert_array_equal(
        read_view(WHOLE.rescale((4, 5, 6)).rescale((6, 7, 9)), VALUES), read_view(once, VALUES)
    )


def test_float64_stays_float64() -> None:
    assert read_view(WHOLE.rescale((4, 4, 4)), VALUES.astype(np.float64)).dtype == np.float64
