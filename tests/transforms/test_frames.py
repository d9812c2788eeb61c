"""Frames: the authors' pixel for pixel, ours the right way up, and boxes in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.figures.planes import cut_planes
from reasonknee_datasets.transforms import (
    FRAME_RECIPES,
    Compose,
    CropToBox,
    RandomFlip,
    Resize,
    ToCanonical,
    ToFrames,
    TransformError,
    Window,
)
from reasonknee_datasets.volumes import open_volume
from tests.helpers.transform_examples import knee, plain_case

SHAPE = (20, 30, 40)
AFFINE = np.array([[0, 0, 0.7, -20], [-0.4, 0, 0, 9], [0, -0.5, 0, 3], [0, 0, 0, 1.0]])


def scan(shape: tuple[int, ...] = SHAPE, dtype: Any = np.int16) -> np.ndarray:
    values = np.random.default_rng(0).gamma(2.0, 90.0, shape)
    values[3] = 0  # an empty slice, as at the edge of a field of view
    values[5, :, :9] = 2_000
    return values.astype(dtype)


@pytest.fixture(params=["int16", "float32", "scaled"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shape = (140, 12, 9)
    image = nib.Nifti1Image(scan(shape, np.float32 if request.param == "float32" else np.int16), AFFINE)
    if request.param == "scaled":
        image.header.set_slope_inter(0.37, -11.5)
        image = nib.Nifti1Image(scan(shape) * 0.37 - 11.5, AFFINE, image.header)
    nib.save(image, tmp_path / "knee.nii.gz")
    return tmp_path / "knee.nii.gz"


def as_pngs(slices: list[np.ndarray], folder: Path) -> np.ndarray:
    """Write slices as 8-bit pictures and read them again, as the authors hand them to their models."""
    for number, one in enumerate(slices):
        with np.errstate(invalid="ignore"):
            Image.fromarray(one.astype(np.uint8)).save(folder / f"{number}.png")
    return np.stack([np.asarray(Image.open(folder / f"{number}.png")) for number in range(len(slices))])


class TestOfficial:
    """The recipes of the authors' zero_shot scripts, written down again from what those scripts do."""

    def test_qwen(self, path: Path, tmp_path: Path) -> None:
        data = nib.load(path).get_fdata()
        slices = []
        for one in data:
            clipped = np.clip(one, 0, 400)
            with np.errstate(invalid="ignore", divide="ignore"):
                slices.append((clipped - clipped.min()) / (clipped.max() - clipped.min()) * 255)
        shown = FRAME_RECIPES["official_qwen"]({"volume": open_volume(path)})
        assert shown["frames"].dtype == np.uint8
        np.testing.assert_array_equal(shown["frames"], as_pngs(slices, tmp_path))
        assert shown["frame_fps"] == 4.0

    def test_o1(self, path: Path, tmp_path: Path) -> None:
        data = nib.load(path).get_fdata()
        chosen = np.linspace(32, 128, 32, dtype=int)
        slices = [(np.clip(data[i], 0, 400) - data.min()) / (data.max() - data.min()) * 255 for i in chosen]
        shown = FRAME_RECIPES["official_o1"]({"volume": open_volume(path)})
        np.testing.assert_array_equal(shown["frames"], as_pngs(slices, tmp_path))
        assert FRAME_RECIPES["official_o1"].slices(open_volume(path)) == chosen.tolist()

    @pytest.mark.slow
    def test_whatever_axis_comes_first(self) -> None:
        # 384 slices of 384 x 160 where the array is stored so: the authors ask for shape[0] alone.
        volume = nib.Nifti1Image(np.zeros((384, 384, 160), np.int16), AFFINE)
        assert FRAME_RECIPES["official_qwen"]({"volume": volume})["frames"].shape == (384, 384, 160)
        assert FRAME_RECIPES["official_o1"]({"volume": volume})["frames"].shape == (32, 384, 160)

    def test_too_few_slices_for_o1(self) -> None:
        with pytest.raises(TransformError, match=r"need slice 128, but a volume of shape \(20, 30, 40\) has 20 slices"):
            FRAME_RECIPES["official_o1"]({"volume": nib.Nifti1Image(scan(), AFFINE)})

    def test_a_flat_volume_is_black(self) -> None:
        flat = {"volume": nib.Nifti1Image(np.full((130, 2, 2), 7, np.int16), np.eye(4))}
        assert not FRAME_RECIPES["official_qwen"](flat)["frames"].any()
        assert not FRAME_RECIPES["official_o1"](flat)["frames"].any()

    def test_recipes_are_values(self) -> None:
        assert set(FRAME_RECIPES) == {"official_qwen", "official_o1", "clean_qwen", "clean_o1"}
        for recipe in FRAME_RECIPES.values():
            assert eval(repr(recipe)) == recipe


