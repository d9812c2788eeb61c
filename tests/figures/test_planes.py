"""The drawn array, its orientation, letters and outline, without matplotlib."""

from __future__ import annotations

import json
from itertools import permutations, product
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, GeometryError, RepositoryError
from reasonknee_datasets.figures.example_text import GradeLine, example_text, take_volume
from reasonknee_datasets.figures.planes import PLANES, choose_plane, cut_planes, grey_window
from reasonknee_datasets.figures.text_column import LONGEST, break_lines
from reasonknee_datasets.moaks import QUESTIONS
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

PROMPTS = OFFICIAL / "question_files"

# Balls in the world (RAS+, mm), with the value that marks each; all lie on the axes through the origin.
MARKERS = {"R": ((24, 0, 0), 10), "L": ((-24, 0, 0), 20), "A": ((0, 24, 0), 30)}
MARKERS |= {"P": ((0, -24, 0), 40), "S": ((0, 0, 24), 50), "I": ((0, 0, -24), 60)}
RADIUS = 9.0  # wide enough that a 16 degree tilt still cuts every ball
# Letters that must be seen, and which comes first along the rows (top) and the columns (left).
SEEN = {"sagittal": ("SI", "AP"), "coronal": ("SI", "RL"), "axial": ("AP", "RL")}


