"""The written release: the official layout, the same bytes each time, whole or not there at all."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention
from reasonknee_datasets.errors import BoxError
from reasonknee_datasets.moaks import QUESTIONS, read_diagnosis
from reasonknee_datasets.phantom.mask_labels import LABELS, STRUCTURES, region_of
from reasonknee_datasets.phantom.record_writer import PREFIXES, RECORD_QUESTIONS, RecordWriter
from reasonknee_datasets.phantom.release_files import LABEL_MAP_VARIANTS, write_questions
from reasonknee_datasets.phantom.release_writer import DEFAULT_CONVENTION, _whole_or_nothing, write_release
from reasonknee_datasets.phantom.scan_grids import SIZES
from reasonknee_datasets.phantom.scans import predict_boxes, usual_boxes
from reasonknee_datasets.phantom.study_plan import OFFICIAL_SPLITS, PhantomError, PlannedVolume, StudyPlan, plan_study
from reasonknee_datasets.prompts import project_prompt
from reasonknee_datasets.release.region_labels import read_mapping, read_names
from reasonknee_datasets.release.split_files import COLUMNS
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL, ROOT

PATIENTS, SEED = 3, 4
REAL = OFFICIAL / "split_files"
FILES = (*OFFICIAL_SPLITS, "train_balanced", "test_balanced")


@pytest.fixture(scope="module")
def plan() -> StudyPlan:
    return plan_study(PATIENTS, seed=SEED)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "release"
    write_release(out, patients=PATIENTS, seed=SEED)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of many patients without voxels."""
    out = tmp_path_factory.mktemp("written") / "release"
    write_release(out, patients=40, size="oai", seed=SEED, annotations_only=True)
    return out


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def load_records(root: Path, name: str) -> list[dict[str, Any]]:
    """Read the records that name an image."""
    records = json.loads((root / "data" / "generate_data" / f"{name}.json").read_text(encoding="utf-8"))
    return [record for record in records if record["image"]]


def key_of(record: dict[str, Any]) -> str:
    return record["image"].split("data/images/")[1]


QUESTION_OF = {project_prompt(number): number for number in RECORD_QUESTIONS}


def question_of(record: dict[str, Any]) -> int:
    return QUESTION_OF[record["prompt"]]


def usual(volume: PlannedVolume) -> bool:
    return volume.empty_label is None and not volume.split_meniscus and min(volume.geometry.shape) >= 48


@pytest.mark.slow
def test_the_layout_is_the_official_one(drawn: Path, plan: StudyPlan) -> None:
    names = {str(path.relative_to(drawn)) for path in drawn.rglob("*") if path.is_file()}
    expected = {"README.md", "data/phantom.json"}
    expected |= {f"data/split_files/{name}.csv" for name in ("all_studies", *(f"{s}_split" for s in OFFICIAL_SPLITS))}
    questions = ("questions", "questions_nobbox_guided", "questions_nobbox_zeroshot", "cot_question_mapping")
    questions += ("grade_dict", "labels", "question_subregion_mapping")
    expected |= {f"data/question_files/{name}.json" for name in questions}
    expected |= {f"data/generate_data/{name}.json" for name in FILES}
    expected |= {f"data/labels/taxonomymatch_kMRI_SQ_MOAKS_BICL{v}.csv" for v in ("00", "01", "03", "06")}
    expected |= {f"data/labels/taxonomymatch_kMRI_FNIH_SQ_MOAKS_BICL{v}.csv" for v in ("00", "01", "03")}
    expected |= {"code/README.md", "data/OAI/README.md"}
    expected |= {"data/labels/manual_annotated_kMRI_18M.csv"}
    expected |= {f"data/images/{volume.image_key}" for volume in plan.volumes}
    expected |= {f"data/masks/{volume.mask_name}" for volume in plan.volumes}
    assert names == expected


