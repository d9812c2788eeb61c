"""The box convention: established, verified for each question, and refused where the masks speak against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.release import ReleaseOptions, open_release
from reasonknee_datasets.release.checks import turn_rows
from tests.helpers.release_builder import CONVENTION, KNEES, Knee, build_release


def open_given(root: Path, convention: str, *allow: str) -> Any:
    return open_release(root, ReleaseOptions(box_convention=convention, allow=frozenset(allow)))


def test_a_given_convention_is_checked_and_kept(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r", knees=KNEES[:1])
    release = open_given(built.root, "x1-y2-slice0-pairs-inclusive-voxel".replace("x1-y2-slice0", "y0-slice1-x2"))
    release.check()
    assert release.agreement.source == "given"
    assert str(release.convention) == "y0-slice1-x2-pairs-inclusive-voxel"
    assert release.agreement.to_manifest()["agreement"] == 1.0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("slice2-x1-y0-pairs-inclusive-voxel", r"another convention explains the boxes better: slice2-x1-y0"),
        # One voxel off everywhere is within the tolerance; the exact agreement still tells it.
        ("slice0-x1-y2-pairs-exclusive-voxel", r"\((\d+) of 62 boxes, 0 exactly\) where .*inclusive.* is closer"),
        ("slice0-x1-y2-pairs-inclusive-normalised", r"\(0 of 62 boxes, 0 exactly\) where "),
    ],
)
def test_judge_given_convention_contradicted(tmp_path: Path, given: str, says: str) -> None:
    built = build_release(tmp_path / "r", knees=KNEES[:1])
    with pytest.raises(ReleaseError, match=says):
        open_given(built.root, given, "box-question", "bad-box", "box-outside").check()


def move(share: float) -> Any:
    """Move that share of all boxes away from their regions."""

    def change(record: dict[str, Any], question: int) -> None:
        if question <= share * 62:
            record["final_diagnosis"]["bounding_box"] = [1, 2, 3, 4, 5, 6]

    return change


def test_judge_needs_95_percent(tmp_path: Path) -> None:
    few = build_release(tmp_path / "few", change=move(0.04))
    report = open_release(few.root, ReleaseOptions(allow=frozenset({"box-question"}))).check()
    assert report.boxes is not None
    assert (report.boxes.checked, report.boxes.near) == (248, 240)
    assert report.boxes.by_question[1] == 0
    assert "lowest: question 1, 0.0%" in str(report)
    many = build_release(tmp_path / "many", change=move(0.07))
    with pytest.raises(
        ReleaseError, match=r"the convention explains less than 95% of the boxes within one voxel: .*\(232 of 248"
    ):
        open_release(many.root, ReleaseOptions(allow=frozenset({"box-question"}))).check()


def test_boxes_off_by_one_voxel_agree(tmp_path: Path) -> None:
    def widen(record: dict[str, Any], question: int) -> None:
        box = record["final_diagnosis"]["bounding_box"]
        record["final_diagnosis"]["bounding_box"] = [n + (1 if place % 2 else -1) for place, n in enumerate(box)]

    report = open_given(build_release(tmp_path / "r", change=widen).root, CONVENTION).check()
    assert report.boxes is not None
    assert (report.boxes.near, report.boxes.exact) == (248, 0)


def test_judge_indistinguishable_conventions(tmp_path: Path) -> None:
    def cube(record: dict[str, Any], question: int) -> None:
        record["final_diagnosis"]["bounding_box"] = [4, 9, 4, 9, 4, 9]

    built = build_release(tmp_path / "r", knees=KNEES[:1], change=cube)
    import nibabel as nib

    mask = np.zeros((22, 40, 36), np.uint8)
    mask[4:10, 4:10, 4:10] = 44
    nib.save(nib.Nifti1Image(mask, nib.load(built.mask()).affine), built.mask())
    built.write("question_files/question_subregion_mapping.json", {str(q): 44 for q in range(1, 63)})
    with pytest.raises(ReleaseError, match=r"no single convention explains the boxes: undetermined between"):
        open_release(built.root).check()
    assert open_given(built.root, CONVENTION).check().boxes.exact == 62


def test_many_boxes_turn_as_one_does() -> None:
    rng = np.random.default_rng(0)
    shape = (30, 40, 50)
    start = rng.integers(0, 15, (20, 3))
    rows = np.hstack([start, start + rng.integers(1, 15, (20, 3))]).astype(np.int32)
    for turn in Reorientation.all():
        wanted = [turn.apply_box(Box.from_row(row), shape).to_row() for row in rows.tolist()]
        assert turn_rows(rows, turn, np.array(shape)).tolist() == wanted


def test_boxes_without_mask_are_in_image_array(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r", knees=(*KNEES, Knee(visit="24M", series="10000009")))
    built.mask(4).unlink()
    release = open_release(built.root, ReleaseOptions(allow=frozenset({"missing-mask"})))
    report = release.check()
    assert report.boxes is not None
    assert report.boxes.checked == 248
    rows = [row for _, row in release.quintuples() if row["visit"] == "24M"]
    assert len(rows) == 62
    assert release.volumes[2].mask is None
    assert BoxConvention.parse(CONVENTION) == release.convention
