"""The laws, over random oblique affines, both layouts and both sides, on the phantom's masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box, world_bounds
from reasonknee_datasets.transforms import (
    FRAME_RECIPES,
    Compose,
    CropToBox,
    RandomFlip,
    RandomShift,
    Resample,
    Resize,
    ToCanonical,
    ToFrames,
    Transform,
)
from reasonknee_datasets.transforms.regrid import current_view
from reasonknee_datasets.volumes.grid_view import View
from tests.helpers.transform_examples import Case, cases

crops = st.builds(
    CropToBox,
    margin_mm=st.sampled_from([0.0, 3.0, (0.5, 12.0, 40.0)]),
    margin_voxels=st.sampled_from([0, 4, (1, 0, 9)]),
    size=st.sampled_from([None, None, (8, 8, 8), (40, 64, 64), (3, 120, 17)]),
    pad_value=st.just(0.0),
    jitter_mm=st.sampled_from([0.0, 6.0, (1.0, 20.0, 0.0)]),
    seed=st.integers(0, 99),
)
reindexing = st.lists(st.one_of(st.just(ToCanonical()), crops), min_size=1, max_size=4)
moving = st.lists(
    st.one_of(
        st.builds(RandomFlip, p=st.sampled_from([0.5, 1.0]), seed=st.integers(0, 99)),
        st.builds(RandomShift, max_mm=st.sampled_from([2.0, 50.0, (0.0, 9.0, 9.0)]), seed=st.integers(0, 99)),
    ),
    min_size=1,
    max_size=3,
)
grids = st.one_of(
    st.builds(Resize, st.sampled_from([32, (24, 48, 48), (48, 96, 96), (150, 33, 61)])),
    st.builds(Resample, st.sampled_from([1.0, 2.5, (3.0, 1.0, 0.8)])),
)
recipes = st.one_of(
    st.builds(
        ToFrames,
        plane=st.sampled_from(["sagittal", "coronal", "axial", "axis0"]),
        count=st.sampled_from([None, 8, 32, 200]),
        size=st.sampled_from([None, 56, (30, 101)]),
        span=st.sampled_from([(0.0, 1.0), (0.2, 0.8)]),
    ),
    st.sampled_from([FRAME_RECIPES["clean_qwen"], FRAME_RECIPES["clean_o1"]]),
)


def apply(steps: list[Transform], case: Case) -> dict[str, Any]:
    return Compose(steps)(case.example())


def faces_in_volume(box: Box, affine: NDArray[Any], case: Case) -> NDArray[np.float64]:
    """Bring a box's faces to the stored volume by way of the world, and nothing that the transforms know."""
    to_volume = np.linalg.inv(np.array(case.affine)) @ affine
    corners = np.array([box.start, box.stop]) - 0.5
    found = corners @ to_volume[:3, :3].T + to_volume[:3, 3] + 0.5
    return np.sort(found, axis=0)


@pytest.mark.slow
@given(cases(), reindexing)
def test_reindexing_keeps_box_in_world(case: Case, steps: list[Transform]) -> None:
    example = apply(steps, case)
    before = world_bounds(case.box, np.array(case.affine))
    after = world_bounds(Box.from_row(example["box"]), example["volume"].affine)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)
    assert example["box_volume"] == case.box.to_row()


@pytest.mark.slow
@given(cases(), reindexing)
def test_reindexing_keeps_voxels_in_world(case: Case, steps: list[Transform]) -> None:
    volume = apply(steps, case)["volume"]
    numbers = np.asarray(volume.dataobj)
    places = np.argwhere(numbers > 0)[::97]
    stored = np.array(np.unravel_index(numbers[tuple(places.T)] - 1, case.mask.shape)).T
    np.testing.assert_allclose(
        places @ volume.affine[:3, :3].T + volume.affine[:3, 3],
        stored @ np.array(case.affine)[:3, :3].T + np.array(case.affine)[:3, 3],
        atol=1e-6,
    )


@given(cases(), moving)
def test_moved_anatomy_keeps_region_in_box(case: Case, steps: list[Transform]) -> None:
    example = apply(steps, case)
    assert case.marked_inside(example) == set((np.flatnonzero(case.mask) + 1).tolist())
    np.testing.assert_array_equal(example["volume"].affine, np.array(case.affine))
    assert example["volume"].shape == case.mask.shape


@given(cases(), crops, moving)
def test_moving_anatomy_keeps_voxels_of_box(case: Case, crop: Transform, steps: list[Transform]) -> None:
    before, after = apply([crop], case), apply([crop, *steps], case)
    assert case.marked_inside(before) == case.marked_inside(after)
    np.testing.assert_array_equal(after["volume"].affine, before["volume"].affine)