@pytest.mark.slow
def test_write_release_writes_valid_json_and_utf8(drawn: Path) -> None:
    for path in drawn.rglob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_it_says_that_it_is_synthetic(drawn: Path, written: Path) -> None:
    for root, only in ((drawn, False), (written, True)):
        marker = json.loads((root / "data" / "phantom.json").read_text(encoding="utf-8"))
        assert marker["synthetic"] is True
        assert marker["seed"] == SEED
        assert marker["annotations_only"] is only
        assert marker["box_convention"] == "slice0-x1-y2-pairs-inclusive-voxel"
        assert (root / "README.md").read_text(encoding="utf-8").startswith("# SYNTHETIC")


def test_split_rows_look_like_the_official_ones(written: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(REAL.glob("*.csv"))]
    if not texts:
        pytest.skip(NO_OFFICIAL)
    for text in texts:
        header, *lines = text.splitlines()
        assert header.split(",") == list(COLUMNS)
        for name in OFFICIAL_SPLITS:
            ours = (written / "data" / "split_files" / f"{name}_split.csv").read_bytes().decode()
            assert ours.startswith(f"{header}\n")
            assert "\r" not in ours
        # The pattern of a line, digits aside: every baseline row of ours has that of a real row.
        patterns = {re.sub(r"\d", "9", line) for line in lines}
        mine = {re.sub(r"\d", "9", line) for line in ours.splitlines() if ",00M," in line}
        assert mine == patterns | {line.replace("knee_999", "knee_9999") for line in patterns if len(mine) > 1}


def test_split_files_hold_every_volume_once(written: Path) -> None:
    volumes = plan_study(40, size="oai", seed=SEED).volumes
    folder = written / "data" / "split_files"
    rows = {
        name: list(csv.DictReader((folder / f"{name}.csv").open(encoding="utf-8")))
        for name in ("all_studies", *(f"{split}_split" for split in OFFICIAL_SPLITS))
    }
    assert len(rows["all_studies"]) == len(volumes)
    parts = [row for name in rows if name != "all_studies" for row in rows[name]]
    assert sorted(map(str, parts)) == sorted(map(str, rows["all_studies"]))
    for number, (row, volume) in enumerate(zip(rows["all_studies"], volumes, strict=True)):
        assert row["label_filepath"] == f"../data/masks/knee_{number:03d}.nii.gz"
        assert row["image_filepath"] == f"../data/images/{volume.image_key}"
        assert row["knee_side"] == {"right": "1", "left": "2"}[volume.side]
        assert row["path"].endswith(f"/{row['patient_id']}/{row['study_folder']}/{row['series_folder']}")


def test_every_volume_has_62_records_or_none(written: Path) -> None:
    plan = plan_study(40, size="oai", seed=SEED)
    for split in OFFICIAL_SPLITS:
        found = defaultdict(list)
        for record in load_records(written, split):
            found[key_of(record)].append(question_of(record))
        assert found == {v.image_key: list(range(1, 63)) for v in plan.of_split(split) if v.has_records}
    assert any(not volume.has_records for volume in plan.volumes)


@pytest.mark.slow
def test_records_hold_what_was_read(written: Path) -> None:
    plan = plan_study(40, size="oai", seed=SEED)
    readings = {volume.image_key: plan.reading(volume) for volume in plan.volumes}
    for name in FILES:
        for record in load_records(written, name):
            assert list(record) == ["image", "prompt", "answer", "final_diagnosis"]
            assert list(record["final_diagnosis"]) == ["bounding_box", "final_diagnosis"]
            question = question_of(record)
            grades = readings[key_of(record)][question]
            assert read_diagnosis(question, record["final_diagnosis"]) == grades
            said = record["answer"].rpartition("Final diagnosis: ")[2].replace("'", '"').replace("None", "null")
            assert read_diagnosis(question, json.loads(said)) == grades


def test_prefixes_differ_between_files(written: Path) -> None:
    for name in FILES:
        assert {record["image"].split(key_of(record))[0] for record in load_records(written, name)} == {PREFIXES[name]}
    assert len(set(PREFIXES.values())) > 3


