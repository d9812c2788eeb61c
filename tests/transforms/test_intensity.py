"""Windows against numpy, per volume and per crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.transforms import CropToBox, RandomIntensity, RandomShift, Resize, TransformError, Window
from reasonknee_datasets.transforms.intensity import statistics
from reasonknee_datasets.volumes import cache_info, open_volume
from reasonknee_datasets.volumes.grid_view import View

VALUES = np.random.default_rng(0).gamma(2.0, 90.0, (12, 14, 16)).astype(np.int16) - 20
BOX = [2, 3, 4, 8, 9, 12]
CROP = np.s_[2:8, 3:9, 4:12]


def example(values: np.ndarray = VALUES, box: list[int] = BOX) -> dict[str, Any]:
    return {"id": "0000001/00M/right/q01", "volume": nib.Nifti1Image(values, np.eye(4)), "box": box}


def windowed(*args: Any, crop: CropToBox | None = None, **settings: Any) -> np.ndarray:
    voxels: np.ndarray = Window(*args, **settings)((crop or CropToBox())(example()))["voxels"]
    return voxels


class TestWindow:
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_clip(self, dtype: str) -> None:
        expected = np.clip(VALUES[CROP], 0, 400) / 400
        found = windowed(dtype=dtype)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, atol=1e-6 if dtype == "float32" else 1e-3)

    def test_eight_bits(self) -> None:
        np.testing.assert_array_equal(
            windowed(50, 300, dtype="uint8"),
            np.rint((np.clip(VALUES[CROP], 50, 300) - 50) * (255 / 250)).astype(np.uint8),
        )

    @pytest.mark.parametrize("per", ["volume", "crop"])
    @pytest.mark.parametrize("shares", [(0.5, 99.5), (0, 100), (7.3, 61.9)])
    def test_percentiles(self, per: str, shares: tuple[float, float]) -> None:
        low, high = np.percentile(VALUES if per == "volume" else VALUES[CROP], shares)
        expected = (np.clip(VALUES[CROP], low, high) - low) / (high - low)
        np.testing.assert_allclose(windowed(*shares, method="percentiles", per=per), expected, atol=1e-5)

    @pytest.mark.parametrize("per", ["volume", "crop"])
    def test_z_scores(self, per: str) -> None:
        over = VALUES if per == "volume" else VALUES[CROP]
        np.testing.assert_allclose(
            windowed(method="zscore", per=per), (VALUES[CROP] - over.mean()) / over.std(), atol=1e-5
        )

    def test_padding_does_not_sway_a_crops_window(self) -> None:
        crop = CropToBox(size=(30, 6, 8), pad_value=-20)
        low, high = np.percentile(VALUES[:, 3:9, 4:12], (0, 100))
        found = windowed(0, 100, method="percentiles", per="crop", crop=crop)
        np.testing.assert_allclose(found[10:22], (VALUES[:, 3:9, 4:12] - low) / (high - low), atol=1e-6)
        alone = {**example(), "volume": CropToBox(size=(5, 5, 5))(example(box=[0, 0, 0, 1, 1, 1]))["volume"]}
        beyond = RandomShift(max_mm=0.0)({**alone, "volume": alone["volume"]})
        beyond["volume"].dataobj.view = View.whole(VALUES.shape).shift((99, 0, 0))
        with pytest.raises(TransformError, match=r"is outside its volume, so there are no voxels to window"):
            Window(method="zscore", per="crop")(beyond)

    def test_a_resampled_volume(self) -> None:
        resized = Resize(6)(example())
        np.testing.assert_allclose(
            Window()(resized)["voxels"], np.clip(np.asarray(resized["volume"].dataobj), 0, 400) / 400, atol=1e-6
        )

    @pytest.mark.parametrize("method", ["percentiles", "zscore"])
    def test_a_flat_volume_is_black(self, method: str) -> None:
        flat = Window(method=method)(example(np.full((4, 4, 4), 7, np.int16), [0, 0, 0, 2, 2, 2]))["voxels"]
        assert (flat == 0).all()

    def test_window_after_window_uses_its_values(self) -> None:
        once = Window(0, 800)(example())
        twice = Window(0.25, 0.5)(once)
        np.testing.assert_allclose(twice["voxels"], (np.clip(once["voxels"], 0.25, 0.5) - 0.25) * 4, atol=1e-6)
        assert twice["voxels"] is not once["voxels"]
        assert Window(0.0, 1.0)(once)["voxels"] is not once["voxels"]
        with pytest.raises(TransformError, match=r"Window\(method='zscore', per='volume'\) needs the stored values"):
            Window(method="zscore")(once)
        assert abs(float(Window(method="zscore", per="crop")(once)["voxels"].mean())) < 1e-5

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"low": 400, "high": 0}, r"low must be below high, not low=400 and high=0"),
            (
                {"low": 1, "high": 200, "method": "percentiles"},
                r"are percentiles from 0 to 100, not low=1 and high=200",
            ),
            ({"method": "minmax"}, r"method must be one of clip, percentiles, zscore, not 'minmax'"),
            ({"per": "slice"}, r"per must be one of volume, crop, not 'slice'"),
            ({"dtype": "bfloat16"}, r"dtype must be one of float32, float16, uint8, not 'bfloat16'"),
            ({"method": "zscore", "dtype": "uint8"}, "A z-score may be negative"),
            ({"method": "zscore", "low": 1.0}, r"method='zscore' has no bounds"),
        ],
    )
    def test_bad_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(TransformError, match=message):
            Window(**settings)


class TestPerVolume:
    @pytest.mark.parametrize("method", ["percentiles", "zscore"])
    def test_a_volume_is_looked_through_once(self, tmp_path: Path, method: str) -> None:
        nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "knee.nii.gz")
        before = cache_info()
        for start in range(6):
            row = {"volume": open_volume(tmp_path / "knee.nii.gz"), "box": [start, 0, 0, start + 2, 5, 5]}
            found = Window(method=method)(CropToBox()(row))["voxels"]
            by_hand = Window(method=method)(CropToBox()({**example(), "box": row["box"]}))["voxels"]
            np.testing.assert_allclose(found, by_hand, atol=1e-6)
        after = cache_info()
        assert after.decodes - before.decodes == 1
        # One whole volume for the window, then only crops.
        assert after.hits - before.hits == 6

    def test_volume_statistics_of_changed_file(self, tmp_path: Path) -> None:
        path = tmp_path / "knee.nii.gz"
        for factor in (1, 3):
            nib.save(nib.Nifti1Image((VALUES * factor).astype(np.int16), np.eye(4)), path)
            found = Window(method="zscore")({"volume": open_volume(path)})["voxels"]
            assert abs(float(found.mean())) < 1e-5

    def test_clip_looks_at_the_crop_alone(self, tmp_path: Path) -> None:
        nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "knee.nii.gz")
        row = {"volume": open_volume(tmp_path / "knee.nii.gz", cache=None), "box": BOX}
        np.testing.assert_allclose(Window()(CropToBox()(row))["voxels"], np.clip(VALUES[CROP], 0, 400) / 400, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_statistics_are_numpys(dtype: Any, order: Any) -> None:
    values = np.asarray(VALUES % 120 - (0 if np.dtype(dtype).kind == "u" else 60)).astype(dtype, order=order)[:, ::2]
    assert statistics(values, "range") == (values.min(), values.max())
    np.testing.assert_allclose(statistics(values, "percentiles", 3.3, 98.1), np.percentile(values, (3.3, 98.1)))
    np.testing.assert_allclose(
        statistics(values, "zscore"), (values.mean(dtype=np.float64), values.std(dtype=np.float64))
    )


class TestRandomIntensity:
    def test_it_is_a_gain_and_an_offset(self) -> None:
        voxels = windowed()
        changed = RandomIntensity(gain=0.3, offset=0.2)({**example(), "voxels": voxels})["voxels"]
        gain, offset = np.polyfit(voxels.ravel(), changed.ravel(), 1)
        assert 0.7 <= gain <= 1.3
        assert abs(offset) <= 0.2
        np.testing.assert_allclose(changed, gain * voxels + offset, atol=1e-5)
        assert changed.dtype == np.float32

    def test_eight_bits_stay_eight_bits(self) -> None:
        voxels = windowed(dtype="uint8")
        found = {
            RandomIntensity(gain=0.9, offset=0.9)({"id": str(n), "voxels": voxels})["voxels"].dtype.name
            for n in range(5)
        }
        assert found == {"uint8"}
        bright = RandomIntensity(gain=0.0, offset=5.0, seed=1)({"id": "a", "voxels": voxels})["voxels"]
        assert set(np.unique(bright)) <= set(range(256))

    def test_it_comes_after_window(self) -> None:
        with pytest.raises(TransformError, match=r"RandomIntensity .* needs the key voxels. Put Window before it"):
            RandomIntensity()(example())

    @pytest.mark.parametrize(
        ("name", "value"), [("gain", 1.0), ("gain", -0.1), ("offset", -1.0), ("gain", float("nan"))]
    )
    def test_bad_settings(self, name: str, value: float) -> None:
        with pytest.raises(TransformError, match=rf"{name} must be (below 1|a number, at least 0)"):
            RandomIntensity(**{name: value})
