"""`make_study`: choose condition, prompts and records of a run, before a model is named; the result is a `RunSpec`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reasonknee_datasets.bench.answers import CODEC_VERSION
from reasonknee_datasets.bench.arrays import Truth, take
from reasonknee_datasets.bench.conditions import Condition, get_condition, jitter
from reasonknee_datasets.bench.model_requests import Frames, Record, crop, render_frames, system_prompt
from reasonknee_datasets.bench.run_metadata import RunMetadata, identity_digest
from reasonknee_datasets.bench.truth import Data, filter_questions, identify, open_data, read_truth
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.prompts import Damaged, Prompts, box_prompt_hash
from reasonknee_datasets.schema import SIDES
from reasonknee_datasets.sources import (
    Repository,
    find_volumes,
    join,
    keep_credentials,
    parse_split,
    read_shard,
    select,
)
from reasonknee_datasets.transforms import ToFrames, TransformError
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.cache import Once

LOG_CONVENTION = BoxConvention(layout="corners")
"""Convention of the boxes that a run records: half-open voxels of the stored volume, as in the ``box`` column."""

# Questions about a knee follow each other, so a few renderings serve nearly all samples in flight; each is some 3 MB.
_RENDERINGS = 4


@dataclass(frozen=True)
class RunSpec:
    """Condition, prompts and records of a run.

    Attributes
    ----------
    condition : Condition
    prompts : Prompts
    repository : Repository
    volumes : str
        The folder or URL that holds ``volumes/``.
    split : str
    truth : Truth
        The records, with the true grades for the scorer alone.
    seed : int
        Seed of the sample of patients, of jittered boxes and of shuffled images.
    """

    condition: Condition
    prompts: Prompts
    repository: Repository
    volumes: str
    split: str
    truth: Truth
    seed: int

    def __str__(self) -> str:
        return f"{self.condition}: {len(self.records)} records of {self.split}"

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Records without true grades, in the repository's order: the questions about a volume follow each other."""
        truth = self.truth
        volumes, sides = truth.volume.tolist(), truth.side.tolist()
        rows = zip(truth.ids, volumes, sides, truth.question.tolist(), truth.boxes.tolist(), strict=True)
        return tuple(
            Record(name, truth.volumes[volume], SIDES[side], question, tuple(box))
            for name, volume, side, question, box in rows
        )

    @cached_property
    def identity(self) -> RunMetadata:
        """Everything a result depends on, except the model and its generation settings."""
        return replace(
            identify(self.repository, self.split, self.truth, seed=self.seed),
            condition=str(self.condition),
            prompts=self.prompts.hashes(record.question for record in self.records),
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
        """Return the volume that the condition shows for a record, as a lazy image; nothing is read."""
        path = self.volume_path(record)
        return open_volume(join(self.volumes, path), geometry=self.repository.manifest.volume(path).geometry)

    def volume_path(self, record: Record) -> str:
        """Return the path of the volume that the condition shows for a record.

        With ``image="other"`` it is drawn from all knees of the same side in the split, so that it does not depend on
        the sample of patients; all questions about one knee have the same one.

        Raises
        ------
        BenchError
            If the split has no other patient's knee of that side.
        """
        if self.condition.image != "other":
            return record.volume_path
        pool = [path for path, patient in self._knees.get(record.side, ()) if patient != record.patient]
        if not pool:
            raise BenchError(
                f"The condition {self.condition.name} shows another patient's knee, but split {self.split!r} has no "
                f"{record.side} knee of a patient other than {record.patient}. Use a split with more patients."
            )
        digest = hashlib.blake2b(f"{self.seed}|{record.volume_path}".encode(), digest_size=8).digest()
        return pool[int.from_bytes(digest, "big") % len(pool)]

    @cached_property
    def _knees(self) -> dict[str, list[tuple[str, str]]]:
        """Volume paths and patients of the split, by side."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row in _read_rows(self.repository, "volumes", self.split, ("volume_path", "patient", "side")):
            found.setdefault(row["side"], []).append((row["volume_path"], row["patient"]))
        return found

    def region(self, record: Record) -> Box | None:
        """Return the region that the condition shows from the start, in the stored volume; None for the whole."""
        condition, box = self.condition, Box.from_row(record.box)
        if condition.region == "jittered":
            return jitter(box, self.volume(record).shape, condition, seed=self.seed, key=record.region)
        return box if condition.region == "true" else None

    def render(self, record: Record, region: Box | None) -> Frames:
        """Render the frames of a record's volume, or of a region of it; the last few renderings are reused."""
        recipe = self.condition.frames if region is None else self.condition.region_frames

        def make() -> Frames:
            volume = self.volume(record)
            frames = render_frames(recipe, volume if region is None else crop(volume, region, self.condition))
            _ = frames.data_urls  # encoded here, in the thread that renders
            return frames

        return self._renderings.get((self.volume_path(record), region, recipe), make)

    @cached_property
    def _renderings(self) -> Once[tuple[str, Box | None, ToFrames], Frames]:
        return Once(_RENDERINGS)


def _read_rows(repository: Repository, config: str, split: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    selection = select(config, columns)
    for shard in repository.manifest.shards(config, split):
        for table in read_shard(repository.url(shard.path), shard, selection):
            yield from table.to_pylist()


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
        A whole split.
    prompts : Prompts, str or path, optional
        The folder of the official question files (or one file); ``"rows"`` for the texts in the repository's rows;
        ``"project"`` for the project's own words, the default for synthetic data alone.
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
        If real data come without prompts, a prompt has a control token, or nothing is left to ask. Also if the split
        has no other patient's image to show, or a volume has too few slices for the frames of ``official_o1``.
    """
    chosen = _resize(get_condition(condition), frames, size)
    repository = open_data(data, storage_options=storage_options, token=token)
    volumes = find_volumes(None if volumes_dir is None else os.fspath(volumes_dir), repository.root)
    keep_credentials(volumes, storage_options, token)
    truth = read_truth(repository, split, patients=patients, seed=seed, filters=filter_questions(questions))
    split = parse_split(split, repository.manifest.splits())[0].name  # read_truth takes one whole split only
    treatment: Damaged = damaged or ("keep" if chosen.script is not None else "repair")
    texts = _choose_prompts(prompts, chosen, repository, split, truth, treatment)
    if texts.left_out:
        left = ~np.isin(truth.question, texts.left_out)
        if not left.any():
            raise BenchError(
                "No question is left to ask. Name other questions, or repair the damaged prompts 58 and 59."
            )
        truth = take(truth, left)
    study = RunSpec(chosen, texts, repository, volumes, split, truth, seed)
    _check_records(study)
    return study


def _check_records(study: RunSpec) -> None:
    """Check, before anything is asked, that every record has a prompt and a volume with the slices to show."""
    condition = study.condition
    for number in sorted({record.question for record in study.records}):
        study.prompts.text(number)
    if condition.image == "other":
        for record in study.records:
            study.volume_path(record)
    if condition.frames.ends is None:
        return  # any number of slices will do
    for record in {record.volume_path: record for record in study.records}.values():
        try:
            condition.frames.slices(study.volume(record))
        except TransformError as error:
            raise BenchError(
                f"The condition {condition} cannot show {record.volume_path}: it takes slices "
                f"{condition.frames.ends[0]} to {condition.frames.ends[1]} along the first array axis, and the volume "
                "has fewer. Use the condition official or guided, which take any number of slices, or volumes of full "
                "size."
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
    prompts: Prompts | str | os.PathLike[str] | None,
    condition: Condition,
    repository: Repository,
    split: str,
    truth: Truth,
    damaged: Damaged,
) -> Prompts:
    if isinstance(prompts, Prompts):
        return prompts
    if prompts is None and not repository.manifest.synthetic:
        raise BenchError(
            "Real data need prompts, and none is named. Name the folder of the official question files "
            '(prompts=FOLDER), or "rows" for the texts in the repository, or "project" for this project\'s own words.'
        )
    if prompts is None or prompts == "project":
        return Prompts.own(condition.wording, damaged)
    if prompts != "rows":
        return Prompts.from_files(Path(prompts), condition.wording, damaged)
    if condition.wording == "zeroshot":
        raise BenchError(
            f"The condition {condition} needs the short wording, and the repository's rows have the guided one only. "
            "Name the official question files, or use the condition guided."
        )
    asked = set(truth.ids)
    rows = _read_rows(repository, "quintuples", split, ("id", "question_id", "question"))
    return Prompts.from_rows(((row["question_id"], row["question"]) for row in rows if row["id"] in asked), damaged)