def test_all_forms_of_a_diagnosis_occur(written: Path) -> None:
    shapes: Counter[str] = Counter()
    for record in load_records(written, "train"):
        question = QUESTIONS[question_of(record)]
        outer = next(iter(record["final_diagnosis"]["final_diagnosis"]))
        usual = outer == question.record_key
        shapes["usual" if usual else "nested" if outer == "final_diagnosis" else "prompt"] += 1
    assert shapes["usual"] > 0.9 * shapes.total()
    assert shapes["nested"] > 0.01 * shapes.total()
    assert shapes["prompt"] > 0.01 * shapes.total()


def test_records_have_the_official_size(written: Path) -> None:
    path = written / "data" / "generate_data" / "train.json"
    assert 2000 < path.stat().st_size / len(load_records(written, "train")) < 2200


def test_damaged_prompts_reach_the_records(written: Path) -> None:
    damaged = [record for record in load_records(written, "val") if question_of(record) in (58, 59)]
    assert damaged
    assert all("your reasoning and end_slice" in record["prompt"] for record in damaged)


@pytest.mark.slow
def test_balanced_files_repeat_rare_grades(written: Path) -> None:
    for split in ("train", "test"):
        full, balanced = load_records(written, split), load_records(written, f"{split}_balanced")
        times = Counter((key_of(record), record["prompt"]) for record in balanced)
        known = {(key_of(record), record["prompt"]) for record in full}
        assert times.keys() < known
        assert 1 < max(times.values()) <= 6
        whole = {(key_of(record), record["prompt"]): record["final_diagnosis"] for record in full}
        for record in balanced:
            assert record["final_diagnosis"] == whole[key_of(record), record["prompt"]]

    def share_of_zero(name: str) -> float:
        sizes = [
            read_diagnosis(question_of(record), record["final_diagnosis"])["size"]
            for record in load_records(written, name)
            if QUESTIONS[question_of(record)].finding == "cartilage_lesion"
        ]
        return sizes.count(0) / len(sizes)

    assert share_of_zero("train") > 0.6
    assert share_of_zero("train_balanced") < 0.45


@pytest.mark.slow
def test_images_and_masks_share_one_grid(drawn: Path, plan: StudyPlan) -> None:
    for volume in plan.volumes:
        image = nibabel.load(drawn / "data" / "images" / volume.image_key)
        mask = nibabel.load(drawn / "data" / "masks" / volume.mask_name)
        assert image.shape == mask.shape == volume.geometry.shape
        assert image.get_data_dtype() == np.int16
        assert mask.get_data_dtype() == np.uint8
        for header in (image.header, mask.header):
            np.testing.assert_array_equal(header.get_sform(), volume.geometry.matrix)
            np.testing.assert_allclose(header.get_qform(), volume.geometry.matrix, atol=1e-3)
            assert int(header["sform_code"]) == int(header["qform_code"]) == 1
            assert header.get_xyzt_units()[0] == "mm"
            assert bytes(header["descrip"]).startswith(b"SYNTHETIC")
        assert np.asanyarray(image.dataobj).max() > 100


@pytest.mark.slow
def test_gzip_headers_hold_neither_time_nor_name(drawn: Path) -> None:
    for path in drawn.rglob("*.nii.gz"):
        with path.open("rb") as file:
            magic, _, flags, time = struct.unpack("<HBBI", file.read(8))
        assert (magic, flags, time) == (0x8B1F, 0, 0)


@pytest.mark.slow
def test_boxes_are_extents_of_mask_regions(drawn: Path, plan: StudyPlan) -> None:
    volumes = {volume.image_key: volume for volume in plan.volumes}
    masks: dict[str, np.ndarray] = {}
    agreed: Counter[bool] = Counter()
    for split in OFFICIAL_SPLITS:
        for record in load_records(drawn, split):
            volume = volumes[key_of(record)]
            if volume.mask_name not in masks:
                masks = {volume.mask_name: np.asarray(nibabel.load(drawn / "data/masks" / volume.mask_name).dataobj)}
            mask = masks[volume.mask_name]
            box = DEFAULT_CONVENTION.decode(record["final_diagnosis"]["bounding_box"], mask.shape)
            box.check_inside(mask.shape)
            region = np.isin(mask, region_of(question_of(record)))
            agreed[bool(region.any()) and box == Box.from_mask(region)] += 1
            if usual(volume):
                assert box == Box.from_mask(region)
    assert agreed[False] > 0  # the empty label
    assert agreed[True] > 0.95 * agreed.total()


