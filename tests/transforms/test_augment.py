"""Moving anatomy: what swaps, what stays, and what is refused."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.orientation import to_canonical
from reasonknee_datasets.transforms import (
    Compose,
    CropToBox,
    RandomFlip,
    RandomShift,
    ToCanonical,
    TransformError,
    Window,
)
from reasonknee_datasets.transforms.regrid import current_view
from tests.helpers.transform_examples import knee, plain_case


class TestFlip:
    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 1, 5, 7])
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_medial_changes_its_side_of_the_world(self, seed: int, side: str) -> None:
        # The medial meniscus is towards the other knee: +x of the lateral one in a left knee, -x in a right one.
        case = plain_case(side, seed)
        flipped = RandomFlip(p=1.0)(case.example())
        assert flipped["side"] == {"left": "right", "right": "left"}[side]
        assert flipped["mirrored"] is True
        mask = current_view(flipped["volume"])
        for view, medial_is_right in ((current_view(case.volume()), side == "left"), (mask, side == "right")):
            labels = _labels(view, seed, side)
            medial, lateral = (_middle(labels, label, view, case.affine) for label in _menisci(seed, side))
            assert (medial[0] > lateral[0]) == medial_is_right

    def test_everything_else_stays(self) -> None:
        example = {**plain_case().example(), "finding": "cartilage_lesion", "grades": [{"grade": 1}], "question_id": 19}
        flipped = RandomFlip(p=1.0)(example)
        changed = {key for key in flipped if flipped[key] is not example.get(key)}
        assert changed == {"volume", "box", "box_volume", "region", "side", "mirrored"}

    def test_flipping_twice_is_nothing(self) -> None:
        example = plain_case().example()
        twice = Compose([RandomFlip(p=1.0), ToCanonical(), RandomFlip(p=1.0, seed=1)])(example)
        assert (twice["side"], twice["mirrored"], twice["box"]) == ("right", False, ToCanonical()(example)["box"])
        np.testing.assert_array_equal(
            np.asarray(twice["volume"].dataobj), np.asarray(ToCanonical()(example)["volume"].dataobj)
        )

    def test_how_often(self) -> None:
        volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
        mirrored = [
            RandomFlip(p=0.25)({"id": f"{n:07d}/00M/left/q01", "side": "left", "volume": volume})["mirrored"]
            for n in range(400)
        ]
        assert 75 < sum(mirrored) < 125

    def test_not_flipped_is_said_too(self) -> None:
        example = RandomFlip(p=0.0)(plain_case().example())
        assert (example["mirrored"], example["side"]) == (False, "right")
        assert example["box"] == plain_case().box.to_row()

    def test_flip_moves_windowed_voxels_too(self) -> None:
        example = Window(0, 500_000)(plain_case().example())
        axis = to_canonical(example["volume"].affine).axes[0]
        np.testing.assert_array_equal(RandomFlip(p=1.0)(example)["voxels"], np.flip(example["voxels"], axis))

    @pytest.mark.parametrize("plane", ["coronal", "axial", "horizontal", "vertical", 0])
    def test_any_other_plane_is_refused_by_name(self, plane: Any) -> None:
        with pytest.raises(TransformError, match=rf"plane must be 'sagittal', not {plane!r}"):
            RandomFlip(plane=plane)

    @pytest.mark.parametrize("p", [-0.1, 1.5, (0.1, 0.2, 0.3), "often"])
    def test_a_probability_is_one(self, p: Any) -> None:
        with pytest.raises(TransformError, match=r"p must be a (probability|number)"):
            RandomFlip(p=p)

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("question", "Grade the cartilage of the Right femur."),
            ("question", "Is there a left-sided effusion?"),
            ("reasoning", ["Find the patella.", "Look at its rightmost facet."]),
            ("answer", '{"left knee": 1}'),
            ("answer", '{"left_knee": 1}'),
            ("answer", "side_right2"),
            ("answer", "LEFT"),
        ],
    )
    @pytest.mark.parametrize("p", [0.0, 1.0])
    def test_flip_refuses_text_naming_a_side(self, key: str, text: Any, p: float) -> None:
        with pytest.raises(
            TransformError, match=rf"The text in {key} names a side \(.*would be wrong in a mirrored knee"
        ):
            RandomFlip(p=p)({**plain_case().example(), key: text})

    def test_flip_accepts_words_resembling_sides(self) -> None:
        text = "A bright, upright, cleft-like signal that has leftover noise; copyright."
        assert RandomFlip(p=1.0)({**plain_case().example(), "question": text})["mirrored"]

    def test_a_side_that_is_none(self) -> None:
        with pytest.raises(TransformError, match=r"side must be 'left' or 'right', as in the column side, not 'R'"):
            RandomFlip(p=1.0)({**plain_case().example(), "side": "R"})

    def test_an_example_without_a_side(self) -> None:
        example = {key: value for key, value in plain_case().example().items() if key != "side"}
        assert "side" not in RandomFlip(p=1.0)(example)


class TestShift:
    def example(self, number: int, box: list[int]) -> dict[str, Any]:
        numbers = np.arange(1, 20 * 30 * 40 + 1, dtype=np.int32).reshape(20, 30, 40)
        volume = nib.Nifti1Image(numbers, np.diag([2.0, 1.0, 0.5, 1.0]), dtype=np.int32)
        return {"id": f"{number:07d}/00M/left/q01", "volume": volume, "box": box}

    def test_shift_moves_by_at_most_max_mm(self) -> None:
        boxes = np.array([RandomShift(max_mm=4.0)(self.example(n, [8, 12, 16, 11, 16, 22]))["box"] for n in range(300)])
        moves = boxes - [8, 12, 16, 11, 16, 22]
        np.testing.assert_array_equal(moves[:, :3], moves[:, 3:])
        np.testing.assert_array_equal(moves[:, :3].min(axis=0), [-2, -4, -8])
        np.testing.assert_array_equal(moves[:, :3].max(axis=0), [2, 4, 8])

    def test_the_box_stays_inside(self) -> None:
        boxes = np.array([RandomShift(max_mm=40.0)(self.example(n, [0, 12, 36, 3, 16, 40]))["box"] for n in range(100)])
        assert (boxes[:, :3] >= 0).all()
        assert (boxes[:, 3:] <= [20, 30, 40]).all()

    def test_random_shift_keeps_truncated_box(self) -> None:
        cropped = CropToBox(size=4)(self.example(1, [2, 2, 2, 12, 12, 12]))
        assert RandomShift(max_mm=9.0)(cropped)["box"] == cropped["box"]

    def test_shift_reads_neighbours_before_padding(self) -> None:
        cropped = CropToBox(margin_voxels=3)(self.example(3, [1, 12, 16, 4, 16, 22]))
        shifted = RandomShift(max_mm=(8.0, 0.0, 0.0), pad_value=-9)(cropped)
        start = shifted["region"][0]
        assert start != cropped["region"][0]
        whole = np.pad(
            np.asarray(self.example(3, [0] * 6)["volume"].dataobj), ((9, 9), (0, 0), (0, 0)), constant_values=-9
        )
        np.testing.assert_array_equal(
            np.asarray(shifted["volume"].dataobj), whole[start + 9 : start + 9 + 7, 9:19, 13:25]
        )

    @pytest.mark.parametrize("most", [-1.0, (1, 2), None])
    def test_bad_settings(self, most: Any) -> None:
        with pytest.raises(TransformError, match=r"max_mm must be a number, or three .*, at least 0, not"):
            RandomShift(max_mm=most)


def _labels(view: Any, seed: int, side: str) -> np.ndarray:
    from reasonknee_datasets.volumes.grid_view import read_view

    return read_view(view, knee(seed, side).mask)


def _menisci(seed: int, side: str) -> tuple[int, int]:
    from reasonknee_datasets.phantom import LABELS

    medial = next(label for name, label in LABELS.items() if "medial" in name and "meniscus" in name)
    lateral = next(label for name, label in LABELS.items() if "lateral" in name and "meniscus" in name)
    return medial, lateral


def _middle(labels: np.ndarray, label: int, view: Any, affine: Any) -> np.ndarray:
    matrix = view.affine(np.array(affine))
    middle: np.ndarray = np.argwhere(labels == label).mean(axis=0) @ matrix[:3, :3].T + matrix[:3, 3]
    return middle


def test_random_flip_moves_box_with_voxels() -> None:
    case = plain_case("left", 5)
    flipped = RandomFlip(p=1.0)(case.example())
    marked = np.isin(np.asarray(flipped["volume"].dataobj), np.flatnonzero(case.mask) + 1)
    assert Box.from_row(flipped["box"]) == Box.from_mask(marked)
