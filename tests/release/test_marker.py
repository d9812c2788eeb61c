"""``data/phantom.json``: a synthetic release without voxels declares how its boxes are written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.cli.main import main
from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.release import ReleaseOptions, open_release
from reasonknee_datasets.release.paths import Marker, find_revision, read_marker

OTHER = "slice2-x0-y1-corners-exclusive-voxel"


@pytest.mark.parametrize("convention", [None, OTHER])
def test_annotations_only_are_prepared_without_options(
    tmp_path: Path, convention: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    release, out = tmp_path / "release", tmp_path / "knees"
    words = ["phantom", "--annotations-only", "--patients", "3", "--out", str(release)]
    assert main(words + (["--box-convention", convention] if convention else [])) == 0
    assert main(["prepare", "--volumes", "none", "--release", str(release), "--out", str(out)]) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    manifest = Manifest.load(out)
    assert manifest.box_convention["name"] == str(
        BoxConvention.parse(convention or "slice0-x1-y2-pairs-inclusive-voxel")
    )
    assert manifest.rows("quintuples", "train") > 0
    assert list(manifest.report["allowed"]) == ["missing-mask"]


def test_read_marker_convention_leaves_boxes(tmp_path: Path) -> None:
    rows = []
    for name in (None, OTHER):
        root = tmp_path / str(name)
        write_release(root, patients=3, annotations_only=True, box_convention=name)
        release = open_release(root, ReleaseOptions(require_images=False))
        rows.append([(row["id"], row["box"]) for _, row in release.quintuples()])
    assert rows[0] == rows[1] != []


def test_read_marker_given_convention(tmp_path: Path) -> None:
    write_release(tmp_path / "release", patients=1, annotations_only=True)
    release = open_release(tmp_path / "release", ReleaseOptions(require_images=False, box_convention=OTHER))
    with pytest.raises(ReleaseError, match=f"bounding_box .* is not a box as {OTHER} for shape"):
        release.check()


@pytest.mark.slow
def test_read_marker_masks_still_required(tmp_path: Path) -> None:
    write_release(tmp_path / "release", patients=1, workers=1)
    next((tmp_path / "release/data/masks").iterdir()).unlink()
    with pytest.raises(ReleaseError, match="missing-mask"):
        open_release(tmp_path / "release").check()


def test_read_marker(tmp_path: Path) -> None:
    assert read_marker(tmp_path) is None
    facts = {"synthetic": True, "annotations_only": True, "box_convention": OTHER}
    (tmp_path / "phantom.json").write_text(json.dumps(facts))
    assert read_marker(tmp_path) == Marker(True, BoxConvention.parse(OTHER))
    (tmp_path / "phantom.json").write_text(json.dumps(facts | {"synthetic": False}))
    assert read_marker(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("\xff", "cannot be read"),
        ("[]", "must be an object"),
        ('{"synthetic": 1}', "field 'synthetic' must be true or false"),
        ('{"synthetic": true, "annotations_only": true, "box_convention": "zyx"}', "Unknown box convention"),
        (None, "a named pipe"),
    ],
)
def test_read_marker_refuses_what_it_cannot_read(tmp_path: Path, content: str | None, message: str) -> None:
    if content is None:
        os.mkfifo(tmp_path / "phantom.json")
    else:
        (tmp_path / "phantom.json").write_text(content, encoding="latin-1")
    with pytest.raises(ReleaseError, match=rf"phantom\.json.*{message}|{message}.*phantom\.json"):
        read_marker(tmp_path)


def test_find_revision_skips_what_is_no_file(tmp_path: Path) -> None:
    notes = tmp_path / ".cache/huggingface/download/data/split_files"
    notes.mkdir(parents=True)
    os.mkfifo(notes / "a_split.csv.metadata")
    (notes / "b_split.csv.metadata").write_bytes(b"\xff" * 1000)
    assert find_revision(tmp_path / "data") is None
    (notes / "c_split.csv.metadata").write_text("a" * 40 + "\nmore")
    assert find_revision(tmp_path / "data") == "a" * 40
