"""The label map: understood in every structure that it may have, and established from the boxes where it is not."""

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

LABEL_FORMS: dict[str, Any] = {
    "name to id": IDS,
    "name to id with background": {"background": 0, **IDS},
    "name to text": {name: str(label) for name, label in IDS.items()},
    "name to list": {name: [label] for name, label in IDS.items()},
    "id to name": {str(label): name for label, name in NAMES.items()},
    "pairs, name first": [[name, label] for name, label in IDS.items()],
    "pairs, id first": [[label, name] for label, name in NAMES.items()],
    "small objects, name to id": [{name: label} for name, label in IDS.items()],
    "small objects, id to name": [{str(label): name} for label, name in NAMES.items()],
    "objects": [{"id": label, "name": name} for label, name in NAMES.items()],
    "objects with more": [{"label": n, "value": i, "color": [1, 2, 3], "description": "x"} for n, i in IDS.items()],
    "keyed objects": {str(label): {"name": name, "color": "red"} for label, name in NAMES.items()},
    "objects by name": {name: {"id": label} for name, label in IDS.items()},
    "nested": {"labels": IDS},
    "nested among facts": {"channel_names": {"0": "MRI"}, "labels": IDS, "numTraining": 5},
    "nested list": {"data": [[name, label] for name, label in IDS.items()]},
    "list by place": ["background", *(NAMES.get(place, f"unused {place}") for place in range(1, 65))],
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", LABEL_FORMS)
def test_names_are_understood_in_any_form(tmp_path: Path, form: str) -> None:
    names = read_names(write(tmp_path, LABEL_FORMS[form]))
    assert {label: name for label, name in names.items() if "unused" not in name} == NAMES


def test_grouped_names_carry_their_group(tmp_path: Path) -> None:
    grouped: dict[str, dict[str, int]] = {}
    for label, name in NAMES.items():
        first, _, rest = name.partition(" ")
        grouped.setdefault(first, {})[rest] = label
    assert read_names(write(tmp_path, grouped)) == NAMES
    turned = {first: {str(label): rest for rest, label in inner.items()} for first, inner in grouped.items()}
    assert read_names(write(tmp_path, turned)) == NAMES


@pytest.mark.parametrize(
    "content",
    [
        list(IDS), {"legend": "see the protocol"}, {"a": 1.5}, {"a": 5, "b": 5}, [], {}, "text", 5, None,
        {"a": {"b": {"c": {"d": 1}}}, "e": 2}, [["a", 1], ["b"]], {"1": "a", "2": "b", "c": 3},
    ],
)  # fmt: skip
def test_names_that_cannot_be_understood_are_not_guessed(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ReleaseError, match=r"labels.json .*The boxes are compared with every label's extent instead"):
        read_names(write(tmp_path, content))


def test_read_names_refuses_missing_or_invalid_file(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"labels.json does not exist"):
        read_names(tmp_path / "labels.json")
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"labels.json is not JSON: Expecting"):
        read_names(tmp_path / "labels.json")


WORDS = {question: [NAMES[label] for label in labels] for question, labels in MAPPING.items()}
ASKED: dict[int, list[int]] = {}
for _question, _labels in MAPPING.items():
    for _label in _labels:
        ASKED.setdefault(_label, []).append(_question)
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
    "label id to numbers": {str(label): asked for label, asked in ASKED.items()},
    "label name to numbers": {NAMES[label]: asked for label, asked in ASKED.items()},
    "pairs": [[q, list(labels)] for q, labels in MAPPING.items()],
    "pairs, label first": [[label, asked] for label, asked in ASKED.items()],
    "small objects": [{str(q): words} for q, words in WORDS.items()],
    "objects": [{"question_id": q, "labels": list(labels)} for q, labels in MAPPING.items()],
    "objects with both": [
        {"id": q, "question": "?", "subregion": WORDS[q], "label_ids": list(labels)} for q, labels in MAPPING.items()
    ],
    "keyed objects": {str(q): {"labels": words, "color": 1} for q, words in WORDS.items()},
    "one object a label": {str(q): {NAMES[label]: label for label in labels} for q, labels in MAPPING.items()},
    "nested": {"mapping": {str(q): words for q, words in WORDS.items()}},
    "by category": {c: {str(q): WORDS[q] for q in MAPPING if Q[q].category == c} for c in moaks.CATEGORIES[:-1]},
    "with questions that have none": {**{str(q): list(ls) for q, ls in MAPPING.items()}, "63": [], "64": None},
}  # fmt: skip


@pytest.mark.parametrize("form", MAPPING_FORMS)
def test_questions_are_understood_in_any_form(tmp_path: Path, form: str) -> None:
    assert read_mapping(write(tmp_path, MAPPING_FORMS[form]), NAMES) == {
        q: tuple(sorted(ls)) for q, ls in MAPPING.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        {"1": ["nowhere"]}, {"1": [99]}, {"0": [44]}, {"elbow": [44]}, {"regions": "see the protocol"}, [], [1, 2],
        IDS, {"44": [45], "45": [44]},
    ],
)  # fmt: skip
def test_questions_that_cannot_be_understood_are_not_guessed(tmp_path: Path, content: Any) -> None:
    if content == {"44": [45], "45": [44]}:
        assert read_mapping(write(tmp_path, content), NAMES) == {44: (45,), 45: (44,)}  # symmetrical: both ways agree
        return
    with pytest.raises(ReleaseError, match=r"The boxes are compared with every label's extent instead"):
        read_mapping(write(tmp_path, content), NAMES)


def test_two_ways_to_read_are_as_bad_as_none(tmp_path: Path) -> None:
    with pytest.raises(
        ReleaseError, match=r"can be read as pairs of questions and labels that labels.json names in 2 ways"
    ):
        read_mapping(write(tmp_path, {"44": [45], "45": [46]}), NAMES)


def test_only_ids_can_be_understood_without_names(tmp_path: Path) -> None:
    assert read_mapping(write(tmp_path, {str(q): [100 + q] for q in MAPPING}), {}) == {q: (100 + q,) for q in MAPPING}
    with pytest.raises(ReleaseError, match="cannot be read as pairs of questions and labels"):
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
def test_boxes_establish_a_map_that_is_not_told(
    sound: Built, tmp_path: Path, spoil: Callable[[Path], object], given: str | None
) -> None:
    release = open_release(spoiled(sound, tmp_path, spoil), ReleaseOptions(box_convention=given))
    report = release.check()
    assert str(release.convention) == CONVENTION
    assert release.agreement.checked == release.agreement.exact == 248
    assert "labels of 62 of 62 questions that question_subregion_mapping.json does not state were established" in str(
        report
    )
    # Where one label lies within another's extent, fewer labels than were drawn around can explain the box.
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


def test_an_empty_label_leaves_its_box_unverified_and_kept(tmp_path: Path) -> None:
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
def test_read_names_with_a_background_and_labels_of_findings(background: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**background, **FINDINGS, "medial meniscus": 44, "tibial cartilage": 49}))
    assert read_names(path) == {
        **{label: name for name, label in FINDINGS.items()},
        44: "medial meniscus",
        49: "tibial cartilage",
    }
