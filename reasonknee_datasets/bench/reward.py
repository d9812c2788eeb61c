"""A reward for reinforcement learning: the parser and boxes of the scores, in format, grading and localisation parts.

`reward` has the signature that TRL's trainers call, and reads the columns of a quintuple's row; `make_reward` gives one
with other weights, or with boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.bench.answers import ParsedAnswer, ParsedBox, parse_answer, parse_box
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError, explain
from reasonknee_datasets.moaks import Question, Slot, get_question

# The prompts ask for reasoning and then JSON: where the JSON stands is not a fault of form.
_WELL_PLACED = frozenset(
    ("strict", "fenced", "in_text", "thought_removed", "answer_tag", "final_channel", "final_part", "special_tokens")
)
_REPAIRED = 0.5

RewardFunction = Callable[..., list[float]]


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part counts; a part that an example does not have leaves its weight to the others.

    Raises
    ------
    BenchError
        If a weight is negative, or all are 0.
    """

    format: float = 0.1
    grading: float = 0.6
    localisation: float = 0.3

    def __post_init__(self) -> None:
        weights = (self.format, self.grading, self.localisation)
        if not (min(weights) >= 0 and 0 < sum(weights) < float("inf")):
            remedy = "Only their ratio counts: give numbers from 0, not all of them 0"
            raise BenchError(explain("reward weights", "be 0 or more, and one above 0", repr(weights), remedy))


@dataclass(frozen=True, slots=True)
class Reward:
    """The parts of one answer's reward, each 0 to 1.

    Attributes
    ----------
    format : float
        Mean over the slots (and the box, where one is asked for): 1 where the value was read from JSON in the asked
        schema, wherever that stands in the text; 0.5 where a rule had to repair it; 0 where there is none.
    grading : float or None
        Mean over the slots whose truth is known: 1 less the distance as a share of the scale for ordinal slots, 1 for
        the same grade in others, 0 where there is no grade. None where no truth is known.
    localisation : float or None
        Intersection over union with the true box, 0 where there is no box; None where none is asked for.
    """

    format: float
    grading: float | None
    localisation: float | None

    def total(self, weights: Weights | None = None) -> float:
        """Join the parts that there are by their weights, 0 to 1.

        Examples
        --------
        >>> Reward(1.0, 0.5, None).total(Weights(format=1, grading=3, localisation=6))
        0.625
        """
        chosen = Weights() if weights is None else weights
        pairs = (
            (self.format, chosen.format),
            (self.grading, chosen.grading),
            (self.localisation, chosen.localisation),
        )
        there = [(part, weight) for part, weight in pairs if part is not None]
        whole = sum(weight for _, weight in there)
        return sum(part * weight for part, weight in there) / whole if whole else 0.0


def reward_parts(
    question: int | Question,
    text: str | None,
    grades: Mapping[str, int | None],
    *,
    box: Box | None = None,
    convention: BoxConvention | None = None,
    shape: Sequence[int] | None = None,
) -> Reward:
    """Reward one answer, part by part.

    Parameters
    ----------
    question : int or Question
        The question that was asked, or its number.
    text : str or None
        What the model said.
    grades : mapping of attribute to int or None
        The true grades; None where the truth is missing.
    box : Box, optional
        The true box; rewarded where a convention says how the model was asked to write one.
    convention : BoxConvention, optional
        How the model was asked to write its box; None where it was not asked for one.
    shape : three ints, optional
        Voxels of the volume along each axis; needed where the convention is normalised.

    Examples
    --------
    >>> from reasonknee_datasets.bench.answers import write
    >>> truth = {"size": 2, "depth": 1}
    >>> reward_parts(19, write(19, {"size": 1, "depth": 1}), truth)
    Reward(format=1.0, grading=0.8333333333333334, localisation=None)
    >>> reward_parts(19, "Size: 2, depth: 1", truth)
    Reward(format=0.5, grading=1.0, localisation=None)
    """
    answer = parse_answer(question, text)
    found = None
    if box is not None and convention is not None:
        found = parse_box(text, convention=convention, shape=shape)
    localisation = None if found is None or box is None else 0.0 if found.box is None else found.box.iou(box)
    return Reward(_format(answer, found), _grading(answer, grades), localisation)


def _form(rules: Sequence[str]) -> float:
    if not rules:
        return 0.0
    return 1.0 if _WELL_PLACED.issuperset(rules) else _REPAIRED


def _format(answer: ParsedAnswer, box: ParsedBox | None) -> float:
    asked = [_form(slot.rules) for slot in answer.slots] + ([] if box is None else [_form(box.rules)])
    return sum(asked) / len(asked)


