"""Reward for reinforcement learning: format, grading and localisation of an answer, with TRL's signature.

`make_reward` returns a reward function whose grades are weighted by their rarity in train, which is the one to train
with; `reward` weights all grades alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.bench.answers import ParsedAnswer, ParsedBox, parse_answer, parse_box
from reasonknee_datasets.bench.answers.extract import find, hear
from reasonknee_datasets.bench.equitable import EquitableScores, equitable_scores
from reasonknee_datasets.bench.priors import TrainPriors, read_priors
from reasonknee_datasets.bench.reward_columns import completion_text, read_column, true_grades
from reasonknee_datasets.bench.truth import open_data
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import Question, Slot, get_question

# The prompts ask for reasoning and then JSON: where the JSON stands is not a fault of form.
_WELL_PLACED = frozenset(
    ("strict", "fenced", "in_text", "thought_removed", "answer_tag", "final_channel", "final_part", "special_tokens")
)
_REPAIRED = 0.5
LONGEST = 20_000
"""Characters of the longest completion that earns anything; the longest true answer has about a tenth."""

RewardFunction = Callable[..., list[float]]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the parts; an example without a part divides its weight among the others.

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
            raise BenchError(
                f"The weights of a reward must be 0 or more and not all 0, not {weights!r}. Only their ratio counts."
            )


@dataclass(frozen=True, slots=True)
class Reward:
    """The parts of one answer's reward.

    Attributes
    ----------
    format : float
        Mean over the slots (and the box, where one is asked for): 1 where the value was read from JSON in the asked
        schema; 0.5 where a rule had to repair it; 0 where there is none.
    grading : float or None
        Mean over the slots whose truth is known. Without scores: 1 less the distance as a share of the scale for
        ordinal slots, 1 for the same grade in others, 0 where there is no grade. With scores: see `EquitableScores`;
        1 on average for the truth, 0 on average for a constant answer, at least -1. None where no truth is known.
    localisation : float or None
        Intersection over union with the true box, rescaled so that the whole volume gets 0 and the true box 1; 0 where
        that is negative or there is no box. None where none is asked for.
    """

    format: float
    grading: float | None
    localisation: float | None

    def total(self, weights: Weights | None = None) -> float:
        """Return the weighted mean of the parts that there are.

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
    scores: EquitableScores | None = None,
) -> Reward:
    """Reward one answer, part by part.

    The text is read by `parse_answer` and `parse_box`, and must commit to one answer: a text with two JSON objects,
    with words behind its object, or longer than `LONGEST` characters is rewarded like an empty one. Words behind an
    answer can take it back in more ways than a parser reads, and a policy would find them.

    Parameters
    ----------
    question : int or Question
        The question that was asked, or its number.
    text : str or None
        What the model wrote.
    grades : mapping of attribute to int or None
        The true grades; None where the truth is missing.
    box : Box, optional
        The true box; rewarded where a convention states how the model was asked to write one.
    convention : BoxConvention, optional
        How the model was asked to write its box; None where it was not asked for one.
    shape : three ints, optional
        Voxels of the volume along each axis; needed with a box and a convention.
    scores : EquitableScores, optional
        Weights by rarity; without, all grades weigh the same.

    Raises
    ------
    BenchError
        If a box comes with a convention and without the shape of its volume.

    Examples
    --------
    >>> from reasonknee_datasets.bench.answers import write
    >>> truth = {"size": 2, "depth": 1}
    >>> reward_parts(19, write(19, {"size": 1, "depth": 1}), truth)
    Reward(format=1.0, grading=0.8333333333333334, localisation=None)
    >>> reward_parts(19, "Size: 2, depth: 1", truth)
    Reward(format=0.5, grading=1.0, localisation=None)
    >>> reward_parts(19, write(19, truth) + " Or size 3.", truth)
    Reward(format=0.0, grading=0.0, localisation=None)
    """
    said = text if _commits(text) else None
    answer = parse_answer(question, said)
    found, localisation = None, None
    if box is not None and convention is not None:
        if shape is None:
            raise BenchError(
                "A box is rewarded only with the shape of its volume, since the whole volume must earn nothing. "
                "Pass shape, or in a dataset the column shape: list(row['volume'].shape)."
            )
        found = parse_box(said, convention=convention, shape=shape)
        localisation = _localisation(found.box, box, Box((0, 0, 0), (shape[0], shape[1], shape[2])))
    return Reward(_format(answer, found), _grading(answer, grades, scores), localisation)


def _commits(text: str | None) -> bool:
    """Check whether a text holds at most one object and ends with it."""
    if text is None or len(text) > LONGEST:
        return False
    _, said = hear(text)
    if said is None:  # JSON as a whole
        return True
    found = find(said.text, said, "")
    return not found.documents or (len(found.documents) == 1 and not re.search(r"\w", found.after))


