"""The figure as matplotlib holds it: drawn arrays, proportions, letters, and text that stays inside."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="figures need the figures extra")

from matplotlib.figure import Figure  # noqa: E402

from reasonknee_datasets.errors import BoxError, RepositoryError, VolumeNotFoundError  # noqa: E402
from reasonknee_datasets.figures import FigureError, register_notebook_display, show  # noqa: E402
from reasonknee_datasets.figures.planes import PLANES  # noqa: E402
from reasonknee_datasets.phantom import LABELS, KneeSpec  # noqa: E402
from reasonknee_datasets.phantom.knee import draw_knee  # noqa: E402
from reasonknee_datasets.phantom.signs import SIGNAL  # noqa: E402
from reasonknee_datasets.volumes import Geometry, open_volume  # noqa: E402

FIBULA, PATELLA = 700, 900
LAYOUTS = {"RAS": (0, 1, 2), "PIR": (1, 2, 0)}  # (160, 384, 384) and (384, 384, 160) in the release
SIGNS = {"RAS": (1, 1, 1), "PIR": (-1, -1, 1)}


def knee(side: str, layout: str, tilt: float) -> tuple[Any, list[int]]:
    """Place a fibula (lateral, posterior, low) and a patella (anterior, high) in the world; box the joint between."""
    lateral = 1 if side == "right" else -1
    angle = np.radians(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    spacing, shape = (2.0, 1.5, 1.5), np.array([48, 84, 84])
    axes, signs = LAYOUTS[layout], SIGNS[layout]
    linear = turn @ (np.eye(3) * spacing)[:, list(axes)] * signs
    shape = shape[list(axes)]
    origin = -linear @ ((shape - 1) / 2)
    world = np.stack(np.indices(shape), axis=-1) @ linear.T + origin
    voxels = np.full(shape, 50, dtype=np.int16)
    # Long enough that the slices through the box cut both, whatever the tilt.
    voxels[np.linalg.norm((world - (lateral * 30, -20, -25)) / (8, 30, 30), axis=-1) < 1] = FIBULA
    voxels[np.linalg.norm((world - (0, 40, 10)) / (25, 9, 16), axis=-1) < 1] = PATELLA
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, origin
    low, high = shape // 2 - 8, shape // 2 + 6
    return nib.Nifti1Image(voxels, affine), [*low.tolist(), *high.tolist()]


def example(**changes: Any) -> dict[str, Any]:
    volume, box = knee("right", "RAS", 0.0)
    row = {
        "id": "0000001/00M/right/q19",
        "volume": volume,
        "box": box,
        "patient": "0000001",
        "visit": "00M",
        "side": "right",
        "question_id": 19,
        "finding": "cartilage_lesion",
        "subregion": "femur_medial_central",
        "question": "Is the cartilage of the medial central femur worn?",
        "reasoning": ["The surface is even.", "The bone is covered throughout."],
        "grades": [
            {"attribute": "size", "grade": 0, "scale": "ordinal"},
            {"attribute": "depth", "grade": None, "scale": "ordinal"},
        ],
        "synthetic": True,
    }
    return row | changes


def drawn(figure: Figure) -> dict[str, np.ndarray]:
    return {axes.get_label(): np.asarray(axes.images[0].get_array()) for axes in figure.axes}


def place(array: np.ndarray, value: int) -> np.ndarray:
    """Centre of the pixels of one value as fractions of the way down and across."""
    found = np.argwhere(array == value)
    assert len(found), f"{value} is not on this slice"
    return (found.mean(axis=0) + 0.5) / array.shape


def labels(axes: Any) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.xy for text in axes.texts}


@pytest.mark.parametrize("tilt", [0.0, 16.0])
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("side", ["right", "left"])
def test_fibula_and_patella_sides(side: str, layout: str, tilt: float) -> None:
    volume, box = knee(side, layout, tilt)
    figure = show(example(volume=volume, box=box, side=side))
    arrays = drawn(figure)
    assert place(arrays["sagittal"], PATELLA)[1] < 0.3, "the patella is anterior, at the left"
    assert place(arrays["sagittal"], PATELLA)[0] < 0.5, "and above the joint"
    assert place(arrays["axial"], PATELLA)[0] < 0.3, "at the top of an axial slice"
    fibula = place(arrays["coronal"], FIBULA)
    assert fibula[0] > 0.55, "the fibula is below the joint"
    # The patient's right is at the viewer's left: there a right knee's lateral side is.
    assert (fibula[1] < 0.4) if side == "right" else (fibula[1] > 0.6)
    assert (place(arrays["axial"], FIBULA)[1] < 0.4) == (side == "right")
    for plane in ("coronal", "axial"):
        words = labels(next(axes for axes in figure.axes if axes.get_label() == plane))
        assert words["R"][0] < words["L"][0]
        assert (words["lateral"][0] < words["medial"][0]) == (side == "right")
        assert (words["lateral"][0] < 0.5) == (fibula[1] < 0.5)


def phantom_knee(side: str, layout: str, tilt: float) -> Any:
    """Draw the phantom on a grid of its own: 1.5 mm, any layout, turned about the long axis."""
    spacing, shape = np.array([1.75, 1.5, 1.5]), np.array([64, 94, 94])
    angle, axes = np.radians(tilt), list(LAYOUTS[layout])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine, shape = np.eye(4), shape[axes]
    affine[:3, :3] = turn @ np.diag(spacing)[:, axes] * SIGNS[layout]
    affine[:3, 3] = (90 if side == "right" else -90, 0, 0) - affine[:3, :3] @ ((shape - 1) / 2)
    return draw_knee(KneeSpec(5, 1, 1, side, {}, Geometry(shape.tolist(), affine), noise=False))  # type: ignore[arg-type]


def bones(array: np.ndarray) -> list[np.ndarray]:
    """Find the bones on a noise-free slice, largest first: pixels of each piece of dark marrow."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="the pieces of bone are found with scipy")
    # Opened by a voxel, since the skin's blurred edge passes through the signal of marrow.
    pieces, _ = ndimage.label(ndimage.binary_opening(np.abs(array - SIGNAL["marrow"]) < 12, np.ones((3, 3))))
    sizes = np.bincount(pieces.ravel())[1:]
    return [np.argwhere(pieces == number + 1) for number in np.argsort(-sizes)]


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [0.0, 12.0])
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("side", ["right", "left"])
def test_show_places_fibula_and_patella(side: str, layout: str, tilt: float) -> None:
    knee = phantom_knee(side, layout, tilt)
    labels = drawn(show({"volume": nib.Nifti1Image(knee.mask, knee.affine), "box": knee.boxes[16].to_row()}))
    for plane, across in (("sagittal", 1), ("axial", 0)):
        assert place(labels[plane], LABELS["patella_medial"])[across] < 0.35, f"anterior on the {plane} slice"
    lateral = place(
        drawn(show({"volume": nib.Nifti1Image(knee.mask, knee.affine), "box": knee.boxes[52].to_row()}))["axial"],
        LABELS["lateral_meniscus"],
    )
    assert (lateral[1] < 0.5) == (side == "right")

    # An axial slice through the leg, 50 mm below the grid's middle, cuts the tibia and the fibula.
    middle = (np.array(knee.mask.shape) - 1) / 2 + np.linalg.solve(knee.affine[:3, :3], (0, 0, -50))
    low = middle.astype(int)
    figure = show({"volume": nib.Nifti1Image(knee.clean, knee.affine), "box": [*low, *(low + 1)], "side": side})
    tibia, fibula = (piece.mean(axis=0) for piece in bones(drawn(figure)["axial"])[:2])
    assert fibula[0] > tibia[0], "the fibula is behind the tibia"
    assert (fibula[1] < tibia[1]) == (side == "right"), "and lateral: at the viewer's left in a right knee"


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_proportions_and_box_outline(layout: str) -> None:
    volume, box = knee("right", layout, 0.0)
    voxels = np.zeros(volume.shape, dtype=np.int16)
    voxels[tuple(slice(low, high) for low, high in zip(box[:3], box[3:], strict=True))] = 1
    figure = show(example(volume=nib.Nifti1Image(voxels, volume.affine), box=box))
    figure.canvas.draw()
    for axes in figure.axes:
        (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (10, 10)])
        assert abs(x1 - x0) == pytest.approx(abs(y1 - y0), rel=1e-6), "one scale for both axes"
        image = np.asarray(axes.images[0].get_array())
        left, right, bottom, top = axes.images[0].get_extent()
        rows, columns = np.nonzero(image)
        unit = np.array([(right - left) / image.shape[1], (bottom - top) / image.shape[0]])
        assert set(np.round(unit, 6)) <= {2.0, 1.5}
        outline = axes.patches[0].get_bbox()
        np.testing.assert_allclose(outline.min, np.array([columns.min(), rows.min()]) * unit)
        np.testing.assert_allclose(outline.max, np.array([columns.max() + 1, rows.max() + 1]) * unit)


