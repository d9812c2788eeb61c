"""Scoring some attributes of a question alone: who grades the size of a lesion says nothing of its number."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from reasonknee_datasets.bench.arrays import NONE, Answers, Truth
from reasonknee_datasets.errors import BenchError, explain, nearest
from reasonknee_datasets.moaks import ATTRIBUTES, SLOTS


def keep_attributes(truth: Truth, attributes: Collection[str]) -> Truth:
    """Make padding of all slots but those of some attributes.

    Parameters
    ----------
    truth : Truth
    attributes : collection of str
        Of ``moaks.ATTRIBUTES``.

    Raises
    ------
    BenchError
        If an attribute is unknown, or a question has none of them, so that there would be nothing to score.
    """
    for name in attributes:
        if name not in ATTRIBUTES:
            raise BenchError(explain("attribute", "be one of MOAKS", repr(name), nearest(name, ATTRIBUTES)))
    wanted = np.array([slot.attribute in attributes for slot in SLOTS])
    kept = (truth.slots != NONE) & wanted[truth.slots]
    empty = sorted(set(truth.question[~kept.any(axis=1)].tolist()))
    if empty:
        rule = f"ask for {' or '.join(sorted(attributes))}"
        got = f"{len(empty)} that do not, such as {empty[0]}"
        raise BenchError(explain("questions", rule, got, "Score those that do: questions= (--questions)"))
    return replace(
        truth,
        slots=np.where(kept, truth.slots, NONE).astype(np.int16),
        grades=np.where(kept, truth.grades, NONE).astype(np.int8),
    )


def keep_answers(answers: Answers, truth: Truth) -> Answers:
    """Make padding of what was answered where a truth has padding."""
    padding = truth.slots == NONE
    return replace(
        answers,
        grades=np.where(padding, NONE, answers.grades).astype(np.int8),
        reasons=np.where(padding, NONE, answers.reasons).astype(np.int8),
    )
