"""Equitable scores of grades: weights by rarity, under which no constant answer pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.priors import TrainPriors
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import SLOTS, Slot


@dataclass(frozen=True, slots=True, eq=False)
class EquitableScores:
    """Scores of a given grade against a true one, weighted by the rarity of the true grade in train.

    Over the grades of train the true answer scores 1 on average, and every constant answer 0. A wrong or missing grade
    costs the same wherever it occurs; a right one earns more, the rarer it is.

    Ordinal grades are compared threshold by threshold (grade above 0? above 1? ...), as in the score of Gerrity (1992):
    a threshold on whose right side the answer lies counts 1 / share - 1, where share is how much of train lies on that
    side, and -1 on the wrong side. The mean over the thresholds is the score. Nominal grades count (1 / share - 1) /
    (K - 1) where they are right and -1 / (K - 1) where not, for K grades that occur in train (Gandin and Murphy, 1992).

    Parameters
    ----------
    table : (118, 9, 9) float array
        The score by slot id, true grade and given grade.
    missing : (118,) float array
        The score of an answer without a grade, by slot id: the lowest that the slot has.

    Notes
    -----
    Shares below ``1 / cap`` count as ``1 / cap``, so that one rare example cannot outweigh all others. Constant answers
    then score at most 0, and the truth scores less than 1 where a grade is rarer than that or does not occur.

    References
    ----------
    J. P. Gerrity, "A note on Gandin and Murphy's equitable skill score", Monthly Weather Review 120, 1992.
    L. S. Gandin and A. H. Murphy, "Equitable skill scores for categorical forecasts", Monthly Weather Review 120, 1992.
    """

    table: NDArray[np.float64]
    missing: NDArray[np.float64]

    def score(self, slot: Slot, true: int, given: int | None) -> float:
        """Return the score of one grade; None is a missing one."""
        return float(self.missing[slot.id] if given is None else self.table[slot.id, true, given])


def equitable_scores(priors: TrainPriors, *, cap: float = 20.0) -> EquitableScores:
    """Compute the scores of every slot from the grades of train.

    Parameters
    ----------
    priors : TrainPriors
        Of the repository that is trained on, as `reasonknee_datasets.bench.priors.read_priors` reads them.
    cap : float
        Highest weight of a grade, above 1. With 20, grades rarer than 5 % weigh as if 5 % had them.

    Raises
    ------
    BenchError
        If the cap is not above 1.
    """
    if not 1.0 < cap < float("inf"):
        raise BenchError(f"cap must be a number above 1, not {cap!r}. It is the highest weight of a rare grade.")
    size = priors.counts.shape[1]
    table, missing = np.full((len(SLOTS), size, size), np.nan), np.zeros(len(SLOTS))
    for slot in SLOTS:
        counts = priors.counts[slot.id, : slot.high + 1].astype(np.float64)
        counts = counts if counts.any() else np.ones_like(counts)  # questions 63 to 69 have no records
        shares = counts / counts.sum()
        scores = _nominal(shares, cap) if slot.scale == "nominal" else _ordinal(shares, cap)
        table[slot.id, : slot.high + 1, : slot.high + 1] = scores
        missing[slot.id] = scores.min()
    return EquitableScores(table, missing)


def _ordinal(shares: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Compare true (rows) and given grades (columns) threshold by threshold; a binary scale has one."""
    grades = np.arange(len(shares))
    total = np.zeros((len(shares), len(shares)))
    for threshold in grades[:-1]:
        above = grades > threshold
        share = np.where(above, shares[above].sum(), shares[~above].sum())
        weight = 1.0 / np.maximum(share, 1.0 / cap)
        total += np.where(above[:, None] == above[None, :], weight[:, None] - 1.0, -1.0)
    return total / (len(shares) - 1)


def _nominal(shares: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    weight = 1.0 / np.maximum(shares, 1.0 / cap)
    scores = np.where(np.eye(len(shares), dtype=np.bool_), weight[:, None], 0.0) - 1.0
    return np.asarray(scores / max(int(np.count_nonzero(shares)) - 1, 1), dtype=np.float64)
