"""Boxes against counted voxel masks and mapped corners."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from reasonknee_datasets.boxes import Box, label_boxes, world_bounds
from reasonknee_datasets.errors import BoxError

SHAPE = (7, 9, 8)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...] = SHAPE, reach: int = 0) -> Box:
    """Draw a box inside a volume, or reaching up to so many voxels beyond it."""
    ends = [sorted(draw(st.sets(st.integers(-reach, n + reach), min_size=2, max_size=2))) for n in shape]
    return Box(*zip(*ends, strict=True))


def voxels(box: Box, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mark a box's voxels one by one, the slow and certain way."""
    mask = np.zeros(shape, bool)
    for voxel in product(*(range(n) for n in shape)):
        mask[voxel] = all(low <= v < high for low, v, high in zip(box.start, voxel, box.stop, strict=True))
    return mask


@given(boxes(), boxes())
def test_iou_equals_counted_voxels(one: Box, other: Box) -> None:
    a, b = voxels(one), voxels(other)
    assert one.size == a.sum()
    assert one.iou(other) == pytest.approx((a & b).sum() / (a | b).sum())
    assert one.iou(other) == other.iou(one)
    common = one.intersect(other)
    assert (a & b).sum() == (common.size if common else 0)
    if common:
        assert np.array_equal(voxels(common), a & b)
    assert one.contains(other) == bool((a >= b).all())


@given(boxes())
def test_from_mask_finds_the_box(box: Box) -> None:
    mask = voxels(box)
    assert Box.from_mask(mask) == box
    assert Box.from_mask(np.asfortranarray(mask.astype(np.uint8) * 7)) == box
    assert mask[box.slices].all()
    assert mask[box.slices].shape == box.shape
    assert mask.sum() == box.size
    centre = np.argwhere(mask).mean(axis=0)
    assert box.center == pytest.approx(tuple(centre))


@given(st.integers(0, 2**32 - 1), st.sampled_from("CF"), st.sampled_from([np.uint8, np.int16, np.int64]))
def test_extents_are_those_of_the_marked_voxels(seed: int, order: Any, dtype: Any) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, SHAPE) * (random.random(SHAPE) < 0.02)
    labels = np.asarray(labels, dtype=dtype, order=order)
    expected = {}
    for label in range(1, 5):
        found = np.argwhere(labels == label)
        if len(found):
            expected[label] = Box(tuple(found.min(axis=0)), tuple(found.max(axis=0) + 1))
            assert Box.from_mask(labels, label) == expected[label]
        else:
            with pytest.raises(BoxError, match=f"mask for label {label} marks no voxel"):
                Box.from_mask(labels, label)
    assert label_boxes(labels) == expected
    assert list(label_boxes(labels)) == sorted(expected)
    if expected:
        every = Box.from_mask(labels, list(expected))
        assert every == Box.from_mask(labels)
        assert all(every.contains(box) for box in expected.values())


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda row: np.array(row, np.int32)])
def test_six_numbers_are_a_box(make: Any) -> None:
    row = [10, 20, 30, 12, 25, 33]
    box = Box(make(row))
    assert box == Box((10, 20, 30), (12, 25, 33)) == Box(start=(10, 20, 30), stop=(12, 25, 33)) == Box.from_row(row)
    assert all(type(number) is int for number in box.to_row())
    assert Box(box.to_row()) == box
    assert pickle.loads(pickle.dumps(box)) == box
    assert replace(box, stop=(13, 26, 34)) == Box([10, 20, 30, 13, 26, 34])
    assert eval(repr(box)) == box


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([1, 2, 3], r"\[1, 2, 3\] \(list\)"),
        ([1, 2, 3, 4, 5, 6, 7], r"\[1, 2, 3, 4, 5, 6, 7\] \(list\)"),
        (5, r"5 \(int\)"),
        (None, r"None \(NoneType\)"),
        ({"box": [1], "id": "a"}, "a dict with the keys box, id"),
        (dict.fromkeys("abcdef", "a long text"), "a dict with the keys a, b, c, d, ..."),
        (np.zeros((5, 100, 100)), "a value of type ndarray"),
        (np.zeros((6, 100, 100)), "a value of type tuple"),
        ("123456", "'1', '2', '3'"),
        ([0.5, 1, 2, 3, 4, 5], r"\(0.5, 1, 2\) \(tuple\)"),
    ],
)
def test_box_refuses_long_values_with_short_message(given: Any, shown: str) -> None:
    with pytest.raises(BoxError, match=shown) as error:
        Box(given)
    assert len(str(error.value)) < 220


