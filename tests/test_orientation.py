"""Reorientations against nibabel's, and boxes against the voxels that they hold."""

from __future__ import annotations

import pickle
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box, world_bounds
from reasonknee_datasets.errors import GeometryError
from reasonknee_datasets.orientation import (
    TOLERANCE_MM,
    Reorientation,
    axcodes,
    between,
    describe_geometry,
    to_canonical,
)
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

REAL = OFFICIAL / "knee_mri" / "MESE_TE006.3.nii.gz"
SHAPE = (5, 6, 8)
EVERY = list(Reorientation.all())
Affine = NDArray[np.float64]

turns = st.sampled_from(EVERY)
shapes = st.tuples(*[st.integers(1, 9)] * 3)


@st.composite
def affines(draw: st.DrawFn, most_degrees: float = 180.0) -> Affine:
    """Draw a grid: any rotation up to so many degrees about each axis, any spacing, either handedness, any origin."""
    angles = [np.deg2rad(draw(st.floats(-most_degrees, most_degrees))) for _ in range(3)]
    spacing = [draw(st.floats(0.3, 3.0)) for _ in range(3)]
    spacing[0] *= draw(st.sampled_from([-1, 1]))
    origin = [draw(st.floats(-150, 150)) for _ in range(3)]
    return np.asarray(from_matvec(euler2mat(*angles) @ np.diag(spacing), origin))


def numbered(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int64]:
    return np.arange(np.prod(shape)).reshape(shape)


def as_nibabel(turn: Reorientation) -> NDArray[np.float64]:
    """Write a reorientation as nibabel does: for each *old* axis, the new one and its direction."""
    ornt = np.empty((3, 2))
    for new, (old, flip) in enumerate(zip(turn.axes, turn.flips, strict=True)):
        ornt[old] = new, -1 if flip else 1
    return ornt


# --- one of 48 -----------------------------------------------------------------------------------------------------


def test_there_are_48_and_no_two_alike() -> None:
    assert len(set(EVERY)) == 48
    assert len({turn.apply_array(numbered((2, 2, 2))).tobytes() for turn in EVERY}) == 48
    assert EVERY[0].is_identity
    assert not any(turn.is_identity for turn in EVERY[1:])


@pytest.mark.parametrize("turn", EVERY, ids=lambda turn: f"{turn.axes}{[int(f) for f in turn.flips]}")
def test_arrays_and_affines_turn_as_in_nibabel(turn: Reorientation) -> None:
    array = numbered()
    affine = from_matvec(euler2mat(0.1, -0.2, 0.3) @ np.diag([0.7, 0.36, 0.4]), [10, -20, 30])
    turned = turn.apply_array(array)
    assert np.array_equal(turned, apply_orientation(array, as_nibabel(turn)))
    assert turn.apply_shape(SHAPE) == turned.shape
    assert np.shares_memory(turned, array)
    assert np.allclose(turn.apply_affine(affine, SHAPE), affine @ inv_ornt_aff(as_nibabel(turn), SHAPE), atol=1e-12)


@given(turns, turns, shapes, affines())
def test_inverse_and_sequence(
    one: Reorientation, two: Reorientation, shape: tuple[int, int, int], affine: Affine
) -> None:
    array = numbered(shape)
    turned = one.apply_array(array)
    assert np.array_equal(one.inverse().apply_array(turned), array)
    assert one.then(one.inverse()).is_identity
    assert one.inverse().then(one).is_identity
    both = one.then(two)
    assert np.array_equal(both.apply_array(array), two.apply_array(turned))
    assert both.apply_shape(shape) == two.apply_shape(turned.shape)
    stepwise = two.apply_affine(one.apply_affine(affine, shape), turned.shape)
    assert np.allclose(both.apply_affine(affine, shape), stepwise, atol=1e-9)


@given(turns, shapes, affines(), st.data())
def test_apply_box_keeps_voxels_and_world(
    turn: Reorientation, shape: tuple[int, int, int], affine: Affine, data: st.DataObject
) -> None:
    ends = [sorted(data.draw(st.sets(st.integers(0, n), min_size=2, max_size=2))) for n in shape]
    box = Box.from_row([low for low, _ in ends] + [high for _, high in ends])
    array = numbered(shape)
    turned = turn.apply_box(box, shape)
    assert set(array[box.slices].ravel()) == set(turn.apply_array(array)[turned.slices].ravel())
    assert np.array_equal(turn.apply_array(array[box.slices]), turn.apply_array(array)[turned.slices])
    assert turn.inverse().apply_box(turned, turn.apply_shape(shape)) == box
    assert np.allclose(world_bounds(turned, turn.apply_affine(affine, shape)), world_bounds(box, affine), atol=1e-9)


