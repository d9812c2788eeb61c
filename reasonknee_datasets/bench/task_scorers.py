"""Scorers of the inspect_ai task: the grades of an answer, and a model that judges its reasoning."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from inspect_ai.model import ContentReasoning
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
from inspect_ai.solver import TaskState

from reasonknee_datasets.bench.collect import read_answer_text
from reasonknee_datasets.bench.prediction_files import read_output
from reasonknee_datasets.bench.run_spec import RunSpec
from reasonknee_datasets.moaks import QUESTIONS


@metric(name="record_exact")
def mean_record_exact() -> Metric:
    """Share of the records whose slots are all right; a slot without a grade is wrong."""
    average = mean()

    def compute(scores: list[SampleScore]) -> Any:
        return average(scores)  # type: ignore[arg-type]  # of two kinds of metric, mean takes these

    return compute


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
        return Score(  # inspect_ai leaves a value of NaN out of the metrics
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
"""Prompt of the judge; inspect_ai's own instructions ask it for a letter at the end."""


def judge_metadata(model: str) -> dict[str, str]:
    """Return the metadata of a judge: its model, its prompt and the prompt's SHA-256."""
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
