"""`dry_run`: what a run would ask and cost, counted without asking and without reading a voxel."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from reasonknee_datasets.bench.runner.asking import Task, ask, ask_after_box, ask_for_box, crop, true_region
from reasonknee_datasets.bench.runner.replies import Generation
from reasonknee_datasets.bench.runner.requests import Frames, Request
from reasonknee_datasets.bench.runner.study import Study
from reasonknee_datasets.bench.runner.tasks import in_order
from reasonknee_datasets.transforms import ToFrames

ImageTokens = Callable[[int, int], int]


@dataclass(frozen=True, slots=True)
class Price:
    """What tokens cost, in dollars a million.

    Parameters
    ----------
    prompt, completion : float
    cached : float, optional
        Of prompt tokens that the endpoint had in its cache; as the others by default.

    Examples
    --------
    >>> Price(2.0, 8.0, 0.5).of({"prompt_tokens": 1_000_000, "cached_tokens": 400_000, "completion_tokens": 250_000})
    3.4
    """

    prompt: float
    completion: float
    cached: float | None = None

    def of(self, usage: dict[str, int]) -> float:
        """Give the cost of some tokens, in dollars."""
        cached = usage.get("cached_tokens", 0)
        fresh = usage.get("prompt_tokens", 0) - cached
        cost = fresh * self.prompt + cached * (self.prompt if self.cached is None else self.cached)
        return (cost + usage.get("completion_tokens", 0) * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would ask.

    Attributes
    ----------
    records, patients, volumes : int
        Still to be asked about.
    done : int
        Records that the journal answers already.
    requests, images : int
        Requests, and pictures in all of them together.
    text_tokens, image_tokens : int
        Estimates: four characters a token; see `dry_run` for pictures.
    answer_tokens : int or None
        At most; None where the model sets the limit.
    cost : float or None
        Dollars, if all answers are as long as they may be; None without prices, or without a limit.
    words : str
        Of the first request.
    """

    records: int
    patients: int
    volumes: int
    done: int
    requests: int
    images: int
    text_tokens: int
    image_tokens: int
    answer_tokens: int | None
    cost: float | None
    words: str

    def __str__(self) -> str:
        lines = [
            f"records        {self.records:,} of {self.patients:,} patients, {self.volumes:,} volumes"
            + (f" ({self.done:,} more are answered)" if self.done else ""),
            f"requests       {self.requests:,}",
            f"images         {self.images:,}",
            f"prompt tokens  about {self.text_tokens + self.image_tokens:,} ({self.image_tokens:,} of pictures)",
            "answer tokens  "
            + ("up to the model's own limit" if self.answer_tokens is None else f"{self.answer_tokens:,} at most"),
        ]
        if self.cost is not None:
            lines.append(f"cost           about {self.cost:,.2f} dollars at most")
        return "\n".join(lines)


def patch_tokens(rows: int, columns: int) -> int:
    """Estimate a picture's tokens as one for each 28x28 pixels, as Qwen2.5-VL counts them.

    Examples
    --------
    >>> patch_tokens(384, 384)
    196
    """
    return math.ceil(rows / 28) * math.ceil(columns / 28)


def count(
    study: Study,
    generation: Generation,
    done: Collection[str] = (),
    *,
    price: Price | None = None,
    image_tokens: ImageTokens = patch_tokens,
) -> Plan:
    """Count a study's requests, images and tokens.

    Parameters
    ----------
    study : Study
    generation : Generation
    done : collection of str
        Ids that are answered.
    price : Price, optional
    image_tokens : callable
        Rows and columns of a picture to its tokens.
    """
    volumes, words = 0, ""
    patients: set[str] = set()
    records = requests = images = characters = pictures = 0
    for path, tasks in in_order(study.records.tasks, study.condition, done):
        volumes += 1
        for task in tasks:
            records += 1
            patients.add(task.id.partition("/")[0])
            for request in _would_ask(study, path, task):
                requests += 1
                images += request.images
                characters += len(request.text)
                pictures += sum(len(each) * image_tokens(*each.pixels.shape[1:]) for each in request.frames)
                words = words or request.text
    limit = None if generation.max_tokens is None else generation.max_tokens * requests
    usage = {"prompt_tokens": math.ceil(characters / 4) + pictures, "completion_tokens": limit or 0}
    return Plan(
        records=records,
        patients=len(patients),
        volumes=volumes,
        done=len(study.records.tasks) - records,
        requests=requests,
        images=images,
        text_tokens=math.ceil(characters / 4),
        image_tokens=pictures,
        answer_tokens=limit,
        cost=None if price is None or limit is None else price.of(usage),
        words=words,
    )


def _would_ask(study: Study, path: str, task: Task) -> list[Request]:
    """Give a record's requests with blank frames of the right size, and no replies."""
    condition, volume = study.condition, study.records.volume(path)
    if condition.sees_true_box:
        volume = crop(volume, true_region(task, condition, volume.shape, study.seed), condition)
        return [ask(task, condition, study.prompts, _blank(condition.region_frames, volume))]
    whole = _blank(condition.frames, volume)
    if not condition.asks_box:
        return [ask(task, condition, study.prompts, whole)]
    first = ask_for_box(task, condition, whole)
    if condition.region == "whole":
        return [first, ask_after_box(first, "", task, study.prompts)]
    # Where the model will look is not known: a crop that is as long as it is wide takes the most pixels.
    return [first, ask(task, condition, study.prompts, _blank(condition.region_frames, volume, square=True))]


def _blank(recipe: ToFrames, volume: Any, *, square: bool = False) -> Frames:
    count, rows, columns = recipe.view(volume).shape
    return _zeros(count, max(rows, columns) if square else rows, max(rows, columns) if square else columns)


@lru_cache(maxsize=64)
def _zeros(count: int, rows: int, columns: int) -> Frames:
    return Frames(np.zeros((count, rows, columns), np.uint8))
