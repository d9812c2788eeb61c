"""Priors against counts and medians taken another way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.manifest import FileRecord, Manifest
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.prepare.prior_counts import CanonicalGrid, Priors
from tests.helpers import prepare_content as given

RAS = np.diag([0.7, 0.375, 0.5, 1.0])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[given.SourceVolume], dict]:
    folder = tmp_path_factory.mktemp("priors")
    made = given.volumes(folder / "images")
    given.write(folder / "out", given.content(made))
    return made, json.loads((folder / "out" / "priors.json").read_text())


def test_counts_are_those_of_train(written: tuple[list[given.SourceVolume], dict]) -> None:
    made, priors = written
    train = [row for split, row in given.rows(made) if split == "train"]
    assert priors["rows"] == len(train) == 36
    for question in (1, 19, 40):
        for slot in QUESTIONS[question].slots:
            grades = [
                grade["grade"]
                for row in train
                if row["question_id"] == question
                for grade in row["grades"]
                if grade["attribute"] == slot.attribute
            ]
            entry = priors["slots"][slot.name]
            assert entry["counts"] == {str(grade): grades.count(grade) for grade in slot.legal}
            assert entry["missing"] == grades.count(None)
            assert sum(entry["counts"].values()) + entry["missing"] == 12
            assert (entry["question_id"], entry["attribute"], entry["scale"]) == (question, slot.attribute, slot.scale)


def test_whole_answers_are_counted_together(written: tuple[list[given.SourceVolume], dict]) -> None:
    made, priors = written
    assert list(priors["questions"]) == [f"q{n:02d}" for n in range(1, 63)]
    for question in (1, 19, 40):
        answers = [
            tuple(each["grade"] for each in row["grades"])
            for split, row in given.rows(made)
            if split == "train" and row["question_id"] == question
        ]
        entry = priors["questions"][f"q{question:02d}"]
        whole = [answer for answer in answers if None not in answer]
        assert entry["counts"] == {" ".join(map(str, answer)): whole.count(answer) for answer in sorted(set(whole))}
        assert entry["incomplete"] == len(answers) - len(whole)
        assert entry["attributes"] == list(QUESTIONS[question].attributes)


def test_priors_name_repository(tmp_path: Path) -> None:
    given.write(tmp_path, given.content(given.volumes(None)), volumes="none")
    data = (tmp_path / "priors.json").read_bytes()
    assert Manifest.load(tmp_path).files["priors.json"] == FileRecord(len(data), hashlib.sha256(data).hexdigest())


def test_priors_every_slot(written: tuple[list[given.SourceVolume], dict]) -> None:
    _, priors = written
    assert list(priors["slots"]) == [slot.name for n in range(1, 63) for slot in QUESTIONS[n].slots]
    assert sum(priors["slots"]["q02.size"]["counts"].values()) == 0


def test_boxes_are_by_question_and_side(written: tuple[list[given.SourceVolume], dict]) -> None:
    _, priors = written
    assert set(priors["boxes"]) == {f"q{question:02d}.{side}" for question in (1, 19, 40) for side in ("left", "right")}
    entry = priors["boxes"]["q19.left"]
    assert (entry["count"], entry["question_id"], entry["side"]) == (6, 19, "left")
    # Box 1 2 3 4 6 8 in 6x8x10 voxels, whose axes already run right, anterior, superior.
    assert entry["fraction"] == [round(n / d, 5) for n, d in zip((1, 2, 3, 4, 6, 8), (6, 8, 10) * 2, strict=True)]


@pytest.mark.parametrize("turn", list(Reorientation.all()), ids=str)
def test_all_48_orientations_give_one_box(turn: Reorientation) -> None:
    shape, box = (40, 60, 80), Box((4, 5, 6), (14, 25, 36))
    grid = CanonicalGrid(turn.apply_shape(shape), turn.apply_affine(RAS, shape))
    np.testing.assert_array_equal(grid.edges(turn.apply_box(box, shape)), [box.start, box.stop])
    np.testing.assert_array_equal(grid.shape, shape)
    np.testing.assert_allclose(grid.spacing, [0.7, 0.375, 0.5])


def test_priors_mm_from_centre() -> None:
    shape, box = (40, 60, 80), Box((4, 5, 6), (14, 25, 36))
    made = given.volumes(None, {"train": [1]})[:1]
    ((_, row),) = given.rows(made, [19])
    priors = Priors()
    priors.add({**row, "box": box.to_row()}, CanonicalGrid(shape, RAS))
    found = json.loads(priors.to_json())["boxes"]["q19.right"]["mm"]
    # The oracle: world positions of the box's outer corners and of the volume's, half a voxel beyond the centres.
    low, high = (apply_affine(RAS, np.array(corner) - 0.5) for corner in (box.start, box.stop))
    centre = apply_affine(RAS, np.array(shape) / 2 - 0.5)
    np.testing.assert_allclose(found, [*(low - centre), *(high - centre)], atol=1e-3)


def test_medians_are_medians() -> None:
    made = given.volumes(None, {"train": [1, 2, 3]})
    priors = Priors()
    boxes = iter(([0, 0, 0, 2, 2, 2], [1, 1, 1, 3, 3, 3], [5, 4, 3, 6, 8, 9]))
    for _, row in given.rows([volume for volume in made if volume.side == "left"], [19]):
        priors.add({**row, "box": next(boxes)}, CanonicalGrid((10, 10, 10), np.eye(4)))
    entry = json.loads(priors.to_json())["boxes"]["q19.left"]
    assert entry["fraction"] == [0.1, 0.1, 0.1, 0.3, 0.3, 0.3]
    assert entry["mm"] == [-4, -4, -4, -2, -2, -2]
    assert entry["count"] == 3


def test_priors_without_images(tmp_path: Path) -> None:
    given.write(tmp_path, given.content(given.volumes(None)), volumes="none")
    priors = json.loads((tmp_path / "priors.json").read_text())
    assert priors["boxes"] == {}
    assert sum(priors["slots"]["q19.size"]["counts"].values()) > 0
