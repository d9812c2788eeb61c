"""`RunSpec`: a condition, its prompts and its records, before any model is named; `make_plan`: what it will ask."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reasonknee_datasets.bench.answers import CODEC_VERSION
from reasonknee_datasets.bench.arrays import Truth, take
from reasonknee_datasets.bench.conditions import SCRIPTS, Condition, get_condition
from reasonknee_datasets.bench.model_requests import (
    Frames,
    Record,
    Request,
    ask,
    ask_after_box,
    ask_for_box,
    crop,
    render_frames,
    system_prompt,
    true_region,
)
from reasonknee_datasets.bench.run_metadata import RunMetadata, identity_digest
from reasonknee_datasets.bench.truth import Data, filter_questions, identify, open_data, read_truth
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.prompts import Damaged, Prompts, box_prompt_hash
from reasonknee_datasets.schema import SIDES
from reasonknee_datasets.sources import Repository, find_volumes, join, keep_credentials, read_shard, select
from reasonknee_datasets.transforms import ToFrames, TransformError
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.cache import Once

LOG_CONVENTION = BoxConvention(layout="corners")
"""Convention of the boxes that a run records: half-open voxels of the stored volume, as in the ``box`` column."""

# Questions about a knee follow each other, so a few renderings serve nearly all samples in flight; each is some 3 MB.
_RENDERINGS = 4


@dataclass(frozen=True)
class Records:
    """The records of a run.

    Attributes
    ----------
    repository : Repository
    volumes : str
        The folder or URL that holds ``volumes/``.
    truth : Truth
        The records, with the true grades for the scorer alone.
    identity : RunMetadata
        As far as it follows from the records.
    """

    repository: Repository
    volumes: str
    truth: Truth
    identity: RunMetadata

    @cached_property
    def items(self) -> tuple[Record, ...]:
        """What requests are made from, in the repository's order: the questions about a volume follow each other."""
        truth = self.truth
        volumes, sides = truth.volume.tolist(), truth.side.tolist()
        rows = zip(truth.ids, volumes, sides, truth.question.tolist(), truth.boxes.tolist(), strict=True)
        return tuple(
            Record(name, truth.volumes[volume], SIDES[side], question, tuple(box))
            for name, volume, side, question, box in rows
        )

    def volume(self, path: str) -> Any:
        """Return a volume as a lazy image; nothing is opened."""
        return open_volume(join(self.volumes, path), geometry=self.repository.manifest.volume(path).geometry)

    def other_volume(self, record: Record, seed: int) -> str:
        """Draw the path of a volume of another patient, the same for all questions about one knee.

        The pool is every knee of the same side in the whole split, so that the draw for a record does not depend on
        which sample of patients is asked about.

        Raises
        ------
        BenchError
            If the split has no other patient's knee of that side.
        """
        pool = [path for path, patient in self._knees.get(record.side, ()) if patient != record.patient]
        if not pool:
            raise BenchError(
                f"The condition shuffled_image shows another patient's knee, but split {self.identity.split!r} has no "
                f"{record.side} knee of a patient other than {record.patient}. Use a split with more patients."
            )
        digest = hashlib.blake2b(f"{seed}|{record.volume_path}".encode(), digest_size=8).digest()
        return pool[int.from_bytes(digest, "big") % len(pool)]

    @cached_property
    def _knees(self) -> dict[str, list[tuple[str, str]]]:
        """Volume paths and patients of the split, by side."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row in self._read("volumes", ("volume_path", "patient", "side")):
            found.setdefault(row["side"], []).append((row["volume_path"], row["patient"]))
        return found

    def questions(self) -> list[tuple[int, str]]:
        """Return ``question_id`` and ``question`` of each record as the repository holds them."""
        wanted = set(self.truth.ids)
        rows = self._read("quintuples", ("id", "question_id", "question"))
        return [(row["question_id"], row["question"]) for row in rows if row["id"] in wanted]

    def _read(self, config: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        selection = select(config, columns)
        for shard in self.repository.manifest.shards(config, self.identity.split or "test"):
            for table in read_shard(self.repository.url(shard.path), shard, selection):
                yield from table.to_pylist()


@dataclass(frozen=True)
class RunSpec:
    """Condition, prompts and records of a run.

    Attributes
    ----------
    condition : Condition
    prompts : Prompts
    records : Records
    seed : int
        Of the sample of patients, of jittered boxes and of shuffled images.
    """

    condition: Condition
    prompts: Prompts
    records: Records
    seed: int

    def __str__(self) -> str:
        return f"{self.condition}: {len(self.records.items)} records of {self.records.identity.split}"

    @cached_property
    def identity(self) -> RunMetadata:
        """Everything a result depends on, except the model and its generation settings."""
        asked = {record.question for record in self.records.items}
        return replace(
            self.records.identity,
            condition=str(self.condition),
            prompts=self.prompts.hashes(asked),
            system_prompt=system_prompt(self.condition),
            frames=self.condition.recipes,
            generation={"media": "images"} | ({"box_prompts": box_prompt_hash()} if self.condition.asks_box else {}),
            codec_version=CODEC_VERSION,
            box_convention=str(LOG_CONVENTION) if self.condition.asks_box else None,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the identity: an answer recorded under another digest belongs to another run."""
        return identity_digest(self.identity)

    def volume(self, record: Record) -> Any:
        """Return the volume that the condition shows for a record, as a lazy image."""
        return self.records.volume(self.volume_path(record))

    def volume_path(self, record: Record) -> str:
        """Return the path of the volume that the condition shows for a record."""
        other = self.condition.image == "other"
        return self.records.other_volume(record, self.seed) if other else record.volume_path

    def region(self, record: Record) -> Box | None:
        """Return the region that the condition shows from the start, in the stored volume; None for the whole."""
        if not self.condition.sees_true_box:
            return None
        return true_region(record, self.condition, self.volume(record).shape, self.seed)

    def render(self, record: Record, region: Box | None) -> Frames:
        """Render the frames of a record's volume, or of a region of it; the last few renderings are reused."""
        path = self.volume_path(record)
        recipe = self.condition.frames if region is None else self.condition.region_frames

        def make() -> Frames:
            volume = self.records.volume(path)
            frames = render_frames(recipe, volume if region is None else crop(volume, region, self.condition))
            _ = frames.data_urls  # encoded here, in the thread that renders
            return frames

        return self._renderings.get((path, region, recipe), make)

    @cached_property
    def _renderings(self) -> Once[tuple[str, Box | None, ToFrames], Frames]:
        return Once(_RENDERINGS)


