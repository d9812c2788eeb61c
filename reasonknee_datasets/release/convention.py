"""The box convention, verified against the masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import BoxConvention, ConventionReport, agreement_scores, compare_conventions
from reasonknee_datasets.boxes.inference import EXACT, NEAR

ENOUGH = 0.95  # share of the boxes that must agree with their mask within one voxel


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
    by_layout : mapping of str to BoxConvention
        The convention for each order of the mask's axes (RAS, ASR, ...), where one convention does not explain all
        boxes; empty where it does. ``convention`` is then that of the commonest layout.
    """

    convention: BoxConvention
    source: Literal["established", "given"]
    checked: int
    near: int
    exact: int
    by_question: Mapping[int, float]
    counts: Mapping[int, int]
    by_layout: Mapping[str, BoxConvention] = field(default_factory=dict)

    def of_layout(self, layout: str) -> BoxConvention:
        """Return the convention of the boxes in an array with this order of axes."""
        return self.by_layout.get(layout, self.convention)

    @property
    def agreement(self) -> float | None:
        """Share of the compared boxes that agree within one voxel; None where none could be compared."""
        return self.near / self.checked if self.checked else None

    def to_manifest(self) -> dict[str, Any]:
        """Return the value of ``box_convention`` in the manifest."""
        by_layout = {"by_layout": {layout: str(each) for layout, each in sorted(self.by_layout.items())}}
        return {
            "name": str(self.convention),
            **(by_layout if self.by_layout else {}),
            "agreement": self.agreement,
            "by_question": {str(question): share for question, share in self.by_question.items()},
            "checked": self.checked,
            "exact": self.exact,
            "source": self.source,
        }

    def __str__(self) -> str:
        named = "; ".join(f"{each} in {layout} arrays" for layout, each in sorted(self.by_layout.items()))
        head = f"{named or self.convention} ({self.source})"
        if not self.checked:
            return f"{head}, not verified: no box has a mask's region to compare with"
        share = f"{self.near / self.checked:.1%} of {self.checked:,} within one voxel, {self.exact:,} exactly"
        worst = min(self.by_question, key=lambda question: self.by_question[question])
        low = self.by_question[worst]
        return f"{head}, {share}" + (f"; lowest: question {worst}, {low:.1%}" if low < 1 else "")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Official boxes and the regions that they should enclose, one row each."""

    questions: NDArray[np.int64]
    numbers: NDArray[np.float64]  # (n, 6) array: as in the records
    regions: NDArray[np.int64]  # (n, 6) array: i0 j0 k0 i1 j1 k1 in the mask's array
    shapes: NDArray[np.int64]  # (n, 3) array: shapes of the mask's array
    layouts: NDArray[np.str_]  # (n,) array: order of the axes of the mask's array

    def by_layout(self) -> dict[str, Evidence]:
        """Separate the boxes by the layout of their array, the commonest first."""
        names, counts = np.unique(self.layouts, return_counts=True)
        found = {}
        for place in np.argsort(-counts, kind="stable").tolist():
            at = self.layouts == names[place]
            found[str(names[place])] = Evidence(
                self.questions[at], self.numbers[at], self.regions[at], self.shapes[at], self.layouts[at]
            )
        return found

    def compare(self) -> ConventionReport | None:
        """Compare all conventions; None where there is nothing to compare."""
        return compare_conventions(self.numbers, self.regions, self.shapes) if len(self.numbers) else None


def verify(chosen: Chosen, source: Literal["established", "given"], evidence: Evidence) -> BoxCheck:
    """Count how many boxes the chosen convention explains, in all and for each question."""
    if not len(evidence.numbers):
        return BoxCheck(chosen.convention, source, 0, 0, 0, {}, {}, chosen.by_layout)
    scores = np.zeros(len(evidence.numbers), np.int8)
    for layout in np.unique(evidence.layouts).tolist():
        at = evidence.layouts == layout
        convention = chosen.by_layout.get(layout, chosen.convention)
        scores[at] = agreement_scores(convention, evidence.numbers[at], evidence.regions[at], evidence.shapes[at])
    counts = np.bincount(evidence.questions)
    near = np.bincount(evidence.questions, weights=scores >= NEAR)
    asked = np.flatnonzero(counts).tolist()
    return BoxCheck(
        chosen.convention,
        source,
        len(scores),
        int((scores >= NEAR).sum()),
        int((scores == EXACT).sum()),
        {question: float(near[question] / counts[question]) for question in asked},
        {question: int(counts[question]) for question in asked},
        chosen.by_layout,
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The convention of all boxes, or of the commonest layout with those of each, see `BoxCheck`."""

    convention: BoxConvention
    by_layout: Mapping[str, BoxConvention] = field(default_factory=dict)


