"""Reward for reinforcement learning: format, grading and localisation of an answer, with TRL's signature.

`make_reward` returns a reward function whose grades are weighted by their rarity in train, which is the one to train
with; `reward` weights all grades alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reasonknee_datasets.bench.answers import ParsedBox, SlotAnswer, parse_answer, parse_box
from reasonknee_datasets.bench.answers.sole_answer import commits, is_from_object, is_whole_object
from reasonknee_datasets.bench.priors import EquitableScores, TrainPriors, equitable_scores, read_priors
from reasonknee_datasets.bench.truth import open_data
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import Question, Slot, get_question

# The prompts ask for reasoning and then JSON: the place of the JSON in the text is not a fault of form.
_WELL_PLACED = frozenset(
    ("strict", "fenced", "in_text", "thought_removed", "answer_tag", "final_channel", "final_part", "special_tokens")
)
_REPAIRED = 0.5
RewardFunction = Callable[..., list[float]]
AnswerForm = Literal["json", "any"]
"""Accepted form of an answer: ``json``, only one whole JSON object; ``any``, all that the parser of the bench reads."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the parts; where an example has no such part, the other parts share its weight.

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
        Intersection over union with the true box, rescaled so that the whole volume earns 0 and the true box 1; 0 where
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
        chosen = weights or Weights()
        parts = (self.format, self.grading, self.localisation)
        pairs = zip(parts, (chosen.format, chosen.grading, chosen.localisation), strict=True)
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
    answer: AnswerForm = "json",
) -> Reward:
    """Reward one answer, part by part.

    The text is read by `parse_answer` and `parse_box`, and must commit to one answer: a text with two JSON objects,
    with words behind its object, or longer than 20,000 characters is rewarded like an empty one. Words behind an
    answer can take it back in more ways than a parser reads, and a policy would find them. For the same reason only
    one whole JSON object counts, and it must hold the asked grades (and a box) alone. Prose, fragments of JSON, other
    keys, and values such as ``"2; 3"`` earn nothing.

    Parameters
    ----------
    question : int or Question
        The question that was asked, or its number.
    text : str or None
        The completion.
    grades : mapping of attribute to int or None
        The true grades; None where the truth is missing.
    box : Box, optional
        The true box; it is rewarded only with a convention.
    convention : BoxConvention, optional
        Convention in which the model was asked to write its box; None where it was not asked for one.
    shape : three ints, optional
        Voxels of the volume along each axis; needed with a box and a convention.
    scores : EquitableScores, optional
        Weights by rarity; without, all grades weigh the same.
    answer : {"json", "any"}
        With ``json`` prose, fragments, half objects and repeated keys earn nothing; ``any`` accepts all that the bench
        reads, prose included.

    Raises
    ------
    BenchError
        If a box comes with a convention and without the shape of its volume, or `answer` is another word.

    Examples
    --------
    >>> from reasonknee_datasets.bench.answers import write
    >>> truth = {"size": 2, "depth": 1}
    >>> reward_parts(19, write(19, {"size": 1, "depth": 1}), truth)
    Reward(format=1.0, grading=0.8333333333333334, localisation=None)
    >>> reward_parts(19, "Size: 2, depth: 1", truth)
    Reward(format=0.0, grading=0.0, localisation=None)
    >>> reward_parts(19, "Size: 2, depth: 1", truth, answer="any")
    Reward(format=0.5, grading=1.0, localisation=None)
    >>> reward_parts(19, write(19, truth) + " Or size 3.", truth)
    Reward(format=0.0, grading=0.0, localisation=None)
    """
    _check_form(answer)
    asked = get_question(question) if isinstance(question, int) else question
    committed = text if commits(asked, text, whole=answer == "json") else None
    slots = parse_answer(asked, committed).slots
    if answer == "json" and not all(map(is_from_object, slots)):
        slots = tuple(SlotAnswer(slot.slot, None, "not_json") for slot in slots)
    found, localisation = None, None
    if box is not None and convention is not None:
        if shape is None:
            raise BenchError(
                "A box is rewarded only with the shape of its volume, since the whole volume must earn nothing. "
                "Pass shape, or in a dataset the column shape: list(row['volume'].shape)."
            )
        found = parse_box(committed, convention=convention, shape=shape)
        if answer == "json" and not is_whole_object(found.rules):
            found = ParsedBox(None, "not_json")
        localisation = _localisation(found.box, box, Box((0, 0, 0), (shape[0], shape[1], shape[2])))
    return Reward(_format(slots, found), _grading(slots, grades, scores), localisation)