def make_study(
    data: Data | None = None,
    condition: Condition | str = "zero_shot",
    *,
    split: str = "test",
    prompts: Prompts | str | os.PathLike[str] | None = None,
    damaged: Damaged | None = None,
    patients: int | None = None,
    questions: Sequence[int] | None = None,
    seed: int = 0,
    frames: int | None = None,
    size: int | None = None,
    volumes_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> RunSpec:
    """Choose condition, prompts and records.

    Parameters
    ----------
    data : str, path or Repository, optional
        A prepared repository; by default REASONKNEE_DATA, then ``./3dreasonknee``.
    condition : Condition or str
    split : str
        A whole one.
    prompts : Prompts, str or path, optional
        The folder of the official question files (or one file); ``"rows"`` for the texts in the repository's rows;
        ``"project"`` for the project's own words, the default for synthetic data and for no other.
    damaged : {"repair", "leave_out", "keep"}, optional
        Treatment of prompts 58 and 59; by default repaired, and kept by the official conditions.
    patients : int, optional
        A seeded sample of this many whole patients.
    questions : sequence of int, optional
        Only these, of 1 to 62.
    seed : int
    frames : int, optional
        Number of frames of a knee and of a crop; by default the condition's.
    size : int, optional
        A frame's longer side in pixels; by default the condition's.
    volumes_dir, storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Raises
    ------
    BenchError
        If real data come without prompts, a prompt has a control token, nothing is left to ask, the split has no other
        patient whose image could be shown, or a volume has too few slices for the frames of ``official_o1``.
    """
    chosen = _resize(get_condition(condition), frames, size)
    repository = open_data(data, storage_options=storage_options, token=token)
    volumes = find_volumes(None if volumes_dir is None else os.fspath(volumes_dir), repository.root)
    keep_credentials(volumes, storage_options, token)
    truth = read_truth(repository, split, patients=patients, seed=seed, filters=filter_questions(questions))
    records = Records(repository, volumes, truth, identify(repository, split, truth, seed=seed))
    treatment: Damaged = damaged or ("keep" if chosen.script is not None else "repair")
    texts = _choose_prompts(prompts, chosen, records, treatment)
    if texts.left_out:
        left = ~np.isin(truth.question, texts.left_out)
        if not left.any():
            raise BenchError(
                "No question is left to ask. Name other questions, or repair the damaged prompts 58 and 59."
            )
        truth = take(truth, left)
        records = replace(records, truth=truth, identity=identify(repository, split, truth, seed=seed))
    for number in sorted({record.question for record in records.items}):
        texts.text(number)
    study = RunSpec(chosen, texts, records, seed)
    _check_volumes(study)
    return study


def _check_volumes(study: RunSpec) -> None:
    """Check, before anything is asked, that every record has the volume and the slices that the condition shows."""
    condition = study.condition
    if condition.image == "other":
        for record in study.records.items:
            study.volume_path(record)
    if condition.frames.ends is None:
        return  # any number of slices will do
    for path in dict.fromkeys(record.volume_path for record in study.records.items):
        try:
            condition.frames.slices(study.records.volume(path))
        except TransformError as error:
            raise BenchError(
                f"The condition {condition} cannot show {path}: it takes slices {condition.frames.ends[0]} to "
                f"{condition.frames.ends[1]} along the first array axis, and the volume has fewer. Use the condition "
                "official or guided, which take any number of slices, or volumes of full size."
            ) from error


def _resize(condition: Condition, count: int | None, size: int | None) -> Condition:
    changes: dict[str, Any] = {name: value for name, value in (("count", count), ("size", size)) if value is not None}
    if not changes:
        return condition
    if condition.script is not None:
        raise BenchError(
            f"The condition {condition.name} shows the frames that the authors' script shows; frames and size cannot "
            "be set. Leave them out, or use the condition guided."
        )
    return replace(
        condition,
        frames=replace(condition.frames, **changes),
        region_frames=replace(condition.region_frames, **changes),
    )


def _choose_prompts(
    prompts: Prompts | str | os.PathLike[str] | None, condition: Condition, records: Records, damaged: Damaged
) -> Prompts:
    if isinstance(prompts, Prompts):
        return prompts
    if prompts is None:
        if not records.identity.synthetic:
            raise BenchError(
                "No prompts are named, and real data need them. Name the folder of the official question files "
                '(prompts=FOLDER), or "rows" for the texts in the repository, or "project" for this project\'s own '
                "words."
            )
        prompts = "project"
    if prompts == "project":
        return Prompts.own(condition.wording, damaged)
    if prompts == "rows":
        if condition.wording == "zeroshot":
            raise BenchError(
                f"The condition {condition} needs the short wording, and the repository's rows have the guided one "
                "only. Name the official question files, or use the condition guided."
            )
        return Prompts.from_rows(records.questions(), damaged)
    return Prompts.from_files(Path(prompts), condition.wording, damaged)


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
    requests = images = characters = pixels = 0
    for record in study.records.items:
        for request in _requests(study, record):
            requests += 1
            images += request.images
            characters += len(request.text)
            pixels += sum(len(each) * image_tokens(*each.pixels.shape[1:]) for each in request.frames)
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
