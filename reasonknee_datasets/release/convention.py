"""The box convention, verified against the masks: what is compared, and with what outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import BoxConvention, ConventionReport, agreement_scores, compare_conventions
from reasonknee_datasets.boxes.inference import EXACT, NEAR

ENOUGH = 0.95
"""Share of the boxes that must agree with their mask within one voxel."""


@dataclass(frozen=True, slots=True)
class BoxCheck:
    """How well the chosen convention agrees with the masks.

    Parameters
    ----------
    convention : BoxConvention
        The one that boxes are read in.
    source : {"established", "given"}
        Found by comparing, or named by the caller.
    checked, near, exact : int
        Boxes that could be compared; those that agree within one voxel; those that agree exactly.
    by_question : mapping of int to float
        Share within one voxel, for every question that could be compared.
    counts : mapping of int to int
        How many boxes of a question were compared.
    """

    convention: BoxConvention
    source: Literal["established", "given"]
    checked: int
    near: int
    exact: int
    by_question: Mapping[int, float]
    counts: Mapping[int, int]

    @property
    def agreement(self) -> float | None:
        """Share of the compared boxes that agree within one voxel; None where none could be compared."""
        return self.near / self.checked if self.checked else None

    def to_manifest(self) -> dict[str, Any]:
        """Give what the manifest keeps under ``box_convention``."""
        return {
            "name": str(self.convention),
            "agreement": self.agreement,
            "by_question": {str(question): share for question, share in self.by_question.items()},
            "checked": self.checked,
            "exact": self.exact,
            "source": self.source,
        }

    def __str__(self) -> str:
        head = f"{self.convention} ({self.source})"
        if not self.checked:
            return f"{head}, not verified: no box has a mask's region to compare with"
        share = f"{self.near / self.checked:.1%} of {self.checked:,} within one voxel, {self.exact:,} exactly"
        worst = min(self.by_question, key=lambda question: self.by_question[question])
        low = self.by_question[worst]
        return f"{head}, {share}" + (f"; lowest: question {worst}, {low:.1%}" if low < 1 else "")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Official boxes beside the regions that they should enclose, one row each.

    Parameters
    ----------
    questions : (n,) array of int
    numbers : (n, 6) array of float
        As the records hold them.
    regions : (n, 6) array of int
        i0 j0 k0 i1 j1 k1 in the mask's array.
    shapes : (n, 3) array of int
        Of the mask's array.
    """

    questions: NDArray[np.int64]
    numbers: NDArray[np.float64]
    regions: NDArray[np.int64]
    shapes: NDArray[np.int64]

    def compare(self) -> ConventionReport | None:
        """Compare all conventions; None where there is nothing to compare."""
        return compare_conventions(self.numbers, self.regions, self.shapes) if len(self.numbers) else None


def verify(convention: BoxConvention, source: Literal["established", "given"], evidence: Evidence) -> BoxCheck:
    """Count how many boxes one convention explains, in all and for each question."""
    if not len(evidence.numbers):
        return BoxCheck(convention, source, 0, 0, 0, {}, {})
    scores = agreement_scores(convention, evidence.numbers, evidence.regions, evidence.shapes)
    counts = np.bincount(evidence.questions)
    near = np.bincount(evidence.questions, weights=scores >= NEAR)
    asked = np.flatnonzero(counts).tolist()
    return BoxCheck(
        convention,
        source,
        len(scores),
        int((scores >= NEAR).sum()),
        int((scores == EXACT).sum()),
        {question: float(near[question] / counts[question]) for question in asked},
        {question: int(counts[question]) for question in asked},
    )


def judge(given: BoxConvention | None, evidence: Evidence) -> tuple[BoxConvention | None, str | None]:
    """Choose the convention, or say what is wrong.

    Returns
    -------
    convention : BoxConvention or None
        The given one, or the one that explains the boxes best.
    fault : str or None
        Why it must not be used: too few boxes agree, another explains them better, or several explain them alike.
    """
    report = evidence.compare()
    if report is None:
        hint = "no box has a mask's region to compare with: name the convention with --box-convention"
        return given, None if given else hint
    if given is None:
        if report.best is None:
            return (report.leaders[0] if report.leaders else None), f"must be one that explains the boxes, got {report}"
        chosen = report.best
    else:
        chosen = given
        if report.leaders and not any(given.canonical() == leader.canonical() for leader in report.leaders):
            mine = report.of(given)
            got = f"{given} ({mine.near} of {report.checked} boxes, {mine.exact} exactly) where {report} is closer"
            return given, f"must be the one that explains the boxes best, got {got}"
    if report.share(chosen) < ENOUGH:
        return chosen, f"must explain at least {ENOUGH:.0%} of the boxes within one voxel, got {report}"
    return chosen, None
