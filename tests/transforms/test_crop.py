"""CropToBox and ToCanonical, against slicing and nibabel."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError
from reasonknee_datasets.transforms import CropToBox, ToCanonical, TransformError, Window
from tests.helpers.transform_examples import plain_case

SHAPE = (20, 30, 40)
NUMBERS = np.arange(1, np.prod(SHAPE) + 1, dtype=np.int32).reshape(SHAPE)


def example(box: list[int], **more: Any) -> dict[str, Any]:
    volume = nib.Nifti1Image(NUMBERS, np.diag([2.0, 1.0, 0.5, 1.0]), dtype=np.int32)
    return {"id": "0000001/00M/right/q01", "volume": volume, "box": box, **more}


def crop(box: list[int], **settings: Any) -> dict[str, Any]:
    cropped: dict[str, Any] = CropToBox(**settings)(example(box))
    return cropped


def read(cropped: dict[str, Any]) -> np.ndarray:
    return np.asarray(cropped["volume"].dataobj)


class TestRegions:
    def test_the_box_alone(self) -> None:
        cropped = crop([3, 4, 5, 6, 8, 10])
        np.testing.assert_array_equal(read(cropped), NUMBERS[3:6, 4:8, 5:10])
        assert cropped["box"] == [0, 0, 0, 3, 4, 5]
        assert cropped["region"] == cropped["box_volume"] == [3, 4, 5, 6, 8, 10]

    def test_margins_add_up_and_are_clipped(self) -> None:
        # 3 mm are 2, 3 and 6 voxels of 2, 1 and 0.5 mm.
        assert crop([3, 4, 5, 6, 8, 10], margin_mm=3)["region"] == [1, 1, 0, 8, 11, 16]
        assert crop([3, 4, 5, 6, 8, 10], margin_mm=3, margin_voxels=(1, 0, 1))["region"] == [0, 1, 0, 9, 11, 17]
        assert crop([3, 4, 5, 6, 8, 10], margin_mm=(0, 100, 0))["region"] == [3, 0, 5, 6, 30, 10]

    def test_fixed_size_centres_the_box(self) -> None:
        cropped = crop([3, 4, 5, 6, 8, 10], size=(5, 8, 9))
        assert cropped["region"] == [2, 2, 3, 7, 10, 12]
        np.testing.assert_array_equal(read(cropped), NUMBERS[2:7, 2:10, 3:12])
        assert cropped["box"] == [1, 2, 2, 4, 6, 7]

    def test_a_fixed_size_is_padded(self) -> None:
        cropped = crop([0, 0, 30, 2, 4, 40], size=16, pad_value=-5)
        assert cropped["region"] == [-7, -6, 27, 9, 10, 43]
        expected = np.full((16, 16, 16), -5)
        expected[7:, 6:, :13] = NUMBERS[:9, :10, 27:]
        np.testing.assert_array_equal(read(cropped), expected)

    def test_or_moved_inside(self) -> None:
        cropped = crop([0, 0, 30, 2, 4, 40], size=16, pad_value=None)
        assert cropped["region"] == [0, 0, 24, 16, 16, 40]
        np.testing.assert_array_equal(read(cropped), NUMBERS[:16, :16, 24:])

    def test_crop_larger_than_volume_needs_padding(self) -> None:
        with pytest.raises(BoxError, match=r"does not fit into the volume of \(20, 30, 40\) without padding"):
            crop([0, 0, 30, 2, 4, 40], size=24, pad_value=None)

    def test_box_larger_than_crop_is_kept(self) -> None:
        cropped = crop([2, 2, 2, 18, 28, 38], size=8)
        assert cropped["box"] == [-4, -9, -14, 12, 17, 22]
        assert cropped["volume"].shape == (8, 8, 8)

    def test_crops_of_crops(self) -> None:
        outer = CropToBox(margin_voxels=4)(example([5, 6, 7, 8, 9, 10]))
        inner = CropToBox(margin_voxels=1)(outer)
        np.testing.assert_array_equal(read(inner), NUMBERS[4:9, 5:10, 6:11])
        assert inner["box"] == [1, 1, 1, 4, 4, 4]
        assert inner["box_volume"] == [5, 6, 7, 8, 9, 10]
        # Voxels outside the crop are still there for a wider grid.
        assert CropToBox(size=(3, 9, 9))(inner)["region"] == [5, 3, 4, 8, 12, 13]

    def test_crop_follows_a_replaced_box(self) -> None:
        outer = CropToBox(margin_voxels=4)(example([5, 6, 7, 8, 9, 10]))
        inner = CropToBox()({**outer, "box": [0, 0, 0, 2, 2, 2]})
        assert inner["box_volume"] == inner["region"] == [1, 2, 3, 3, 4, 5]

    def test_crop_moves_windowed_voxels_too(self) -> None:
        windowed = Window(0, 24_000)(example([3, 4, 5, 6, 8, 10]))
        cropped = CropToBox(size=(5, 8, 9))(windowed)
        np.testing.assert_array_equal(cropped["voxels"], windowed["voxels"][2:7, 2:10, 3:12])


class TestJitter:
    def regions(self, **settings: Any) -> np.ndarray:
        return np.array(
            [
                CropToBox(**settings)(example([8, 12, 16, 11, 16, 22], id=f"{n:07d}/00M/left/q01"))["region"]
                for n in range(300)
            ]
        )

    def test_jitter_moves_by_at_most_max_mm(self) -> None:
        moves = (
            self.regions(size=(9, 14, 26), jitter_mm=4.0)[:, :3]
            - crop([8, 12, 16, 11, 16, 22], size=(9, 14, 26))["region"][:3]
        )
        np.testing.assert_array_equal(moves.min(axis=0), [-2, -4, -8])
        np.testing.assert_array_equal(moves.max(axis=0), [2, 4, 8])

    def test_the_box_stays_inside(self) -> None:
        rows = self.regions(margin_voxels=2, jitter_mm=50.0)
        assert (rows[:, :3] <= [8, 12, 16]).all()
        assert (rows[:, 3:] >= [11, 16, 22]).all()
        assert len(np.unique(rows, axis=0)) > 50

    def test_margins_stay_inside_a_fixed_size(self) -> None:
        rows = self.regions(margin_voxels=2, size=(9, 14, 26), jitter_mm=50.0)
        assert (rows[:, :3] <= [6, 10, 14]).all()
        assert (rows[:, 3:] >= [13, 18, 24]).all()

    def test_crop_jitter_covers_box_larger_than_crop(self) -> None:
        # The box has 3 x 4 x 6 voxels, so that a crop of 2 has 2 x 3 x 5 places inside it.
        assert len(np.unique(self.regions(size=2, jitter_mm=4.0), axis=0)) == 2 * 3 * 5


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"margin_mm": -1}, r"margin_mm must be a number, or three .*, at least 0, not -1"),
            ({"margin_voxels": 1.5}, r"margin_voxels must be a whole number, or three .*, at least 0, not 1\.5"),
            ({"size": 0}, r"size must be a whole number, or three .*, at least 1, not 0"),
            ({"size": (8, 8)}, r"size must be a whole number, or three .*, at least 1, not \(8, 8\)"),
            ({"size": "8"}, r"size must be a whole number, or three .*, at least 1, not '8'"),
            ({"jitter_mm": float("inf")}, r"jitter_mm must be a number, or three .*, at least 0, not inf"),
            ({"margin_mm": None}, r"margin_mm must be a number, or three .*, at least 0, not None"),
        ],
    )
    def test_bad_ones_are_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(TransformError, match=message):
            CropToBox(**settings)

    def test_a_box_outside_the_volume(self) -> None:
        with pytest.raises(BoxError, match=r"Box stop \(6, 31, 10\) is outside the volume"):
            crop([3, 4, 5, 6, 31, 10])


@pytest.mark.parametrize("seed", [0, 1, 5, 7])
def test_canonical_is_nibabels(seed: int) -> None:
    case = plain_case(seed=seed)
    turned = ToCanonical()(case.example())
    theirs = nib.as_closest_canonical(case.volume())
    np.testing.assert_array_equal(read(turned), theirs.get_fdata())
    np.testing.assert_allclose(turned["volume"].affine, theirs.affine, atol=1e-9)
    assert nib.aff2axcodes(turned["volume"].affine) == ("R", "A", "S")
    marked = np.isin(np.asarray(theirs.dataobj), np.flatnonzero(case.mask) + 1)
    assert Box.from_row(turned["box"]) == Box.from_mask(marked)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("margin", [0, 1, 12])  # the last does not fit the crop
@pytest.mark.parametrize("length", [4, 7, 8, 9, 20])
def test_jitter_keeps_crop_on_its_box(seed: int, length: int, margin: int) -> None:
    volume = nib.Nifti1Image(np.zeros((60, 60, 60), np.int16), np.eye(4))
    example = {"id": "a", "volume": volume, "box": [20, 20, 20, 20 + length, 20 + length, 20 + length]}
    box = CropToBox(size=8, margin_voxels=margin, jitter_mm=30.0, seed=seed)(example)["box"]
    for low, high in zip(box[:3], box[3:], strict=True):
        assert (low >= 0 and high <= 8) if length <= 8 else (low <= 0 and high >= 8)