def _localisation(given: Box | None, true: Box, volume: Box) -> float:
    if given is None:
        return 0.0
    whole = volume.iou(true)
    overlap = given.iou(true)
    return max(0.0, (overlap - whole) / (1.0 - whole)) if whole < 1.0 else overlap


def _form(rules: Sequence[str]) -> float:
    if not rules:
        return 0.0
    return 1.0 if _WELL_PLACED.issuperset(rules) else _REPAIRED


def _format(answer: ParsedAnswer, box: ParsedBox | None) -> float:
    asked = [_form(slot.rules) for slot in answer.slots] + ([] if box is None else [_form(box.rules)])
    return sum(asked) / len(asked)


def _grading(answer: ParsedAnswer, truth: Mapping[str, int | None], scores: EquitableScores | None) -> float | None:
    parts = []
    for given in answer.slots:
        true = truth.get(given.slot.attribute)
        if true is None:
            continue
        if scores is not None:
            parts.append(scores.score(given.slot, true, given.grade))
        else:
            parts.append(0.0 if given.grade is None else _closeness(given.slot, given.grade, true))
    return sum(parts) / len(parts) if parts else None


def _closeness(slot: Slot, grade: int, true: int) -> float:
    if slot.scale == "ordinal":
        return 1.0 - abs(grade - true) / (slot.high - slot.low)
    return float(grade == true)


def make_reward(
    priors: TrainPriors | str | os.PathLike[str] | None,
    *,
    weights: Weights | None = None,
    convention: BoxConvention | str | None = None,
    cap: float = 20.0,
) -> RewardFunction:
    """Return a reward function for TRL's trainers, weighted by the rarity of the grades.

    Train with ``scale_rewards="batch"`` or ``"none"``: GRPO's default divides every group of completions by its own
    standard deviation, which takes the weights out again.

    Parameters
    ----------
    priors : TrainPriors, str, path or None
        The prepared repository that is trained on, or its priors: they hold how often each grade occurs. None weights
        all grades alike, under which always answering "normal" earns most of the reward.
    weights : Weights, optional
        Weights of format, grading and localisation.
    convention : BoxConvention or str, optional
        How the prompts ask for the box; None where they do not.
    cap : float
        Highest weight of a rare grade, as in `equitable_scores`.

    Returns
    -------
    callable
        ``(prompts, completions, **columns) -> list of float``. Of the columns it reads ``question_id``, ``grades`` (as
        in a quintuple's row, or a mapping of attribute to grade) and, with a convention, ``box`` (i0 j0 k0 i1 j1 k1)
        and ``shape`` (three ints). It has a ``__name__``, which TRL logs.

    Raises
    ------
    BenchError
        If the repository has no sound priors. Calling the function raises it where a column is absent or short.

    Examples
    --------
    >>> function = make_reward(None, weights=Weights(format=0, grading=1, localisation=1))
    >>> function(["..."], ["Grade 1"], question_id=[30], grades=[[{"attribute": "grade", "grade": 2}]])
    [0.6666666666666667]
    """
    asked = BoxConvention.parse(convention) if isinstance(convention, str) else convention
    known = priors if priors is None or isinstance(priors, TrainPriors) else read_priors(open_data(os.fspath(priors)))
    scores = None if known is None else equitable_scores(known, cap=cap)

    def reasonknee_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        parts = _all_parts(completions, columns, asked, scores)
        return [part.total(weights) for part in parts]

    return reasonknee_reward


def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """Reward completions by format and grading, all grades alike: a reward function as TRL calls it.

    For training, `make_reward` weights grades by rarity.

    Parameters
    ----------
    prompts : sequence
        Not read.
    completions : sequence of str, or of lists of messages
        What the model wrote; of a conversation the last message counts.
    **columns : sequences
        The dataset's columns: ``question_id`` and ``grades``, one for each completion; others are ignored.

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
    return [part.total() for part in _all_parts(completions, columns, None, None)]


def _all_parts(
    completions: Sequence[Any],
    columns: Mapping[str, Any],
    convention: BoxConvention | None,
    scores: EquitableScores | None,
) -> list[Reward]:
    questions = read_column(columns, "question_id", len(completions))
    truths = read_column(columns, "grades", len(completions))
    boxes: Sequence[Any] = [None] * len(completions)
    shapes: Sequence[Any] = boxes
    if convention is not None:
        boxes, shapes = (read_column(columns, name, len(completions)) for name in ("box", "shape"))
    return [
        reward_parts(
            get_question(int(number)),
            completion_text(completion),
            true_grades(truth),
            box=None if row is None else Box.from_row([int(edge) for edge in row]),
            convention=convention,
            shape=None if shape is None else [int(length) for length in shape],
            scores=scores,
        )
        for completion, number, truth, row, shape in zip(completions, questions, truths, boxes, shapes, strict=True)
    ]