@pytest.mark.slow
def test_masks_have_empty_label_and_split_meniscus(drawn: Path, plan: StudyPlan) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    for volume in plan.volumes:
        mask = np.asarray(nibabel.load(drawn / "data" / "masks" / volume.mask_name).dataobj)
        if volume.empty_label is not None:
            assert not (mask == LABELS[volume.empty_label]).any()
        elif volume.split_meniscus:
            pieces, _ = ndimage.label(mask == LABELS["medial_meniscus"], np.ones((3, 3, 3)))
            sizes = np.bincount(pieces.ravel())[1:]
            assert (sizes > 0.1 * sizes.sum()).sum() == 2
        elif usual(volume):
            assert {*STRUCTURES.values(), LABELS["joint_effusion"]} <= set(np.unique(mask).tolist())


@pytest.mark.slow
def test_write_release_bytes_ignore_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        write_release(tmp_path / name, patients=1, seed=9, workers=workers)
    write_release(tmp_path / "other", patients=1, seed=8, annotations_only=True)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    records = "data/generate_data/train.json"
    assert digest(tmp_path / "one")[records] != digest(tmp_path / "other")[records]


def test_annotations_only_bytes_follow_from_seed(written: Path, tmp_path: Path) -> None:
    write_release(tmp_path / "again", patients=40, size="oai", seed=SEED, annotations_only=True)
    assert digest(tmp_path / "again") == digest(written)


@pytest.fixture(scope="module")
def placed() -> tuple[StudyPlan, np.ndarray]:
    plan = plan_study(1)
    return plan, predict_boxes(plan)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_every_convention_can_be_written(
    convention: BoxConvention, placed: tuple[StudyPlan, np.ndarray], tmp_path: Path
) -> None:
    plan, boxes = placed
    (tmp_path / "data" / "generate_data").mkdir(parents=True)
    RecordWriter(plan, boxes, convention).write_all(tmp_path / "data" / "generate_data")
    volumes = {volume.image_key: volume for volume in plan.volumes}
    for record in load_records(tmp_path, "train")[::5]:
        volume, numbers = volumes[key_of(record)], record["final_diagnosis"]["bounding_box"]
        box = Box.from_row(boxes[volume.number, question_of(record) - 1])
        assert convention.decode(numbers, volume.geometry.shape) == box
        assert all(isinstance(number, float if convention.normalised else int) for number in numbers)


def test_box_convention_is_a_known_name(tmp_path: Path) -> None:
    name = "y2-x1-slice0-corners-exclusive-voxel"
    write_release(tmp_path / "a", patients=1, annotations_only=True, box_convention=name, label_map_variant="opaque")
    marker = json.loads((tmp_path / "a" / "data" / "phantom.json").read_text(encoding="utf-8"))
    assert marker["box_convention"] == name
    assert marker["label_map_variant"] == "opaque"
    with pytest.raises(BoxError, match="Unknown box convention"):
        write_release(tmp_path / "b", patients=1, annotations_only=True, box_convention="zyx")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("variant", LABEL_MAP_VARIANTS)
def test_label_maps_are_written_in_every_structure(variant: str, tmp_path: Path) -> None:
    folder = tmp_path
    write_questions(folder, variant)
    if variant == "opaque":
        text = (folder / "labels.json").read_text(encoding="utf-8")
        assert not any(name in text or str(number) in text for name, number in LABELS.items())
        return
    names = read_names(folder / "labels.json")
    assert names.keys() >= set(LABELS.values())
    assert read_mapping(folder / "question_subregion_mapping.json", names) == {
        question: tuple(sorted(region_of(question))) for question in RECORD_QUESTIONS
    }


