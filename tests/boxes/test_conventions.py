"""Conventions against a table written out by hand, and their inference against boxes written in each."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reasonknee_datasets.boxes import (
    CONVENTIONS,
    Box,
    BoxConvention,
    agreement_scores,
    compare_conventions,
    infer_convention,
)
from reasonknee_datasets.errors import BoxError

SHAPE = (384, 352, 160)
BOX = Box((40, 100, 60), (50, 200, 80))
ALL_NAMES = [
    f"{'-'.join(f'{name}{axis}' for name, axis in zip(order, axes, strict=True))}-{layout}-{end}-{unit}"
    for order, axes in product(permutations(("slice", "x", "y")), permutations(range(3)))
    for layout, end, unit in product(("pairs", "corners"), ("inclusive", "exclusive"), ("voxel", "normalised"))
]


def random_boxes(count: int, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> list[Box]:
    random = np.random.default_rng(seed)
    ends = [np.sort(np.stack([random.choice(n, 2, replace=False) for _ in range(count)]), axis=1) for n in shape]
    rows = np.stack([end[:, side] for side in (0, 1) for end in ends], axis=1)
    return [Box.from_row(row) for row in rows.tolist()]


def written(convention: BoxConvention, boxes: list[Box], shape: tuple[int, int, int] = SHAPE) -> list[list[float]]:
    return [list(convention.encode(box, shape)) for box in boxes]


# --- conversion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("slice0-x1-y2-pairs-exclusive-voxel", [40, 50, 100, 200, 60, 80]),
        ("slice2-x1-y0-pairs-inclusive-voxel", [60, 79, 100, 199, 40, 49]),
        ("slice2-x0-y1-pairs-exclusive-voxel", [60, 80, 40, 50, 100, 200]),
        ("slice2-x0-y1-corners-inclusive-voxel", [60, 40, 100, 79, 49, 199]),
        ("x0-y1-slice2-pairs-exclusive-voxel", [40, 50, 100, 200, 60, 80]),
        ("y1-x0-slice2-corners-exclusive-voxel", [100, 40, 60, 200, 50, 80]),
        ("slice2-x0-y1-pairs-exclusive-normalised", [60 / 160, 80 / 160, 40 / 384, 50 / 384, 100 / 352, 200 / 352]),
        ("slice0-x1-y2-corners-inclusive-normalised", [40 / 384, 100 / 352, 60 / 160, 49 / 384, 199 / 352, 79 / 160]),
    ],
)
def test_encode_equals_numbers_by_hand(name: str, numbers: list[float]) -> None:
    convention = BoxConvention.parse(name)
    assert str(convention) == name
    assert convention.encode(BOX, SHAPE) == pytest.approx(numbers)
    assert convention.decode(numbers, SHAPE) == BOX


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_convention_name_round_trips(name: str) -> None:
    convention = BoxConvention.parse(name)
    assert str(convention) == name
    assert eval(repr(convention)) == convention
    for box in [*random_boxes(20), Box((0, 0, 0), SHAPE), Box((383, 351, 159), SHAPE)]:
        numbers = convention.encode(box, SHAPE)
        assert {type(number) for number in numbers} == {float if convention.normalised else int}
        assert convention.decode(numbers, SHAPE) == box
        assert convention.canonical().encode(box, SHAPE) == numbers


def test_canonical_names_form_48_conventions() -> None:
    assert len(set(ALL_NAMES)) == 288
    assert {BoxConvention.parse(name).canonical() for name in ALL_NAMES} == set(CONVENTIONS)
    assert len({tuple(convention.encode(BOX, SHAPE)) for convention in CONVENTIONS}) == len(CONVENTIONS) == 48
    assert all(convention.canonical() == convention for convention in CONVENTIONS)


def test_positions_say_what_each_number_is() -> None:
    # The fragment that survives in prompts 58 and 59: "end_slice, x_min, x_max, y_min, y_max]".
    assert BoxConvention().positions == ("slice_start", "slice_end", "x_start", "x_end", "y_start", "y_end")
    assert BoxConvention.parse("y2-x1-slice0-corners-inclusive-voxel").positions == (
        *("y_start", "x_start", "slice_start"),
        *("y_end", "x_end", "slice_end"),
    )


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_parse_short_names(convention: BoxConvention) -> None:
    short = str(convention)
    for default in ("-voxel", "-inclusive", "-pairs"):
        short = short.replace(default, "")
        assert BoxConvention.parse(short) == convention


def test_parse_forgives_case_and_blanks_only() -> None:
    assert BoxConvention.parse(" Slice0-X1-Y2-pairs-Exclusive-voxel ") == BoxConvention()
    for wrong in ("", "xyz", "slice0-x1-y2-voxel-pairs", "slice0-x1-y3-pairs-exclusive-voxel"):
        with pytest.raises(BoxError, match="is written like slice0-x1-y2-pairs-inclusive-voxel"):
            BoxConvention.parse(wrong)
    with pytest.raises(BoxError, match="order of a convention must have slice, x and y once each"):
        BoxConvention.parse("slice0-x1-x2-pairs-exclusive-voxel")
    with pytest.raises(BoxError, match="axes of a convention must be 0, 1 and 2 once each"):
        BoxConvention.parse("slice0-x1-y1-pairs-exclusive-voxel")
    with pytest.raises(BoxError, match=r"Unknown layout 'rows'. Available: pairs"):
        BoxConvention(layout="rows")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("slice0-x1-y2-pairs-exclusive-voxel", [1, 2, 3, 4, 5], r"must have six numbers, not \[1, 2, 3, 4, 5\]"),
        ("slice0-x1-y2-pairs-exclusive-voxel", "123456", "must have six numbers, not '123456'"),
        ("slice0-x1-y2-pairs-exclusive-voxel", None, "must have six numbers, not None"),
        ("slice0-x1-y2-pairs-exclusive-voxel", ["a", 2, 3, 4, 5, 6], "must have six numbers"),
        ("slice0-x1-y2-pairs-exclusive-voxel", [0.5, 2, 3, 4, 5, 6], "it needs whole voxel numbers"),
        (
            "slice0-x1-y2-pairs-exclusive-voxel",
            [1, 1, 3, 4, 5, 6],
            r"bounding box \[1, 1, .* each end beyond its start",
        ),
        (
            "slice0-x1-y2-corners-exclusive-voxel",
            [5, 1, 1, 4, 9, 9],
            "in convention slice0-x1-y2-corners-exclusive-voxel",
        ),
        ("slice0-x1-y2-pairs-exclusive-voxel", [float("nan"), 2, 3, 4, 5, 6], "infer_convention finds"),
        ("slice0-x1-y2-pairs-exclusive-normalised", [0, 1.5, 0, 1, 0, 1], "it needs shares from 0 to 1"),
    ],
)
def test_decode_refuses_impossible_numbers(name: str, numbers: Any, message: str) -> None:
    with pytest.raises(BoxError, match=message):
        BoxConvention.parse(name).decode(numbers, SHAPE)


@given(
    st.lists(
        st.lists(st.integers(-3, 400) | st.floats(-1, 2) | st.just(float("inf")), min_size=6, max_size=6), min_size=1
    )
)
def test_decode_rows_equals_decode(numbers: list[list[float]]) -> None:
    for convention in CONVENTIONS[::5]:
        rows, valid = convention.decode_rows(numbers, SHAPE)
        for six, row, good in zip(numbers, rows.tolist(), valid.tolist(), strict=True):
            if good:
                assert convention.decode(six, SHAPE) == Box.from_row([int(number) for number in row])
            else:
                with pytest.raises(BoxError, match="bounding box"):
                    convention.decode(six, SHAPE)


def test_inclusive_one_voxel_has_equal_ends() -> None:
    one = Box((5, 6, 7), (6, 7, 8))
    assert BoxConvention(inclusive=True).encode(one, SHAPE) == [5, 5, 6, 6, 7, 7]
    assert BoxConvention(inclusive=True).decode([5, 5, 6, 6, 7, 7], SHAPE) == one


# --- inference -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_each_convention_is_told_from_its_boxes(convention: BoxConvention) -> None:
    true = random_boxes(12)
    report = infer_convention(written(convention, true), [(box, SHAPE) for box in true])
    assert report.best == convention
    assert not report.undetermined
    assert report.checked == 12
    assert (report.of(convention).near, report.of(convention).exact) == (12, 12)
    assert report.share(convention) == 1.0
    assert len(report.agreements) == 48
    assert str(report) == f"{convention} (12 of 12 boxes, 12 exactly)"


def test_equivalent_candidates_are_one() -> None:
    true = random_boxes(5)
    names = (
        "x2-y0-slice1-pairs-inclusive-voxel",
        "slice2-x0-y1-pairs-inclusive-voxel",
        "slice0-x1-y2-pairs-inclusive-voxel",
    )
    candidates = [BoxConvention.parse(name) for name in names]
    report = infer_convention(written(candidates[0], true), [(box, SHAPE) for box in true], candidates=candidates)
    assert report.best == candidates[1] == candidates[0].canonical()
    assert len(report.agreements) == 2
    assert report.of(candidates[0]).near == 5
    with pytest.raises(BoxError, match="was not compared"):
        report.of(BoxConvention(normalised=True))


def test_masks_serve_as_regions() -> None:
    masks: list[NDArray[Any]] = []
    for start, stop in (((2, 10, 5), (8, 20, 30)), ((0, 1, 2), (5, 30, 9))):
        mask = np.zeros((16, 38, 40), np.uint8)
        mask[Box(start, stop).slices] = 1
        masks.append(mask)
    official = [[5, 29, 2, 7, 10, 19], [2, 8, 0, 4, 1, 29]]
    assert str(infer_convention(official, masks).best) == "slice2-x0-y1-pairs-inclusive-voxel"
    with pytest.raises(BoxError, match="marks no voxel"):
        infer_convention(official, [masks[0], np.zeros((3, 3, 3))])


def test_infer_convention_separates_inclusive_from_exclusive() -> None:
    true = random_boxes(50)
    regions = [(box, SHAPE) for box in true]
    for inclusive in (False, True):
        convention, other = BoxConvention(inclusive=inclusive), BoxConvention(inclusive=not inclusive)
        report = infer_convention(written(convention, true), regions)
        assert report.of(other).near == report.of(convention).near == 50
        assert report.of(other).exact == 0
        assert report.best == convention


def test_boxes_that_cannot_tell_leave_it_undetermined() -> None:
    cubes = [Box((n, n, n), (n + 9, n + 9, n + 9)) for n in range(0, 90, 7)]
    official = written(BoxConvention(), cubes)
    report = infer_convention(official, [(box, SHAPE) for box in cubes])
    assert report.best is None
    assert report.undetermined
    assert {convention.axes for convention in report.leaders} == set(permutations(range(3)))
    assert {(c.layout, c.inclusive, c.normalised) for c in report.leaders} == {("pairs", False, False)}
    assert str(report).startswith("undetermined between slice0-x1-y2-pairs-exclusive-voxel (13 of 13 boxes")
    # One box off the diagonal is enough.
    told = [*cubes, Box((1, 20, 40), (5, 60, 100))]
    assert infer_convention(written(BoxConvention(), told), [(box, SHAPE) for box in told]).best == BoxConvention()


def test_infer_convention_with_equal_x_y() -> None:
    square = [Box((n, 2 * n, 2 * n), (n + 9, 3 * n + 9, 3 * n + 9)) for n in range(1, 40, 3)]
    report = infer_convention(written(BoxConvention(), square), [(box, SHAPE) for box in square])
    assert {convention.axes for convention in report.leaders} == {(0, 1, 2), (0, 2, 1)}


def test_a_mixture_of_two_conventions_is_undetermined() -> None:
    true = random_boxes(40)
    one, other = BoxConvention(axes=(2, 1, 0)), BoxConvention(axes=(2, 0, 1))
    official = written(one, true[:20]) + written(other, true[20:])
    report = infer_convention(official, [(box, SHAPE) for box in true])
    assert set(report.leaders) == {one, other}
    assert report.share(one) == 0.5


@pytest.mark.parametrize("convention", CONVENTIONS[::7], ids=str)
def test_infer_convention_with_redrawn_regions(convention: BoxConvention) -> None:
    true = random_boxes(400)
    random = np.random.default_rng(3)
    moved = np.array([box.to_row() for box in true])
    moved += random.choice([-1, 0, 1], moved.shape, p=[0.05, 0.9, 0.05])  # about half of the boxes are no longer exact
    moved[::40] += 17  # and one in forty is somewhere else
    keep = (moved[:, :3] < moved[:, 3:]).all(axis=1)
    report = compare_conventions(np.array(written(convention, true))[keep], moved[keep], SHAPE)
    assert report.best == convention
    assert 0.95 < report.share(convention) < 1
    assert report.of(convention).exact < 0.7 * report.checked


def test_infer_convention_ignores_leads_by_chance() -> None:
    true = random_boxes(40)
    one, other = BoxConvention(inclusive=False), BoxConvention(inclusive=True)
    for lead, determined in ((21, False), (23, False), (31, True), (40, True)):
        official = written(one, true[:lead]) + written(other, true[lead:])
        report = infer_convention(official, [(box, SHAPE) for box in true])
        assert report.leaders[0] == one
        assert (report.best == one) == determined


def test_what_nothing_explains_has_no_best() -> None:
    true = random_boxes(30)
    elsewhere = [[number + 50 for number in numbers] for numbers in written(BoxConvention(), true)]
    report = infer_convention(elsewhere, [(box, SHAPE) for box in true])
    assert report.best is None
    assert not report.undetermined
    assert str(report) == "no convention explains any of 30 boxes"


def test_tolerance_is_voxels_per_number() -> None:
    numbers = np.array([[40, 50, 100, 200, 60, 80]] * 4) + np.array([0, 1, 2, -1])[:, None]
    scores = {
        tolerance: agreement_scores(BoxConvention(), numbers, [BOX.to_row()] * 4, SHAPE, tolerance=tolerance)
        for tolerance in (0, 1, 2)
    }
    assert scores[0].tolist() == [2, 0, 0, 0]
    assert scores[1].tolist() == [2, 1, 0, 1]
    assert scores[2].tolist() == [2, 1, 1, 1]


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(BoxError, match=r"have shapes .* at least one"):
        infer_convention([], [])
    with pytest.raises(BoxError, match="There are 1 boxes and 0 regions"):
        infer_convention([[1, 2, 3, 4, 5, 6]], [])
    with pytest.raises(BoxError, match="must have equally many rows of six numbers"):
        compare_conventions([[1, 2, 3]], [[1, 2, 3]], SHAPE)


def test_thousands_of_boxes_are_compared_at_once() -> None:
    true = random_boxes(5000)
    numbers, rows = np.array(written(CONVENTIONS[9], true)), np.array([box.to_row() for box in true])
    names = [BoxConvention.parse(name) for name in ALL_NAMES]
    report = compare_conventions(numbers, rows, SHAPE, candidates=names)
    assert report.best == CONVENTIONS[9]
