"""Columns of a dataset's rows as a trainer passes them to a reward: completions, grades, one value each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reasonknee_datasets.errors import BenchError


def read_column(columns: Mapping[str, Any], name: str, rows: int) -> Sequence[Any]:
    """Return a column, or raise `BenchError` if it is absent or has another length."""
    column = columns.get(name)
    if column is None or len(column) != rows:
        got = "is missing" if column is None else f"has {len(column)} values"
        raise BenchError(
            f"The reward needs the column {name!r} with one value for each of {rows} completions, but it {got}. Keep "
            "the columns of the dataset (TRL: remove_unused_columns=False); they reach the reward by name."
        )
    return column  # type: ignore[no-any-return]  # whatever the dataset holds


def completion_text(completion: Any) -> str | None:
    """Return the text of a completion: plain, or the last message of a conversation."""
    if completion is None or isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if len(completion) else None
    if isinstance(content, (list, tuple)):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else None


def true_grades(truth: Any) -> dict[str, int | None]:
    """Read the ``grades`` column: a list of structs, a struct of lists, or a mapping of attribute to grade."""
    if isinstance(truth, Mapping) and isinstance(truth.get("attribute"), (list, tuple)):
        pairs = zip(truth["attribute"], truth["grade"], strict=True)
    elif isinstance(truth, Mapping):
        pairs = zip(truth.keys(), truth.values(), strict=True)
    else:
        pairs = zip([one["attribute"] for one in truth], [one["grade"] for one in truth], strict=True)
    return {str(attribute): None if grade is None else int(grade) for attribute, grade in pairs}
