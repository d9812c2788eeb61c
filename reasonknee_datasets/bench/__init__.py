"""ReasonKnee-Bench: conditions and prompts, the answer parser, metrics, baselines, the runner and reports."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Imported on first use: a reward or a parser in somebody's training loop should not import what draws reports.
_HOMES = {
    "CONDITIONS": "conditions",
    "CallableModel": "runner",
    "Identity": "identity",
    "OpenAIModel": "runner",
    "Reading": "evaluation",
    "TransformersModel": "runner",
    "attribute": "attributing",
    "compare": "evaluation",
    "dry_run": "runner",
    "evaluate": "evaluation",
    "get_condition": "conditions",
    "parse_answer": "answers",
    "parse_box": "answers",
    "read_report": "report",
    "run": "runner",
    "write_comparison": "report",
    "write_losses": "report",
    "write_report": "report",
}

__all__ = [
    "CONDITIONS",
    "CallableModel",
    "Identity",
    "OpenAIModel",
    "Reading",
    "TransformersModel",
    "attribute",
    "compare",
    "dry_run",
    "evaluate",
    "get_condition",
    "parse_answer",
    "parse_box",
    "read_report",
    "run",
    "write_comparison",
    "write_losses",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