@given(cases(), st.lists(st.one_of(st.just(ToCanonical()), crops), max_size=2), grids)
def test_resampling_moves_faces_half_voxel(case: Case, steps: list[Transform], grid: Transform) -> None:
    example = apply([*steps, grid], case)
    volume, box = example["volume"], Box.from_row(example["box"])
    faces = faces_in_volume(box, volume.affine, case)
    # Millimetres of an output voxel, in stored voxels, along the stored axes.
    half = voxel_sizes(volume.affine)[np.argsort(current_view(volume).axes)] / voxel_sizes(np.array(case.affine)) / 2
    moved = np.abs(faces - [case.box.start, case.box.stop])
    thick = np.array(case.box.shape) >= 2 * half
    assert (moved <= half + 1e-9)[:, thick].all()
    # A box thinner than an output voxel is the voxel of its middle: less than one voxel off.
    assert (moved <= 2 * half + 1e-9).all()


@given(cases(), st.lists(st.one_of(st.just(ToCanonical()), crops), max_size=1), grids, grids)
def test_resampling_twice_rounds_once(case: Case, steps: list[Transform], first: Transform, second: Transform) -> None:
    example = apply([*steps, first, second], case)
    volume = example["volume"]
    faces = faces_in_volume(Box.from_row(example["box"]), volume.affine, case)
    half = voxel_sizes(volume.affine)[np.argsort(current_view(volume).axes)] / voxel_sizes(np.array(case.affine)) / 2
    thick = np.array(case.box.shape) >= 2 * half
    assert (np.abs(faces - [case.box.start, case.box.stop]) <= half + 1e-9)[:, thick].all()


@given(cases(), st.lists(st.one_of(crops, grids, st.just(ToCanonical())), min_size=1, max_size=3), recipes)
def test_frames_of_a_resampled_grid_round_once(case: Case, steps: list[Transform], recipe: ToFrames) -> None:
    example = apply(steps, case)
    view = recipe.view(example["volume"])
    assert recipe(example)["frame_box"] == view.box_from_source(case.box).to_row()


@given(
    cases(), st.lists(st.one_of(crops, *[st.just(t) for t in (ToCanonical(), RandomFlip(1.0))]), max_size=2), recipes
)
def test_frames_and_back_is_half_a_pixel(case: Case, steps: list[Transform], recipe: ToFrames) -> None:
    example = apply(steps, case)
    view = recipe.view(example["volume"])
    box = view.box_from_source(case.box)
    back = view.faces_to_source([box.start, box.stop])
    half = np.abs(np.array(view.step))[np.argsort(view.axes)] / 2
    thick = np.array(case.box.shape) >= 2 * half
    moved = np.abs(back - [case.box.start, case.box.stop])
    assert (moved <= half + 1e-9)[:, thick].all()
    assert (moved <= 2 * half + 1e-9).all()


@given(cases(), st.lists(st.one_of(reindexing, moving), min_size=1, max_size=3), st.randoms())
def test_a_predicted_box_maps_back_exactly(case: Case, chains: list[list[Transform]], random: Any) -> None:
    example = apply([step for chain in chains for step in chain], case)
    volume = example["volume"]
    numbers = np.asarray(volume.dataobj)
    real = current_view(volume).real(case.mask.shape)
    assert real is not None
    start = [random.randrange(low, high) for low, high in zip(real.start, real.stop, strict=True)]
    stop = [random.randrange(low + 1, high + 1) for low, high in zip(start, real.stop, strict=True)]
    predicted = Box.from_row([*start, *stop])
    found = current_view(volume).box_to_source(predicted)
    # An oracle that knows no view: the voxels' own numbers.
    stored = np.unravel_index(numbers[predicted.slices].ravel() - 1, case.mask.shape)
    assert found == Box.from_row([*(int(a.min()) for a in stored), *(int(a.max()) + 1 for a in stored)])
    assert current_view(volume).box_from_source(found) == predicted


@given(cases(), st.lists(st.one_of(reindexing, moving), min_size=1, max_size=3))
def test_the_region_holds_what_was_read(case: Case, chains: list[list[Transform]]) -> None:
    example = apply([step for chain in chains for step in chain], case)
    numbers = np.asarray(example["volume"].dataobj)
    stored = np.unravel_index(numbers[numbers > 0] - 1, case.mask.shape)
    read = Box.from_row([*(int(a.min()) for a in stored), *(int(a.max()) + 1 for a in stored)])
    assert Box.from_row(example["region"]).clip(case.mask.shape) == read


@given(cases(), st.lists(st.one_of(reindexing, moving), min_size=1, max_size=3))
def test_a_view_is_its_token(case: Case, chains: list[list[Transform]]) -> None:
    view = current_view(apply([step for chain in chains for step in chain], case)["volume"])
    assert View.from_token(view.to_token()) == view
