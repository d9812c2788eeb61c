"""The benchmark as an inspect_ai task: ``inspect eval reasonknee_datasets/reasonknee_bench --model ...``.

setuptools' entry point ``inspect_ai`` names this module, so that inspect_ai finds the task by the package's name.

A sample is one record. Its frames are rendered when it starts and are not logged: the log holds the volume's path, the
frame recipe, the region and a hash of the pixels, which are enough to render them again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ContentReasoning, GenerateConfig, ModelOutput
from inspect_ai.scorer import (
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    accuracy,
    mean,
    metric,
    model_graded_qa,
    scorer,
    stderr,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import registry_info

from reasonknee_datasets.bench.collect import read_answer_text
from reasonknee_datasets.bench.conditions import SCRIPTS
from reasonknee_datasets.bench.model_requests import (
    Frames,
    Record,
    Request,
    ask,
    ask_after_box,
    ask_for_box,
    generate_unlogged,
    read_box,
    to_chat,
    without_images,
)
from reasonknee_datasets.bench.prediction_files import METADATA, read_output
from reasonknee_datasets.bench.run_spec import LOG_CONVENTION, RunSpec, make_study, max_tokens
from reasonknee_datasets.bench.truth import parse_questions
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS

GIVE_UP_AFTER = 20
"""Failures in a row, without any answer between them, after which the rest of a run is not asked."""

Send = Callable[[Request], Awaitable[ModelOutput]]


class _Breaker:
    """Stops asking once many requests in a row have failed: with a wrong key or address all of them would."""

    def __init__(self) -> None:
        self._failures = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        if self._failures >= GIVE_UP_AFTER:
            raise BenchError(
                f"Not asked: the last {self._failures} requests failed, and no answer came between them. Repair the "
                "cause, then run `inspect eval-retry` on this log."
            )

    def count(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0


@solver
def ask_records(study: RunSpec) -> Solver:
    """Ask the question of a sample's record, in one or two turns as the condition has it.

    Parameters
    ----------
    study : RunSpec
    """
    records = {record.id: record for record in study.records.items}
    breaker = _Breaker()

    async def send(request: Request) -> ModelOutput:
        breaker.check()
        try:
            output = await generate_unlogged(request)
        except Exception:  # whatever a provider raises is counted, and raised again: inspect_ai decides about it
            breaker.count(failed=True)
            raise
        breaker.count(failed=False)
        return output

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        record = records[str(state.sample_id)]
        return await _Conversation(study, record, state, send).run()

    return solve


class _Conversation:
    """The requests of one sample, and what is recorded of them in the sample's metadata."""

    def __init__(self, study: RunSpec, record: Record, state: TaskState, send: Send) -> None:
        self.study, self.record, self.state, self.send = study, record, state, send
        state.messages = []

    async def run(self) -> TaskState:
        condition, prompts, record = self.study.condition, self.study.prompts, self.record
        if condition.image == "none":
            return await self.ask(ask(record, condition, prompts, None))
        region = await anyio.to_thread.run_sync(self.study.region, record)
        frames = await self.render(region)
        if not condition.asks_box:
            return await self.ask(ask(record, condition, prompts, frames))
        first = ask_for_box(record, condition, frames)
        await self.ask(first)
        said = read_output(self.state.output.model_dump())
        box = await anyio.to_thread.run_sync(self.read_box, said["text"], said["finish_reason"])
        if condition.region == "whole":
            return await self.ask(ask_after_box(first, said["text"] or "", record, prompts), new=-1)
        if box is None:
            # There is nothing to crop to, and no other region may take its place.
            self.state.output = ModelOutput(model=self.state.output.model)
            return self.state
        return await self.ask(ask(record, condition, prompts, await self.render(box)))

    async def ask(self, request: Request, new: int = 0) -> TaskState:
        """Send a request; add its messages from `new` on, without images, and the reply to the conversation."""
        note = self.state.metadata
        note["prompt"], note["frames"] = request.prompt_hash, request.frames_hash
        self.state.messages.extend(without_images(to_chat(request)[new:]))
        self.state.output = await self.send(request)
        if not self.state.output.empty:
            self.state.messages.append(self.state.output.message)
        return self.state

    async def render(self, region: Box | None) -> Frames:
        note = self.state.metadata
        note["volume"] = self.study.volume_path(self.record)
        note["recipe"] = repr(self.study.condition.frames if region is None else self.study.condition.region_frames)
        note["region"] = None if region is None else region.to_row()
        return await anyio.to_thread.run_sync(self.study.render, self.record, region)

    def read_box(self, text: str | None, finish_reason: str | None) -> Box | None:
        found = read_box(text, self.study.condition.frames, self.study.volume(self.record), finish_reason)
        box = None if found.box is None else list(LOG_CONVENTION.encode(found.box, ()))
        self.state.metadata.update(box=box, box_reason=found.reason, box_rules=list(found.rules))
        return found.box


# Seconds for one attempt, and attempts after the first. inspect_ai's own defaults wait and retry without end.
_ATTEMPT_SECONDS = 300
_RETRIES = 5


@metric(name="record_exact")
def mean_record_exact() -> Metric:
    """Share of the records whose slots are all right; a slot without a grade is wrong."""
    average = mean()

    def compute(scores: list[SampleScore]) -> Any:
        return average(scores)  # type: ignore[arg-type]  # of two kinds of metric, mean takes these

    return compute