def _check_form(answer: str) -> None:
    if answer not in ("json", "any"):
        raise BenchError(f"answer must be 'json' or 'any', not {answer!r}.")


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


def _format(slots: Sequence[SlotAnswer], box: ParsedBox | None) -> float:
    asked = [_form(slot.rules) for slot in slots] + ([] if box is None else [_form(box.rules)])
    return sum(asked) / len(asked)


def _grading(
    slots: Sequence[SlotAnswer], truth: Mapping[str, int | None], scores: EquitableScores | None
) -> float | None:
    parts = []
    for given in slots:
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
    answer: AnswerForm = "json",
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
        Convention in which the prompts ask for the box; None where they do not.
    cap : float
        Highest weight of a rare grade, as in `equitable_scores`.
    answer : {"json", "any"}
        Accepted form, as in `reward_parts`. Train with ``json``: a policy learns every form that a lenient parser
        reads.

    Returns
    -------
    callable
        ``(prompts, completions, **columns) -> list of float``. It reads the columns ``question_id``, ``grades`` (as
        in a quintuple's row, or a mapping of attribute to grade) and, with a convention, ``box`` (i0 j0 k0 i1 j1 k1)
        and ``shape`` (three ints). It has a ``__name__``, which TRL logs.

    Raises
    ------
    BenchError
        If the repository has no sound priors, or `answer` is another word. Calling the function raises it where a
        column is absent or short.

    Examples
    --------
    >>> function = make_reward(None, weights=Weights(format=0, grading=1, localisation=1))
    >>> rows = {"question_id": [30] * 2, "grades": [[{"attribute": "grade", "grade": 2}]] * 2}
    >>> function(["..."] * 2, ['{"patella superior osteophyte": {"grade": 1}}', "Grade 1"], **rows)
    [0.6666666666666667, 0.0]
    """
    _check_form(answer)
    asked = BoxConvention.parse(convention) if isinstance(convention, str) else convention
    known = priors if priors is None or isinstance(priors, TrainPriors) else read_priors(open_data(os.fspath(priors)))
    scores = None if known is None else equitable_scores(known, cap=cap)

    def reasonknee_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        rows = len(completions)
        questions, truths = _read_column(columns, "question_id", rows), _read_column(columns, "grades", rows)
        boxes: Sequence[Any] = [None] * rows
        shapes = boxes
        if asked is not None:
            boxes, shapes = _read_column(columns, "box", rows), _read_column(columns, "shape", rows)
        return [
            reward_parts(
                get_question(int(number)),
                _completion_text(completion),
                _true_grades(truth),
                box=None if box is None else Box.from_row([int(edge) for edge in box]),
                convention=asked,
                shape=None if shape is None else [int(length) for length in shape],
                scores=scores,
                answer=answer,
            ).total(weights)
            for completion, number, truth, box, shape in zip(completions, questions, truths, boxes, shapes, strict=True)
        ]

    return reasonknee_reward


def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """Reward completions by format and grading, all grades alike: a reward function as TRL calls it.

    For training, `make_reward` weights grades by rarity.

    Parameters
    ----------
    prompts : sequence
        Not read.
    completions : sequence of str, or of lists of messages
        The model's texts; of a conversation the last message counts.
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
    return make_reward(None)(prompts, completions, **columns)


def _read_column(columns: Mapping[str, Any], name: str, rows: int) -> Sequence[Any]:
    column = columns.get(name)
    if column is None or len(column) != rows:
        got = "is missing" if column is None else f"has {len(column)} values"
        raise BenchError(
            f"The reward needs the column {name!r} with one value for each of {rows} completions, but it {got}. Keep "
            "the columns of the dataset (TRL: remove_unused_columns=False); they reach the reward by name."
        )
    return column  # type: ignore[no-any-return]  # any sequence of the dataset


def _completion_text(completion: Any) -> str | None:
    """Return the text of a completion: plain, or the last message of a conversation."""
    if completion is None or isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if len(completion) else None
    if isinstance(content, (list, tuple)):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else None


def _true_grades(truth: Any) -> dict[str, int | None]:
    """Read the ``grades`` column: a list of structs, a struct of lists, or a mapping of attribute to grade."""
    if not isinstance(truth, Mapping):
        truth = {one["attribute"]: one["grade"] for one in truth}
    elif isinstance(truth.get("attribute"), (list, tuple)):
        truth = dict(zip(truth["attribute"], truth["grade"], strict=True))
    return {str(attribute): None if grade is None else int(grade) for attribute, grade in truth.items()}
