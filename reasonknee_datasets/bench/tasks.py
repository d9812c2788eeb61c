"""The benchmark as an inspect_ai task: ``inspect eval reasonknee_datasets/reasonknee_bench --model ...``.

setuptools' entry point ``inspect_ai`` names this module, so that inspect_ai finds the task by the package's name.
`reasonknee_bench` chooses the records (`make_study`) and builds the task from them (`make_task`). Of each record,
`ask_records` sends the requests, and the scorer `grades` reads the answer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.util import registry_info

from reasonknee_datasets.bench.conditions import SCRIPTS
from reasonknee_datasets.bench.prediction_files import METADATA
from reasonknee_datasets.bench.record_solver import ask_records
from reasonknee_datasets.bench.run_spec import RunSpec, make_study
from reasonknee_datasets.bench.task_scorers import grades, judge_metadata, mean_record_exact, reasoning_judge
from reasonknee_datasets.bench.truth import parse_questions
from reasonknee_datasets.errors import BenchError, nearest
from reasonknee_datasets.moaks import QUESTIONS

# Seconds for one attempt, and attempts after the first. inspect_ai's own defaults wait and retry without end.
_ATTEMPT_SECONDS = 300
_RETRIES = 5


def _full_name(name: str) -> str:
    """Return the name under which inspect_ai has to register a task of this package.

    It adds the package itself where it finds it installed. It does not in a checkout that Python imports from the
    current folder, since the egg-info folder there does not mention an editable install.
    """
    return name if "/" in registry_info(mean_record_exact).name else f"reasonknee_datasets/{name}"


@task(name=_full_name("reasonknee_bench"))
def reasonknee_bench(
    condition: str | Sequence[str] = "zero_shot",
    data: str | None = None,
    split: str = "test",
    patients: int | None = None,
    questions: int | str | Sequence[int | str] | None = None,
    prompts: str | None = None,
    damaged: str | None = None,
    seed: int = 0,
    frames: int | None = None,
    size: int | None = None,
    volumes_dir: str | None = None,
    revision: str | None = None,
    judge: str | None = None,
    **unknown: object,
) -> Task:
    """Ask a model about the records of a split under one condition.

    Parameters
    ----------
    condition : str
        One of `reasonknee_datasets.bench.conditions.CONDITIONS`, such as ``region_given`` or
        ``jittered_region(shift=0.5)``.
    data : str, optional
        A prepared repository; by default REASONKNEE_DATA, then ``./3dreasonknee``.
    split : str
    patients : int, optional
        A seeded sample of this many whole patients.
    questions : str or list of int, optional
        Only these, such as ``1-15,34``.
    prompts, damaged, seed, frames, size, volumes_dir
        As for `reasonknee_datasets.bench.run_spec.make_study`.
    revision : str, optional
        The model's revision, where its name does not state it. It is recorded with the results.
    judge : str, optional
        A model that judges the reasoning of every answer, such as ``openai/gpt-4.1``; by default none does.

    Returns
    -------
    inspect_ai.Task

    Raises
    ------
    BenchError
        If an argument or the condition is unknown, real data come without prompts, or nothing is left to ask.
    """
    for name in unknown:  # inspect_ai would leave it out with a warning, and ask the default condition instead
        known = [each for each in inspect.signature(reasonknee_bench).parameters if each != "unknown"]
        raise BenchError(f"Unknown task argument {name!r}. {nearest(name, known)}.")
    study = make_study(
        data,
        condition if isinstance(condition, str) else ",".join(condition),
        split=split,
        prompts=prompts,
        damaged=damaged,  # type: ignore[arg-type]  # Prompts.of checks it
        patients=patients,
        questions=None if questions is None else parse_questions(questions),
        seed=seed,
        frames=frames,
        size=size,
        volumes_dir=volumes_dir,
    )
    return make_task(study, revision=revision, judge=judge)


def make_task(study: RunSpec, *, revision: str | None = None, judge: str | None = None) -> Task:
    """Build the inspect_ai task of a study.

    A failed sample does not end the run. It makes the log's status ``error``, and ``inspect eval-retry`` asks the
    failed samples again and no others.

    Parameters
    ----------
    study : RunSpec
    revision : str, optional
        The model's revision.
    judge : str, optional
        A model that judges the reasoning; it and its prompt are recorded in the metadata, under ``reasoning_judge``.
    """
    stated = study.identity.to_json() | {"model_revision": revision}
    return Task(
        dataset=MemoryDataset(_samples(study), name=f"3DReasonKnee {study.split}"),
        solver=ask_records(study),
        scorer=[grades(study), *([] if judge is None else [reasoning_judge(judge)])],
        config=_config(study),
        fail_on_error=True,
        continue_on_fail=True,
        metadata={METADATA: stated} | ({} if judge is None else {"reasoning_judge": judge_metadata(judge)}),
    )


def _config(study: RunSpec) -> GenerateConfig:
    """Return the generation settings: the project's, or exactly those of the authors' script."""
    condition = study.condition
    config = GenerateConfig(max_tokens=condition.max_tokens, max_retries=_RETRIES, attempt_timeout=_ATTEMPT_SECONDS)
    if condition.script is None:
        config.temperature = 0.0
    elif SCRIPTS[condition.script].response_format is not None:
        config.extra_body = {"response_format": {"type": SCRIPTS[condition.script].response_format}}
    return config


def _samples(study: RunSpec) -> list[Sample]:
    found = []
    for record, padded in zip(study.records, study.truth.grades.tolist(), strict=True):
        slots = QUESTIONS[record.question].slots
        true = {slot.attribute: None if grade < 0 else grade for slot, grade in zip(slots, padded, strict=False)}
        found.append(
            Sample(
                id=record.id,
                input=study.prompts.text(record.question),
                target=json.dumps(true),
                metadata={"patient": record.patient, "question": record.question, "study": study.digest},
            )
        )
    return found