def judge(given: BoxConvention | None, evidence: Evidence) -> tuple[Chosen | None, str | None]:
    """Choose the convention; one for each array layout where no single one explains the boxes of every layout.

    Returns `chosen`: the given one, or the one that explains the boxes best. Returns `fault`: why it must not be used:
    too few boxes agree, another explains them better, or several explain them alike.
    """
    convention, fault = _judge_all(given, evidence)
    layouts = evidence.by_layout() if given is None else {}
    if len(layouts) > 1 and (fault is not None or convention is None or not _explains_each(convention, layouts)):
        separate = _judge_layouts(layouts)
        if separate is not None:
            return Chosen(next(iter(separate.values())), separate), None
    return None if convention is None else Chosen(convention), fault


def _explains_each(convention: BoxConvention, layouts: Mapping[str, Evidence]) -> bool:
    """Report whether a convention explains enough boxes of every layout by itself."""
    near = (agreement_scores(convention, each.numbers, each.regions, each.shapes) >= NEAR for each in layouts.values())
    return all(bool(agrees.mean() >= ENOUGH) for agrees in near)


def _judge_layouts(layouts: Mapping[str, Evidence]) -> dict[str, BoxConvention] | None:
    """Find a convention for each layout, all alike but for the axes; None where they are not settled."""
    able: dict[str, list[BoxConvention]] = {}
    for layout, evidence in layouts.items():
        report = evidence.compare()
        leaders = report.leaders if report is not None else ()
        able[layout] = [each for each in leaders if report is not None and report.share(each) >= ENOUGH]
    ways = []
    for family in {_family(each) for conventions in able.values() for each in conventions}:
        fitting = {layout: [each for each in able[layout] if _family(each) == family] for layout in layouts}
        if all(len(conventions) == 1 for conventions in fitting.values()):
            ways.append({layout: conventions[0] for layout, conventions in fitting.items()})
        elif all(fitting.values()):
            return None  # several axes fit alike
    return ways[0] if len(ways) == 1 else None


def _family(convention: BoxConvention) -> tuple[str, bool, bool]:
    return convention.layout, convention.inclusive, convention.normalised


def _judge_all(given: BoxConvention | None, evidence: Evidence) -> tuple[BoxConvention | None, str | None]:
    """Choose one convention for all boxes, or return the problem.

    Returns `convention`: the given one, or the one that explains the boxes best. Returns `fault`: why it must not be
    used: too few boxes agree, another explains them better, or several explain them alike.
    """
    report = evidence.compare()
    if report is None:
        hint = "no box has a mask's region to compare with: name the convention with --box-convention"
        return given, None if given else hint
    if given is None:
        if report.best is None:
            return (report.leaders[0] if report.leaders else None), f"no single convention explains the boxes: {report}"
        chosen = report.best
    else:
        chosen = given
        if report.leaders and not any(given.canonical() == leader.canonical() for leader in report.leaders):
            mine = report.of(given)
            got = f"{given} ({mine.near} of {report.checked} boxes, {mine.exact} exactly) where {report} is closer"
            return given, f"another convention explains the boxes better: {got}"
    if report.share(chosen) < ENOUGH:
        return chosen, f"the convention explains less than {ENOUGH:.0%} of the boxes within one voxel: {report}"
    return chosen, None
