"""Official boxes that follow the anatomy where volumes come in two array layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.cli import main
from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.orientation import axis_order
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.phantom.release_files import write_questions
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.release import ReleaseOptions, open_release, rebuild_record
from reasonknee_datasets.release.convention import Chosen, Evidence, judge

pytestmark = pytest.mark.slow

RAS, ASR = "slice0-x1-y2-pairs-inclusive-voxel", "slice2-x0-y1-pairs-inclusive-voxel"


@pytest.fixture(scope="module")
def anatomical(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release of `phantom_release`, but with boxes along the body's directions."""
    folder = tmp_path_factory.mktemp("anatomical") / "release"
    write_release(folder, patients=6, size="tiny", seed=0, workers=1, anatomical_boxes=True)
    return folder


def rows(release: Path) -> dict[str, dict]:
    return {row["id"]: dict(row) for _, row in open_release(release).quintuples()}


def test_each_layout_gets_its_convention(anatomical: Path) -> None:
    release = open_release(anatomical)
    boxes = release.check().boxes
    assert boxes is not None
    assert {layout: str(each) for layout, each in boxes.by_layout.items()} == {"RAS": RAS, "ASR": ASR}
    assert boxes.exact == boxes.checked > 0
    assert f"{ASR} in ASR arrays; {RAS} in RAS arrays (established)" in str(boxes)


def test_anatomical_boxes_equal_array_boxes(anatomical: Path, phantom_release: Path) -> None:
    mine, theirs = rows(anatomical), rows(phantom_release)
    assert mine.keys() == theirs.keys()
    assert all(mine[key]["box"] == theirs[key]["box"] for key in mine)


def test_one_convention_for_all_layouts_stays_one(phantom_release: Path) -> None:
    boxes = open_release(phantom_release).check().boxes
    assert boxes is not None
    assert (str(boxes.convention), boxes.by_layout) == (RAS, {})
    assert "by_layout" not in boxes.to_manifest()


def test_records_are_rebuilt_with_their_numbers(anatomical: Path) -> None:
    release = open_release(anatomical)
    shapes = {volume.volume_id: volume.shape for volume in release.volumes}
    official = {}
    for name in ("train", "val", "test"):
        for record in json.loads((anatomical / f"data/generate_data/{name}.json").read_text()):
            key = record["image"].rpartition("images/")[2]
            official.setdefault(key, []).append(record["final_diagnosis"]["bounding_box"])
    keys = {study.volume_id: study.key for study in release.studies}
    layouts = {volume.volume_id: axis_order(volume.affine) for volume in release.volumes if volume.affine}
    seen = set()
    for _, row in release.quintuples():
        volume = row["id"].rpartition("/")[0]
        built = rebuild_record(row, image="", convention=release.convention, shape=shapes[volume])
        assert built["final_diagnosis"]["bounding_box"] == official[keys[volume]][row["question_id"] - 1]
        seen.add(layouts[volume])
    assert seen == {"RAS", "ASR"}


def test_prepare_names_convention_of_layouts(anatomical: Path, tmp_path: Path) -> None:
    prepare(anatomical, tmp_path / "3dreasonknee", volumes="link", workers=1, progress=False)
    manifest = Manifest.load(tmp_path / "3dreasonknee")
    assert manifest.box_convention["by_layout"] == {"ASR": ASR, "RAS": RAS}
    assert f"`{ASR}` in ASR arrays; `{RAS}` in RAS arrays" in (tmp_path / "3dreasonknee/README.md").read_text()


def test_open_release_layouts_without_label_map(anatomical: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(anatomical, tmp_path / "release"))
    shutil.rmtree(folder / "data/question_files")
    (folder / "data/question_files").mkdir()
    write_questions(folder / "data/question_files", "opaque")
    boxes = open_release(folder).check().boxes
    assert boxes is not None
    assert {layout: str(each) for layout, each in boxes.by_layout.items()} == {"RAS": RAS, "ASR": ASR}


def test_given_convention_must_fit_every_layout(anatomical: Path) -> None:
    options = ReleaseOptions(box_convention=RAS, allow=frozenset({"box-outside", "bad-box", "box-question"}))
    with pytest.raises(ReleaseError, match=r"explains less than 95%|another convention explains"):
        open_release(anatomical, options).check()


def test_command_writes_anatomical_boxes(tmp_path: Path) -> None:
    out = tmp_path / "release"
    assert main(["phantom", "--anatomical-boxes", "--annotations-only", "--out", str(out)]) == 0
    assert json.loads((out / "data/phantom.json").read_text())["anatomical_boxes"] is True


SHAPE = (40, 60, 80)


def evidence(counts: dict[str, int], conventions: dict[str, str], seed: int = 0) -> Evidence:
    """Draw boxes in arrays of given layouts, and write each in its layout's convention."""
    rng, numbers, regions, shapes, layouts = np.random.default_rng(seed), [], [], [], []
    for layout, count in counts.items():
        convention = BoxConvention.parse(conventions[layout])
        for _ in range(count):
            start = rng.integers(0, 15, 3)
            stop = start + rng.integers(3, 20, 3)
            box = Box.from_row([*start.tolist(), *stop.tolist()])
            numbers.append(convention.encode(box, SHAPE))
            regions.append(box.to_row())
            shapes.append(SHAPE)
            layouts.append(layout)
    asked = np.ones(len(numbers), int)
    return Evidence(asked, np.array(numbers, float), np.array(regions), np.array(shapes), np.array(layouts))


@pytest.mark.parametrize("rare", [1, 3, 40])
def test_judge_separates_layouts_however_rare_one_is(rare: int) -> None:
    """With 1 or 3 boxes of 100, one convention explains more than 95 % and would misread the others."""
    chosen, fault = judge(None, evidence({"RAS": 100, "ASR": rare}, {"RAS": RAS, "ASR": ASR}))
    assert fault is None
    assert chosen == Chosen(
        BoxConvention.parse(RAS), {"RAS": BoxConvention.parse(RAS), "ASR": BoxConvention.parse(ASR)}
    )


def test_judge_one_convention_for_layouts() -> None:
    chosen, fault = judge(None, evidence({"RAS": 50, "ASR": 30}, {"RAS": RAS, "ASR": RAS}))
    assert (chosen, fault) == (Chosen(BoxConvention.parse(RAS)), None)


def test_judge_layouts_of_other_families() -> None:
    other = "slice2-x0-y1-pairs-exclusive-voxel"
    chosen, fault = judge(None, evidence({"RAS": 50, "ASR": 50}, {"RAS": RAS, "ASR": other}))
    assert fault is not None
    assert chosen is None or not chosen.by_layout
