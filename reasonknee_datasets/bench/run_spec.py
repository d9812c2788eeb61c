"""`RunSpec`: a condition, its prompts and its records, before any model is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from reasonknee_datasets.bench.answers import CODEC_VERSION
from reasonknee_datasets.bench.conditions import Condition, get_condition
from reasonknee_datasets.bench.model_requests import Frames, crop, render_frames, system_prompt, true_region
from reasonknee_datasets.bench.question_records import Record, Records, read_records
from reasonknee_datasets.bench.run_metadata import RunMetadata, identity_digest
from reasonknee_datasets.bench.truth import Data
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.prompts import Damaged, Prompts, box_prompt_hash
from reasonknee_datasets.transforms import ToFrames
from reasonknee_datasets.volumes.single_flight import Once

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
        A seeded sample of so many whole patients.
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
        If real data come without prompts, a prompt has a control token, nothing is left to ask, or the split has no
        other patient whose image could be shown.
    """
    chosen = _resize(get_condition(condition), frames, size)
    read = partial(
        read_records,
        data,
        split,
        patients=patients,
        questions=questions,
        seed=seed,
        volumes_dir=None if volumes_dir is None else os.fspath(volumes_dir),
        storage_options=storage_options,
        token=token,
    )
    records = read()
    treatment: Damaged = damaged or ("keep" if chosen.script is not None else "repair")
    texts = _choose_prompts(prompts, chosen, records, treatment)
    if texts.left_out:
        records = read(without=texts.left_out)
    for number in sorted({record.question for record in records.items}):
        texts.text(number)
    study = RunSpec(chosen, texts, records, seed)
    for record in records.items if chosen.image == "other" else ():
        study.volume_path(record)  # raises here, not in the middle of a run
    return study


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
        return Prompts.from_rows(records.rows, damaged)
    return Prompts.from_files(Path(prompts), condition.wording, damaged)
