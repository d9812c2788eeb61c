"""From the runner's journal to a table of answers: an oracle that is asked in every condition is right everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.bench.answers import REASONS, write
from reasonknee_datasets.bench.conditions import CONDITIONS, Condition
from reasonknee_datasets.bench.predictions import read_predictions
from reasonknee_datasets.bench.prompts import FRAME_CONVENTION
from reasonknee_datasets.bench.runner import CallableModel, Request, Study, make_study, run
from reasonknee_datasets.bench.table import Truth
from reasonknee_datasets.bench.truth import open_data, read_truth
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.transforms import ToFrames

_QUESTIONS = [1, 19, 33, 45, 54, 60]
_FILTER = [("question_id", "in", _QUESTIONS)]
_EVERY_SLICE = ToFrames("sagittal")


def _exact(condition: Condition) -> Condition:
    """Show every slice at its own size, so that a box in frames is a box in voxels."""
    if condition.script == "o1":
        return replace(condition, frames=replace(condition.frames, count=4, ends=(0, 7)))
    return condition if condition.script else replace(condition, frames=_EVERY_SLICE, region_frames=_EVERY_SLICE)


def _oracle(truth: Truth, study: Study) -> Callable[[Request], str]:
    """Answer as the truth says, and find the true box in the frames."""
    row = {name: place for place, name in enumerate(truth.ids)}

    def answer(request: Request) -> str:
        place = row[request.id]
        question = QUESTIONS[int(truth.question[place])]
        if request.step == "answer":
            grades = truth.grades[place, : len(question.slots)].tolist()
            known = [None if grade < 0 else grade for grade in grades]
            return write(question, dict(zip(question.attributes, known, strict=True)))
        volume = study.records.volume(truth.volumes[truth.volume[place]])
        seen = _EVERY_SLICE.view(volume).box_from_source(Box.from_row(truth.boxes[place].tolist()))
        numbers = FRAME_CONVENTION.encode(seen, request.frames[0].pixels.shape)
        return f"It is here:\n```json\n{json.dumps({'bounding_box': list(numbers)})}\n```"

    return answer


@pytest.mark.parametrize("name", CONDITIONS)
def test_an_oracle_is_right_in_every_condition(name: str, prepared: Path, tmp_path: Path) -> None:
    study = make_study(prepared, _exact(CONDITIONS[name]), questions=_QUESTIONS)
    truth = read_truth(prepared, "test", filters=_FILTER)
    path = tmp_path / "run.jsonl"
    run(study, CallableModel(_oracle(truth, study), "oracle"), journal=path, progress=False)
    found = read_predictions(path, truth, data=open_data(prepared), split="test")
    assert found.answers.given.all()
    np.testing.assert_array_equal(found.answers.grades, truth.grades)
    assert found.identity.condition == name or name == "jittered_region"
    assert found.identity.model == "oracle"
    assert found.answers.has_box.all() == study.condition.asks_box
    if study.condition.asks_box:
        np.testing.assert_array_equal(found.answers.boxes, truth.boxes)


def test_what_was_not_answered_has_its_reason(prepared: Path, tmp_path: Path) -> None:
    truth = read_truth(prepared, "test", filters=_FILTER)
    study = make_study(prepared, _exact(CONDITIONS["own_region"]), questions=_QUESTIONS)
    path = tmp_path / "run.jsonl"
    run(study, CallableModel(lambda request: "I cannot tell.", "shy"), journal=path, progress=False)
    found = read_predictions(path, truth, data=open_data(prepared), split="test")
    assert found.answers.given.all()
    assert not found.answers.has_box.any()
    assert (found.answers.grades == -1).all()
    asked = truth.slots >= 0
    assert {REASONS[reason] for reason in found.answers.reasons[asked].tolist()} == {"empty"}
