"""The prompts of the 69 questions: the official wordings, the project's own, and the damaged ones repaired."""

from __future__ import annotations

from reasonknee_datasets.prompts.prompt_assembly import (
    Wording,
    answer_schema,
    describe_subregion,
    project_prompt,
    project_prompts,
)
from reasonknee_datasets.prompts.prompt_set import (
    FRAME_CONVENTION,
    Damaged,
    Prompts,
    box_prompt,
    box_prompt_hash,
    prompt_hash,
    repair,
)

__all__ = [
    "FRAME_CONVENTION",
    "Damaged",
    "Prompts",
    "Wording",
    "answer_schema",
    "box_prompt",
    "box_prompt_hash",
    "describe_subregion",
    "project_prompt",
    "project_prompts",
    "prompt_hash",
    "repair",
]