def test_only_the_effusion_box_knows_a_grade() -> None:
    volume = plan_study(1, size="oai").volumes[0]
    boxes = [usual_boxes(0, volume, grade) for grade in range(4)]
    others = np.arange(62) != 42
    for larger in boxes[1:]:
        np.testing.assert_array_equal(larger[others], boxes[0][others])
    sizes = [Box.from_row(rows[42]).size for rows in boxes]
    assert sizes == sorted(set(sizes))


def test_annotations_only_boxes_are_inside_grid() -> None:
    plan = plan_study(60, seed=1)
    for volume in plan.volumes:
        rows = usual_boxes(1, volume, 0)
        assert (rows[:, :3] >= 0).all()
        assert (rows[:, 3:] <= volume.geometry.shape).all()
        assert (rows[:, :3] < rows[:, 3:]).all()
        medial, lateral = (
            volume.geometry.matrix @ [*Box.from_row(rows[question - 1]).center, 1] for question in (10, 13)
        )
        assert (medial[0] < lateral[0]) == (volume.side == "right")


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.txt").write_text("mine")
    with pytest.raises(PhantomError, match=r"here exists already\. Remove"):
        write_release(tmp_path / "here", patients=1, annotations_only=True)
    assert (tmp_path / "here" / "thesis.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_release(tmp_path / "here", patients=1, annotations_only=True)
    assert (tmp_path / "here" / "data" / "phantom.json").is_file()


def test_write_release_names_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PhantomError, match=r"Cannot write the synthetic release to .*: .*\. Choose another folder"):
        write_release(tmp_path / "file" / "release", patients=1, annotations_only=True)


def write_half(out: Path) -> None:
    with _whole_or_nothing(out) as part:
        (part / "data").mkdir()
        assert part.parent == out.parent
        raise RuntimeError("half-way")


def test_write_release_removes_a_failed_release(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half-way"):
        write_half(tmp_path / "release")
    assert not list(tmp_path.iterdir())


def test_write_release_removes_killed_runs_folders(tmp_path: Path) -> None:
    killed = tmp_path / ".release.unfinished-0123abcd"
    other = tmp_path / ".release2.unfinished-0123abcd"
    for folder in (killed, other):
        (folder / "data").mkdir(parents=True)
    with _whole_or_nothing(tmp_path / "release") as live:
        with pytest.raises(RuntimeError, match="half-way"):
            write_half(tmp_path / "release")
        assert set(tmp_path.iterdir()) == {live, other}
    assert set(tmp_path.iterdir()) == {tmp_path / "release", other}
    assert not list((tmp_path / "release").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers is 0, but must be at least 1"),
        ({"label_map_variant": "maybe"}, "Unknown label_map_variant 'maybe'. Available: name_to_id, opaque"),
        ({"patients": 8_000_000, "size": "oai"}, r"8,000,000 patients need about [0-9,]+\.0 GB of disk space"),
        ({"patients": 0}, "patients is 0, but must be from 1"),
        ({"size": "huge"}, "Unknown size 'huge'. Available: tiny, oai"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match=message):
        write_release(tmp_path / "a", **{"patients": 1, **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_write_release_runs_in_unguarded_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from reasonknee_datasets.phantom.release_writer import write_release\n"
        f"write_release({str(tmp_path / 'release')!r}, patients=1)\nprint('once')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "once\n"
    assert (tmp_path / "release" / "data" / "phantom.json").is_file()


@pytest.mark.slow
def test_write_release_memory_is_bounded(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from tests.helpers.peak import peak_bytes\n"
        "from reasonknee_datasets.phantom.release_writer import write_release\n"
        "write_release(sys.argv[1], patients=300, annotations_only=True)\n"
        "print(peak_bytes())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "release")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    written = sum(path.stat().st_size for path in (tmp_path / "release").rglob("*.json"))
    assert written > 150e6
    assert int(done.stdout) < 300e6


@pytest.mark.parametrize("size", sorted(SIZES))
def test_shapes_are_those_of_the_size(size: str) -> None:
    plan = plan_study(2, size=size)  # type: ignore[arg-type]
    counts = SIZES[size].counts  # type: ignore[index]
    assert {tuple(sorted(volume.geometry.shape)) for volume in plan.volumes} == {tuple(sorted(counts))}
