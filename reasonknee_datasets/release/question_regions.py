"""The region of each question in each mask, and the label map where the release does not state it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import CONVENTIONS, BoxConvention, agreement_scores
from reasonknee_datasets.boxes.inference import NEAR
from reasonknee_datasets.release.convention import ENOUGH, Evidence
from reasonknee_datasets.release.masks import MaskScan
from reasonknee_datasets.release.region_labels import MAPPING_FILE, LabelMap

# This number of volumes is enough to identify a label map; the whole release then verifies it.
SAMPLE = 300
_FAR = 1 << 20


@dataclass(frozen=True, slots=True)
class Extents:
    """The extents of all labels in all masks."""

    labels: tuple[int, ...]  # every label that occurs in a mask, rising
    # (volumes, labels, 6) int array: i0 j0 k0 i1 j1 k1; where a mask lacks a label, a start beyond its stop.
    rows: NDArray[np.int64]
    shapes: NDArray[np.int64]  # (volumes, 3) int array: shapes of the masks' arrays; 0 without a mask
    layouts: NDArray[np.str_]  # (volumes,) array: order of their axes, such as RAS; empty without a mask

    @classmethod
    def collect(cls, scans: Sequence[MaskScan | None]) -> Extents:
        """Collect the extents of all masks; None for a volume without a mask."""
        labels = sorted({label for scan in scans if scan for label in scan.extents})
        places = {label: place for place, label in enumerate(labels)}
        rows = np.empty((len(scans), len(labels), 6), np.int64)
        rows[..., :3], rows[..., 3:] = _FAR, -_FAR
        shapes = np.zeros((len(scans), 3), np.int64)
        for volume, scan in enumerate(scans):
            if scan is not None:
                shapes[volume] = scan.shape
                for label, extent in scan.extents.items():
                    rows[volume, places[label]] = extent.box.to_row()
        layouts = np.array([scan.layout if scan else "" for scan in scans], dtype="U3")
        return cls(tuple(labels), rows, shapes, layouts)

    def at(self, volumes: NDArray[np.intp]) -> Extents:
        """Select volumes."""
        return Extents(self.labels, self.rows[volumes], self.shapes[volumes], self.layouts[volumes])

    def commonest_layout(self) -> NDArray[np.intp]:
        """Find the volumes with masks of the commonest layout; of several, the first by name."""
        names, counts = np.unique(self.layouts[self.layouts != ""], return_counts=True)
        if not len(names):
            return np.zeros(0, np.intp)
        return np.flatnonzero(self.layouts == names[counts.argmax()])

    def union(self, labels: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the box around several labels in every mask, and where there is any."""
        places = [self.labels.index(label) for label in labels if label in self.labels]
        if not places:
            return np.zeros((len(self.rows), 6), np.int64), np.zeros(len(self.rows), bool)
        start, stop = self.rows[:, places, :3].min(axis=1), self.rows[:, places, 3:].max(axis=1)
        return np.concatenate([start, stop], axis=1), np.asarray((start < stop).all(axis=1))


@dataclass(frozen=True, slots=True)
class Regions:
    """The region of every question in every mask."""

    # (volumes, questions, 6) int array: i0 j0 k0 i1 j1 k1 in the mask's array, question 1 first.
    rows: NDArray[np.int64]
    there: NDArray[np.bool_]  # (volumes, questions) bool array: where there is one
    shapes: NDArray[np.int64]  # (volumes, 3) int array: shapes of the masks' arrays

    @classmethod
    def of_questions(cls, extents: Extents, questions: Mapping[int, Sequence[int]], count: int) -> Regions:
        """Find the regions of questions 1 to ``count``, from the labels of each question."""
        found = [extents.union(questions.get(question, ())) for question in range(1, count + 1)]
        rows, there = zip(*found, strict=True)
        return cls(np.stack(rows, axis=1), np.stack(there, axis=1), extents.shapes)


def gather(numbers: NDArray[np.float64], extents: Extents, questions: Mapping[int, Sequence[int]]) -> Evidence:
    """Pair every official box with its region, wherever both exist.

    `numbers` (volumes, 62, 6) float array: official boxes by volume and question (question 1 first); NaN where there is
    none. `extents`: extents of the same volumes. `questions`: labels by question.
    """
    parts: list[tuple[NDArray[Any], ...]] = []
    boxes: list[NDArray[np.float64]] = []
    for question, labels in questions.items():
        if question > numbers.shape[1]:
            continue
        regions, there = extents.union(labels)
        at = np.flatnonzero(there & ~np.isnan(numbers[:, question - 1]).any(axis=1))
        parts.append((np.full(len(at), question), regions[at], extents.shapes[at], extents.layouts[at]))
        boxes.append(numbers[at, question - 1])
    if not parts:
        none = np.zeros((0, 6))
        return Evidence(np.zeros(0, int), none, none.astype(int), np.zeros((0, 3), int), np.zeros(0, "U3"))
    asked, regions, shapes, layouts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Evidence(asked, np.concatenate(boxes), regions, shapes, layouts)


