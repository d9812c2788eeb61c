"""What a model is sent: never an answer, always the same pixels, frames first."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reasonknee_datasets.bench.conditions import (
    CONDITIONS,
    GUIDED,
    OFFICIAL,
    OFFICIAL_O1,
    REGION_GIVEN,
    Condition,
    get_condition,
)
from reasonknee_datasets.bench.official import SCRIPTS
from reasonknee_datasets.bench.prompts import Prompts
from reasonknee_datasets.bench.runner import CallableModel, Frames, Request, run
from reasonknee_datasets.bench.runner.asking import Task, ask, ask_after_box, ask_for_box, crop, show, system_prompt
from reasonknee_datasets.bench.runner.openai_model import to_chat
from reasonknee_datasets.bench.runner.predicted import read_box
from reasonknee_datasets.bench.runner.tasks import COLUMNS
from reasonknee_datasets.bench.runner.transformers_model import picture_arguments
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.moaks import SLOTS
from reasonknee_datasets.transforms import ToFrames

_QUESTIONS = [1, 19, 45, 60]
_BOX = '{"bounding_box": [1, 2, 3, 40, 5, 60]}'
_TASK = Task("9016403/00M/right/q19", "volumes/a.nii.gz", "right", 19, (4, 10, 6, 20, 30, 26))
_HIGH = {(slot.question_id, slot.attribute): slot.high for slot in SLOTS}


def _small(condition: Condition) -> Condition:
    """Show small frames, and slices that the tiny phantom has."""
    if condition.name == "official":
        return condition
    if condition.name == "official_o1":
        return replace(condition, frames=replace(condition.frames, count=4, ends=(0, 7)))
    return replace(
        condition, frames=ToFrames("sagittal", count=4, size=64), region_frames=ToFrames("sagittal", count=3, size=32)
    )


@pytest.fixture(scope="module")
def volume() -> Any:
    voxels = np.random.default_rng(0).integers(0, 500, (24, 40, 32)).astype(np.int16)
    affine = np.array([[0, 0, 0.7, 0], [0.4, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1.0]])
    return nib.Nifti1Image(voxels, affine)


def _requests(data: Path, condition: Condition, journal: Path, **options: Any) -> list[Request]:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return _BOX if request.step == "box" else "{}"

    options = {"patients": 1, "questions": _QUESTIONS} | options
    run(data, CallableModel(answer, "listener"), condition, journal, progress=False, **options)
    return asked


def _wire(requests: list[Request]) -> list[bytes]:
    """Give all that a request says, to the byte: words and PNGs as they would go out, and pixels as they are held."""
    return [
        json.dumps(to_chat(each)).encode() + b"".join(frames.pixels.tobytes() for frames in each.frames)
        for each in requests
    ]


def _rewritten(prepared: Path, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """Copy a repository with other rows; the volumes stay where they are."""
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("volumes"))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for split in manifest["configs"]["quintuples"]["splits"].values():
        for shard in split["shards"]:
            file = folder / shard["path"]
            table = pq.read_table(file)
            rows = [change(row) for row in table.to_pylist()]
            pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
            data = file.read_bytes()
            shard |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _other_answers(row: dict[str, Any]) -> dict[str, Any]:
    grades = [
        each | {"grade": _HIGH[row["question_id"], each["attribute"]] - (each["grade"] or 0)} for each in row["grades"]
    ]
    secret = f"SECRET {row['id']}"
    return row | {"grades": grades, "reasoning": [secret, secret], "answer": secret, "record": json.dumps([secret])}


def _other_boxes(row: dict[str, Any]) -> dict[str, Any]:
    low = np.array(row["box"][:3])
    return row | {"box": [*(low // 2).tolist(), *(low // 2 + 2).tolist()]}


@pytest.fixture(scope="module")
def perturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _rewritten(prepared, tmp_path_factory.mktemp("perturbed") / "answers", _other_answers)


@pytest.mark.parametrize("name", CONDITIONS)
def test_no_reasoning_grade_or_answer_reaches_a_request(
    name: str, prepared: Path, perturbed: Path, tmp_path: Path
) -> None:
    condition = _small(CONDITIONS[name])
    before = pq.read_table(next((prepared / "data").glob("test-*")))
    after = pq.read_table(next((perturbed / "data").glob("test-*")))
    for column in ("reasoning", "grades", "answer", "record"):
        assert before[column] != after[column]
    one = _requests(prepared, condition, tmp_path / "one.jsonl")
    two = _requests(perturbed, condition, tmp_path / "two.jsonl", volumes_dir=prepared)
    assert len(one) >= len(_QUESTIONS)
    assert [each.step for each in one] == [each.step for each in two]
    assert _wire(one) == _wire(two)
    assert not any(b"SECRET" in each for each in _wire(two))


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_true_box_reaches_only_those_that_are_given_it(name: str, prepared: Path, tmp_path: Path) -> None:
    condition = _small(CONDITIONS[name])
    moved = _rewritten(prepared, tmp_path / "boxes", _other_boxes)
    one = _wire(_requests(prepared, condition, tmp_path / "one.jsonl"))
    two = _wire(_requests(moved, condition, tmp_path / "two.jsonl", volumes_dir=prepared))
    # This also shows that the test above can fail.
    assert (sorted(one) == sorted(two)) == (name not in ("region_given", "jittered_region"))


def test_the_columns_of_answers_are_never_read() -> None:
    assert set(COLUMNS) == {"id", "volume_path", "side", "question_id", "question", "box"}
    assert set(Task.__dataclass_fields__) == {"id", "volume_path", "side", "question", "box"}


def test_the_rows_own_question_is_asked_on_request(prepared: Path, tmp_path: Path) -> None:
    def other_words(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"question": f"In other words, {row['question_id']}?"}

    data = _rewritten(prepared, tmp_path / "words", other_words)
    asked = _requests(data, _small(GUIDED), tmp_path / "one.jsonl", volumes_dir=prepared, prompts="rows")
    assert {each.text.rpartition("knee. ")[2] for each in asked} == {f"In other words, {n}?" for n in _QUESTIONS}
    own = _requests(data, _small(GUIDED), tmp_path / "two.jsonl", volumes_dir=prepared)
    assert not any("In other words" in each.text for each in own)
    with pytest.raises(BenchError, match="prompts must come in the short wording for this condition"):
        _requests(data, get_condition("zero_shot"), tmp_path / "three.jsonl", volumes_dir=prepared, prompts="rows")


def _pixels(urls: list[str]) -> Iterator[np.ndarray[Any, Any]]:
    for url in urls:
        kind, _, data = url.partition(",")
        assert kind == "data:image/png;base64"
        yield np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("recipe", [GUIDED.frames, OFFICIAL.frames, REGION_GIVEN.region_frames])
def test_every_model_sees_the_pixels_of_toframes(recipe: ToFrames, volume: Any) -> None:
    expected = recipe({"id": "a", "volume": volume})["frames"]
    request = ask(_TASK, GUIDED, Prompts.own("guided"), show(recipe, volume))
    (content,) = [each["content"] for each in to_chat(request) if each["role"] == "user"]
    wire = np.stack(list(_pixels([each["image_url"]["url"] for each in content if each["type"] == "image_url"])))
    local = np.stack([np.asarray(image) for image in picture_arguments(request)["images"][0]])
    np.testing.assert_array_equal(wire, expected)
    np.testing.assert_array_equal(local, np.repeat(expected[..., None], 3, axis=-1))
    np.testing.assert_array_equal(request.frames[0].pixels, expected)


def test_a_video_keeps_every_frame_and_its_time(volume: Any) -> None:
    request = ask(_TASK, OFFICIAL, Prompts.own("guided", "keep"), show(OFFICIAL.frames, volume, "video"))
    arguments = picture_arguments(request)
    assert "images" not in arguments
    assert arguments["do_sample_frames"] is False
    (video,), (metadata,) = arguments["videos"], arguments["video_metadata"]
    assert len(video) == metadata["total_num_frames"] == 24
    assert metadata["fps"] == 4.0
    np.testing.assert_array_equal(
        np.asarray(video[5])[..., 0], OFFICIAL.frames({"id": "a", "volume": volume})["frames"][5]
    )


def test_frames_stand_before_the_question_and_are_one_object() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    one = ask(_TASK, GUIDED, Prompts.own("guided"), frames)
    two = ask(replace(_TASK, question=20), GUIDED, Prompts.own("guided"), frames)
    assert one.messages[0] == two.messages[0]
    assert one.messages[1].parts[0] is two.messages[1].parts[0] is frames
    shared = [left == right for left, right in zip(to_chat(one)[1]["content"], to_chat(two)[1]["content"], strict=True)]
    assert shared == [True, True, True, False]
    assert to_chat(one)[1]["content"][0]["image_url"]["url"] is to_chat(two)[1]["content"][0]["image_url"]["url"]
    with pytest.raises(ValueError, match="read-only"):
        frames.pixels[0] = 1


def test_requests_of_a_volume_follow_each_other(prepared: Path, tmp_path: Path) -> None:
    asked = _requests(prepared, _small(GUIDED), tmp_path / "a.jsonl", patients=None)
    volumes = [each.id.rpartition("/")[0] for each in asked]
    assert len(set(volumes)) > 1
    assert sum(one != two for one, two in pairwise(volumes)) == len(set(volumes)) - 1
    assert len({id(each.frames[0]) for each in asked}) <= len(set(volumes))


def test_questions_about_one_crop_follow_each_other(prepared: Path, tmp_path: Path) -> None:
    # A cartilage and a marrow question of one subregion look at one box.
    asked = _requests(prepared, _small(REGION_GIVEN), tmp_path / "a.jsonl", questions=[4, 10, 19, 25])
    shown = [each.frames[0].digest for each in asked]
    assert len(set(shown)) < len(shown)
    assert sum(one != two for one, two in pairwise(shown)) == len(set(shown)) - 1


def test_the_official_requests_are_as_in_the_scripts() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    prompts = Prompts.own("guided", "keep")
    qwen, o1 = (ask(_TASK, condition, prompts, frames) for condition in (OFFICIAL, OFFICIAL_O1))
    assert qwen.messages[0].parts == (SCRIPTS["qwen"].system,)
    assert qwen.messages[1].parts == (frames, prompts.text(19))
    assert o1.messages[0].parts == (SCRIPTS["o1"].system,)
    assert o1.messages[1].parts == (prompts.text(19), frames)
    assert [each["type"] for each in to_chat(o1)[1]["content"]] == ["text", *["image_url"] * 3]


def test_the_side_is_told_since_frames_do_not_show_it() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    right, left = (ask(replace(_TASK, side=side), GUIDED, Prompts.own("guided"), frames) for side in ("right", "left"))
    assert right.text.replace("patient's right knee", "patient's left knee") == left.text
    assert right.prompt_hash != left.prompt_hash
    assert "from the patient's left to the patient's right" in system_prompt(GUIDED)


def test_a_crop_shows_the_box_and_nothing_else(volume: Any) -> None:
    region = Box((4, 10, 6), (20, 30, 26))
    recipe = ToFrames("axis0")
    shown = show(recipe, crop(volume, region, replace(REGION_GIVEN, region_frames=recipe)))
    np.testing.assert_array_equal(shown.pixels, show(recipe, volume).pixels[4:20, 10:30, 6:26])
    wide = crop(volume, region, replace(REGION_GIVEN, margin_mm=1.0))
    assert wide.shape == (16 + 2 * 3, 20 + 2 * 2, 20 + 2 * 2)


def test_a_box_is_asked_for_first_and_then_the_question() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    condition, prompts = CONDITIONS["box_first"], Prompts.own("guided")
    first = ask_for_box(_TASK, condition, frames)
    assert first.step == "box"
    assert "from 0 to 2 in the order given" in first.text
    assert prompts.text(19) not in first.text
    second = ask_after_box(first, _BOX, _TASK, prompts)
    assert second.messages[:2] == first.messages
    assert [each.role for each in second.messages] == ["system", "user", "assistant", "user"]
    assert second.messages[2].parts == (_BOX,)
    assert second.messages[3].parts[-1].endswith(prompts.text(19))  # type: ignore[union-attr]
    assert "only the region" not in first.text + second.text
    assert "only the region" in ask(_TASK, CONDITIONS["own_region"], prompts, frames).text


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial", "axis0"])
def test_a_models_box_is_found_again_in_the_volume(plane: str, volume: Any) -> None:
    """Mark a box in the volume, read its numbers off the frames as a person would, and hand them in."""
    recipe = ToFrames(plane, window=(0, 1))
    marked = np.zeros(volume.shape, np.int16)
    box = Box((4, 10, 6), (20, 30, 26))
    marked[box.slices] = 1
    image = nib.Nifti1Image(marked, volume.affine)
    frames, rows, columns = np.nonzero(show(recipe, image).pixels)
    numbers = [frames.min(), frames.max(), columns.min(), columns.max(), rows.min(), rows.max()]
    text = json.dumps({"bounding_box": [int(number) for number in numbers]})
    assert read_box(text, recipe, image).box == box


def test_thick_frames_give_thick_boxes(volume: Any) -> None:
    recipe = ToFrames("axis0", count=6, size=(20, 16))
    found = read_box('{"bounding_box": [1, 2, 0, 7, 5, 9]}', recipe, volume)
    assert found.box == Box((4, 10, 0), (12, 20, 16))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I see nothing.", "not_json"),
        ("", "empty"),
        ('{"bounding_box": [1, 2, 0, 7, 500, 900]}', "out_of_range"),
        (None, "empty"),
    ],
)
def test_a_box_that_is_none_has_a_reason(text: str | None, reason: str, volume: Any) -> None:
    found = read_box(text, ToFrames("axis0"), volume)
    assert (found.box, found.reason) == (None, reason)


def test_a_box_that_reaches_beyond_the_frames_is_cut_by_a_named_rule(volume: Any) -> None:
    found = read_box('{"bounding_box": [1, 2, 0, 7, 5, 900]}', ToFrames("axis0"), volume)
    assert found.box == Box((1, 5, 0), (3, 40, 8))
    assert found.rules == ("box_clipped",)


def test_equal_requests_have_equal_digests() -> None:
    one, two = (ask(_TASK, GUIDED, Prompts.own("guided"), Frames(np.full((2, 3, 4), 9, np.uint8))) for _ in range(2))
    assert one.digest == two.digest
    other = ask(_TASK, GUIDED, Prompts.own("guided"), Frames(np.full((2, 3, 4), 8, np.uint8)))
    assert other.prompt_hash == one.prompt_hash
    assert other.digest != one.digest
