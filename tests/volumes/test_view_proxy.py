"""Reading through views: padding, memory, and what is sliced out of the source."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, GeometryError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes.grid_view import View, read_view, view_image

NUMBERS = np.arange(1, 481, dtype=np.int16).reshape(6, 8, 10)
WHOLE = View.whole(NUMBERS.shape)


class Watched:
    """An array that remembers what was sliced out of it."""

    shape, dtype = NUMBERS.shape, NUMBERS.dtype

    def __init__(self) -> None:
        self.slices: list[Any] = []

    def __getitem__(self, index: Any) -> Any:
        self.slices.append(index)
        return NUMBERS[index].copy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("all of it was read")


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (WHOLE.crop(Box((1, 2, 3), (3, 4, 5))), np.s_[1:3, 2:4, 3:5]),
        (WHOLE.crop(Box((-4, 2, 3), (3, 4, 15))), np.s_[0:3, 2:4, 3:10]),
        (
            WHOLE.crop(Box((1, 2, 3), (3, 4, 5))).turn(Reorientation((2, 0, 1), (True, True, False))),
            np.s_[1:3, 2:4, 3:5],
        ),
        (WHOLE.crop(Box((1, 2, 4), (3, 4, 8))).rescale((2, 2, 2)), np.s_[1:3, 2:4, 3:9]),
        (WHOLE.crop(Box((1, 2, 4), (3, 4, 8))).rescale((2, 2, 8)), np.s_[1:3, 2:4, 3:9]),
    ],
)
def test_view_proxy_reads_only_its_region(view: View, wanted: Any) -> None:
    source = Watched()
    read_view(view, source)
    assert source.slices == [wanted]


def test_nothing_is_read_for_padding_alone() -> None:
    source = Watched()
    for view in (
        WHOLE.crop(Box((6, 0, 0), (9, 2, 2)), pad=7),
        WHOLE.crop(Box((6, 0, 0), (9, 2, 2)), pad=7).rescale((1, 1, 1)),
    ):
        assert (read_view(view, source) == 7).all()
    assert source.slices == []


def test_what_is_given_belongs_to_the_caller() -> None:
    numbers = NUMBERS.copy()
    for view in (WHOLE, WHOLE.crop(Box((1, 1, 1), (2, 2, 2))), WHOLE.mirror(0)):
        read_view(view, numbers)[...] = 0
    read_view(WHOLE.rescale((6, 8, 20)), numbers, nearest=True)[...] = 0
    np.testing.assert_array_equal(numbers, NUMBERS)


@pytest.mark.parametrize(("pad", "dtype"), [(0.5, np.int16), (-1, np.uint8), (70_000, np.uint16)])
def test_padding_has_to_fit_the_type(pad: float, dtype: Any) -> None:
    view = View.whole((2, 2, 2)).crop(Box((0, 0, 0), (3, 2, 2)), pad=pad)
    with pytest.raises(GeometryError, match=r"pad_value=.* is not a value of the volume's type .* Pad with a number"):
        read_view(view, np.zeros((2, 2, 2), dtype))


def test_crop_larger_than_memory_is_refused() -> None:
    view = WHOLE.crop(Box((0, 0, 0), (100_000, 100_000, 100_000)))
    with pytest.raises(
        BoxError,
        match=r"A crop of 100000x100000x100000 voxels of 2 bytes takes 2e\+06 GB of memory, and [\d.e+]+ GB are ",
    ):
        read_view(view, NUMBERS)


def test_a_series_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"needs a volume of three axes, but this one has the shape \(2, 2, 2, 5\)"):
        read_view(View.whole((2, 2, 2)), np.zeros((2, 2, 2, 5)))


def test_nearest_gives_labels_only() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4] = 44
    read = read_view(View.whole(labels.shape).rescale((9, 4, 5)), labels, nearest=True)
    assert read.dtype == np.uint8
    assert set(np.unique(read)) == {0, 44}
    assert (read[3:6] == 44).all()


def test_any_nibabel_image_can_be_viewed() -> None:
    image = nib.MGHImage(NUMBERS.astype(np.int32), np.diag([0.7, 0.4, 0.4, 1.0]))
    viewed = view_image(image, WHOLE.crop(Box((1, 2, 3), (3, 4, 6))))
    assert isinstance(viewed, nib.MGHImage)
    np.testing.assert_array_equal(viewed.get_fdata(), NUMBERS[1:3, 2:4, 3:6])
    again = view_image(viewed, View.whole((2, 2, 3)).mirror(2))
    np.testing.assert_array_equal(np.asarray(again.dataobj), NUMBERS[1:3, 2:4, 3:6][..., ::-1])
    np.testing.assert_array_equal(again.affine, viewed.affine)
    assert again.dataobj.source is image.dataobj


@pytest.mark.parametrize("index", [-7, (0, 0, -11), 6])
def test_an_index_beyond_the_grid_is_refused(index: Any) -> None:
    with pytest.raises((IndexError, ValueError), match=r"is outside the axis|Integer index 6 too large"):
        view_image(nib.Nifti1Image(NUMBERS, np.eye(4)), WHOLE).dataobj[index]


def test_an_array_is_not_given_without_reading() -> None:
    viewed = view_image(nib.Nifti1Image(NUMBERS, np.eye(4)), WHOLE)
    with pytest.raises(ValueError, match=r"copy=False is impossible"):
        viewed.dataobj.__array__(copy=False)
    assert viewed.dataobj.__array__(np.float32).dtype == np.float32
    assert viewed.dataobj.dtype == np.int16
    assert view_image(viewed, WHOLE.rescale((3, 3, 3))).dataobj.dtype == np.float32