def rotation(degrees: float) -> np.ndarray:
    """Tilt about a skew axis, by Rodrigues' formula."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), -axis)
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def marked_volume(axes: tuple[int, ...], signs: tuple[int, ...], tilt: float) -> Any:
    """Make an image whose array axis n runs along world axis axes[n], with the markers placed in the world."""
    spacing, shape = np.array([2.0, 2.5, 3.0]), np.array([40, 34, 28])
    linear = rotation(tilt) @ np.eye(3)[:, list(axes)] @ np.diag(spacing * signs)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, -linear @ ((shape - 1) / 2)
    world = np.stack(np.indices(shape), axis=-1) @ linear.T + affine[:3, 3]
    voxels = np.zeros(shape, dtype=np.int16)
    for place, value in MARKERS.values():
        voxels[np.linalg.norm(world - np.array(place), axis=-1) < RADIUS] = value
    return nib.Nifti1Image(voxels, affine)


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [0.0, 16.0])
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_orientation_is_drawn_in_radiological_display(
    axes: tuple[int, ...], signs: tuple[int, ...], tilt: float
) -> None:
    panels = cut_planes(marked_volume(axes, signs, tilt))
    assert set(panels) == set(PLANES)
    for plane, (down, across) in SEEN.items():
        panel = panels[plane]
        middle = {
            letter: np.argwhere(panel.image == value).mean(axis=0)
            for letter, (_, value) in MARKERS.items()
            if letter in down + across
        }
        assert middle[down[0]][0] < middle[down[1]][0]
        assert middle[across[0]][1] < middle[across[1]][1]
        assert panel.edges == (across[0], across[1], down[0], down[1])
        assert abs(middle[down[0]][1] - middle[down[1]][1]) * panel.spacing[1] < 20  # on one axis, up to the tilt
        assert panel.tilt == pytest.approx(0.0, abs=1e-5) if tilt == 0 else 0 < panel.tilt <= tilt + 1e-6


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0)])
def test_the_outline_is_the_box_as_drawn(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    image = marked_volume(axes, signs, 10.0)
    box = Box((5, 8, 3), (12, 9, 20))
    voxels = np.zeros(image.shape, dtype=np.int16)
    voxels[box.slices] = 1
    for panel in cut_planes(nib.Nifti1Image(voxels, image.affine), box).values():
        rows, columns = np.nonzero(panel.image)
        assert rows.size, "the slice must go through the box"
        expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=float)
        expected *= np.tile(panel.spacing[::-1], 2)
        np.testing.assert_allclose(panel.outline, expected)


@given(place=st.tuples(*(st.integers(0, count - 1) for count in (40, 34, 28))), pick=st.integers(0, 47))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_pixel_finds_where_a_voxel_is_drawn(place: tuple[int, int, int], pick: int) -> None:
    axes = list(permutations(range(3)))[pick % 6]
    signs = list(product((1, -1), repeat=3))[pick // 6]
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[:3, :3] = np.eye(3)[:, list(axes)] * signs
    voxels = np.zeros((40, 34, 28), dtype=np.uint8)
    voxels[place] = 1
    box = Box(place, tuple(index + 1 for index in place))
    for panel in cut_planes(nib.Nifti1Image(voxels, affine), box).values():
        assert np.argwhere(panel.image).tolist() == [list(panel.pixel(place))]


class Spy:
    """An array that tells which regions were asked of it."""

    is_proxy, shape, ndim, dtype = True, (20, 30, 40), 3, np.dtype(np.int16)

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __getitem__(self, region: Any) -> np.ndarray:
        self.asked.append(region)
        return np.zeros(self.shape, self.dtype)[region]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise AssertionError("the whole volume was read")


def test_only_three_slices_are_read() -> None:
    spy = Spy()
    image = nib.Nifti1Image(spy, np.eye(4))
    spy.asked.clear()  # nibabel's constructor looks at one voxel
    cut_planes(image, Box((2, 2, 2), (6, 10, 12)))
    whole = slice(None)
    assert spy.asked == [(4, whole, whole), (whole, 6, whole), (whole, whole, 7)]


def test_trailing_axes_of_length_one_are_dropped() -> None:
    panels = cut_planes(nib.Nifti1Image(np.zeros((4, 5, 6, 1), np.int16), np.eye(4)))
    assert panels["sagittal"].image.shape == (6, 5)


@pytest.mark.parametrize(
    ("voxels", "match"),
    [
        (np.zeros((4, 4, 4, 3), np.int16), r"shape \(4, 4, 4, 3\) cannot be drawn: it needs three axes .*slicer"),
        (np.zeros((4, 4), np.int16), r"it needs three axes"),
        (np.zeros((4, 4, 4), np.complex64), "type complex64 cannot be drawn: each voxel must be one real number"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "each voxel must be one real number"),
    ],
)
def test_what_is_no_grey_volume_is_refused(voxels: np.ndarray, match: str) -> None:
    with pytest.raises(GeometryError, match=match):
        cut_planes(nib.Nifti1Image(voxels, np.eye(4)))


def test_a_box_outside_is_refused() -> None:
    with pytest.raises(BoxError, match=r"stop \(4, 4, 9\) is outside the volume .* on axis 2"):
        cut_planes(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), Box((0, 0, 0), (4, 4, 9)))


def test_grey_window_ignores_non_finite() -> None:
    voxels = np.full((4, 4, 4), np.nan, dtype=np.float32)
    panels = cut_planes(nib.Nifti1Image(voxels, np.eye(4)))
    assert grey_window(panels.values()) == (0.0, 1.0)
    voxels[2, 2, :2] = (-50, 200)
    low, high = grey_window(cut_planes(nib.Nifti1Image(voxels, np.eye(4))).values())
    assert low == pytest.approx(-50, abs=5)
    assert high == pytest.approx(200, abs=5)


def test_planes_table_covers_every_question() -> None:
    read_in = {number: choose_plane(question.finding, question.subregion) for number, question in QUESTIONS.items()}
    coronal = {35, 38, 40, 41, 45, 47, 49, 52, 58, 59, 63, 64}
    axial = {1, 2, 16, 17, 32, 33, 43}
    assert {number for number, plane in read_in.items() if plane == "coronal"} == coronal
    assert {number for number, plane in read_in.items() if plane == "axial"} == axial


def test_choose_plane_prefers_first_plane_in_text() -> None:
    assert choose_plane("patellar_tendon", "patellar_tendon", "on Midcoronal, then sagittal slices") == "coronal"
    assert choose_plane("effusion_synovitis", "joint_cavity", "a parasagittal-like word; biaxial") == "axial"


@pytest.mark.skipif(not PROMPTS.is_dir(), reason=NO_OFFICIAL)
def test_the_official_prompts_agree_with_the_table() -> None:
    prompts = json.loads((PROMPTS / "questions_nobbox_guided.json").read_text(encoding="utf-8"))
    for number, question in QUESTIONS.items():
        told = choose_plane(question.finding, question.subregion, prompts[str(number)])
        assert told == choose_plane(question.finding, question.subregion), number


@given(text=st.text(max_size=300), width=st.integers(1, 40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_broken_lines_fit_and_lose_no_word(text: str, width: int) -> None:
    lines = break_lines(text, width, len)
    assert all(0 < len(line) <= width for line in lines)
    kept = "".join(text.split())
    assert len("".join("".join(lines).split())) == len(kept)


def test_long_text_is_cut() -> None:
    lines = break_lines("x " * LONGEST, 1000, len)
    assert lines[-1].endswith("… (4,000 more characters)")


def test_grade_lines_have_words_and_missing_grades() -> None:
    grades = [
        {"attribute": "size", "grade": 2, "scale": "ordinal"},
        {"attribute": "depth", "grade": None, "scale": "ordinal"},
    ]
    page = example_text({"finding": "cartilage_lesion", "question_id": 19, "grades": grades})
    assert page.grades == (
        GradeLine("size", 2, 3, "10-75 % of the surface"),
        GradeLine("depth", None, 3, "not graded"),
    )


def test_grades_in_formats_of_datasets() -> None:
    columns = {"attribute": ["size", "depth"], "grade": np.array([2.0, np.nan]), "scale": ["ordinal", "ordinal"]}
    page = example_text({"question_id": np.int64(19), "grades": columns})
    assert [(line.grade, line.words) for line in page.grades] == [(2, "10-75 % of the surface"), (None, "not graded")]


def test_grade_lines_of_unknown_question() -> None:
    page = example_text({"question_id": 99, "grades": [{"attribute": "grade", "grade": 7, "scale": "ordinal"}]})
    assert page.grades == (GradeLine("grade", 7, None, ""),)


@pytest.mark.parametrize("volume", [None, "volumes/0000001/00M_right.nii.gz", np.zeros((2, 2, 2))])
def test_a_row_without_an_image_is_refused(volume: Any) -> None:
    with pytest.raises(RepositoryError, match=r"The example has no image to draw, but .*load_dataset"):
        take_volume({"id": "0000001/00M/right/q01", "volume": volume})
