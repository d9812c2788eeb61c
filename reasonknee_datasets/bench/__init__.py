"""ReasonKnee-Bench: conditions and prompts, the inspect_ai task, the answer parser, metrics, baselines and reports."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and the API reference
    from reasonknee_datasets.bench.answers import parse_answer, parse_box
    from reasonknee_datasets.bench.comparison import compare, decompose_errors
    from reasonknee_datasets.bench.conditions import CONDITIONS, get_condition
    from reasonknee_datasets.bench.evaluation import ReadOptions, evaluate
    from reasonknee_datasets.bench.report import (
        read_report,
        write_comparison,
        write_error_decomposition,
        write_report,
    )
    from reasonknee_datasets.bench.run_metadata import RunMetadata
    from reasonknee_datasets.bench.run_plan import make_plan
    from reasonknee_datasets.bench.run_spec import make_study

# Imported on first use: a reward or a parser in a user's training loop should not import what draws reports.
_HOMES = {
    "CONDITIONS": "conditions",
    "RunMetadata": "run_metadata",
    "ReadOptions": "evaluation",
    "compare": "comparison",
    "decompose_errors": "comparison",
    "evaluate": "evaluation",
    "get_condition": "conditions",
    "make_plan": "run_plan",
    "make_study": "run_spec",
    "parse_answer": "answers",
    "parse_box": "answers",
    "read_report": "report",
    "write_comparison": "report",
    "write_error_decomposition": "report",
    "write_report": "report",
}

__all__ = [
    "CONDITIONS",
    "ReadOptions",
    "RunMetadata",
    "compare",
    "decompose_errors",
    "evaluate",
    "get_condition",
    "make_plan",
    "make_study",
    "parse_answer",
    "parse_box",
    "read_report",
    "write_comparison",
    "write_error_decomposition",
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