def test_show_draws_named_plane_first_and_largest() -> None:
    figure = show(example(question="It is measured in the coronal view."))
    assert [axes.get_label() for axes in figure.axes] == ["coronal", "sagittal", "axial"]
    areas = [axes.get_position().height for axes in figure.axes]
    assert areas[0] > 1.9 * max(areas[1:])


def texts(figure: Figure) -> list[Any]:
    return [text for text in figure.texts if text.get_text().strip()]


def stray(figure: Figure) -> list[str]:
    """Name texts that leave the figure, run over a slice, or run over each other."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    page = figure.bbox.padded(0.5)
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    found = [
        name
        for name, box in boxes
        if not (page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1)
    ]
    found += [
        name for name, box in boxes if any(axes.get_window_extent(renderer).overlaps(box) for axes in figure.axes)
    ]
    # Line boxes include room for ascenders, hence the pixel of tolerance.
    found += [a for (a, one), (_, two) in combinations(boxes, 2) if one.padded(-1.5).overlaps(two.padded(-1.5))]
    return found


SENTENCE = (
    "Look at the weight-bearing surface of the medial condyle, from the trochlea to the posterior horn, and compare. "
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"question": (SENTENCE * 10)[:1078], "reasoning": [SENTENCE] * 7},
        {"question": SENTENCE * 60, "reasoning": [SENTENCE * 3] * 12},
        {"question": "W" * 1078, "reasoning": ["{" + "m_" * 300 + "}"]},
        {
            "question": "costs $5 and $6, 100 % of x_1^2 \\alpha \n\n\nnew\tparagraph \x00\x1b[31m",
            "reasoning": ["", " "],
        },
        {"question": "", "reasoning": []},
        {"question": "", "reasoning": [], "grades": [], "finding": "", "subregion": "", "id": ""},
        {
            "question_id": 60,
            "finding": "anterior_cruciate_ligament",
            "grades": [
                {"attribute": name, "grade": 1, "scale": "binary"}
                for name in ("complete_tear", "insertion_lesion", "repair")
            ],
        },
        {"question_id": 48, "grades": [{"attribute": "morphology", "grade": 7, "scale": "nominal"}]},
        {"grades": [{"attribute": "an_attribute_with_a_very_long_name_indeed", "grade": 123456, "scale": "ordinal"}]},
        {"subregion": "_".join(["subregion"] * 30), "finding": "_".join(["finding"] * 30)},
    ],
    ids=[
        "official lengths",
        "far longer",
        "no spaces",
        "marks",
        "no text",
        "nothing",
        "ligament",
        "nominal",
        "odd grade",
        "long names",
    ],
)
def test_no_text_leaves_its_place(changes: dict[str, Any]) -> None:
    figure = show(example(**changes))
    assert stray(figure) == []
    height, width = figure.get_size_inches()[::-1]
    assert height >= 7
    assert width < 18


def test_the_check_sees_text_that_strays() -> None:
    figure = show(example())
    figure.text(0.95, 0.01, "far too long for this corner")
    assert stray(figure) == ["far too long for this corner"]


def test_show_writes_question_steps_and_grades() -> None:
    row = example(question=(SENTENCE * 10)[:1078], reasoning=[SENTENCE.strip(), "costs $5 or $6"])
    figure = show(row)
    said = " ".join(text.get_text() for text in texts(figure))
    assert row["question"].strip() in said
    assert SENTENCE.strip() in said
    assert "costs $5 or $6" in said
    assert {"none", "not graded", "size", "depth"} <= {text.get_text() for text in texts(figure)}
    assert all(text.get_parse_math() is False for text in texts(figure))


def test_synthetic_mark_on_every_slice() -> None:
    figure = show(example())
    assert all("SYNTHETIC" in labels(axes) for axes in figure.axes)
    assert any("SYNTHETIC" in text.get_text() for text in figure.texts)
    real = show(example(synthetic=False))
    assert not any("SYNTHETIC" in text.get_text() for axes in real.axes for text in axes.texts)
    assert not any("SYNTHETIC" in text.get_text() for text in real.texts)


@pytest.mark.parametrize("shape", [(8, 64, 64), (64, 8, 64), (64, 64, 8), (1, 1, 1), (200, 4, 4)])
def test_slab_keeps_proportions_and_letters(shape: tuple[int, int, int]) -> None:
    figure = show({"volume": nib.Nifti1Image(np.ones(shape, np.int16), np.diag([0.7, 0.36, 0.36, 1.0]))})
    assert stray(figure) == []
    for axes in figure.axes:
        (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
        assert abs(x1 - x0) == pytest.approx(abs(y1 - y0), rel=1e-6)
        left, right, bottom, top = axes.images[0].get_extent()
        assert axes.get_xlim()[0] <= left < right <= axes.get_xlim()[1]
        assert axes.get_ylim()[1] <= top < bottom <= axes.get_ylim()[0]


@pytest.mark.parametrize(
    "window",
    [(5,), (), (0, 200, 400), 400, "04", ("0", "400"), (400, 0), (7, 7), (0, float("nan")), (0, float("inf")), {0: 1}],
)
def test_show_refuses_invalid_window_before_reading(window: Any) -> None:
    class Unread:
        shape, affine = (4, 4, 4), np.eye(4)

        @property
        def dataobj(self) -> Any:
            raise AssertionError("voxels were read")

    with pytest.raises(
        FigureError, match=r"window must be two finite numbers, black below white, not .*\(0, 400\)"
    ) as error:
        show({"volume": Unread()}, window=window)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("window", [[0, 400], np.array([0, 400]), (np.float32(0), np.int16(400))])
def test_the_window_may_be_any_two_numbers(window: Any) -> None:
    assert [image.get_clim() for image in show(example(), window=window).axes[0].images] == [(0.0, 400.0)]


def test_the_window_can_be_fixed() -> None:
    figure = show(example(), window=(0, 400))
    assert {axes.images[0].get_clim() for axes in figure.axes} == {(0, 400)}


STYLE = {
    "font.size": 30,
    "font.family": "monospace",
    "text.usetex": True,
    "axes.grid": True,
    "xtick.minor.visible": True,
    "image.origin": "lower",
    "image.interpolation": "nearest",
    "image.aspect": "auto",
    "figure.autolayout": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "lines.linewidth": 9,
    "patch.force_edgecolor": True,
}


def test_matplotlib_style_changes_no_pixel() -> None:
    with matplotlib.rc_context({"figure.dpi": 50, **STYLE}):
        styled = show(example())._repr_png_()
    plain = show(example())._repr_png_()
    assert styled == plain


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_figure_is_written_whole(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"figure{suffix}"
    show(example(), out=out)
    assert out.read_bytes()[:4] in {b"\x89PNG", b"%PDF", b"<?xm"}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_save_to_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(FigureError, match=r"absent/figure.png cannot be written: No such file.*Name a file"):
        show(example(), out=tmp_path / "absent" / "figure.png")
    with pytest.raises(FigureError, match=r"as figure.docx: matplotlib has no format 'docx'. Name it .png"):
        show(example(), out=tmp_path / "figure.docx")
    kept = tmp_path / "figure.png"
    kept.mkdir()  # a folder of that name: moving into place fails
    with pytest.raises(FigureError, match=r"figure\.png cannot be written"):
        show(example(), out=kept)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_errors_name_the_row(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="outside the volume") as box_error:
        show(example(box=[0, 0, 0, 500, 1, 1]))
    absent = open_volume(tmp_path / "0000001" / "00M_right.nii.gz")
    with pytest.raises(VolumeNotFoundError, match="00M_right") as volume_error:
        show(example(volume=absent))
    for error in (box_error.value, volume_error.value):
        assert "while drawing 0000001/00M/right/q19" in error.__notes__


def test_show_lazy_volume_equals_image_in_memory(tmp_path: Path) -> None:
    row = example()
    nib.save(row["volume"], tmp_path / "knee.nii.gz")
    lazy = drawn(show(row | {"volume": open_volume(tmp_path / "knee.nii.gz")}))
    for plane, array in drawn(show(row)).items():
        np.testing.assert_array_equal(lazy[plane], array)


@pytest.mark.slow
def test_notebook_shows_volume_and_figure(tmp_path: Path) -> None:
    shells = pytest.importorskip("IPython.core.interactiveshell", reason="IPython is not installed")
    nib.save(knee("left", "PIR", 5.0)[0], tmp_path / "knee.nii.gz")
    shell = shells.InteractiveShell.instance()
    try:
        assert register_notebook_display() is True
        data, _ = shell.display_formatter.format(open_volume(tmp_path / "knee.nii.gz"))
        assert data["image/png"][:4] == b"\x89PNG"
        assert "LazyVolume" in data["text/plain"]
        row = example() | {"volume": open_volume(tmp_path / "knee.nii.gz")}
        data, _ = shell.display_formatter.format(row)
        assert data["image/png"] == show(row)._repr_png_()
        assert row["question"] in data["text/plain"]
        # Whatever else is a dict, a batch of examples too, shows as before.
        for plain in ({}, {1: 2}, {"volume": 3.5}, {"volume": [open_volume(tmp_path / "knee.nii.gz")]}, example()):
            assert list(shell.display_formatter.format(plain)[0]) == ["text/plain"]
        data, _ = shell.display_formatter.format(show(example()))
        assert data["image/png"][:4] == b"\x89PNG"
    finally:
        shells.InteractiveShell.clear_instance()


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_figures_imports_neither_matplotlib_nor_ipython() -> None:
    code = "import sys, reasonknee_datasets.figures as f; f.register_notebook_display()\n"
    assert run(code + "sys.exit(bool({'matplotlib', 'IPython'} & set(sys.modules)))").returncode == 0


def test_without_matplotlib_the_extra_is_named() -> None:
    done = run("import sys; sys.modules['matplotlib'] = None\nfrom reasonknee_datasets.figures import show\nshow({})")
    assert "MissingExtraError: matplotlib is needed for figures.show and is not installed" in done.stderr
    assert 'pip install "reasonknee_datasets[figures]"' in done.stderr


@pytest.mark.parametrize("thing", [knee("right", "RAS", 0.0)[0], "0000001/00M/right/q19", [1]])
def test_what_is_no_row_is_refused(thing: Any) -> None:
    with pytest.raises(
        RepositoryError, match=r"A \w+ cannot be drawn as an example\. Pass one row, such as dataset\[0\]"
    ):
        show(thing)


def test_planes_are_all_drawn() -> None:
    assert {axes.get_label() for axes in show(example()).axes} == set(PLANES)