def test_from_mask_refuses_empty_mask() -> None:
    with pytest.raises(BoxError, match=r"The mask marks no voxel, and an empty region has no box"):
        Box.from_mask(np.zeros(SHAPE))
    with pytest.raises(BoxError, match=r"label \[3, 4\] marks no voxel"):
        Box.from_mask(np.ones(SHAPE), [3, 4])
    with pytest.raises(BoxError, match=r"has shape \(7, 9, 8, 1\), but must have three axes"):
        Box.from_mask(np.ones((*SHAPE, 1)))
    assert label_boxes(np.zeros(SHAPE, np.uint8)) == {}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones(SHAPE), "whole numbers, not float64"),
        (np.ones((3, 3), np.uint8), r"three axes.*shape \(3, 3\)"),
        (np.full(SHAPE, -1), "labels from 0 to 65535, but this one has -1 to -1"),
        (np.full(SHAPE, 2**30), "this one has 1073741824 to 1073741824"),
    ],
)
def test_label_boxes_refuses_other_arrays(labels: Any, message: str) -> None:
    with pytest.raises(BoxError, match=message):
        label_boxes(labels)


def test_label_boxes_accepts_bool_mask() -> None:
    assert label_boxes(voxels(Box((1, 2, 3), (4, 5, 6)))) == {1: Box((1, 2, 3), (4, 5, 6))}


@given(boxes(reach=4))
def test_clip_keeps_the_voxels_inside(box: Box) -> None:
    inside = voxels(box)
    if not inside.any():
        with pytest.raises(BoxError, match="does not overlap the volume"):
            box.clip(SHAPE)
        return
    assert np.array_equal(voxels(box.clip(SHAPE)), inside)
    if box.clip(SHAPE) == box:
        assert box.check_inside(SHAPE) is box
    else:
        with pytest.raises(BoxError, match=r"is outside the volume.*on axis [012], in train\.json\. .*clip\(shape\)"):
            box.check_inside(SHAPE, where="in train.json")


def test_check_inside_message() -> None:
    expected = (
        r"^Box stop \(400, 384, 160\) is outside the volume of shape \(384, 384, 160\) on axis 0\. "
        r"Boxes are half-open voxel ranges in array order; Box\.clip\(shape\) trims an overshoot\.$"
    )
    with pytest.raises(BoxError, match=expected):
        Box((0, 0, 0), (400, 384, 160)).check_inside((384, 384, 160))


@given(boxes(), st.integers(0, 5))
def test_pad_voxels_is_invertible(box: Box, margin: int) -> None:
    padded = box.pad(voxels=margin)
    assert padded.shape == tuple(n + 2 * margin for n in box.shape)
    assert padded.center == box.center
    assert padded.pad(voxels=-margin) == box


@given(boxes(), st.floats(0.01, 20), st.lists(st.floats(0.2, 4), min_size=3, max_size=3), st.floats(-40, 40))
def test_pad_mm_rounds_up(box: Box, mm: float, spacing: list[float], angle: float) -> None:
    affine = from_matvec(euler2mat(np.deg2rad(angle), 0.3, 0) @ np.diag(spacing), [5, 6, 7])
    padded = box.pad(mm=mm, affine=affine)
    for axis in range(3):
        added = (box.start[axis] - padded.start[axis]) * spacing[axis]
        assert mm - 1e-4 <= added < mm + spacing[axis]
        assert padded.stop[axis] - box.stop[axis] == box.start[axis] - padded.start[axis]


