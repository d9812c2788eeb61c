"""`make_plan`: count the requests, images and tokens of a run; the requests are built with blank frames, not sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from reasonknee_datasets.bench.model_requests import Frames, Record, Request, ask, ask_after_box, ask_for_box, crop
from reasonknee_datasets.bench.run_spec import RunSpec
from reasonknee_datasets.transforms import ToFrames


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Size of a run.

    Attributes
    ----------
    records, patients, volumes : int
    requests, images : int
        Requests, and images in all of them together.
    text_tokens, image_tokens : int
        Estimates: four characters a token, and 28x28 pixels a token.
    answer_tokens : int or None
        Upper limit; None where the model sets the limit.
    """

    records: int
    patients: int
    volumes: int
    requests: int
    images: int
    text_tokens: int
    image_tokens: int
    answer_tokens: int | None

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


def make_plan(study: RunSpec) -> RunPlan:
    """Count a run's requests, images and tokens; no voxel is read and nothing is sent.

    Parameters
    ----------
    study : RunSpec
        As returned by `make_study`.
    """
    requests = images = characters = image_tokens = 0
    for record in study.records:
        for request in _requests(study, record):
            requests += 1
            images += request.images
            characters += len(request.text)
            image_tokens += sum(len(frames) * _patches(*frames.pixels.shape[1:]) for frames in request.frames)
    limit = study.condition.max_tokens
    return RunPlan(
        records=len(study.records),
        patients=len({record.patient for record in study.records}),
        volumes=len({record.volume_path for record in study.records}),
        requests=requests,
        images=images,
        text_tokens=math.ceil(characters / 4),
        image_tokens=image_tokens,
        answer_tokens=None if limit is None else limit * requests,
    )


def _patches(rows: int, columns: int) -> int:
    """Estimate an image's tokens as one for each 28x28 pixels, as Qwen2.5-VL counts them."""
    return math.ceil(rows / 28) * math.ceil(columns / 28)


def _requests(study: RunSpec, record: Record) -> Iterator[Request]:
    """Build a record's requests with blank frames of the right size, and empty replies."""
    condition = study.condition
    if condition.image == "none":
        yield ask(record, condition, study.prompts, None)
        return
    volume, region = study.volume(record), study.region(record)
    if region is not None:
        blank = _blank(condition.region_frames, crop(volume, region, condition))
        yield ask(record, condition, study.prompts, blank)
        return
    whole = _blank(condition.frames, volume)
    if not condition.asks_box:
        yield ask(record, condition, study.prompts, whole)
        return
    first = ask_for_box(record, condition, whole)
    yield first
    if condition.region == "whole":
        yield ask_after_box(first, "", record, study.prompts)
    else:  # the model's box is not known yet: a square crop has the most pixels
        yield ask(record, condition, study.prompts, _blank(condition.region_frames, volume, square=True))


def _blank(recipe: ToFrames, volume: Any, *, square: bool = False) -> Frames:
    count, rows, columns = recipe.view(volume).shape
    return _zeros(count, max(rows, columns) if square else rows, max(rows, columns) if square else columns)


@lru_cache(maxsize=64)
def _zeros(count: int, rows: int, columns: int) -> Frames:
    return Frames(np.zeros((count, rows, columns), np.uint8))
