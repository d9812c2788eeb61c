"""Confusion arrays: how often which true grade was answered how, and what becomes of slots without a grade.

A confusion is ``(..., K, K + 1)``: true grade by row, answered grade by column, and the last column for slots that
ended without one. Whatever stands in front (patients, resamples, pools) goes through every function untouched, and
confusions add up: that is what lets 2,000 resamples of patients be one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasonknee_datasets.bench.results import Rule, Scale
from reasonknee_datasets.errors import BenchError, explain
from reasonknee_datasets.moaks import Slot

# Partial maceration is 6, and 7 where it is progressive: a follow-up reading, which one volume cannot show.
MERGED = (6, 7)


def count(truth: ArrayLike, answers: ArrayLike, grades: int) -> NDArray[np.int64]:
    """Count one confusion.

    Parameters
    ----------
    truth, answers : (n,) int array
        Grades from 0; an answer of -1 is none.
    grades : int
        How many grades there are, K.

    Returns
    -------
    (K, K + 1) int array

    Examples
    --------
    >>> count([0, 0, 1], [0, -1, 0], 2)
    array([[1, 0, 1],
           [1, 0, 0]])
    """
    true, answered = np.asarray(truth, dtype=np.int64), np.asarray(answers, dtype=np.int64)
    columns = np.where(answered < 0, grades, answered)
    cells = np.bincount(true * (grades + 1) + columns, minlength=grades * (grades + 1))
    return cells.reshape(grades, grades + 1).astype(np.int64)


def farthest(grades: int) -> NDArray[np.int64]:
    """Return for each true grade the legal grade farthest from it; the lowest where two are equally far.

    Examples
    --------
    >>> farthest(4), farthest(2)
    (array([3, 3, 0, 0]), array([1, 0]))
    """
    own = np.arange(grades)
    return np.where(own > (grades - 1) / 2, 0, np.where(own == (grades - 1) / 2, 0, grades - 1))


def apply_rule(confusion: NDArray[Any], scale: Scale, rule: Rule) -> NDArray[Any]:
    """Settle what becomes of slots without a grade.

    Parameters
    ----------
    confusion : (..., K, K + 1) array
    scale : {"ordinal", "nominal", "binary"}
    rule : {"wrong", "parsed", "prior"}
        Under ``prior`` answers have to be filled in before they are counted (each slot has its own most frequent
        grade), so that nothing may be left in the last column.

    Returns
    -------
    (..., K, K) array
        Or (..., K, K + 1) for nominal grades under ``wrong``, which keep "no grade" as a column of its own.

    Examples
    --------
    >>> apply_rule(np.array([[5, 1, 2], [0, 3, 4]]), "binary", "wrong")
    array([[5, 3],
           [4, 3]])
    """
    if rule == "wrong" and scale == "nominal":
        return confusion
    graded, none = confusion[..., :-1], confusion[..., -1]
    if rule == "parsed":
        return graded
    if rule == "prior":
        if np.any(none):
            remedy = "Replace missing answers by priors before counting"
            raise BenchError(explain("confusion under rule prior", "hold no slot without a grade", "some", remedy))
        return graded
    folded = graded.copy()
    rows = np.arange(folded.shape[-1])
    folded[..., rows, farthest(len(rows))] += none
    return folded


def merge_macerations(grades: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take morphology grades 6 and 7 as one: 8 becomes 7, and 7 becomes 6.

    Examples
    --------
    >>> merge_macerations(np.array([-1, 5, 6, 7, 8]))
    array([-1,  5,  6,  6,  7])
    """
    return grades - (grades >= MERGED[1])


def common_scale(slots: Iterable[Slot]) -> tuple[Scale, int, int]:
    """Return the scale and range that slots share, which they must before their confusions may be added up.

    Raises
    ------
    BenchError
        If they differ: a kappa or F1 over a mixture means nothing.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import SLOTS
    >>> common_scale(SLOTS[:3])
    ('ordinal', 0, 3)
    >>> common_scale([SLOTS[0], SLOTS[91]])
    Traceback (most recent call last):
    reasonknee_datasets.errors.BenchError: pooled slots must have one scale and range, got nominal 0-8 as in \
q48.morphology; ordinal 0-3 as in q01.size. Pool them apart; totals by record take all slots.
    """
    kinds: dict[tuple[Scale, int, int], str] = {}
    for slot in slots:
        kinds.setdefault((slot.scale, slot.low, slot.high), slot.name)
    if len(kinds) != 1:
        got = "; ".join(f"{scale} {low}-{high} as in {name}" for (scale, low, high), name in sorted(kinds.items()))
        remedy = "Pool them apart; totals by record take all slots"
        raise BenchError(explain("pooled slots", "have one scale and range", got or "no slots", remedy))
    return next(iter(kinds))
