"""The synthetic release through the reader: every variant that the phantom can write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from reasonknee_datasets.phantom import REGION_NAMES, region_of, write_release
from reasonknee_datasets.phantom.release_files import LABEL_MAP_VARIANTS, write_questions
from reasonknee_datasets.release import Release, ReleaseOptions, open_release, rebuild_record
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

OFFICIAL = ("train", "val", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "release"
    write_release(folder, patients=3, seed=5, workers=1)
    return folder


@pytest.fixture(scope="module")
def release(root: Path) -> Release:
    return open_release(root)


def test_the_synthetic_release_is_sound(release: Release) -> None:
    report = release.check()
    assert report.counts == {}
    assert report.rows_dropped == 0
    assert "4 records name no image and were left out, as the authors' own script does" in report.notes
    assert report.violations == {}
    assert release.synthetic
    assert release.agreement.agreement == 1.0
    assert set(release.agreement.by_question) == set(REGION_NAMES)


def test_rebuild_record_of_phantom_exact(root: Path, release: Release) -> None:
    shapes = {volume.volume_path: volume.shape for volume in release.volumes}
    rows = release.quintuples()
    count = length = 0
    for split in OFFICIAL:
        for record in json.loads((root / f"data/generate_data/{split}.json").read_text()):
            if not record["image"]:
                continue
            _, row = next(rows)
            shape = shapes[row["volume_path"]]
            again = rebuild_record(row, image=record["image"], convention=release.convention, shape=shape)
            assert json.dumps(again) == json.dumps(record)
            assert len(row["reasoning"]) > 1
            count, length = count + 1, length + len(row["record"])
    assert next(rows, None) is None
    assert length / count < 60


def test_two_series_and_rows_without_records_occur(release: Release) -> None:
    assert sum(volume.volume_id.count("/") == 3 for volume in release.volumes) >= 1
    assert any("have no records and no rows" in note for note in release.check().notes)


@pytest.mark.parametrize("variant", LABEL_MAP_VARIANTS)
def test_every_label_map_gives_the_same_regions(root: Path, tmp_path: Path, variant: str) -> None:
    shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/data/question_files")
    (tmp_path / "copy/data/question_files").mkdir()
    write_questions(tmp_path / "copy/data/question_files", variant)
    release = open_release(tmp_path / "copy")
    report = release.check()
    assert report.boxes is not None
    assert report.boxes.agreement == 1.0
    established = [note for note in report.notes if "were established by comparing boxes" in note]
    if variant == "opaque":
        assert len(established) == 1
        assert set(release.labels.questions) == set(REGION_NAMES)
    else:
        assert not established
        assert release.labels.questions == {question: tuple(sorted(region_of(question))) for question in REGION_NAMES}


CHECK = textwrap.dedent(
    """
    import sys
    from reasonknee_datasets.release import ReleaseOptions, open_release
    from tests.helpers.peak import peak_bytes

    allow = frozenset({"missing-mask"})
    options = ReleaseOptions(box_convention=sys.argv[2], allow=allow, require_images=False)
    release = open_release(sys.argv[1], options)
    before = peak_bytes()
    rows = sum(release.check().rows.values())
    assert rows == sum(1 for _ in release.quintuples())
    print(rows, (peak_bytes() - before) / 1e6)
    """
)


@pytest.mark.slow
def test_annotations_at_scale_take_little_memory(tmp_path: Path) -> None:
    write_release(tmp_path / "r", patients=160, seed=3, annotations_only=True, workers=1)
    size = sum(path.stat().st_size for path in (tmp_path / "r/data/generate_data").glob("*.json"))
    assert size > 80e6
    command = [sys.executable, "-c", CHECK, str(tmp_path / "r"), "slice0-x1-y2-pairs-inclusive-voxel"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows, megabytes = map(float, run.stdout.split())
    assert rows > 25_000
    assert megabytes < 60  # of 0.1 GB; most of it is the cache of texts, which does not grow


def test_open_release_phantom_annotations_only(tmp_path: Path) -> None:
    write_release(tmp_path / "r", patients=3, annotations_only=True, workers=1)
    options = ReleaseOptions(require_images=False)
    assert not open_release(tmp_path / "r", options).inspect().refused
    (tmp_path / "r" / "data" / "phantom.json").unlink()
    options = ReleaseOptions(require_images=False, allow=frozenset({"missing-mask"}))
    report = open_release(tmp_path / "r", options).inspect()
    assert [group.kind.name for group in report.refused] == ["box-convention"]
