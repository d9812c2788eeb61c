"""The measurer, on shapes whose answer is known: blocks and slabs that numpy draws, in any orientation."""

from __future__ import annotations

import numpy as np
import pytest

from reasonknee_datasets.phantom import LABELS
from reasonknee_datasets.phantom.signs import SIGNAL
from tests.helpers.measure_cartilage import PARTS, measure_cartilage
from tests.helpers.measure_cases import grid
from tests.helpers.measure_extrusion import measure_extrusion
from tests.helpers.measure_marrow import measure_marrow
from tests.helpers.measure_osteophytes import measure_osteophyte
from tests.helpers.measure_soft import effusion_ml, gap_share, hoffa_share
from tests.helpers.measure_view import View

STEP = 0.5  # mm


class Scene:
    """A block of capsule in which boxes are painted, in mm: medial, anterior, superior."""

    def __init__(self, size=(40, 40, 30)):
        shape = tuple(round(side / STEP) for side in size)
        self.clean = np.full(shape, SIGNAL["capsule"], np.float32)
        self.mask = np.zeros(shape, np.uint8)

    def paint(self, low, high, signal=None, label=None):
        box = tuple(slice(round(a / STEP), round(b / STEP)) for a, b in zip(low, high, strict=True))
        if signal is not None:
            self.clean[box] = SIGNAL[signal]
        if label is not None:
            self.mask[box] = LABELS[label]

    def view(self, side="left"):
        """See it in a left knee, whose medial side is where x grows; a right one's array runs the other way."""
        affine = np.diag([STEP if side == "left" else -STEP, STEP, STEP, 1.0])
        return View.of(self.clean, self.mask, affine, side)


# The frame


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layout", range(4))
@pytest.mark.parametrize("tilt", [0.0, 16.0])
def test_view_keeps_voxel_positions(side, layout, tilt):
    affine = np.array(grid("tiny", side, layout=layout, tilt=tilt).affine)
    index = np.indices((6, 7, 8)).reshape(3, -1).T
    world = index @ affine[:3, :3].T + affine[:3, 3]
    everywhere = np.ones((6, 7, 8), bool)
    for axis in range(3):
        seen = View.of(world[:, axis].reshape(6, 7, 8), everywhere.astype(np.uint8), affine, side)
        mirrored = -1.0 if side == "right" and axis == 0 else 1.0
        places = seen.mm(np.ones(seen.mask.shape, bool))[:, axis]
        np.testing.assert_allclose(places, mirrored * seen.clean.ravel(), atol=1e-3)
        assert seen.to_mm[axis, axis] > 0, "indices grow to medial, anterior and superior"


def test_view_crop_and_coarsen_keep_positions():
    scene = Scene()
    scene.paint((10, 12, 8), (20, 22, 18), label="hoffa_fat_pad")
    whole = scene.view()
    for part in (whole.around(["hoffa_fat_pad"], 3.0), whole.coarser(1.0)):
        center = part.mm(part.label("hoffa_fat_pad")).mean(axis=0)
        np.testing.assert_allclose(center, whole.mm(whole.label("hoffa_fat_pad")).mean(axis=0), atol=0.26)


def test_an_absent_label_is_named():
    with pytest.raises(LookupError, match="the mask must hold patellar_tendon"):
        Scene().view().around(["patellar_tendon"], 1.0)


# Lesions of known size


def test_marrow_with_half_cyst_bodies():
    scene = Scene()
    scene.paint((5, 5, 5), (35, 35, 25), "marrow", "femur_medial_central")
    for low in (8, 22):
        scene.paint((low, 10, 10), (low + 10, 30, 20), "bone_marrow_lesion")
        scene.paint((low, 10, 10), (low + 10, 30, 15), "fluid")
    found = measure_marrow(scene.view(), "femur_medial_central")
    assert found["size"] == pytest.approx(2 * 10 * 20 * 10 / (30 * 30 * 20), abs=0.02)
    assert found["number"] == 2
    assert found["percent"] == pytest.approx(0.5, abs=0.04)


def test_marrow_without_a_lesion():
    scene = Scene()
    scene.paint((5, 5, 5), (35, 35, 25), "marrow", "femur_medial_central")
    assert set(measure_marrow(scene.view(), "femur_medial_central").values()) == {0.0}


@pytest.mark.parametrize(("size", "depth"), [(0.0, 0.0), (0.06, 0.0), (0.4, 0.4), (0.9, 1.0)])
def test_cartilage_with_a_defect_of_known_area(size, depth):
    scene = Scene((60, 60, 20))
    for number, name in enumerate(PARTS["tibia"]):
        column, row = number // 3, number % 3
        scene.paint((30 * column, 20 * row, 0), (30 * column + 30, 20 * row + 20, 8), "marrow", name)
    scene.paint((0, 0, 8), (60, 60, 11), "cartilage", "tibial_cartilage")
    scene.paint((0, 0, 11), (60, 60, 12), "fluid")
    width = 30 * size
    scene.paint((0, 20, 9.5), (width, 40, 11), "fluid")
    scene.paint((0, 20, 8), (width * depth, 40, 11), "fluid")
    found = measure_cartilage(scene.view(), "tibia")
    assert found["tibia_medial_central"]["size"] == pytest.approx(size, abs=0.03)
    assert found["tibia_medial_central"]["depth"] == pytest.approx(depth, abs=0.05)
    assert {value for name in found if name != "tibia_medial_central" for value in found[name].values()} == {0.0}


@pytest.mark.parametrize("reach", [0.0, 2.0, 4.5, 6.5])
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_osteophyte_of_known_reach(reach, side):
    scene = Scene((50, 50, 40))
    for number, name in enumerate(PARTS["tibia"][:3]):
        scene.paint((5, 25 - 8 * number, 5), (30, 33 - 8 * number, 25), "marrow", name)
    if reach:
        scene.paint((30, 27, 18), (30 + reach, 33, 23), "marrow")
    assert measure_osteophyte(scene.view(side), 40) == pytest.approx(reach, abs=0.3)


@pytest.mark.parametrize("reach", [0.0, 2.5, 4.0, 6.5])
def test_a_tongue_of_known_reach(reach):
    scene = Scene((40, 50, 24))
    scene.paint((8, 10, 8), (20, 40, 13), "meniscus", "medial_meniscus")
    scene.paint((20, 20, 8.5), (20 + reach, 30, 12.5), "meniscus")
    assert measure_extrusion(scene.view(), 45) == pytest.approx(reach, abs=0.3)


def test_volumes_and_shares():
    scene = Scene()
    scene.paint((5, 5, 5), (15, 15, 15), "fluid", "joint_effusion")
    scene.paint((20, 5, 5), (30, 15, 15), "fat", "hoffa_fat_pad")
    scene.paint((20, 5, 5), (30, 15, 8), "synovitis")
    scene.paint((5, 25, 2), (9, 29, 28), "ligament", "anterior_cruciate_ligament")
    whole = gap_share(scene.view(), "anterior_cruciate_ligament")
    scene.paint((5, 25, 11), (9, 29, 19), "fluid")
    assert effusion_ml(scene.view()) == pytest.approx(1.0)
    assert hoffa_share(scene.view()) == pytest.approx(0.3)
    assert (whole, gap_share(scene.view(), "anterior_cruciate_ligament")) == (0.0, 1.0)