class TestClean:
    @pytest.mark.parametrize("seed", [0, 1, 5, 7])
    @pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
    def test_frames_are_shown_as_figures_show_them(self, seed: int, plane: str) -> None:
        image = nib.Nifti1Image(knee(seed, "left").voxels, knee(seed, "left").affine)
        middle = cut_planes(image)[plane]  # type: ignore[index]
        shown = ToFrames(plane)({"volume": image})["frames"]
        axis, index, count = middle.cut
        # Frames run with RAS+, whichever way the array does.
        along = (
            "LPI".index(nib.aff2axcodes(image.affine)[axis]) if nib.aff2axcodes(image.affine)[axis] in "LPI" else None
        )
        frame = index if along is None else count - 1 - index
        assert len(shown) == count
        np.testing.assert_array_equal(shown[frame], Window(dtype="uint8").scale(middle.image, 0, 400))

    def test_the_patella_is_in_front_and_above(self) -> None:
        # Anterior is at the left and superior on top of a sagittal frame: columns and rows run against RAS+.
        for seed, side in [(0, "left"), (1, "right")]:
            drawn = knee(seed, side)
            row, column = _middle_of(drawn, (56, 57), "sagittal")
            tibia_row, tibia_column = _middle_of(drawn, tuple(range(58, 65)), "sagittal")
            assert row < tibia_row
            assert column < tibia_column

    def test_one_window_for_all_frames(self) -> None:
        volume = nib.Nifti1Image(scan(), AFFINE)
        shown = FRAME_RECIPES["clean_qwen"]({"volume": volume})["frames"]
        canonical = np.asarray(nib.as_closest_canonical(volume).dataobj)
        expected = np.rint(np.clip(canonical, 0, 400) * np.float32(255 / 400)).transpose(0, 2, 1)[:, ::-1, ::-1]
        np.testing.assert_array_equal(shown, expected)
        assert shown.flags.c_contiguous

    def test_a_volumes_percentiles(self) -> None:
        volume = nib.Nifti1Image(scan(), AFFINE)
        low, high = np.percentile(scan(), (1, 99))
        shown = ToFrames("axis0", window=Window(1, 99, method="percentiles"))({"volume": volume})["frames"]
        np.testing.assert_allclose(shown, np.rint((np.clip(scan(), low, high) - low) * 255 / (high - low)), atol=1)

    def test_a_crop_is_windowed_as_its_volume(self) -> None:
        example = {"volume": nib.Nifti1Image(scan(), AFFINE), "box": [2, 3, 4, 8, 9, 12]}
        recipe = ToFrames("axis0", window=Window(1, 99, method="percentiles"))
        np.testing.assert_array_equal(recipe(CropToBox()(example))["frames"], recipe(example)["frames"][2:8, 3:9, 4:12])

    def test_mirrored_knee_has_other_sides_frames(self) -> None:
        example = plain_case("left", 0).example()
        recipe = ToFrames("coronal", window=(0, 500_000))
        plain, flipped = recipe(example)["frames"], recipe(RandomFlip(1.0)(example))["frames"]
        np.testing.assert_array_equal(flipped, plain[..., ::-1])