def _full_name(name: str) -> str:
    """Return the name under which inspect_ai has to register a task of this package.

    It adds the package itself where it finds it installed. It does not in a checkout that Python imports from the
    current folder, since the egg-info folder there says nothing about an editable install.
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
        The model's revision, where its name does not say it. It is recorded with the results.
    judge : str, optional
        A model that judges the reasoning of every answer, such as ``openai/gpt-4.1``; by default none does.

    Returns
    -------
    inspect_ai.Task

    Raises
    ------
    BenchError
        If the condition is unknown, real data come without prompts, or nothing is left to ask.
    """
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
        dataset=MemoryDataset(_samples(study), name=f"3DReasonKnee {study.records.identity.split}"),
        solver=ask_records(study),
        scorer=[grades(study), *([] if judge is None else [reasoning_judge(judge)])],
        config=_config(study),
        fail_on_error=True,
        continue_on_fail=True,
        metadata={METADATA: stated} | ({} if judge is None else {"reasoning_judge": judge_metadata(judge)}),
    )


def _config(study: RunSpec) -> GenerateConfig:
    """Return the generation settings: the project's, or exactly those of the authors' script."""
    config = GenerateConfig(max_tokens=max_tokens(study), max_retries=_RETRIES, attempt_timeout=_ATTEMPT_SECONDS)
    if study.condition.script is None:
        config.temperature = 0.0
    elif SCRIPTS[study.condition.script].response_format is not None:
        config.extra_body = {"response_format": {"type": SCRIPTS[study.condition.script].response_format}}
    return config


def _samples(study: RunSpec) -> list[Sample]:
    truth, found = study.records.truth, []
    for row, record in enumerate(study.records.items):
        assert truth.ids[row] == record.id, "records and truth are read in the same order"
        slots = QUESTIONS[record.question].slots
        true = [None if grade < 0 else grade for grade in truth.grades[row, : len(slots)].tolist()]
        found.append(
            Sample(
                id=record.id,
                input=study.prompts.text(record.question),
                target=json.dumps({slot.attribute: grade for slot, grade in zip(slots, true, strict=True)}),
                metadata={"patient": record.patient, "question": record.question, "study": study.digest},
            )
        )
    return found


@scorer(metrics=[mean_record_exact(), stderr(cluster="patient")], name="grades")
def grades(study: RunSpec) -> Scorer:
    """Read the grades of an answer by the named rules of `reasonknee_datasets.bench.answers`.

    The value is 1 where every slot is right. A record without all its true grades has no value, as in the report. The
    score's metadata has, for each slot, the true grade and the answered one with its rule, or the reason without one.

    Parameters
    ----------
    study : RunSpec
    """
    official = study.condition.script is not None

    async def score(state: TaskState, target: Target) -> Score:
        question = QUESTIONS[state.metadata["question"]]
        parsed = read_answer_text(question, official=official, **read_output(state.output.model_dump()))
        true: dict[str, int | None] = json.loads(target.text)
        slots = {
            answer.slot.attribute: {
                "true": true[answer.slot.attribute],
                "grade": answer.grade,
                **({"reason": answer.reason} if answer.grade is None else {"rules": list(answer.rules)}),
            }
            for answer in parsed.slots
        }
        right = float("nan") if None in true.values() else float(parsed.grades == true)
        return Score(  # NaN is inspect_ai's value of what is not scored
            value=right,
            answer=json.dumps(parsed.grades),
            explanation="; ".join(f"{name}: {_shown(slot)}" for name, slot in slots.items()),
            metadata={"slots": slots, "strict": parsed.strict},
        )

    return score


def _shown(slot: dict[str, Any]) -> str:
    read = f"no grade ({slot['reason']})" if slot["grade"] is None else f"grade {slot['grade']} ({slot['rules'][-1]})"
    return f"{read}, true {'unknown' if slot['true'] is None else slot['true']}"


JUDGE_PROMPT = """\
You are assessing the reasoning of a model that graded one structure of a knee on MRI by MOAKS. You do not see the \
image. Here is the data:

[BEGIN DATA]
***
[Question]: {question}
***
[Reasoning and answer]: {thoughts}{answer}
***
[Reference grades]: {criterion}
***
[END DATA]

Is the reasoning sound? It is if it looks at the structure and the subregion that the question names, describes for \
every attribute what is seen, and if the grades of the answer follow from these descriptions by the scale in the \
question. Reasoning that is missing, that is about something else, or that contradicts its own answer is not sound. \
Whether the grades equal the reference grades does not matter.

{instructions}
"""
"""What the judge is sent; inspect_ai's own instructions ask it for a letter at the end."""


def judge_metadata(model: str) -> dict[str, str]:
    """Return what identifies a judge: its model, its prompt and the prompt's SHA-256."""
    return {"model": model, "prompt": JUDGE_PROMPT, "prompt_sha256": hashlib.sha256(JUDGE_PROMPT.encode()).hexdigest()}


@scorer(metrics=[accuracy(), stderr(cluster="patient")], name="reasoning_judge")
def reasoning_judge(model: str) -> Scorer:
    """Ask a model whether the reasoning of an answer is sound.

    Parameters
    ----------
    model : str
        The judge, in inspect_ai's spelling, such as ``openai/gpt-4.1``.
    """
    grade = model_graded_qa(template=JUDGE_PROMPT, model=model)

    async def score(state: TaskState, target: Target) -> Score | None:
        content: Any = state.output.message.content if state.output.choices else ""
        blocks = content if isinstance(content, list) else []
        thoughts = "\n".join(block.text for block in blocks if isinstance(block, ContentReasoning))
        before = state.metadata
        # inspect_ai fills the template's other names from the sample's metadata.
        state.metadata = before | {"thoughts": f"{thoughts}\n" if thoughts else ""}
        try:
            return await grade(state, target)
        finally:
            state.metadata = before

    return score
