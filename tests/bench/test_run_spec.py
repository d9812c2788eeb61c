"""`make_study`: which records are asked about, and with which prompts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.bench.conditions import CONDITIONS
from reasonknee_datasets.bench.run_spec import make_study
from reasonknee_datasets.bench.truth import parse_questions
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.prompts import Prompts
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL


def test_make_study_samples_whole_patients(prepared: Path) -> None:
    def names(**options: Any) -> list[str]:
        return [record.id for record in make_study(prepared, "guided", split="train", **options).records]

    two = names(patients=2, seed=3)
    patients = {name.split("/")[0] for name in two}
    assert len(patients) == 2
    assert two == [name for name in names() if name.split("/")[0] in patients]
    assert two == names(patients=2, seed=3)
    assert set(names(patients=1, seed=3)) < set(two)
    assert any(names(patients=2, seed=seed) != two for seed in range(10))
    with pytest.raises(BenchError, match="Split has 4 patients, and 99 were asked for"):
        names(patients=99)


def test_make_study_leaves_damaged_prompts_out(prepared: Path) -> None:
    study = make_study(prepared, "guided", patients=1, damaged="leave_out")
    assert {record.question for record in study.records} == set(range(1, 63)) - {58, 59}
    assert study.identity.records == len(study.records)
    assert make_study(prepared, "guided", patients=1).prompts.repaired == (58, 59)
    assert make_study(prepared, "official", patients=1).prompts.repaired == ()
    with pytest.raises(BenchError, match="No question is left to ask"):
        make_study(prepared, "guided", questions=[58], damaged="leave_out")


def test_make_study_needs_prompts_for_real_data(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    for each in prepared.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / "manifest.json").unlink()
    manifest = json.loads((prepared / "manifest.json").read_text(encoding="utf-8"))
    del manifest["checksum"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"synthetic": False}), encoding="utf-8")
    with pytest.raises(BenchError, match="Real data need prompts, and none is named"):
        make_study(folder, "guided")
    assert make_study(folder, "guided", prompts="project").prompts.source == "project"
    files = tmp_path / "questions_nobbox_guided.json"
    files.write_text('{"19": "Any loss?"}', encoding="utf-8")
    with pytest.raises(BenchError, match="Question 1 has no prompt: none in the official files"):
        make_study(folder, "guided", prompts=files)


@pytest.mark.parametrize(("name", "file"), [("zero_shot", "zeroshot"), ("guided", "guided"), ("official", "guided")])
def test_make_study_hashes_question_files(name: str, file: str, prepared: Path) -> None:
    folder = OFFICIAL
    if not folder.is_dir():
        pytest.skip(NO_OFFICIAL)
    raw = json.loads((folder / "question_files" / f"questions_nobbox_{file}.json").read_text(encoding="utf-8"))
    study = make_study(prepared, CONDITIONS[name], patients=1, questions=[19, 58], prompts=folder)
    prompts = Prompts.from_files(folder, file, "keep" if name == "official" else "repair")  # type: ignore[arg-type]
    assert study.prompts == prompts
    hashes = study.identity.prompts
    assert hashes["19"] == hashlib.sha256(raw["19"].encode()).hexdigest()
    assert (hashes["58"] == hashlib.sha256(raw["58"].encode()).hexdigest()) == (name == "official")


@pytest.mark.parametrize("questions", [[0], [63], [19, 99]])
def test_make_study_rejects_questions_without_records(questions: list[int], prepared: Path) -> None:
    with pytest.raises(BenchError, match=r"No record asks question \d+\. Records ask questions 1 to 62"):
        make_study(prepared, "guided", questions=questions)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [("1-3,34", (1, 2, 3, 34)), (45, (45,)), ([1, "5-6"], (1, 5, 6)), (["41", "45"], (41, 45)), (" 7 ", (7,))],
)
def test_parse_questions(value: Any, numbers: tuple[int, ...]) -> None:
    assert parse_questions(value) == numbers


@pytest.mark.parametrize("value", ["", "x", "3-1", "1-", "-2", "1.5", [True]])
def test_parse_questions_refuses_what_is_no_range(value: Any) -> None:
    with pytest.raises(BenchError, match="Questions are numbers and ranges such as 1-15,34, got"):
        parse_questions(value)


@pytest.mark.parametrize("name", ["guided", "region_given"])
def test_render_uses_frames_and_size(name: str, prepared: Path) -> None:
    study = make_study(prepared, name, patients=1, questions=[60], frames=3, size=24)
    record = study.records[0]
    shape = study.render(record, study.region(record)).pixels.shape
    assert (shape[0], max(shape[1:])) == (3, 24)
    assert "count=3" in (study.identity.frames or "")
    assert "size=24" in (study.identity.frames or "")


@pytest.mark.parametrize("option", [{"frames": 3}, {"size": 24}])
def test_make_study_keeps_official_frames(option: dict[str, int], prepared: Path) -> None:
    with pytest.raises(BenchError, match="shows the frames that the authors' script shows"):
        make_study(prepared, "official", **option)


def test_digest_changes_with_every_choice(prepared: Path) -> None:
    """Two runs that could answer differently never share recorded answers."""
    base: dict[str, Any] = {"condition": "guided", "patients": 1, "questions": [19, 60]}
    changes: list[dict[str, Any]] = [
        {},
        *({"condition": name} for name in ("zero_shot", "region_given", "text_only", "own_region", "box_first")),
        *({"condition": f"jittered_region(shift={shift})"} for shift in (0.1, 0.5)),
        *({"seed": 1}, {"frames": 4}, {"size": 24}, {"questions": [19]}, {"split": "train"}, {"prompts": "rows"}),
    ]
    digests = [make_study(prepared, **base | change).digest for change in changes]
    # The phantom's rows hold the project's own guided words: that is the one pair of equal runs here.
    assert digests[-1] == digests[0]
    assert len(set(digests)) == len(digests) - 1


def test_make_study_checks_slices_of_official_o1(prepared: Path) -> None:
    message = r"official_o1 cannot show volumes/.*: it takes slices 32 to 128 .*, and the volume has fewer"
    with pytest.raises(BenchError, match=message):
        make_study(prepared, "official_o1", patients=1)
    assert len(make_study(prepared, "official", patients=1).records)
