"""The runner: asks a model about the records of a split, and keeps the answers in a journal that nothing can tear."""

from __future__ import annotations

from reasonknee_datasets.bench.runner.asking import Task
from reasonknee_datasets.bench.runner.callable_model import CallableModel
from reasonknee_datasets.bench.runner.engine import Summary
from reasonknee_datasets.bench.runner.journal import Journal
from reasonknee_datasets.bench.runner.openai_model import OpenAIModel
from reasonknee_datasets.bench.runner.pace import Pace, Retry
from reasonknee_datasets.bench.runner.plan import Plan, Price, patch_tokens
from reasonknee_datasets.bench.runner.replies import AskError, Generation, Model, Reply
from reasonknee_datasets.bench.runner.requests import Frames, Message, Request
from reasonknee_datasets.bench.runner.run import dry_run, run
from reasonknee_datasets.bench.runner.study import Study, make_study
from reasonknee_datasets.bench.runner.transformers_model import TransformersModel

__all__ = [
    "AskError",
    "CallableModel",
    "Frames",
    "Generation",
    "Journal",
    "Message",
    "Model",
    "OpenAIModel",
    "Pace",
    "Plan",
    "Price",
    "Reply",
    "Request",
    "Retry",
    "Study",
    "Summary",
    "Task",
    "TransformersModel",
    "dry_run",
    "make_study",
    "patch_tokens",
    "run",
]
