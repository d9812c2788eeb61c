"""A judge model of the reasoning, through inspect_ai's model-graded scorer."""

from __future__ import annotations

import hashlib
from typing import Any

from inspect_ai.model import ContentReasoning
from inspect_ai.scorer import Score, Scorer, Target, accuracy, model_graded_qa, scorer, stderr
from inspect_ai.solver import TaskState

PROMPT = """\
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
    return {"model": model, "prompt": PROMPT, "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest()}


@scorer(metrics=[accuracy(), stderr(cluster="patient")], name="reasoning_judge")
def reasoning_judge(model: str) -> Scorer:
    """Ask a model whether the reasoning of an answer is sound.

    Parameters
    ----------
    model : str
        The judge, in inspect_ai's spelling, such as ``openai/gpt-4.1``.
    """
    grade = model_graded_qa(template=PROMPT, model=model)

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