class TestSampling:
    def frames(self, length: int, **settings: Any) -> list[int]:
        volume = nib.Nifti1Image(np.zeros((length, 4, 4), np.int16), np.eye(4))
        return ToFrames("sagittal", **settings).slices(volume)

    def test_every_slice(self) -> None:
        assert self.frames(7) == [0, 1, 2, 3, 4, 5, 6]

    def test_slices_are_middles_of_equal_cells(self) -> None:
        assert self.frames(10, count=5) == [1, 3, 5, 7, 9]
        assert self.frames(9, count=3) == [1, 4, 7]
        assert self.frames(160, count=32) == [2 + 5 * k for k in range(32)]

    def test_a_share_of_them(self) -> None:
        assert self.frames(10, span=(0.2, 0.8)) == [2, 3, 4, 5, 6, 7]
        assert self.frames(160, count=32, span=(0.2, 0.8)) == [33 + 3 * k for k in range(32)]
        assert self.frames(3, span=(0.4, 0.45)) == [1]

    def test_more_frames_than_slices_repeat_slices(self) -> None:
        assert self.frames(3, count=6) == [0, 0, 1, 1, 2, 2]

    def test_they_are_shown(self) -> None:
        values = scan()
        shown = ToFrames("axis0", count=4)({"volume": nib.Nifti1Image(values, AFFINE)})["frames"]
        np.testing.assert_array_equal(shown, Window(dtype="uint8").scale(values[[2, 7, 12, 17]], 0, 400))