def complete_labels(
    labels: LabelMap, numbers: NDArray[np.float64], extents: Extents, given: BoxConvention | None, notes: list[str]
) -> LabelMap:
    """Find regions for the questions that the release's own label map leaves without one, and note what was found."""
    answered = np.asarray(~np.isnan(numbers).any(axis=2)).any(axis=0)
    missing = [number for number in (1 + np.flatnonzero(answered)).tolist() if number not in labels.questions]
    if not missing or not extents.labels:
        return labels
    # Boxes of another layout may be written in another convention; which labels they enclose is the same in all.
    same = extents.commonest_layout()
    numbers, extents = numbers[same], extents.at(same)
    known = gather(numbers, extents, labels.questions).compare()
    settled = given or (known.best if known else None)
    found = infer_labels(numbers, extents, missing, [settled] if settled else CONVENTIONS)
    told = "; ".join(f"{number}: {', '.join(map(str, ids))}" for number, ids in found.items()) or "none"
    notes.append(
        f"labels of {len(found)} of {len(missing)} questions that {MAPPING_FILE} does not state were established by "
        f"comparing boxes with every label's extent ({told})"
    )
    return LabelMap(labels.names, {**labels.questions, **found})


def infer_labels(
    numbers: NDArray[np.float64],
    extents: Extents,
    questions: Sequence[int],
    candidates: Sequence[BoxConvention] = CONVENTIONS,
) -> dict[int, tuple[int, ...]]:
    """Find which labels each question's boxes enclose, by comparing them with every label's extent.

    Under each convention, a question's region is the one label, or else the fewest labels together, whose box is the
    official one in at least 95 % of the volumes. The convention under which most boxes find a region decides; whether
    that is the right one is then judged by what all volumes say.

    Parameters
    ----------
    numbers, extents
        As for `gather`.
    questions : sequence of int
        Which questions to find regions for.
    candidates : sequence of BoxConvention
        Only the known one, where it is known.

    Returns
    -------
    dict of int to tuple of int
        Labels by question; one that no labels explain is not there.
    """
    masked = np.flatnonzero(extents.shapes.all(axis=1))
    sample = masked[np.linspace(0, len(masked) - 1, min(SAMPLE, len(masked))).astype(int)] if len(masked) else masked
    few = extents.at(sample)
    best: dict[int, tuple[int, ...]] = {}
    most = 0
    for convention in candidates:
        found: dict[int, tuple[int, ...]] = {}
        total = 0
        for question in questions:
            labels, score = _explain(convention, numbers[sample, question - 1], few)
            if labels:
                found[question] = labels
                total += score
        if total > most:
            best, most = found, total
    return best


def _explain(convention: BoxConvention, numbers: NDArray[np.float64], extents: Extents) -> tuple[tuple[int, ...], int]:
    """Find the labels of one question under one convention, with the score of their agreement."""
    given = np.asarray(~np.isnan(numbers).any(axis=1))
    decoded, valid = convention.decode_rows(numbers, extents.shapes)
    if not given.any() or (valid & given).sum() < ENOUGH * given.sum():
        return (), 0
    there = (extents.rows[..., 0] < extents.rows[..., 3]) & given[:, None]
    within = (extents.rows[..., :3] >= decoded[:, None, :3] - 1) & (extents.rows[..., 3:] <= decoded[:, None, 3:] + 1)
    inside = (within.all(axis=2) & there).sum(axis=0)
    held = np.flatnonzero((inside > 0) & (inside >= ENOUGH * there.sum(axis=0)))
    labels = tuple(extents.labels[place] for place in held)
    # All labels that the boxes hold reach as far as the right ones do.
    score = _score(convention, numbers, extents, labels)
    scored = {(label,): _score(convention, numbers, extents, (label,)) for label in labels}
    single = max(scored, key=lambda each: scored[each], default=())
    if single and scored[single] and scored[single] >= ENOUGH * score:
        return single, scored[single]
    if not score:
        return (), 0
    # Leave out those that add nothing, the largest ids first, so that the outcome does not depend on chance.
    for label in reversed(labels):
        fewer = tuple(each for each in labels if each != label)
        if fewer and _score(convention, numbers, extents, fewer) >= score:
            labels = fewer
    return labels, score


def _score(convention: BoxConvention, numbers: NDArray[np.float64], extents: Extents, labels: Sequence[int]) -> int:
    """Add up how well the box around some labels agrees; 0 where fewer than 95 % do."""
    regions, there = extents.union(labels)
    at = there & ~np.isnan(numbers).any(axis=1)
    if not at.any():
        return 0
    scores = agreement_scores(convention, numbers[at], regions[at], extents.shapes[at])
    return int(scores.sum()) if (scores >= NEAR).sum() >= ENOUGH * len(scores) else 0
