"""Read ``priors.json`` (counts of grades and median boxes of train), and weigh grades by their rarity there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.arrays import NONE, WIDTH
from reasonknee_datasets.errors import BenchError, RepositoryNotFoundError
from reasonknee_datasets.json_fields import (
    NUMBER,
    WHOLE,
    FieldKind,
    ListOf,
    MapOf,
    Shape,
    check_shape,
    parse_json,
    whole,
)
from reasonknee_datasets.manifest import manifest_limit
from reasonknee_datasets.moaks import QUESTIONS, SLOTS, Question, Slot
from reasonknee_datasets.prepare.prior_counts import FORMAT, PRIORS
from reasonknee_datasets.read_errors import reading
from reasonknee_datasets.schema import SIDES
from reasonknee_datasets.sources import Repository
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import read_file

_AGAIN = "Prepare the release again: reasonknee prepare --release RELEASE --out FOLDER --overwrite"
_GRADES = 1 + max(slot.high for slot in SLOTS)
_ROWS = 1 + max(QUESTIONS)
_UNITS = ("mm", "fraction")


@dataclass(frozen=True, slots=True, eq=False)
class TrainPriors:
    """Counts of grades and median boxes of the unbalanced train split.

    Attributes
    ----------
    revision : str
        Digest of the manifest of the repository that they are of.
    rows : int
        Records of train.
    counts : (118, 9) int64 array
        How often each grade occurs, by slot id.
    answers : mapping of int to (mapping of tuple of int to int)
        How often each whole answer occurs, by question; its grades in the question's order.
    boxes_mm, boxes_fraction : (70, 2, 2, 3) float64 array
        Median start and stop by question and code of the side, along the axes that run closest to right, anterior and
        superior: in mm from the volume's centre, and in shares of its extent. NaN where there is none.
    """

    revision: str
    rows: int
    counts: NDArray[np.int64]
    answers: Mapping[int, Mapping[tuple[int, ...], int]]
    boxes_mm: NDArray[np.float64]
    boxes_fraction: NDArray[np.float64]

    @property
    def most_frequent(self) -> NDArray[np.int8]:
        """Each slot's most frequent grade, the lowest of equals; -1 where train has none. Shape (118,)."""
        found = np.argmax(self.counts, axis=1)  # the first of equals
        return np.where(self.counts.any(axis=1), found, NONE).astype(np.int8)

    @property
    def majority(self) -> NDArray[np.int8]:
        """Each question's most frequent whole answer, the lowest of equals; shape (70, 3), padded with -1.

        It need not be made of the most frequent grades. Where train has no whole answer, it is.
        """
        table = np.full((_ROWS, WIDTH), NONE, dtype=np.int8)
        by_slot = self.most_frequent
        for number, question in QUESTIONS.items():
            best = tuple(int(by_slot[slot.id]) for slot in question.slots)
            counts = self.answers.get(number, {})
            for answer in sorted(counts):
                if counts[answer] > counts.get(best, 0) or (counts[answer] == counts.get(best, 0) and answer < best):
                    best = answer
            table[number, : len(best)] = best
        return table

    @property
    def has_boxes(self) -> bool:
        """Whether there are median boxes: the repository was prepared with images."""
        return bool(np.isfinite(self.boxes_mm).any())


def read_priors(data: Repository) -> TrainPriors:
    """Read the priors of a prepared repository.

    Parameters
    ----------
    data : Repository
        As returned by `reasonknee_datasets.bench.truth.open_data`.

    Raises
    ------
    BenchError
        If they are absent, not the file whose hash the manifest holds, of another format, or damaged.
    """
    url = data.url(PRIORS)
    try:
        with reading(url, "priors"):
            text = read_file(url, find_credentials(url), manifest_limit())
    except RepositoryNotFoundError as error:
        raise BenchError(
            f"{data.root} has no {PRIORS} next to its manifest. Scores need it for the baselines. {_AGAIN}."
        ) from error
    record = data.manifest.files.get(PRIORS)
    if record is None or record.sha256 != hashlib.sha256(text).hexdigest():
        listed = "lists no priors" if record is None else f"lists {PRIORS} with another SHA-256"
        raise BenchError(f"The manifest of {data.root} {listed}. Copy the repository whole. {_AGAIN}.")
    return _read(text, data.manifest.digest, url)