def test_axes_after_the_third_stay() -> None:
    array = np.zeros((*SHAPE, 3, 2))
    assert Reorientation((2, 0, 1)).apply_array(array).shape == (8, 5, 6, 3, 2)


def test_values_pickle_and_print() -> None:
    turn = Reorientation((np.int64(2), 0, 1), (np.bool_(True), False, False))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(turn)) == turn
    assert repr(turn) == "Reorientation(axes=(2, 0, 1), flips=(True, False, False))"
    assert eval(repr(turn)) == turn
    with pytest.raises(
        GeometryError, match=r"takes the axes 0, 1 and 2 in some order and three flips, not axes=\(0, 0, 1\)"
    ):
        Reorientation((0, 0, 1))


# --- canonical -----------------------------------------------------------------------------------------------------


@given(affines(), shapes)
def test_canonical_is_nibabels(affine: Affine, shape: tuple[int, int, int]) -> None:
    # At exactly 45 degrees rounding decides which of two axes is closer, and may decide otherwise there.
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    for axis in (0, 1):
        _, second, first = np.sort(np.moveaxis(cosines, axis, 0), axis=0)
        assume((first - second > 1e-9).all())
    turn = to_canonical(affine)
    assert np.array_equal(as_nibabel(turn), io_orientation(affine))
    assert axcodes(affine) == aff2axcodes(affine)
    image = nib.as_closest_canonical(nib.Nifti1Image(numbered(shape).astype(np.int16), affine))
    assert np.array_equal(turn.apply_array(numbered(shape)), np.asarray(image.dataobj))
    assert np.allclose(turn.apply_affine(affine, shape), image.affine, atol=1e-6)


@given(affines(most_degrees=20.0), turns)
def test_to_canonical_agrees_for_48_orientations(affine: Affine, turn: Reorientation) -> None:
    canonical = to_canonical(affine)
    saved = turn.apply_affine(affine, SHAPE)
    back = to_canonical(saved)
    assert turn.then(back) == canonical
    assert axcodes(back.apply_affine(saved, turn.apply_shape(SHAPE))) == ("R", "A", "S")


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.eye(3), np.diag([1, 1, 0, 1]), np.full((4, 4), np.nan)])
def test_affine_refused(wrong: Any) -> None:
    for use in (to_canonical, axcodes, lambda matrix: between(matrix, SHAPE, np.eye(4), SHAPE)):
        with pytest.raises(GeometryError, match="affine is not an invertible 4x4 matrix"):
            use(wrong)


# --- between two grids ---------------------------------------------------------------------------------------------


@given(affines(), shapes, turns)
def test_the_change_between_two_grids_is_found(
    affine: Affine, shape: tuple[int, int, int], turn: Reorientation
) -> None:
    other = turn.apply_affine(affine, shape)
    found = between(affine, shape, other, turn.apply_shape(shape))
    assert found == turn
    assert between(other, turn.apply_shape(shape), affine, shape) == turn.inverse()


@pytest.mark.parametrize("turn", EVERY[::5], ids=lambda turn: f"{turn.axes}{[int(f) for f in turn.flips]}")
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_what_nifti_rounds_away_is_tolerated(turn: Reorientation, form: str) -> None:
    shape = (384, 384, 160)
    affine = from_matvec(euler2mat(0.28, -0.2, 0.1) @ np.diag([0.36458, 0.36458, 0.7]), [-75.123, 82.456, -91.789])
    header = nib.Nifti1Header()
    header.set_data_shape(turn.apply_shape(shape))
    turned = turn.apply_affine(affine, shape)
    if form == "sform":
        header.set_sform(turned, code=1)
        stored = header.get_sform()
    else:
        header.set_qform(turned, code=1)  # a quaternion in float32
        stored = header.get_qform()
    assert not np.array_equal(stored, turned)
    assert between(affine, shape, stored, turn.apply_shape(shape), tol_mm=TOLERANCE_MM / 10) == turn


