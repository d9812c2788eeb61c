"""Requests: which text and frames a record becomes, and how a model's box is found again in the volume."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.bench.conditions import CONDITIONS, GUIDED, REGION_GIVEN
from reasonknee_datasets.bench.model_requests import (
    Frames,
    Record,
    ask,
    ask_after_box,
    ask_for_box,
    crop,
    read_box,
    render_frames,
    system_prompt,
)
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.prompts import Prompts
from reasonknee_datasets.transforms import ToFrames

_BOX = '{"bounding_box": [1, 2, 3, 40, 5, 60]}'
_RECORD = Record("9016403/00M/right/q19", "volumes/a.nii.gz", "right", 19, (4, 10, 6, 20, 30, 26))


@pytest.fixture(scope="module")
def volume() -> Any:
    voxels = np.random.default_rng(0).integers(0, 500, (24, 40, 32)).astype(np.int16)
    affine = np.array([[0, 0, 0.7, 0], [0.4, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1.0]])
    return nib.Nifti1Image(voxels, affine)


def test_ask_puts_frames_before_the_question() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    one = ask(_RECORD, GUIDED, Prompts.own("guided"), frames)
    two = ask(replace(_RECORD, question=20), GUIDED, Prompts.own("guided"), frames)
    assert one.messages[0] == two.messages[0]
    assert one.messages[1].parts[0] is two.messages[1].parts[0] is frames
    with pytest.raises(ValueError, match="read-only"):
        frames.pixels[0] = 1


def test_ask_names_the_side() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    right, left = (
        ask(replace(_RECORD, side=side), GUIDED, Prompts.own("guided"), frames) for side in ("right", "left")
    )
    assert right.text.replace("patient's right knee", "patient's left knee") == left.text
    assert right.prompt_hash != left.prompt_hash
    assert "from the patient's left to the patient's right" in system_prompt(GUIDED)


def test_crop_shows_the_box_alone(volume: Any) -> None:
    region = Box((4, 10, 6), (20, 30, 26))
    recipe = ToFrames("axis0")
    shown = render_frames(recipe, crop(volume, region, replace(REGION_GIVEN, region_frames=recipe)))
    np.testing.assert_array_equal(shown.pixels, render_frames(recipe, volume).pixels[4:20, 10:30, 6:26])
    wide = crop(volume, region, replace(REGION_GIVEN, margin_mm=1.0))
    assert wide.shape == (16 + 2 * 3, 20 + 2 * 2, 20 + 2 * 2)


def test_ask_for_box_then_ask_after_box() -> None:
    frames = Frames(np.zeros((3, 4, 5), np.uint8))
    condition, prompts = CONDITIONS["box_first"], Prompts.own("guided")
    first = ask_for_box(_RECORD, condition, frames)
    assert "from 0 to 2 in the order given" in first.text
    assert prompts.text(19) not in first.text
    second = ask_after_box(first, _BOX, _RECORD, prompts)
    assert second.messages[:2] == first.messages
    assert [each.role for each in second.messages] == ["system", "user", "assistant", "user"]
    assert second.messages[2].parts == (_BOX,)
    assert second.messages[3].parts[-1].endswith(prompts.text(19))  # type: ignore[union-attr]
    assert "only the region" not in first.text + second.text
    assert "only the region" in ask(_RECORD, CONDITIONS["own_region"], prompts, frames).text


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial", "axis0"])
def test_read_box_finds_the_marked_voxels(plane: str, volume: Any) -> None:
    """Mark a box in the volume, read its numbers off the frames as a person would, and hand them in."""
    recipe = ToFrames(plane, window=(0, 1))
    marked = np.zeros(volume.shape, np.int16)
    box = Box((4, 10, 6), (20, 30, 26))
    marked[box.slices] = 1
    image = nib.Nifti1Image(marked, volume.affine)
    frames, rows, columns = np.nonzero(render_frames(recipe, image).pixels)
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
def test_read_box_states_reasons(text: str | None, reason: str, volume: Any) -> None:
    found = read_box(text, ToFrames("axis0"), volume)
    assert (found.box, found.reason) == (None, reason)


def test_read_box_cuts_at_the_frames(volume: Any) -> None:
    found = read_box('{"bounding_box": [1, 2, 0, 7, 5, 900]}', ToFrames("axis0"), volume)
    assert found.box == Box((1, 5, 0), (3, 40, 8))
    assert found.rules == ("box_clipped",)


def test_equal_requests_have_equal_hashes() -> None:
    one, two = (ask(_RECORD, GUIDED, Prompts.own("guided"), Frames(np.full((2, 3, 4), 9, np.uint8))) for _ in range(2))
    assert (one.prompt_hash, one.frames_hash) == (two.prompt_hash, two.frames_hash)
    other = ask(_RECORD, GUIDED, Prompts.own("guided"), Frames(np.full((2, 3, 4), 8, np.uint8)))
    assert other.prompt_hash == one.prompt_hash
    assert other.frames_hash != one.frames_hash
    assert ask(_RECORD, CONDITIONS["text_only"], Prompts.own("guided"), None).frames_hash is None