def test_pad_mm_keeps_whole_spacings() -> None:
    # 2.1 / 0.7 is 3.0000000000000004 in floats.
    assert Box((9, 9, 9), (10, 10, 10)).pad(mm=2.1, affine=np.diag([0.7, 0.7, 0.7, 1])).start == (6, 6, 6)
    assert Box((9, 9, 9), (10, 10, 10)).pad(voxels=(0, 1, 2)).to_row() == [9, 8, 7, 10, 11, 12]
    with pytest.raises(BoxError, match="Padding in mm needs the spacing"):
        Box((9, 9, 9), (10, 10, 10)).pad(mm=1)
    with pytest.raises(BoxError, match="is not below its stop"):
        Box((9, 9, 9), (10, 10, 10)).pad(voxels=-1)


@given(boxes(), st.tuples(*[st.floats(-3, 3)] * 3), st.lists(st.floats(0.2, 4), min_size=3, max_size=3))
def test_world_bounds_contain_voxel_corners(box: Box, angles: Any, spacing: list[float]) -> None:
    affine = from_matvec(euler2mat(*angles) @ np.diag(spacing), [-30, 12, 50])
    offsets = np.array(list(product((-0.5, 0.5), repeat=3)))
    corners = apply_affine(affine, (np.argwhere(voxels(box))[:, None] + offsets).reshape(-1, 3))
    assert np.allclose(world_bounds(box, affine), [corners.min(axis=0), corners.max(axis=0)])


def test_world_bounds_of_oblique_box() -> None:
    box = Box((0, 0, 0), (40, 40, 40))
    affine = from_matvec(euler2mat(np.deg2rad(10), np.deg2rad(10), 0))
    two = apply_affine(affine, np.array([[-0.5] * 3, [39.5] * 3]))
    kept = np.prod(np.abs(two[1] - two[0])) / np.prod(np.diff(world_bounds(box, affine), axis=0))
    assert kept < 0.7


@given(boxes(reach=3))
def test_rows_and_pickles_give_the_box_back(box: Box) -> None:
    assert Box.from_row(box.to_row()) == box
    assert Box.from_row(np.array(box.to_row(), np.int32)) == box  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(box)) == box
    assert hash(Box.from_row(box.to_row())) == hash(box)
    assert all(type(number) is int for number in Box.from_row(np.array(box.to_row())).to_row())  # type: ignore[arg-type]
    assert eval(repr(box)) == box


@given(boxes())
def test_a_box_contains_its_voxels_only(box: Box) -> None:
    mask = voxels(box)
    assert all(box.contains(voxel) == mask[voxel] for voxel in product(*(range(n) for n in SHAPE)))


def test_box_refuses_change_emptiness_and_fractions() -> None:
    box = Box((0, 0, 0), (1, 1, 1))
    with pytest.raises(AttributeError, match="cannot assign"):
        box.start = (1, 1, 1)  # type: ignore[misc]
    with pytest.raises(BoxError, match=r"start \(0, 5, 0\) is not below its stop \(1, 5, 1\) on axis 1"):
        Box((0, 5, 0), (1, 5, 1))
    with pytest.raises(BoxError, match=r"Box start must be three whole voxel numbers, not \(0\.5, 0, 0\)"):
        Box((0.5, 0, 0), (1, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(BoxError, match="Box stop must be three whole voxel numbers"):
        Box((0, 0, 0), (1, 1))  # type: ignore[arg-type]
    with pytest.raises(BoxError, match=r"must be six whole voxel numbers .*, not \[1, 2, 3, 4, 5\]"):
        Box.from_row([1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="not below its stop"):  # those who never heard of BoxError
        Box((1, 1, 1), (1, 1, 1))


def test_slices_refuse_negative_start() -> None:
    with pytest.raises(BoxError, match=r"start \(-1, 0, 0\) is below 0"):
        _ = Box((-1, 0, 0), (1, 1, 1)).slices


@given(boxes(), boxes(), boxes())
def test_intersection_is_associative(one: Box, two: Box, three: Box) -> None:
    left, right = one.intersect(two), two.intersect(three)
    assert (left and left.intersect(three)) == (right and one.intersect(right))