@given(affines(), turns, st.sampled_from(range(3)), st.sampled_from([-1.0, 1.0]))
def test_match_beyond_tolerance(affine: Affine, turn: Reorientation, axis: int, sign: float) -> None:
    shape = (20, 30, 40)
    other = turn.apply_affine(affine, shape)
    other[axis, 3] += 0.9 * TOLERANCE_MM * sign
    assert between(affine, shape, other, turn.apply_shape(shape)) == turn
    other[axis, 3] += 0.2 * TOLERANCE_MM * sign
    with pytest.raises(GeometryError, match=r"more than a permutation and flips of the axes.*0\.05 mm are allowed"):
        between(affine, shape, other, turn.apply_shape(shape))
    assert between(affine, shape, other, turn.apply_shape(shape), tol_mm=2 * TOLERANCE_MM) == turn


OBLIQUE = from_matvec(euler2mat(0, 0, np.deg2rad(10)) @ np.diag([0.7, 0.36458, 0.36458]), [-60.5, 1.25, 80.0])


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (OBLIQUE, (20, 30, 41)),  # a slice more
        (OBLIQUE, (30, 20, 40)),  # shape turned, affine not
        (OBLIQUE @ np.diag([1, 1, 1.01, 1]), (20, 30, 40)),  # another spacing
        (
            from_matvec(euler2mat(0, 0, np.deg2rad(1)) @ OBLIQUE[:3, :3], OBLIQUE[:3, 3]),
            (20, 30, 40),
        ),  # turned by a degree
        (from_matvec(euler2mat(0, 0, np.deg2rad(45)) @ OBLIQUE[:3, :3], OBLIQUE[:3, 3]), (20, 30, 40)),
        (np.diag([1.0, 1.0, 1.0, 1.0]) * 0.5 + np.diag([0, 0, 0, 0.5]), (20, 30, 40)),
    ],
)
def test_match_error_prints_both_grids(affine: Affine, shape: tuple[int, int, int]) -> None:
    with pytest.raises(
        GeometryError, match=r"The two grids in knee_000\.nii\.gz differ by more than a permutation and flips"
    ) as caught:
        between(OBLIQUE, (20, 30, 40), affine, shape, where="in knee_000.nii.gz")
    message = str(caught.value)
    assert describe_geometry(OBLIQUE, (20, 30, 40)) in message
    assert describe_geometry(affine, shape) in message
    assert "in knee_000.nii.gz" in message
    assert "mm apart" in message


def test_match_refuses_two_axes_along_one() -> None:
    skewed = np.array([[1, 0.9, 0, 0], [0.8, 0.1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    with pytest.raises(GeometryError, match="The two grids differ"):
        between(np.eye(4), SHAPE, skewed, SHAPE)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=NO_OFFICIAL)
def test_match_oblique_knee_in_every_orientation() -> None:
    image = nib.load(REAL)
    assert "".join(axcodes(image.affine)) == "PIR"
    for turn in EVERY:
        saved = image.as_reoriented(as_nibabel(turn))
        assert between(image.affine, image.shape, saved.affine, saved.shape) == turn


def test_a_grid_in_words() -> None:
    words = describe_geometry(OBLIQUE, (20, 30, 40))
    assert words.startswith("[20x30x40 voxels of 0.7x0.36458x0.36458 mm, axes RAS, origin (-60.5, 1.25, 80)")
    assert "directions ((1, 0, 0), (0, 0.98481, 0.17365), (0, -0.17365, 0.98481))]" in words


def test_match_axis_of_one_voxel() -> None:
    flipped = np.diag([-1.0, 1, 1, 1])
    assert between(np.eye(4), (1, 4, 4), flipped, (1, 4, 4)) == Reorientation(flips=(True, False, False))
    with pytest.raises(GeometryError, match="The two grids"):
        between(np.eye(4), (1, 4, 4), np.diag([2.0, 1, 1, 1]), (1, 4, 4))


def test_match_refuses_one_more_slice() -> None:
    thin = np.diag([0.01, 1, 1, 1])
    with pytest.raises(GeometryError, match=r"10x4x4 voxels .* and .*11x4x4 voxels"):
        between(thin, (10, 4, 4), thin, (11, 4, 4))
