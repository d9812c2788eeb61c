"""Views as values: their lines, boxes, tokens and affines, against nibabel and counted voxels."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import GeometryError
from reasonknee_datasets.feature import VolumeFeature, write_reference
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes import Geometry, LazyVolume, cache_info, open_volume
from reasonknee_datasets.volumes.grid_view import View, nearest_box

WHOLE = View.whole((6, 8, 10))
AFFINE = np.array([[0.7, 0, 0.1, -50], [0, 0.375, 0, -70], [-0.1, 0, 0.375, -60], [0, 0, 0, 1]])


@pytest.mark.parametrize("turn", list(Reorientation.all()))
def test_turning_is_nibabels(turn: Reorientation) -> None:
    ours = WHOLE.turn(turn)
    ornt = np.array([[turn.axes.index(axis), -1 if turn.flips[turn.axes.index(axis)] else 1] for axis in range(3)])
    theirs = nib.Nifti1Image(np.zeros((6, 8, 10), np.uint8), AFFINE).as_reoriented(ornt)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine(AFFINE), theirs.affine, atol=1e-12)
    assert ours.turn(turn.inverse()) == WHOLE


def test_cropping_is_nibabels() -> None:
    image = nib.Nifti1Image(np.zeros((6, 8, 10), np.uint8), AFFINE)
    np.testing.assert_allclose(
        WHOLE.crop(Box((1, 2, 3), (4, 4, 9))).affine(AFFINE), image.slicer[1:4, 2:4, 3:9].affine, atol=1e-12
    )


def test_then_is_one_view() -> None:
    first = WHOLE.crop(Box((1, 2, 3), (5, 8, 9))).turn(Reorientation((2, 0, 1), (True, False, True)))
    second = View.whole(first.shape).mirror(1).shift((1, 0, -2)).rescale((3, 8, 12))
    assert WHOLE.then(first).then(second) == first.mirror(1).shift((1, 0, -2)).rescale((3, 8, 12))


def test_rescaling_keeps_the_faces_or_the_centre() -> None:
    same_faces = WHOLE.rescale((3, 4, 20))
    np.testing.assert_array_equal(same_faces.faces_to_source([[0, 0, 0], [3, 4, 20]]), [[0, 0, 0], [6, 8, 10]])
    same_centre = WHOLE.rescale((4, 3, 6), (1.5, 2.5, 2.0))
    np.testing.assert_allclose(same_centre.faces_to_source([[0, 0, 0], [4, 3, 6]]), [[0, 0.25, -1], [6, 7.75, 11]])


@pytest.mark.parametrize(
    ("box", "real"),
    [
        (Box((0, 0, 0), (6, 8, 10)), Box((0, 0, 0), (6, 8, 10))),
        (Box((-2, 1, 8), (3, 4, 14)), Box((2, 0, 0), (5, 3, 2))),
        (Box((6, 0, 0), (9, 2, 2)), None),
    ],
)
def test_the_real_part_is_without_padding(box: Box, real: Box | None) -> None:
    assert WHOLE.crop(box).real((6, 8, 10)) == real


@given(st.lists(st.floats(-50, 50), min_size=6, max_size=6))
def test_nearest_box_rounds_within_half_a_voxel(numbers: list[float]) -> None:
    faces = np.sort(np.array(numbers).reshape(2, 3), axis=0)
    box = nearest_box(faces)
    moved = np.abs(np.array([box.start, box.stop]) - faces)
    thick = faces[1] - faces[0] >= 1
    assert (moved[:, thick] <= 0.5).all()
    assert (moved < 1 + 1e-9).all()


def test_nearest_box_contains_voxel_by_centre() -> None:
    # Cells of three voxels: the middle of cell 1 is the middle of voxel 4.
    cells = View.whole((9, 1, 1)).rescale((3, 1, 1))
    shown = [1, 4, 7]
    for start in range(9):
        for stop in range(start + 1, 10):
            box = cells.box_from_source(Box((start, 0, 0), (stop, 1, 1)))
            inside = [cell for cell, voxel in enumerate(shown) if start <= voxel < stop]
            if inside:
                assert list(range(box.start[0], box.stop[0])) == inside


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("6x8x10", "does not read"),
        ("6x8x10_012_0,0,0_1,1", "three axes with a start and a step"),
        ("6x8x10_012_0,0,0_1,1,x", "does not hold numbers"),
        ("6x8x10_011_0,0,0_1,1,1", "three axes with a start and a step"),
        ("6x0x10_012_0,0,0_1,1,1", "is not three positive numbers"),
        ("6x8x10_012_0,0,0_1,0,1", "three axes with a start and a step"),
    ],
)
def test_a_cut_token_is_refused(token: str, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        View.from_token(token)


class TestVolumes:
    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        numbers = np.arange(1, 481, dtype=np.int16).reshape(6, 8, 10)
        nib.save(nib.Nifti1Image(numbers, AFFINE), tmp_path / "knee.nii.gz")
        return str(tmp_path / "knee.nii.gz")

    @pytest.fixture
    def view(self) -> View:
        return WHOLE.crop(Box((1, 2, -1), (4, 9, 6)), pad=-3).turn(Reorientation((1, 2, 0), (True, False, False)))

    def expected(self, path: str) -> np.ndarray:
        padded = np.full((6, 9, 11), -3)
        padded[:, :8, 1:] = nib.load(path).get_fdata()
        return padded[1:4, 2:9, 0:7].transpose(1, 2, 0)[::-1]

    def test_it_is_read_as_numpy_would_index(self, path: str, view: View) -> None:
        volume = open_volume(path).through(view)
        expected = self.expected(path)
        assert volume.shape == expected.shape == view.shape
        np.testing.assert_array_equal(np.asarray(volume), expected)
        np.testing.assert_array_equal(volume.get_fdata(), expected)
        assert volume.get_fdata().dtype == np.float64
        assert np.asarray(volume).dtype == np.int16
        for index in [np.s_[2], np.s_[..., 1], np.s_[1:5:2, ::-1, None, 2], np.s_[-1, 3:1:-1], np.s_[4:4], np.s_[:]]:
            np.testing.assert_array_equal(volume.dataobj[index], expected[index])
        np.testing.assert_array_equal(volume.slicer[1:4, 2:5].get_fdata(), expected[1:4, 2:5])
        np.testing.assert_array_equal(volume.read_region(Box((1, 0, 2), (3, 4, 3))), expected[1:3, 0:4, 2:3])

    def test_header_and_affine_follow(self, path: str, view: View) -> None:
        volume = open_volume(path).through(view)
        np.testing.assert_allclose(volume.affine, view.affine(nib.load(path).affine))
        np.testing.assert_allclose(volume.header.get_zooms(), nib.affines.voxel_sizes(volume.affine), rtol=1e-6)
        assert volume.header.get_data_shape() == view.shape

    def test_dim_info_follows(self, tmp_path: Path, view: View) -> None:
        image = nib.Nifti1Image(np.zeros((6, 8, 10), np.int16), AFFINE)
        image.header.set_dim_info(freq=1, phase=2, slice=0)
        nib.save(image, tmp_path / "k.nii")
        assert open_volume(tmp_path / "k.nii").through(view).header.get_dim_info() == (0, 1, 2)

    def test_a_view_of_a_viewed_volume(self, path: str, view: View) -> None:
        inner = Box((1, 1, 0), (4, 3, 2))
        volume = open_volume(path).through(view).through(View.whole(view.shape).crop(inner))
        np.testing.assert_array_equal(np.asarray(volume), self.expected(path)[inner.slices])
        np.testing.assert_array_equal(np.asarray(volume.whole), nib.load(path).get_fdata())

    def test_pickles_without_voxels(self, path: str, view: View) -> None:
        volume = open_volume(path).through(view)
        np.asarray(volume)
        data = pickle.dumps(volume)
        again = pickle.loads(data)
        assert again.view == view
        assert len(data) < 2_000
        np.testing.assert_array_equal(np.asarray(again), self.expected(path))

    def test_reference_of_a_row_keeps_view(self, path: str, view: View) -> None:
        reference = write_reference(path, Geometry((6, 8, 10), nib.load(path).affine))
        volume = LazyVolume.from_reference(reference).through(view)
        written = VolumeFeature().encode_example(volume)
        assert written == f"{reference}@{view.to_token()}"
        again = VolumeFeature().decode_example(written)
        np.testing.assert_array_equal(np.asarray(again), self.expected(path))
        twice = again.through(View.whole(view.shape).crop(Box((0, 0, 0), (1, 1, 1))))
        assert LazyVolume.from_reference(VolumeFeature().encode_example(twice)).view == twice.view
        assert VolumeFeature().encode_example(twice.whole) == reference
        for kept in (pickle.loads(pickle.dumps(volume)), volume.__copy__()):
            assert VolumeFeature().encode_example(kept) == written

    def test_a_path_with_marks_in_it(self, view: View) -> None:
        reference = write_reference("s3://user@host/odd #1/knee@2.nii.gz", None)
        volume = LazyVolume.from_reference(reference).through(view)
        assert LazyVolume.from_reference(volume.reference).view == view
        assert LazyVolume.from_reference(volume.reference).whole.reference == reference

    def test_looking_at_the_grid_opens_nothing(self, view: View) -> None:
        volume = open_volume("/no/such/knee.nii.gz", geometry=Geometry((6, 8, 10), AFFINE))
        decodes = cache_info().decodes
        assert volume.grid[0] == (6, 8, 10)
        shape, affine = volume.through(view).grid
        assert shape == view.shape
        np.testing.assert_array_equal(affine, view.affine(AFFINE))
        assert cache_info().decodes == decodes

    def test_without_a_known_geometry_the_header_tells(self, path: str, view: View) -> None:
        assert open_volume(path).grid[0] == (6, 8, 10)
        assert open_volume(path).through(view).grid[0] == view.shape

    def test_view_over_turned_geometry(self, path: str) -> None:
        turn = Reorientation((2, 1, 0), (False, True, False))
        affine = turn.apply_affine(nib.load(path).affine, (6, 8, 10))
        volume = open_volume(path, geometry=Geometry((10, 8, 6), affine))
        box = Box((2, 3, 1), (9, 5, 4))
        np.testing.assert_array_equal(
            np.asarray(volume.through(View.whole((10, 8, 6)).crop(box))),
            turn.apply_array(nib.load(path).get_fdata())[box.slices],
        )

    def test_it_stays_a_lazy_volume(self, path: str, view: View) -> None:
        volume = open_volume(path).through(view)
        assert isinstance(volume, LazyVolume)
        assert repr(volume) == repr(open_volume(path))
