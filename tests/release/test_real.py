"""The official files that are at hand, read through the release reader: split rows and prompts as published."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets import moaks
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.release import Release, open_release, read_questions, rebuild_record
from reasonknee_datasets.schema import parse_id
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL
from tests.helpers.release_builder import CONVENTION, IDS, MAPPING, SHAPE, Knee, affine_of, draw_mask, make_record

REAL = OFFICIAL
pytestmark = pytest.mark.skipif(not (REAL / "split_files").is_dir(), reason=NO_OFFICIAL)

SPLITS = {"train": 6, "val": 3, "test": 4}
WORDINGS = ("questions_nobbox_guided.json", "questions_nobbox_zeroshot.json")


def official(name: str) -> dict[int, str]:
    return read_questions(REAL / "question_files" / name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official split rows and prompts; masks, images and records (of each split's first row) made to fit them."""
    data = tmp_path_factory.mktemp("official") / "data"
    for folder in ("split_files", "question_files", "generate_data", "masks"):
        (data / folder).mkdir(parents=True)
    for split in SPLITS:
        shutil.copy(REAL / f"split_files/{split}_split.head.csv", data / f"split_files/{split}_split.csv")
    for name in WORDINGS:
        shutil.copy(REAL / "question_files" / name, data / "question_files" / name)
    (data / "question_files/labels.json").write_text(json.dumps(IDS))
    (data / "question_files/question_subregion_mapping.json").write_text(json.dumps(MAPPING))
    for number, split in enumerate(SPLITS):
        first = (data / f"split_files/{split}_split.csv").read_text().splitlines()[1].split(",")
        write_knee(data, number, split, first)
    for split in ("train", "test"):
        shutil.copy(data / f"generate_data/{split}.json", data / f"generate_data/{split}_balanced.json")
    return data.parent


def write_knee(data: Path, number: int, split: str, row: list[str]) -> None:
    patient, visit, study, series, side = row[:5]
    knee = Knee(split, patient, visit, int(side), series, study)
    mask = draw_mask(knee, number)
    for path, voxels in ((row[7], mask), (row[6], mask.astype(np.int16))):
        target = data / path.removeprefix("../data/")
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine_of(number)), target)
    prompts = official(WORDINGS[number % 2])
    convention = BoxConvention.parse(CONVENTION)
    records: list[dict[str, Any]] = []
    for question, labels in MAPPING.items():
        numbers = convention.encode(Box.from_mask(mask, labels), SHAPE)
        record = make_record(knee, moaks.QUESTIONS[question], numbers, "../data/images/")
        records.append({**record, "prompt": prompts[question]})
    (data / f"generate_data/{split}.json").write_text(json.dumps(records))


@pytest.fixture(scope="module")
def release(root: Path) -> Release:
    return open_release(root)


def test_official_split_rows_are_read(release: Release) -> None:
    assert len(release.studies) == sum(SPLITS.values())
    assert release.synthetic is False
    first = release.studies[0]
    assert first.volume_id == "9010308/00M/right"
    assert first.key == "9010308/00M/20040915_10243212_1.nii.gz"
    assert first.mask == release.root.data / "masks/knee_000.nii.gz"
    for study in release.studies:
        parsed = parse_id(study.volume_id)
        assert (parsed.patient, parsed.visit, parsed.side) == (study.patient, study.visit, study.side)


def test_check_official_rows_and_prompts(release: Release) -> None:
    report = release.check()
    assert report.rows == {"train": 62, "validation": 62, "test": 62}
    assert report.counts == {}
    assert any("questions.json is absent" in note for note in report.notes)


def test_official_prompts_become_questions_verbatim(release: Release, root: Path) -> None:
    files = (root / f"data/generate_data/{split}.json" for split in SPLITS)
    records = [record for path in files for record in json.loads(path.read_text())]
    rows = [row for _, row in release.quintuples()]
    for row, record in zip(rows, records, strict=True):
        assert row["question"] == record["prompt"]
        again = rebuild_record(row, image=record["image"], convention=release.convention, shape=SHAPE)
        assert json.dumps(again) == json.dumps(record)


def test_answers_have_schema_of_official_prompt(release: Release) -> None:
    seen = 0
    for _, row in release.quintuples():
        answer = json.loads(row["answer"])
        keys = re.findall(r'"([^"]+)":', row["answer"])
        # Prompts 58 and 59 are damaged text: they too name subject and attribute.
        assert all(f'"{key}"' in row["question"] for key in keys), row["id"]
        assert moaks.read_diagnosis(row["question_id"], answer) == {g["attribute"]: g["grade"] for g in row["grades"]}
        seen += 1
    assert seen == 186


@pytest.mark.parametrize("name", WORDINGS)
def test_all_69_official_prompts_are_read(name: str) -> None:
    prompts = official(name)
    assert sorted(prompts) == list(range(1, 70))
    assert prompts == {int(key): text for key, text in json.loads((REAL / "question_files" / name).read_text()).items()}


def test_another_questions_official_prompt_is_noticed(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    path = tmp_path / "copy/data/generate_data/val.json"
    records = json.loads(path.read_text())
    records[18]["prompt"] = official(WORDINGS[1])[20]
    path.write_text(json.dumps(records))
    report = open_release(tmp_path / "copy").inspect()
    assert report.counts == {"prompt-mismatch": 1, "incomplete-volume": 1}