def _grading(answer: ParsedAnswer, truth: Mapping[str, int | None]) -> float | None:
    parts = []
    for given in answer.slots:
        true = truth.get(given.slot.attribute)
        if true is not None:
            parts.append(0.0 if given.grade is None else _closeness(given.slot, given.grade, true))
    return sum(parts) / len(parts) if parts else None


def _closeness(slot: Slot, grade: int, true: int) -> float:
    if slot.scale == "ordinal":
        return 1.0 - abs(grade - true) / (slot.high - slot.low)
    return float(grade == true)


def make_reward(*, weights: Weights | None = None, convention: BoxConvention | str | None = None) -> RewardFunction:
    """Make a reward function for TRL's trainers.

    Parameters
    ----------
    weights : Weights, optional
        How much each part counts.
    convention : BoxConvention or str, optional
        How the prompts ask for the box; None where they do not.

    Returns
    -------
    callable
        ``(prompts, completions, **columns) -> list of float``. Of the columns it reads ``question_id``, ``grades`` (as
        in a quintuple's row, or a mapping of attribute to grade) and, with a convention, ``box`` (i0 j0 k0 i1 j1 k1)
        and ``shape`` (three ints; needed for a normalised convention only). It has a ``__name__``, which TRL logs.

    Examples
    --------
    >>> function = make_reward(weights=Weights(format=0, grading=1, localisation=1))
    >>> function(["..."], ["Grade 1"], question_id=[30], grades=[[{"attribute": "grade", "grade": 2}]])
    [0.6666666666666667]
    """
    asked = BoxConvention.parse(convention) if isinstance(convention, str) else convention

    def reasonknee_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        parts = _all_parts(completions, columns, asked)
        return [part.total(weights) for part in parts]

    return reasonknee_reward


def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """Reward completions by format and grading, with the default weights: a reward function as TRL calls it.

    Parameters
    ----------
    prompts : sequence
        Not looked at.
    completions : sequence of str, or of lists of messages
        What the model said; of a conversation the last message counts.
    **columns : sequences
        The data set's columns: ``question_id`` and ``grades``, one for each completion; others are passed over.

    Returns
    -------
    list of float
        0 to 1 for each completion.

    Raises
    ------
    BenchError
        If a column that is needed is absent, or not as long as the completions.

    Examples
    --------
    >>> rows = {"question_id": [62, 62], "grades": [[{"attribute": "signal", "grade": 1}]] * 2}
    >>> reward(["...", "..."], ['{"Patellar_Tendon": {"Signal Abnormality": 1}}', "I'm sorry."], **rows)
    [1.0, 0.0]
    """
    return [part.total() for part in _all_parts(completions, columns, None)]


def _all_parts(
    completions: Sequence[Any], columns: Mapping[str, Any], convention: BoxConvention | None
) -> list[Reward]:
    questions = _column(columns, "question_id", len(completions))
    truths = _column(columns, "grades", len(completions))
    boxes = [None] * len(completions) if convention is None else _column(columns, "box", len(completions))
    shapes = [None] * len(completions) if columns.get("shape") is None else _column(columns, "shape", len(completions))
    return [
        reward_parts(
            get_question(int(number)),
            _text(completion),
            _grades(truth),
            box=None if row is None else Box.from_row([int(edge) for edge in row]),
            convention=convention,
            shape=None if shape is None else [int(length) for length in shape],
        )
        for completion, number, truth, row, shape in zip(completions, questions, truths, boxes, shapes, strict=True)
    ]


def _column(columns: Mapping[str, Any], name: str, rows: int) -> Sequence[Any]:
    column = columns.get(name)
    if column is None or len(column) != rows:
        got = "none" if column is None else f"{len(column)}"
        remedy = "Keep the data set's columns (TRL: remove_unused_columns=False); they reach the reward by name"
        raise BenchError(explain(f"column {name!r}", f"hold one value for each of {rows} completions", got, remedy))
    return column  # type: ignore[no-any-return]  # whatever the data set gives


def _text(completion: Any) -> str | None:
    """Take the text of a completion: plain, or the last message of a conversation."""
    if completion is None or isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if len(completion) else None
    if isinstance(content, (list, tuple)):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else None


def _grades(truth: Any) -> dict[str, int | None]:
    """Read the ``grades`` column: a list of structs, a struct of lists, or a mapping of attribute to grade."""
    if isinstance(truth, Mapping) and isinstance(truth.get("attribute"), (list, tuple)):
        pairs = zip(truth["attribute"], truth["grade"], strict=True)
    elif isinstance(truth, Mapping):
        pairs = zip(truth.keys(), truth.values(), strict=True)
    else:
        pairs = zip([one["attribute"] for one in truth], [one["grade"] for one in truth], strict=True)
    return {str(attribute): None if grade is None else int(grade) for attribute, grade in pairs}
