"""The label map: read as it is reported, and established from the boxes where it is not understood."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets import moaks
from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.release import LabelMap, ReleaseOptions, open_release, read_mapping, read_names
from tests.helpers.release_builder import CONVENTION, IDS, KNEES, MAPPING, NAMES, Built, build_release


def write(folder: Path, content: Any) -> Path:
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("content", [IDS, {"background": 0, **IDS}])
def test_read_names_ids_by_name(content: dict[str, int], tmp_path: Path) -> None:
    assert read_names(write(tmp_path, content)) == NAMES


@pytest.mark.parametrize(
    "content",
    [
        list(IDS), {"legend": "see the protocol"}, {"a": 1.5}, {"a": 5, "b": 5}, [], {}, "text", 5, None, {"a": -1},
        {"a": {"b": 1}, "e": 2}, [["a", 1], ["b"]], {"1": "a", "2": "b", "c": 3}, {"a": True}, {"labels": IDS},
    ],
)  # fmt: skip
def test_read_names_refuses_other_layouts(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ReleaseError, match=r"labels.json .*The boxes are compared with every label's extent instead"):
        read_names(write(tmp_path, content))


def test_read_names_refuses_missing_or_invalid_file(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"labels.json does not exist"):
        read_names(tmp_path / "labels.json")
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"labels.json is not JSON: Expecting"):
        read_names(tmp_path / "labels.json")


WORDS = {question: [NAMES[label] for label in labels] for question, labels in MAPPING.items()}
Q = moaks.QUESTIONS

MAPPING_FORMS: dict[str, Any] = {
    "number to ids": {str(q): list(labels) for q, labels in MAPPING.items()},
    "number to one id or several": {str(q): ls[0] if len(ls) == 1 else list(ls) for q, ls in MAPPING.items()},
    "number to names": {str(q): words for q, words in WORDS.items()},
    "names spelled otherwise": {str(q): [w.upper().replace(" ", "_") for w in words] for q, words in WORDS.items()},
    "q01": {f"q{q:02d}": words for q, words in WORDS.items()},
    "Question 1": {f"Question {q}": words for q, words in WORDS.items()},
    "prompt subject": {Q[q].subject_key: words for q, words in WORDS.items()},
    "record subject": {Q[q].record_key: words for q, words in WORDS.items()},
    "with questions that have none": {**{str(q): list(ls) for q, ls in MAPPING.items()}, "63": [], "64": None},
}  # fmt: skip


@pytest.mark.parametrize("form", MAPPING_FORMS)
def test_read_mapping_spellings(tmp_path: Path, form: str) -> None:
    assert read_mapping(write(tmp_path, MAPPING_FORMS[form]), NAMES) == {
        q: tuple(sorted(ls)) for q, ls in MAPPING.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        {"1": ["nowhere"]}, {"1": [99]}, {"0": [44]}, {"elbow": [44]}, {"regions": "see the protocol"}, [], [1, 2],
        IDS, {"1": [True]}, {"1": [[44]]}, {"1": {"medial": 44}}, {"mapping": {"1": [44]}}, {"44": ["subspinous"]},
    ],
)  # fmt: skip
def test_read_mapping_refuses_other_layouts(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ReleaseError, match=r"The boxes are compared with every label's extent instead"):
        read_mapping(write(tmp_path, content), NAMES)


def test_read_mapping_without_names(tmp_path: Path) -> None:
    assert read_mapping(write(tmp_path, {str(q): [100 + q] for q in MAPPING}), {}) == {q: (100 + q,) for q in MAPPING}
    with pytest.raises(ReleaseError, match=r"is not a question and labels of labels\.json"):
        read_mapping(write(tmp_path, {str(q): words for q, words in WORDS.items()}), {})


def test_sides_come_from_names_and_questions() -> None:
    assert LabelMap({44: "Medial_Meniscus", 45: "lateral meniscus", 1: "femur"}, {}).sides() == {
        44: "medial",
        45: "lateral",
    }
    assert LabelMap({}, {50: (7,), 53: (8,)}).sides() == {7: "medial", 8: "lateral"}
    both_ends, middle = {40: (7,), 41: (7,)}, {10: (8,), 15: (8,)}
    assert LabelMap({}, both_ends | middle).sides() == {}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_release(tmp_path_factory.mktemp("release"), knees=KNEES)


def spoiled(sound: Built, tmp_path: Path, spoil: Callable[[Path], object]) -> Path:
    shutil.copytree(sound.root, tmp_path / "copy")
    spoil(tmp_path / "copy" / "data" / "question_files")
    return tmp_path / "copy"


def opaque(folder: Path) -> None:
    for name in ("labels.json", "question_subregion_mapping.json"):
        (folder / name).write_text('{"legend": "see the protocol"}')


def absent(folder: Path) -> None:
    for name in ("labels.json", "question_subregion_mapping.json"):
        (folder / name).unlink()


@pytest.mark.parametrize("spoil", [opaque, absent])
@pytest.mark.parametrize("given", [None, CONVENTION])
def test_infer_labels_without_map(
    sound: Built, tmp_path: Path, spoil: Callable[[Path], object], given: str | None
) -> None:
    release = open_release(spoiled(sound, tmp_path, spoil), ReleaseOptions(box_convention=given))
    report = release.check()
    assert str(release.convention) == CONVENTION
    assert release.agreement.checked == release.agreement.exact == 248
    assert "labels of 62 of 62 questions that question_subregion_mapping.json does not state were established" in str(
        report
    )
    # Where one label is within another's extent, fewer labels than were drawn around can explain the box.
    assert all(set(found) <= set(MAPPING[q]) for q, found in release.labels.questions.items() if len(MAPPING[q]) > 1)
    assert all(found == MAPPING[q] for q, found in release.labels.questions.items() if len(MAPPING[q]) == 1)


def test_boxes_fill_the_gaps_of_a_map(sound: Built, tmp_path: Path) -> None:
    def thin(folder: Path) -> None:
        told = {str(q): list(labels) for q, labels in MAPPING.items() if q < 50}
        (folder / "question_subregion_mapping.json").write_text(json.dumps(told))

    release = open_release(spoiled(sound, tmp_path, thin))
    assert "labels of 13 of 13 questions that" in str(release.check())
    assert release.labels.questions[60] == MAPPING[60]


def test_question_without_labels_is_unverified(tmp_path: Path) -> None:
    def elsewhere(record: dict[str, Any], question: int) -> None:
        if question == 43:
            record["final_diagnosis"]["bounding_box"] = [1, 20, 1, 38, 1, 34]

    built = build_release(tmp_path / "r", change=elsewhere)
    opaque(built.data / "question_files")
    report = open_release(built.root).check()
    assert "labels of 61 of 62 questions" in str(report)
    assert "boxes of these questions were not verified, because they have no region: 43" in str(report)


def test_check_empty_label_keeps_box(tmp_path: Path) -> None:
    from dataclasses import replace

    built = build_release(tmp_path / "r", knees=(replace(KNEES[0], empty=(42,)), *KNEES[1:]))
    release = open_release(built.root)
    report = release.check()
    assert report.boxes is not None
    assert report.boxes.checked == 247
    assert report.boxes.counts[62] == 3
    assert sum(report.rows.values()) == 248


FINDINGS = {"cartilage lesion": 42, "bone marrow lesion": 43, "meniscal tear": 45, "osteophyte": 46}


@pytest.mark.parametrize("background", [{"background": 0}, {}])
def test_read_names_background_and_findings(background: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**background, **FINDINGS, "medial meniscus": 44, "tibial cartilage": 49}))
    assert read_names(path) == {
        **{label: name for name, label in FINDINGS.items()},
        44: "medial meniscus",
        49: "tibial cartilage",
    }
