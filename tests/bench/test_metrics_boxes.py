"""Metrics of boxes against counted voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.bench.metrics import iou, score_boxes

SIZE = 9
ranges = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(lambda two: (two[0], max(two[1], two[0] + 1)))
boxes = st.tuples(ranges, ranges, ranges).map(lambda axes: [axis[0] for axis in axes] + [axis[1] for axis in axes])


def mask(box: list[int]) -> np.ndarray:
    found = np.zeros((SIZE, SIZE, SIZE), bool)
    found[box[0] : box[3], box[1] : box[4], box[2] : box[5]] = True
    return found


@given(boxes, boxes)
def test_boxes_are_scored_as_counted_voxels(answered: list[int], true: list[int]) -> None:
    a, b = mask(answered), mask(true)
    both, either = (a & b).sum(), (a | b).sum()
    places = np.argwhere(a | b)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    around = np.prod(high - low)
    found = score_boxes([answered], [true])
    assert found.iou[0] == pytest.approx(both / either)
    assert iou(np.array([answered], float), np.array([true], float))[0] == pytest.approx(both / either)
    assert found.giou[0] == pytest.approx(both / either - (around - either) / around)
    assert found.coverage[0] == pytest.approx(both / b.sum())
    assert found.volume_ratio[0] == pytest.approx(a.sum() / b.sum())


@given(boxes, boxes)
def test_centre_distance_in_voxels(answered: list[int], true: list[int]) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.7, 0.36, 0.36)
    affine[:3, 3] = (-70, 12, 5)
    centres = [np.append(np.argwhere(mask(box)).mean(axis=0), 1) @ affine.T for box in (answered, true)]
    found = score_boxes([answered], [true], affines=affine)
    assert found.centre_mm[0] == pytest.approx(np.linalg.norm(centres[0] - centres[1]), abs=1e-9)


def test_localisation_of_missing_and_distant_boxes() -> None:
    true = np.tile([10, 10, 10, 20, 20, 20], (3, 1))
    answered = np.array([[0] * 6, [10, 10, 10, 20, 20, 20], [1000, 1000, 1000, 1001, 1001, 1001]])
    found = score_boxes(answered, true, np.array([False, True, True]), np.eye(4))
    np.testing.assert_allclose(found.iou, [0, 1, 0])
    np.testing.assert_allclose(found.coverage, [0, 1, 0])
    np.testing.assert_allclose(found.giou, [-1, 1, -1], atol=1e-5)
    assert found.giou[0] < found.giou[2]
    assert np.isnan([found.volume_ratio[0], found.centre_mm[0]]).all()
    assert found.centre_mm[1] == 0


def test_without_an_affine_there_is_no_distance() -> None:
    assert np.isnan(score_boxes([[0, 0, 0, 1, 1, 1]], [[0, 0, 0, 1, 1, 1]]).centre_mm[0])


def test_absurd_boxes_do_not_overflow() -> None:
    most = 2**31 - 1
    found = score_boxes(
        np.array([[-most, -most, -most, most, most, most]], np.int32), np.array([[0, 0, 0, 10, 10, 10]])
    )
    assert 0 < found.iou[0] < 1e-20
    assert found.coverage[0] == 1
    assert found.volume_ratio[0] > 1e25


def test_boxes_inside_out_have_no_overlap() -> None:
    assert iou(np.array([[5.0, 0, 0, 4, 2, 2]]), np.array([[0.0, 0, 0, 9, 9, 9]]))[0] == 0
