"""`plan`: count the requests, images and tokens of a run without asking a model or reading a voxel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from reasonknee_datasets.bench.model_requests import Frames, Request, ask, ask_after_box, ask_for_box, crop
from reasonknee_datasets.bench.question_records import Record
from reasonknee_datasets.bench.reference_scripts import SCRIPTS
from reasonknee_datasets.bench.run_spec import RunSpec
from reasonknee_datasets.transforms import ToFrames

ImageTokens = Callable[[int, int], int]

MAX_TOKENS = 1024
"""Limit of an answer's tokens in the conditions that are not the authors'."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Size of a run.

    Attributes
    ----------
    records, patients, volumes : int
    requests, images : int
        Requests, and images in all of them together.
    text_tokens, image_tokens : int
        Estimates: four characters a token; see `make_plan` for images.
    answer_tokens : int or None
        At most; None where the model sets the limit.
    text : str
        All text of the first request.
    """

    records: int
    patients: int
    volumes: int
    requests: int
    images: int
    text_tokens: int
    image_tokens: int
    answer_tokens: int | None
    text: str

    def __str__(self) -> str:
        limit = "up to the model's own limit" if self.answer_tokens is None else f"{self.answer_tokens:,} at most"
        lines = [
            f"records        {self.records:,} of {self.patients:,} patients, {self.volumes:,} volumes",
            f"requests       {self.requests:,}",
            f"images         {self.images:,}",
            f"prompt tokens  about {self.text_tokens + self.image_tokens:,} ({self.image_tokens:,} of images)",
            f"answer tokens  {limit}",
        ]
        return "\n".join(lines)


def patch_tokens(rows: int, columns: int) -> int:
    """Estimate an image's tokens as one for each 28x28 pixels, as Qwen2.5-VL counts them.

    Examples
    --------
    >>> patch_tokens(384, 384)
    196
    """
    return math.ceil(rows / 28) * math.ceil(columns / 28)


def max_tokens(study: RunSpec) -> int | None:
    """Return the limit of an answer's tokens that the study's condition sets; None where it sets none."""
    script = study.condition.script
    return MAX_TOKENS if script is None else SCRIPTS[script].max_tokens


def make_plan(study: RunSpec, *, image_tokens: ImageTokens = patch_tokens) -> RunPlan:
    """Count a study's requests, images and tokens.

    Parameters
    ----------
    study : RunSpec
    image_tokens : callable
        Rows and columns of an image to its tokens; by default one token for each 28x28 pixels.
    """
    text = ""
    requests = images = characters = pixels = 0
    for record in study.records.items:
        for request in _requests(study, record):
            requests += 1
            images += request.images
            characters += len(request.text)
            pixels += sum(len(each) * image_tokens(*each.pixels.shape[1:]) for each in request.frames)
            text = text or request.text
    limit = max_tokens(study)
    return RunPlan(
        records=len(study.records.items),
        patients=len({record.patient for record in study.records.items}),
        volumes=len({record.volume_path for record in study.records.items}),
        requests=requests,
        images=images,
        text_tokens=math.ceil(characters / 4),
        image_tokens=pixels,
        answer_tokens=None if limit is None else limit * requests,
        text=text,
    )


def _requests(study: RunSpec, record: Record) -> list[Request]:
    """Build a record's requests with blank frames of the right size, and empty replies."""
    condition = study.condition
    if condition.image == "none":
        return [ask(record, condition, study.prompts, None)]
    volume, region = study.volume(record), study.region(record)
    if region is not None:
        view = crop(volume, region, condition)
        return [ask(record, condition, study.prompts, _blank(condition.region_frames, view))]
    whole = _blank(condition.frames, volume)
    if not condition.asks_box:
        return [ask(record, condition, study.prompts, whole)]
    first = ask_for_box(record, condition, whole)
    if condition.region == "whole":
        return [first, ask_after_box(first, "", record, study.prompts)]
    # The model's box is not known: a square crop has the most pixels.
    return [first, ask(record, condition, study.prompts, _blank(condition.region_frames, volume, square=True))]


def _blank(recipe: ToFrames, volume: Any, *, square: bool = False) -> Frames:
    count, rows, columns = recipe.view(volume).shape
    return _zeros(count, max(rows, columns) if square else rows, max(rows, columns) if square else columns)


@lru_cache(maxsize=64)
def _zeros(count: int, rows: int, columns: int) -> Frames:
    return Frames(np.zeros((count, rows, columns), np.uint8))