def _read(text: bytes, revision: str, url: str) -> TrainPriors:
    try:
        tree = parse_json(text)
        check_shape(tree, {"format": WHOLE})
        if tree["format"] == FORMAT:
            check_shape(tree, _SHAPE)
            answers = {question.id: _answers(question, tree) for question in _RECORDED}
            return TrainPriors(revision, tree["rows"], _counts(tree), answers, *_boxes(tree["boxes"]))
    except ValueError as error:
        raise BenchError(f"The priors in {url} are damaged: {error}. {_AGAIN}.") from error
    raise BenchError(
        f"The priors in {url} have format {tree['format']}, and this version of the package reads format "
        f"{FORMAT}. Upgrade reasonknee_datasets if the number is higher, otherwise: {_AGAIN}."
    )


_RECORDED = tuple(question for question in QUESTIONS.values() if question.in_records)
_BOX: Mapping[str, Shape] = {
    "side": FieldKind(" or ".join(SIDES), SIDES.__contains__),
    "question_id": whole(_ROWS - 1),
    **dict.fromkeys(_UNITS, ListOf(NUMBER, 6)),
}
_SHAPE: Shape = {
    "format": WHOLE,
    "rows": WHOLE,
    "slots": {
        slot.name: {"counts": {str(grade): WHOLE for grade in slot.legal}}
        for question in _RECORDED
        for slot in question.slots
    },
    "questions": {f"q{question.id:02d}": {"counts": MapOf(WHOLE)} for question in _RECORDED},
    "boxes": MapOf(_BOX),
}


def _counts(tree: Any) -> NDArray[np.int64]:
    table = np.zeros((len(SLOTS), _GRADES), dtype=np.int64)
    for question in _RECORDED:
        for slot in question.slots:
            counts = tree["slots"][slot.name]["counts"]
            table[slot.id, : slot.high + 1] = [counts[str(grade)] for grade in slot.legal]
    return table


def _answers(question: Question, tree: Any) -> dict[tuple[int, ...], int]:
    """Return how often each whole answer of a question occurs."""
    legal = [{str(grade): grade for grade in slot.legal} for slot in question.slots]
    counts = {}
    for text, count in tree["questions"][f"q{question.id:02d}"]["counts"].items():
        grades = text[:100].split(" ")
        if len(grades) != len(legal) or any(grade not in known for grade, known in zip(grades, legal, strict=True)):
            raise ValueError(f"{text[:40]!a} is not a whole answer of question {question.id}")
        counts[tuple(known[grade] for grade, known in zip(grades, legal, strict=True))] = count
    return counts


def _boxes(boxes: Any) -> Iterator[NDArray[np.float64]]:
    """Return the median boxes in mm, and in shares of the volume's extent."""
    for unit in _UNITS:
        table = np.full((_ROWS, len(SIDES), 2, 3), np.nan)
        for item in boxes.values():
            table[item["question_id"], SIDES.index(item["side"])] = np.array(item[unit], dtype=float).reshape(2, 3)
        yield table


@dataclass(frozen=True, slots=True, eq=False)
class EquitableScores:
    """Scores of a given grade against a true one, weighted by the rarity of the true grade in train.

    Over the grades of train the true answer scores 1 on average, and every constant answer 0. A wrong or missing grade
    costs the same wherever it occurs; a right one earns more, the rarer it is.

    Ordinal grades are compared threshold by threshold (grade above 0? above 1? ...), as in the score of Gerrity (1992):
    an answer on the right side of a threshold counts 1 / share - 1, where share is the part of train on that side.
    On the wrong side it counts -1. The mean over the thresholds is the score. For K nominal
    grades in train, a right one counts (1 / share - 1) / (K - 1), a wrong one -1 / (K - 1) (Gandin and Murphy, 1992).

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
