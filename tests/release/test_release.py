"""The reader on sound releases: rows, volumes, boxes, and the official records back again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets import moaks
from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention
from reasonknee_datasets.errors import BoxError, ReleaseError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.release import Release, ReleaseOptions, open_release, rebuild_record
from reasonknee_datasets.schema import Quintuple, arrow_schema
from tests.helpers.release_builder import (
    CONVENTION,
    KNEES,
    MAPPING,
    SHAPE,
    Built,
    Knee,
    build_release,
    key_of,
    write_text,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def release(sound: Built) -> Release:
    return open_release(sound.root)


@pytest.fixture
def copy(sound: Built, tmp_path: Path) -> Built:
    shutil.copytree(sound.root, tmp_path / "copy")
    return Built(tmp_path / "copy", sound.knees, sound.boxes, dict(sound.records))


QUESTION_OF = {f"Please assess question {q}: {moaks.QUESTIONS[q].subject_key}. Give size ≥ 0.": q for q in MAPPING}


def rows_of(release: Release) -> dict[str, Quintuple]:
    return {row["id"]: row for _, row in release.quintuples()}


def assert_rebuilt(release: Release, built: Built) -> list[Quintuple]:
    """Every official record comes back from its row, character for character."""
    shapes = {volume.volume_path: volume.shape for volume in release.volumes}
    official = [record for knee in ("train", "validation", "test") for record in built.records.get(knee, [])]
    rows = [row for _, row in release.quintuples()]
    assert len(rows) == len(official)
    for row, record in zip(rows, official, strict=True):
        shape, image = shapes[row["volume_path"]], record["image"]
        again = rebuild_record(row, image=image, convention=release.convention, shape=shape)
        assert json.dumps(again) == json.dumps(record)
    return rows


def test_quintuples_in_file_order(release: Release, sound: Built) -> None:
    pairs = list(release.quintuples())
    assert [split for split, _ in pairs] == ["train"] * 124 + ["validation"] * 62 + ["test"] * 62
    assert [row["question_id"] for _, row in pairs] == [*range(1, 63)] * 4
    ids = [row["id"] for _, row in pairs]
    assert len(set(ids)) == 248
    assert ids[0] == "0000001/00M/right/q01"
    assert ids[-1] == "0000003/12M/left/q62"


def test_a_row_says_what_its_record_says(release: Release, sound: Built) -> None:
    row = rows_of(release)["0000003/12M/left/q19"]
    record = sound.records["test"][18]
    grades = record["final_diagnosis"]["final_diagnosis"]["femur_medial_central_cartilage_lesion"]
    assert {key: row[key] for key in ("patient", "visit", "side", "study", "series")} == {
        "patient": "0000003", "visit": "12M", "side": "left", "study": "20040101", "series": "10000004",
    }  # fmt: skip
    assert (row["category"], row["finding"]) == ("cartilage_lesion", "cartilage_lesion")
    assert row["subregion"] == "femur_medial_central"
    assert row["question"] == record["prompt"]
    assert row["volume_path"] == "volumes/0000003/12M_left.nii.gz"
    assert {grade["attribute"]: grade["grade"] for grade in row["grades"]} == grades
    assert {grade["scale"] for grade in row["grades"]} == {"ordinal"}
    assert row["answer"] == moaks.write_answer(19, grades)
    assert row["reasoning"][:2] == [
        "Locate the femur medial central cartilage lesion.",
        "Compare its signal, e.g. with muscle.",
    ]
    assert row["synthetic"] is True
    assert Box.from_row(row["box"]) == sound.boxes[key_of(KNEES[3]), 19]


def test_rows_fit_the_schema(release: Release) -> None:
    import pyarrow as pa

    rows = [row for _, row in release.quintuples()]
    assert list(rows[0]) == arrow_schema().names
    assert pa.Table.from_pylist(rows, arrow_schema()).to_pylist() == rows


def test_quintuples_missing_grade_is_null(release: Release, sound: Built) -> None:
    missing = [
        (row["id"], grade["attribute"])
        for row in rows_of(release).values()
        for grade in row["grades"]
        if grade["grade"] is None
    ]
    assert len(missing) == sum(
        json.dumps(r["final_diagnosis"]).count("null") for rs in sound.records.values() for r in rs
    )
    assert missing
    assert all("null" in rows_of(release)[name]["answer"] for name, _ in missing)


def test_official_records_come_back_character_for_character(release: Release, sound: Built) -> None:
    rows = assert_rebuilt(release, sound)
    assert {row["record"] for row in rows} == {"{}"}


SPELLINGS = {
    "as the prompt asks": lambda question, inner, grades: json.loads(moaks.write_answer(question, grades)),
    "wrapped once more": lambda question, inner, grades: {"final_diagnosis": inner},
    "keys in another order": lambda question, inner, grades: {k: dict(reversed(v.items())) for k, v in inner.items()},
    "grades as text": lambda question, inner, grades: {
        k: {a: None if g is None else str(g) for a, g in v.items()} for k, v in inner.items()
    },
    "missing left out": lambda question, inner, grades: {
        k: {a: g for a, g in v.items() if g is not None} for k, v in inner.items()
    },
}
TAILS = {
    "python": lambda inner, whole, asked: repr(inner),
    "json": lambda inner, whole, asked: json.dumps(inner),
    "whole": lambda inner, whole, asked: repr(whole),
    "whole json": lambda inner, whole, asked: json.dumps(whole, indent=4),
    "as asked": lambda inner, whole, asked: asked,
    "odd": lambda inner, whole, asked: json.dumps(inner, separators=(" , ", " : ")),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_are_understood_and_come_back(tmp_path: Path, spelling: str) -> None:
    def change(record: dict[str, Any], question: int) -> None:
        inner = record["final_diagnosis"]["final_diagnosis"]
        grades = moaks.read_diagnosis(question, inner)
        record["final_diagnosis"]["final_diagnosis"] = SPELLINGS[spelling](question, inner, grades)

    built = build_release(tmp_path / "r", knees=KNEES[:1], change=change)
    release = open_release(built.root)
    rows = assert_rebuilt(release, built)
    asked = [row for row in rows if row["question_id"] == 19]
    assert '"Depth of lesion"' in asked[0]["answer"]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("form", [0, 1, 2])
def test_answers_in_any_hand_come_back(tmp_path: Path, tail: str, form: int) -> None:
    def change(record: dict[str, Any], question: int) -> None:
        whole = record["final_diagnosis"]
        asked = moaks.write_answer(question, moaks.read_diagnosis(question, whole))
        told = TAILS[tail](whole["final_diagnosis"], whole, asked)
        plain = write_text(moaks.QUESTIONS[question], "?", form)
        record["answer"] = plain[: plain.rindex(": ") + 2] + told + (".\n" if question % 5 == 0 else "")

    built = build_release(tmp_path / "r", knees=KNEES[:1], change=change)
    rows = assert_rebuilt(open_release(built.root), built)
    assert all(len(row["reasoning"]) == (2 if form == 2 else 3) for row in rows)


def test_answers_that_differ_only_in_box(tmp_path: Path) -> None:
    def change(record: dict[str, Any], question: int) -> None:
        whole = record["final_diagnosis"]
        grades = dict.fromkeys(moaks.QUESTIONS[question].attributes, 0)
        inner = whole["final_diagnosis"] = moaks.write_diagnosis(question, grades)
        box = whole["bounding_box"]
        told = {
            0: f"Look at {box}.\nFinal diagnosis: {inner}",
            1: f"Look.\nFinal diagnosis: {whole}",
            2: f"Look at {box}.\nFinal diagnosis: {whole}",
            3: f"Look at {box}.\nFinal diagnosis: {json.dumps(whole, separators=(',', ':'))}",
            4: f"Look.\nFinal diagnosis: {json.dumps(whole)}",
        }
        record["answer"] = told[question % 5]

    built = build_release(tmp_path / "r", change=change)
    rows = assert_rebuilt(open_release(built.root), built)
    assert len({row["reasoning"][0] for row in rows if row["question_id"] == 3}) == 4


@pytest.mark.parametrize("numbers", ["floats", "mixed", "swapped"])
def test_numbers_come_back_as_they_were_written(tmp_path: Path, numbers: str) -> None:
    def change(record: dict[str, Any], question: int) -> None:
        whole = record["final_diagnosis"]
        if numbers == "swapped":
            record["final_diagnosis"] = dict(reversed(whole.items()))
            return
        until = 6 if numbers == "floats" else 3
        whole["bounding_box"] = [float(n) if place < until else n for place, n in enumerate(whole["bounding_box"])]

    built = build_release(tmp_path / "r", knees=KNEES[:1], change=change)
    assert_rebuilt(open_release(built.root), built)


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_check_establishes_each_convention(copy: Built, convention: BoxConvention) -> None:
    def rewrite(records: list[dict[str, Any]]) -> None:
        for record in records:
            box = copy.boxes[record["image"].partition("data/images/")[2], QUESTION_OF[record["prompt"]]]
            record["final_diagnosis"]["bounding_box"] = convention.encode(box, SHAPE)

    for name in ("train", "val", "test", "train_balanced", "test_balanced"):
        copy.edit(f"{name}.json", rewrite)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        copy.records[split] = json.loads((copy.data / f"generate_data/{name}.json").read_text())
    release = open_release(copy.root)
    check = release.agreement
    assert (check.convention, check.source, check.checked, check.exact) == (convention, "established", 248, 248)
    assert set(check.by_question) == set(MAPPING)
    keys = {volume.volume_path: key_of(knee) for volume, knee in zip(release.volumes, KNEES, strict=True)}
    for row in assert_rebuilt(release, copy):
        assert Box.from_row(row["box"]) == copy.boxes[keys[row["volume_path"]], row["question_id"]]


def save_turned(path: Path, turn: Reorientation) -> None:
    image = nib.load(path)
    voxels = np.ascontiguousarray(turn.apply_array(np.asarray(image.dataobj)))
    nib.save(nib.Nifti1Image(voxels, turn.apply_affine(image.affine, image.shape)), path)


@pytest.mark.slow
def test_boxes_agree_for_48_image_orientations(tmp_path: Path) -> None:
    # Four knees with images in twelve orientations each.
    turns = list(Reorientation.all())
    built = build_release(tmp_path / "r")
    originals = {key_of(knee): np.asarray(nib.load(built.image(n)).dataobj) for n, knee in enumerate(KNEES)}
    seen = 0
    for start in range(0, 48, 4):
        images = tmp_path / f"images{start}"
        shutil.copytree(built.data / "images", images)
        for knee, turn in zip(KNEES, turns[start : start + 4], strict=True):
            save_turned(images / key_of(knee), turn)
        release = open_release(built.root, ReleaseOptions(images=images))
        assert [volume.turn for volume in release.volumes] == turns[start : start + 4]
        volumes = {
            v.volume_path: (np.asarray(nib.load(v.image).dataobj), v.image.relative_to(images)) for v in release.volumes
        }
        for _, row in release.quintuples():
            voxels, key = volumes[row["volume_path"]]
            boxed = voxels[Box.from_row(row["box"]).slices]
            wanted = originals[str(key)][built.boxes[str(key), row["question_id"]].slices]
            # The image's voxels are numbered, so equal sets are equal places.
            assert np.array_equal(np.sort(boxed, axis=None), np.sort(wanted, axis=None))
            seen += 1
        assert_rebuilt(release, built)
    assert seen == 12 * 248


def test_normalised_boxes_survive_turned_images(tmp_path: Path) -> None:
    name = "slice1-x2-y0-corners-inclusive-normalised"
    built = build_release(tmp_path / "r", knees=KNEES[:1], convention=name)
    save_turned(built.image(), Reorientation((2, 0, 1), (True, False, True)))
    release = open_release(built.root)
    assert str(release.convention) == name
    assert_rebuilt(release, built)


def test_rebuild_record_turned_box_needs_shape(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r", knees=KNEES[:1])
    save_turned(built.image(), Reorientation((2, 1, 0), (True, False, False)))
    release = open_release(built.root)
    _, row = next(release.quintuples())
    with pytest.raises(ReleaseError, match="cannot be turned back without the stored volume's shape"):
        rebuild_record(row, image="", convention=release.convention, shape=None)


def test_a_damaged_record_column_is_named(release: Release) -> None:
    _, row = next(release.quintuples())
    broken: Quintuple = {**row, "record": '{"gaps": ["only one"]}'}
    with pytest.raises(ReleaseError, match=r"The record column has .*, which cannot be read") as error:
        rebuild_record(broken, image="", convention=release.convention, shape=SHAPE)
    assert "0000001/00M/right/q01" in error.value.__notes__[0]


def test_quintuples_two_series_ids(tmp_path: Path) -> None:
    twice = (Knee(), Knee(series="10000009"), Knee(side=2, series="10000002"))
    release = open_release(build_release(tmp_path / "r", knees=twice).root)
    assert [volume.volume_id for volume in release.volumes] == [
        "0000001/00M/right/10000001",
        "0000001/00M/right/10000009",
        "0000001/00M/left",
    ]
    paths = [volume.volume_path for volume in release.volumes]
    assert paths[:2] == ["volumes/0000001/00M_right_10000001.nii.gz", "volumes/0000001/00M_right_10000009.nii.gz"]
    assert next(release.quintuples())[1]["id"] == "0000001/00M/right/10000001/q01"


def test_volume_without_records_is_noted(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r", knees=(*KNEES, Knee(series="10000077", visit="24M", records=False)))
    built.image(4).unlink()
    built.mask(4).unlink()
    release = open_release(built.root)
    assert "1 of 5 volumes have no records and no rows: 0000001/24M/right" in str(release.check())
    assert len(release.volumes) == 4


@pytest.mark.parametrize("change", ["cut", "gone", "other"])
def test_quintuples_changed_records(copy: Built, change: str) -> None:
    release = open_release(copy.root)
    release.check()
    path = copy.root / "data" / "generate_data" / "val.json"
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif change == "gone":
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    match = r"generate_data changed while it was read: \d+ fewer records than when it was checked"
    with pytest.raises(ReleaseError, match=match):
        list(release.quintuples())


def test_the_balanced_files_give_ids_with_multiplicity(release: Release) -> None:
    balanced = release.balanced()
    assert set(balanced) == {"train", "test"}
    assert balanced["train"]["0000001/00M/right/q01"] == 0
    assert balanced["train"]["0000001/00M/right/q02"] == 1
    assert balanced["train"]["0000001/00M/right/q03"] == 2
    assert sum(balanced["test"].values()) == 61


def test_data_itself_is_accepted_as_the_root(sound: Built) -> None:
    assert open_release(sound.data).root == open_release(sound.root).root


def test_images_may_be_elsewhere(copy: Built, tmp_path: Path) -> None:
    shutil.move(copy.data / "images", tmp_path / "scans" / "images")
    for folder in (tmp_path / "scans", tmp_path / "scans" / "images"):
        release = open_release(copy.root, ReleaseOptions(images=folder))
        assert release.volumes[0].image == tmp_path / "scans" / "images" / key_of(KNEES[0])
        release.check()


def test_links_in_image_folder_are_followed(copy: Built, tmp_path: Path) -> None:
    for knee in KNEES:
        link = tmp_path / "mine" / key_of(knee)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(copy.data / "images" / key_of(knee))
    open_release(copy.root, ReleaseOptions(images=tmp_path / "mine")).check()


def test_find_root_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"is not an official release: no split_files in it"):
        open_release(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError, match=r"file is not an official release: it is a file"):
        open_release(tmp_path / "file")
    (tmp_path / "manifest.json").touch()
    with pytest.raises(ReleaseError, match=r"is not an official release: it is a prepared repository already"):
        open_release(tmp_path)
    with pytest.raises(ReleaseError, match=r"nowhere is not an official release: no such folder"):
        open_release(tmp_path / "nowhere")


def test_images_that_are_no_folder_are_refused(sound: Built, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"The folder of images .* does not exist"):
        open_release(sound.root, ReleaseOptions(images=tmp_path / "nowhere"))


def test_options_are_checked_before_anything_is_read(sound: Built) -> None:
    with pytest.raises(BoxError, match="Unknown box convention"):
        open_release(sound.root, ReleaseOptions(box_convention="xyz"))
    with pytest.raises(ReleaseError, match="Unknown kind of problem 'bad-grades' to allow"):
        open_release(sound.root, ReleaseOptions(allow=frozenset({"bad-grades"})))
    with pytest.raises(ReleaseError, match="unsafe-path cannot be allowed"):
        open_release(sound.root, ReleaseOptions(allow=frozenset({"unsafe-path"})))


def test_check_annotations_need_convention(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r", images=False, masks=False)
    bare = ReleaseOptions(require_images=False, allow=frozenset({"missing-mask"}))
    with pytest.raises(ReleaseError, match="name the convention with --box-convention"):
        open_release(built.root, bare).check()
    named = ReleaseOptions(require_images=False, allow=frozenset({"missing-mask"}), box_convention=CONVENTION)
    release = open_release(built.root, named)
    assert "given), not verified" in str(release.check())
    assert release.agreement.agreement is None
    assert release.volumes[0].shape is None
    assert_rebuilt(release, built)


def test_real_patients_are_not_synthetic(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r", knees=(Knee(patient="9000099"),))
    release = open_release(built.root)
    assert release.synthetic is False
    assert next(release.quintuples())[1]["synthetic"] is False


REVISION = "7a611f92fd3ad3954e8b62feef49ee12bfef725a"


def test_revision_of_hub_snapshot(sound: Built, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / REVISION, tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(sound.root.rglob("*"))):
        if path.is_file():
            target = snapshot / path.relative_to(sound.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, blobs / f"{number}")
            target.symlink_to(blobs / f"{number}")
    release = open_release(snapshot)
    release.check()
    assert release.revision == REVISION


def test_find_revision_plain_download(copy: Built) -> None:
    assert open_release(copy.root).revision is None
    notes = copy.root / ".cache" / "huggingface" / "download" / "data" / "split_files"
    notes.mkdir(parents=True)
    (notes / "train_split.csv.metadata").write_text(f"{REVISION}\netag\n1.0\n")
    assert open_release(copy.root).revision == REVISION


def test_the_files_that_were_read_are_listed(release: Release) -> None:
    assert {"split_files/val_split.csv", "generate_data/train_balanced.json"} <= set(release.files)
    assert all(path.is_file() for path in release.files.values())


def test_check_progress_bars(sound: Built, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_release(sound.root, ReleaseOptions(progress=True)).check() == release.check()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_workers_find_the_same(sound: Built, release: Release) -> None:
    many = open_release(sound.root, ReleaseOptions(workers=2))
    assert many.check() == release.check()
    assert many.volumes == release.volumes


def test_check_records_without_image(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r")
    before = sum(open_release(built.root).check().rows.values())
    built.edit("train.json", lambda records: records.insert(1, {**records[0], "image": ""}))
    built.edit("test_balanced.json", lambda records: records.append({**records[0], "image": " "}))
    report = open_release(built.root).check()
    assert (sum(report.rows.values()), report.rows_dropped) == (before, 0)
    assert any(note.startswith("2 records name no image") for note in report.notes)


def test_open_release_ignores_other_folders(tmp_path: Path) -> None:
    built = build_release(tmp_path / "r")
    before = open_release(built.root).check().rows
    for folder in ("code/data/split_files", "data/OAI/segmentation", "data/OAI/00mDESS/0.C.2"):
        (built.root / folder).mkdir(parents=True)
        (built.root / folder / "train_split.csv").write_text("not,a,split\n")
    assert open_release(built.root).check().rows == before