class TestPixels:
    def test_one_number_keeps_the_patients_proportions(self) -> None:
        volume = nib.Nifti1Image(np.zeros((384, 384, 160), np.int16), np.diag([0.4, 0.4, 0.7, 1.0])[:, [0, 1, 2, 3]])
        # A coronal slice of this volume is 384 x 0.4 mm wide and 160 x 0.7 mm high.
        assert ToFrames("coronal", count=2, size=192)({"volume": volume})["frames"].shape == (2, 140, 192)
        assert ToFrames("coronal", count=2, size=(50, 60))({"volume": volume})["frames"].shape == (2, 50, 60)
        assert ToFrames("coronal", count=2)({"volume": volume})["frames"].shape == (2, 160, 384)

    def test_they_are_pillows(self) -> None:
        values = scan(dtype=np.float32)
        shown = ToFrames("axis0", size=(14, 21))({"volume": nib.Nifti1Image(values, AFFINE)})["frames"]
        for frame, one in zip(shown, values, strict=True):
            smaller = np.asarray(Image.fromarray(one).resize((21, 14), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(frame, np.rint(np.clip(smaller, 0, 400) * (255 / 400)), atol=1)


class TestBoxes:
    @pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial", "axis0"])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_frame_box_holds_the_region(self, plane: str, seed: int) -> None:
        case = plain_case("right", seed)
        marked = nib.Nifti1Image(case.mask.astype(np.int16) * 400, np.array(case.affine))
        shown = ToFrames(plane)({"volume": marked, "box": case.box.to_row()})
        assert Box.from_mask(shown["frames"]).to_row() == shown["frame_box"]

    def test_frame_box_of_thin_box(self) -> None:
        volume = nib.Nifti1Image(np.zeros((40, 4, 4), np.int16), np.eye(4))
        for slice_ in range(40):
            shown = ToFrames("sagittal", count=4)({"volume": volume, "box": [slice_, 0, 0, slice_ + 1, 4, 4]})
            assert shown["frame_box"][0] == slice_ // 10
            assert shown["frame_box"][3] == slice_ // 10 + 1

    def test_frame_box_of_box_beyond_frames(self) -> None:
        volume = nib.Nifti1Image(np.zeros((160, 4, 4), np.int16), np.eye(4))
        shown = FRAME_RECIPES["clean_o1"]({"volume": volume, "box": [2, 0, 0, 14, 4, 4]})
        assert shown["frame_box"][0] < shown["frame_box"][3] <= 0

    def test_back_to_the_stored_volume_through_everything(self) -> None:
        case = plain_case("left", 5)
        example = Compose([ToCanonical(), CropToBox(margin_mm=8), RandomFlip(1.0)])(case.example())
        recipe = ToFrames("sagittal")
        shown = recipe(example)
        assert recipe.view(example["volume"]).box_to_source(Box.from_row(shown["frame_box"])) == case.box

    def test_the_volume_and_its_box_stay(self) -> None:
        example = plain_case().example()
        shown = ToFrames("axial", count=8, size=28)(example)
        assert all(shown[key] is example[key] for key in example)

    def test_frames_of_a_resized_volume(self) -> None:
        example = Resize((24, 32, 32))(plain_case().example())
        shown = ToFrames("axis0", window=(0, 500_000))(example)
        np.testing.assert_array_equal(
            shown["frames"], Window(0, 500_000, dtype="uint8").scale(np.asarray(example["volume"].dataobj), 0, 500_000)
        )


class TestBadInput:
    def test_a_window_before_it(self) -> None:
        with pytest.raises(TransformError, match=r"ToFrames reads stored values, but a Window before it"):
            ToFrames()(Window()(plain_case().example()))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"plane": "oblique"}, r"plane must be one of sagittal, coronal, axial, axis0, not 'oblique'"),
            ({"scaling": "minmax"}, r"scaling must be one of window, slice, volume"),
            ({"count": 0}, r"count must be a whole number, at least 1, not 0"),
            ({"count": 2.5}, r"count must be a whole number, at least 1, not 2\.5"),
            ({"size": (3, 4, 5)}, r"size must be a whole number of pixels, or two, not \(3, 4, 5\)"),
            ({"size": "large"}, r"size must be a whole number of pixels, or two, not 'large'"),
            ({"span": (0.8, 0.2)}, r"span must be two shares, rising from 0 to 1"),
            ({"span": (0.0, 1.2)}, r"span must be two shares, rising from 0 to 1"),
            ({"ends": (32, 128)}, r"ends needs a count of at least 2, .* not count=None"),
            ({"ends": (128, 32), "count": 4}, r"ends must be two rising slice numbers"),
            ({"window": Window(method="zscore")}, r"the window of frames must have method 'clip'"),
            (
                {"window": Window(method="percentiles"), "scaling": "slice"},
                r"the window of frames must have method 'clip'",
            ),
        ],
    )
    def test_bad_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(TransformError, match=message):
            ToFrames(**settings)


def test_frame_box_of_box_set_after_resampling() -> None:
    volume = nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), np.eye(4))
    example = Resize(20)({"volume": volume, "box": [1, 3, 5, 11, 13, 15]})
    shown = ToFrames("axis0")
    assert shown(example)["frame_box"] == example["box"]
    assert shown({**example, "box": [2, 2, 2, 4, 4, 4]})["frame_box"] == [2, 2, 2, 4, 4, 4]
    assert ToFrames("axis0", count=40, size=(40, 40))(example)["frame_box"] == [1, 3, 5, 11, 13, 15]


def test_a_recipe_can_be_written_down() -> None:
    # Settings of frames in a result's metadata.
    assert json.dumps(repr(FRAME_RECIPES["official_o1"]))
    assert eval(repr(FRAME_RECIPES["clean_o1"])) == FRAME_RECIPES["clean_o1"]


def _middle_of(drawn: Any, labels: tuple[int, ...], plane: str) -> tuple[float, float]:
    marked = np.isin(drawn.mask, labels).astype(np.int16) * 400
    shown = ToFrames(plane)({"volume": nib.Nifti1Image(marked, drawn.affine)})["frames"]
    _, row, column = np.argwhere(shown > 0).mean(axis=0)
    return row, column
