"""`Study`: one condition, its prompts and its records, before any model is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reasonknee_datasets.bench.answers import CODEC_VERSION
from reasonknee_datasets.bench.conditions import Condition, get_condition
from reasonknee_datasets.bench.identity import Identity
from reasonknee_datasets.bench.official import SCRIPTS
from reasonknee_datasets.bench.prompts import Damaged, Prompts, box_prompt_hash
from reasonknee_datasets.bench.runner.asking import media, system_prompt
from reasonknee_datasets.bench.runner.replies import Generation, Model
from reasonknee_datasets.bench.runner.tasks import Records, read_records
from reasonknee_datasets.bench.truth import Data
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BenchError, explain

JOURNAL_CONVENTION = BoxConvention(layout="corners")
"""In which a journal's boxes are written: half-open voxels of the stored volume, as in the ``box`` column."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is asked, of which records.

    Attributes
    ----------
    condition : Condition
    prompts : Prompts
    records : Records
    seed : int
        Of the sample of patients and of jittered boxes.
    """

    condition: Condition
    prompts: Prompts
    records: Records
    seed: int

    def generation(self, wanted: Generation | None) -> Generation:
        """Give the settings of a run: the wanted ones, or those of the authors' script.

        Raises
        ------
        BenchError
            If others are wanted of an official condition.
        """
        if self.condition.script is None:
            return wanted or Generation()
        script = SCRIPTS[self.condition.script]
        theirs = Generation(script.max_tokens, None, response_format=script.response_format)
        if wanted not in (None, theirs):
            remedy = "Leave them out, or ask with the clean condition guided"
            raise BenchError(explain("an official condition", "generate as the script does", repr(wanted), remedy))
        return theirs

    def identify(self, model: Model, generation: Generation) -> Identity:
        """Say what a result of a model is a result of."""
        asked = {task.question for task in self.records.tasks}
        settings: dict[str, Any] = {**generation.to_json(), "media": media(self.condition)}
        if self.condition.asks_box:
            settings["box_prompts"] = box_prompt_hash()
        return replace(
            self.records.identity,
            condition=str(self.condition),
            prompts=self.prompts.hashes(asked),
            system_prompt=system_prompt(self.condition),
            frames=self.condition.recipes,
            model=model.name,
            model_revision=model.revision,
            generation=settings,
            codec_version=CODEC_VERSION,
            box_convention=str(JOURNAL_CONVENTION) if self.condition.asks_box else None,
        )


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
    volumes_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Study:
    """Decide what is asked, of which records.

    Parameters
    ----------
    data : str, path or Repository, optional
        A prepared repository; by default REASONKNEE_DATA, then ``./3dreasonknee``.
    condition : Condition or str
    split : str
        A whole one.
    prompts : Prompts, str or path, optional
        The folder of the official question files (or one file); ``"rows"`` for what the repository's rows hold;
        ``"project"`` for the project's own words, which are the default for synthetic data and for no other.
    damaged : {"repair", "leave_out", "keep"}, optional
        What to do with prompts 58 and 59; by default repaired, and kept by the official conditions.
    patients : int, optional
        A seeded sample of so many whole patients.
    questions : sequence of int, optional
        Only these, of 1 to 62.
    seed : int
    volumes_dir, storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Raises
    ------
    BenchError
        If real data come without prompts, or nothing is left to ask.
    """
    chosen = get_condition(condition)
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
    for number in sorted({task.question for task in records.tasks}):
        texts.text(number)
    return Study(chosen, texts, records, seed)


def _choose_prompts(
    prompts: Prompts | str | os.PathLike[str] | None, condition: Condition, records: Records, damaged: Damaged
) -> Prompts:
    if isinstance(prompts, Prompts):
        return prompts
    if prompts is None:
        if not records.identity.synthetic:
            remedy = (
                'Give the folder of the official question files: prompts=FOLDER (--prompts FOLDER), or "rows" for the '
                'texts in the repository, or "project" for this project\'s own words'
            )
            raise BenchError(explain("prompts", "be named for real data", "none", remedy))
        prompts = "project"
    if prompts == "project":
        return Prompts.own(condition.wording, damaged)
    if prompts == "rows":
        if condition.wording == "zeroshot":
            remedy = "Give the official question files, or ask in the condition guided"
            rule = "come in the short wording for this condition"
            raise BenchError(explain("prompts", rule, "the rows', which have one wording", remedy))
        return Prompts.from_rows(records.rows, damaged)
    return Prompts.from_files(Path(prompts), condition.wording, damaged)
